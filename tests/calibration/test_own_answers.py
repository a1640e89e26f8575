"""What a model answers to prompts: drawn from its distribution, told from the prompts, kept."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch

from core.calibration import own_answers as module
from core.calibration.gradient_rows import label_uniforms
from core.calibration.own_answers import _answered, own_answers, read_prompts
from core.errors import InputError
from core.model.load import load_model
from core.store.checkpoint import Checkpoint
from core.texts import read_texts
from core.texts.documents import split_of
from tests.zoo import tiny_model

TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def rows(tmp_path, *values: dict) -> str:
    file = tmp_path / "prompts.jsonl"
    file.write_text("\n".join(map(json.dumps, values)))
    return str(file)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_answers_follow_the_model_whatever_stands_beside_them(tiny, kind):
    loaded = load_model(str(tiny[kind]))
    prompts = [np.array([0, *range(40, 40 + n)]) for n in (3, 9)]
    found = _answered(loaded, prompts, [5, 6], 24, 3)
    assert found.shape[0] == 2 and found.shape[1] <= 20
    for own, number, out in zip(prompts, (5, 6), found):
        alone = _answered(loaded, [own], [number], 24, 3)[0]
        said = out[: len(alone)]
        assert (alone == said).all() and not (out[len(alone) : 24 - len(own)] - out[-1]).any()
        ids = np.concatenate([own, said])
        with torch.no_grad():
            logits = loaded.model(input_ids=torch.from_numpy(ids)[None], use_cache=False).logits[0]
        chances = torch.softmax(logits.double(), dim=-1).cumsum(dim=-1)
        uniforms = label_uniforms(np.array([number]), 24, 3)[0]
        for t, token in enumerate(said):  # where the distribution function passes its random number
            upper = chances[len(own) + t - 1]
            lower = upper[token - 1] if token else 0.0
            assert lower - 1e-5 <= uniforms[t] <= upper[token] + 1e-5
            if token == loaded.tokenizer.eos_token_id:
                break


@pytest.mark.parametrize("kind, pads", [("qwen3", True), ("rwkv", False), ("bart", False)])
def test_a_model_that_takes_padding_for_text_answers_prompts_of_one_length_at_a_time(kind, pads):
    model = tiny_model(kind)
    tokenizer = SimpleNamespace(eos_token_id=None)
    loaded = SimpleNamespace(model=model, device=torch.device("cpu"), max_length=64, tokenizer=tokenizer)
    prompts = {k: np.arange(20, 20 + n) for k, n in enumerate((3, 3, 3, 9))}
    found = module._batches(loaded, prompts, 2)
    assert found == ([[0, 1], [2, 3]] if pads else [[0, 1], [2], [3]])


def test_a_prompt_is_read_and_the_answer_alone_counts(tiny, tmp_path, monkeypatch):
    loaded = load_model(str(tiny["llama"]))
    seen = []

    def answered(_, prompts, *__):
        seen.extend(loaded.tokenizer.decode(own) for own in prompts)
        end = loaded.tokenizer.eos_token_id
        return np.array([[*loaded.tokenizer("so it is", add_special_tokens=False)["input_ids"], end, end]])

    monkeypatch.setattr(module, "_answered", answered)
    source = rows(
        tmp_path, {"prompt": "is it?", "completion": "no"}, {"prompt": "is it?", "completion": "yes"}
    )
    found = own_answers(loaded, read_texts(source), 32, 8)  # one prompt, twice
    assert found.ids.shape == (1, 32) and found.source == f"answers to {source}"
    text = loaded.tokenizer.decode(found.ids[0][found.mask[0]])
    assert seen == ["<s>is it?\n"] and text == "<s>is it?\nso it is</s>" and found.split == "calibrate"
    assert loaded.tokenizer.decode(found.ids[0][found.scored[0]]) == "so it is</s>"


@pytest.mark.parametrize(
    "row, prompt",
    [
        ({"prompt": "why?"}, "why?"),
        ({"question": "how?", "answer": "so"}, "how?"),
        ({"instruction": "go", "input": "there", "output": "gone"}, "go\n\nthere"),
        ({"question": "who was it?", "context": "a tale of many"}, "who was it?"),
        ({"text": "once"}, "once"),
        ({"key": 1, "prompt": "why?", "instruction_id_list": ["no_comma"]}, "why?"),
        ({"dataset": "helpful", "instruction": "what?"}, "what?"),
        ({"instruction": "say it in French", "input": "good day"}, "say it in French\n\ngood day"),
    ],
)
def test_prompts_are_found_in_rows(tmp_path, row, prompt):
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "a.parquet")
    for source in (rows(tmp_path, row), str(tmp_path / "a.parquet")):
        (document,) = read_prompts(source).documents
        assert module._asked(document) == (("prompt", prompt),)


def test_rows_without_a_prompt_are_told(tmp_path):
    with pytest.raises(InputError, match="Line 1 of .* holds a lone surrogate"):
        read_prompts(rows(tmp_path, {"prompt": "\ud800"}))
    with pytest.raises(InputError, match="has no column 'text' but 'speech, title'; name"):
        read_prompts(rows(tmp_path, {"speech": "a b", "title": "c d"}))
    with pytest.raises(InputError, match="holds no prompts to answer; name a file"):
        read_prompts("own")


def test_a_chat_is_answered_in_its_template(tiny, tmp_path, monkeypatch):
    loaded = load_model(str(tiny["llama"]))
    loaded.tokenizer.chat_template = TEMPLATE
    seen = []

    def answered(_, prompts, *__):
        seen.extend(loaded.tokenizer.decode(own) for own in prompts)
        return np.array([loaded.tokenizer("yes", add_special_tokens=False)["input_ids"]] * len(prompts))

    monkeypatch.setattr(module, "_answered", answered)
    turns = [
        ("system", "be brief"),
        ("user", "hm?"),
        ("assistant", "yes?"),
        ("user", "so?"),
        ("assistant", "no"),
    ]
    chat = {"messages": [{"role": role, "content": content} for role, content in turns]}
    found = own_answers(loaded, read_texts(rows(tmp_path, chat)), 96, 8)
    head = "<system>be brief</>\n<user>hm?</>\n<assistant>yes?</>\n<user>so?</>\n"
    assert seen == [head + "<assistant>"]
    assert loaded.tokenizer.decode(found.ids[0][found.mask[0]]) == head + "<assistant>yes"
    assert loaded.tokenizer.decode(found.ids[0][found.scored[0]]) == "yes"  # not what the file says it said


def test_a_chat_is_answered_without_a_template_too(tiny, tmp_path):
    loaded = load_model(str(tiny["llama"]))
    turns = [("system", ""), ("user", "hm?"), ("assistant", "yes?"), ("user", "so?"), ("assistant", "no")]
    chat = {"messages": [{"role": role, "content": content} for role, content in turns]}
    found = own_answers(loaded, read_texts(rows(tmp_path, chat)), 64, 8)
    read = found.ids[0][found.mask[0] & ~found.scored[0]]
    assert loaded.tokenizer.decode(read) == "<s>hm?\nyes?\nso?\n"
    assert found.scored[0, len(read) : found.mask[0].sum()].all()


def test_no_prompt_is_of_what_is_held_out_to_judge_by(tiny, tmp_path, monkeypatch):
    loaded = load_model(str(tiny["llama"]))
    judged_on = read_texts(rows(tmp_path, *({"prompt": f"{k}?", "completion": "so"} for k in range(40))))
    prompts = read_prompts(f"{judged_on.source}::column=prompt")
    monkeypatch.setattr(module, "_answered", lambda _, prompts, *__: np.array([[40, 1]] * len(prompts)))
    found = own_answers(loaded, prompts, 32, 99, judged_on=judged_on)
    read = {loaded.tokenizer.decode(i[m & ~s]) for i, m, s in zip(found.ids, found.mask, found.scored)}
    own = [d for d in judged_on.documents if split_of(d) == "calibrate"]
    assert read == {f"<s>{d.turns[0][1]}\n" for d in own} and 0 < len(own) < 40
    with pytest.raises(InputError, match="are blank, or of texts that are held out"):
        own_answers(loaded, replace(prompts, documents=()), 32, 99)


def test_answers_are_kept_and_drawn_by_the_seed(tiny, tmp_path, monkeypatch):
    loaded = load_model(str(tiny["llama"]))
    prompts = read_texts(rows(tmp_path, *({"text": f"number {k}, and then"} for k in range(9))))
    calls, real = [], module._answered
    monkeypatch.setattr(module, "_answered", lambda *a: calls.append(len(a[1])) or real(*a))
    asked = {"length": 48, "most": 6, "batch": 4, "kept": tmp_path / "kept"}
    first = own_answers(loaded, prompts, **asked)
    again = own_answers(loaded, prompts, **asked)
    assert calls == [4, 2] and (first.ids == again.ids).all()
    said = [
        out
        for own in Checkpoint(next((tmp_path / "kept").iterdir()), {}).items.values()
        for out in own["ids"]
    ]
    answers = loaded.tokenizer.batch_decode(said, skip_special_tokens=True)
    assert len(said) == 6 and len(first.ids) == sum(map(bool, map(str.strip, answers))) > 3
    other = own_answers(loaded, prompts, **asked, seed=1)
    assert calls == [4, 2, 4, 2] and not np.array_equal(first.ids, other.ids)


def test_what_leaves_no_room_or_says_nothing_is_a_sentence(tiny, tmp_path, monkeypatch):
    loaded = load_model(str(tiny["llama"]))
    prompts = read_texts(rows(tmp_path, {"text": "a prompt of some length, behind which nothing fits"}))
    with pytest.raises(InputError, match="leaves room for an answer within 32 tokens, the shortest has"):
        own_answers(loaded, prompts, 32, 8)
    monkeypatch.setattr(module, "_answered", lambda *_: np.array([[1, 1]]))
    with pytest.raises(InputError, match="says nothing to the prompts"):
        own_answers(loaded, prompts, 90, 8)
