"""Answers of a whole and a pruned model, with and without a chat template."""

from types import SimpleNamespace

import pytest

from core.errors import InputError
from core.job_kinds import chat as job
from core.measure.behaviour import ask
from core.measure.chat import is_chat, reply
from core.model.load import load_model
from tests.texts.made import chat_tokenizer

PROMPT = "Emil met Rosa in Marsh. She carried the spoon. The spoon belongs to"


@pytest.fixture(scope="module")
def demo():
    return load_model("demo")


def test_without_a_template_the_last_prompt_is_gone_on_from(demo):
    assert not is_chat(demo)
    said = [("user", "something else"), ("assistant", "yes"), ("user", PROMPT)]
    for removed in ((), (5, 9)):
        told: list[tuple[int, str]] = []
        answer = reply(demo, said, removed, tokens=20, heard=lambda *now, told=told: told.append(now))
        (asked,) = ask(demo, [PROMPT], removed, tokens=20)
        assert answer.text == asked.text and answer.ended == asked.ended and answer.text.startswith(" Rosa.")
        assert "".join(text for _, text in told) == answer.text
        assert max(count for count, _ in told) == answer.tokens <= 20 and answer.seconds > 0


def test_sampling_is_by_its_seed(demo):
    texts = [
        reply(demo, [("user", "Once")], tokens=12, temperature=1.5, seed=seed).text for seed in (1, 1, 2, 3)
    ]
    assert texts[0] == texts[1] and len(set(texts)) == 3


def test_what_cannot_be_answered_is_one_sentence(tiny):
    loaded = load_model(str(tiny["llama"]))
    with pytest.raises(InputError, match="Nothing was asked"):
        reply(loaded, [("user", " \n")])
    with pytest.raises(InputError, match="96 positions; begin a new one"):
        reply(loaded, [("user", "a" * 96)])
    assert reply(loaded, [("user", "a" * 90)], tokens=50).tokens <= 5  # what is left of the 96, one a BOS


def test_a_chat_is_written_in_the_template_up_to_the_answer(tiny):
    loaded = load_model(str(tiny["qwen2"]))
    loaded.tokenizer = chat_tokenizer(
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    turns = [("user", "a"), ("assistant", "b"), ("user", "c")]
    assert is_chat(loaded)
    read = []
    plain = loaded.model.generate
    loaded.model.generate = lambda ids, **how: read.append(ids[0].tolist()) or plain(ids, **how)
    reply(loaded, turns, (2,), tokens=2)
    assert loaded.tokenizer.decode(read[0]) == "<user>a\n<assistant>b\n<user>c\n<assistant>"


def test_the_job_tells_each_side_its_own_chat(tiny):
    reports, noted = [], []
    progress = SimpleNamespace(
        report=lambda *report: reports.append(report),
        said=lambda: lambda *said: noted.append(said),
        kept=lambda units: None,
    )
    request = {"model": str(tiny["llama"]), "blocks": [4, 1], "tokens": 6, "temperature": 0.0, "seed": 0}
    chats = {"original": [["user", "one"]], "pruned": [["user", "two"]]}
    done = job.run({**request, **chats}, progress)
    loaded = load_model(str(tiny["llama"]))
    assert done["original"]["text"] == reply(loaded, [("user", "one")], tokens=6).text
    assert done["pruned"]["text"] == reply(loaded, [("user", "two")], (1, 4), tokens=6).text
    assert not done["template"] and done["load_seconds"] > 0
    assert "".join(t for name, t in noted if name == "pruned") == done["pruned"]["text"]
    assert reports[-1][:2] == (6 + done["pruned"]["tokens"], 12)


def test_the_greedy_answer_is_the_model_s_own(demo, monkeypatch):
    plain = reply(demo, [("user", PROMPT)], tokens=12)
    monkeypatch.setattr(demo.model.generation_config, "repetition_penalty", 9.0)
    monkeypatch.setattr(demo.model.generation_config, "max_time", 1e-9)
    assert reply(demo, [("user", PROMPT)], tokens=12).text == plain.text
    assert ask(demo, [PROMPT], tokens=12)[0].text == plain.text
