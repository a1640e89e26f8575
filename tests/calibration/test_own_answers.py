"""What a model answers to prompts: drawn from its distribution, told from the prompts, kept."""

import json

import numpy as np
import pytest
import torch

from core.calibration import own_answers as module
from core.calibration.gradient_rows import label_uniforms
from core.calibration.own_answers import _answered, own_answers, read_prompts
from core.errors import InputError
from core.model.load import load_model
from core.texts import read_texts

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


def test_a_prompt_is_read_and_the_answer_alone_counts(tiny, tmp_path, monkeypatch):
    loaded = load_model(str(tiny["llama"]))
    seen = []

    def answered(_, prompts, *__):
        seen.extend(loaded.tokenizer.decode(own) for own in prompts)
        return np.array([loaded.tokenizer("so it is")["input_ids"]])

    monkeypatch.setattr(module, "_answered", answered)
    source = rows(
        tmp_path, {"prompt": "is it?", "completion": "no"}, {"prompt": "is it?", "completion": "yes"}
    )
    found = own_answers(loaded, read_texts(source), 32, 8)  # one prompt, twice
    assert found.ids.shape == (1, 32) and found.source == f"answers to {source}"
    text = loaded.tokenizer.decode(found.ids[0][found.mask[0]], skip_special_tokens=True)
    assert seen == ["<s>is it?\n"] and text == "is it?\nso it is" and found.split == "calibrate"
    assert loaded.tokenizer.decode(found.ids[0][found.scored[0]]) == "so it is"


@pytest.mark.parametrize(
    "row, prompt",
    [
        ({"prompt": "why?"}, "why?"),
        ({"question": "how?", "answer": "so"}, "how?"),
        ({"instruction": "go", "input": "there", "output": "gone"}, "go\n\nthere"),
        ({"text": "once"}, "once"),
    ],
)
def test_prompts_are_found_in_rows(tmp_path, row, prompt):
    (document,) = read_prompts(rows(tmp_path, row)).documents
    assert module._asked(document) == (("prompt", prompt),)


def test_rows_without_a_prompt_are_told(tmp_path):
    with pytest.raises(InputError, match="has no column 'text' but 'speech, title'; name"):
        read_prompts(rows(tmp_path, {"speech": "a b", "title": "c d"}))
    with pytest.raises(InputError, match="no model is given here"):
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
    assert loaded.tokenizer.decode(found.ids[0][found.mask[0]]).endswith(head + "<assistant>yes</>\n")
    assert loaded.tokenizer.decode(found.ids[0][found.scored[0]]) == "yes?yes"


def test_answers_are_kept_and_drawn_by_the_seed(tiny, tmp_path, monkeypatch):
    loaded = load_model(str(tiny["llama"]))
    prompts = read_texts(rows(tmp_path, *({"text": f"number {k}, and then"} for k in range(9))))
    calls, real = [], module._answered
    monkeypatch.setattr(module, "_answered", lambda *a: calls.append(len(a[1])) or real(*a))
    asked = {"length": 48, "most": 6, "batch": 4, "kept": tmp_path / "kept"}
    first = own_answers(loaded, prompts, **asked)
    again = own_answers(loaded, prompts, **asked)
    assert calls == [4, 2] and (first.ids == again.ids).all() and len(first.ids) == 6
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
