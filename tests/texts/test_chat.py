"""Prompts and chats: what the loss counts, with and without a chat template."""

import numpy as np
import pytest

from core.errors import InputError
from core.texts import Document, pack, split_of
from core.texts.chat import asked_ids
from core.texts.tokens import _counted
from tests.conftest import byte_tokenizer
from tests.texts.made import CHATML, chat_tokenizer, chats, in_split, prompts, read_back, texts_of


def test_a_prompt_is_real_and_not_scored():
    documents, tokenizer = prompts(5), byte_tokenizer()
    drawn = pack(texts_of(*documents), tokenizer, "choose", 60, 5, mode="documents")
    for k, index in enumerate(drawn.index):
        assert read_back(tokenizer, drawn, k) == ("<s>" + documents[index].text, documents[index].turns[1][1])


def test_a_token_on_the_border_goes_with_its_last_character():
    """And a special token counts right behind what is scored, nowhere else; a token of no characters
    never.
    """
    ids, offsets = np.array([5, 6, 7, 9, 9, 8]), np.array([[0, 2], [2, 5], [5, 6], [6, 7], [7, 8], [6, 6]])
    assert _counted(ids, offsets, "ab\ncde..", [(3, 6)], special=[9]).tolist() == [
        False,
        True,
        True,
        True,
        False,
        False,
    ]


def test_a_prompt_that_fills_the_sequence_leaves_nothing_to_predict():
    long = next(
        d
        for i in range(99)
        if split_of(
            d := Document(f"{'x' * 40}{i}\ny", "text", (("prompt", f"{'x' * 40}{i}"), ("completion", "y")))
        )
        == "choose"
    )
    drawn = pack(texts_of(long, *prompts(3)), byte_tokenizer(), "choose", 30, 3, mode="documents")
    assert (drawn.available, drawn.skipped) == (3, 1) and drawn.scored.any(axis=1).all()


def test_packed_prompts_are_not_scored_either():
    documents, tokenizer = prompts(9), byte_tokenizer()
    drawn = pack(texts_of(*documents), tokenizer, "choose", 30, 7)
    order = np.argsort(drawn.index)
    assert drawn.mask.all() and not drawn.scored[:, 0].any() and drawn.available == drawn.index.max() + 1
    stream = tokenizer.decode(np.concatenate([drawn.ids[k][drawn.scored[k]] for k in order]))
    expected = "".join(d.turns[1][1] + "</s>" for d in documents)
    assert len(stream) > 60 and expected.startswith(stream)


def test_a_chat_without_a_template_is_plain_lines():
    documents, tokenizer = chats(3), byte_tokenizer()
    drawn = pack(texts_of(*documents), tokenizer, "choose", 90, 3, mode="documents")
    for k, index in enumerate(drawn.index):
        assert read_back(tokenizer, drawn, k) == ("<s>" + documents[index].text, documents[index].text)
    assert pack(texts_of(*documents), tokenizer, "choose", 20, 3).scored is None


def test_in_a_chat_template_only_the_assistant_is_scored():
    """Against the template written out: words, and the special token that ends them."""
    plain, tokenizer = in_split("choose", 1, "a plain one {}"), chat_tokenizer()
    documents = [*chats(3), *prompts(2), *plain]
    drawn = pack(texts_of(*documents), tokenizer, "choose", 160, 6, mode="documents", template="chat")
    for k, index in enumerate(drawn.index):
        d = documents[index]
        roles = {"prompt": "user", "completion": "assistant"}
        turns = [(roles.get(role, role), content) for role, content in d.turns]
        text = "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in turns) or d.text
        said = "".join(f"{content}<|im_end|>" for role, content in turns if role == "assistant") or d.text
        assert read_back(tokenizer, drawn, k) == ("<s>" + text, said)
    assert drawn.template.startswith(
        "one document a sequence, padded on the right; one BOS first; chat template "
    )
    other = pack(
        texts_of(*documents),
        chat_tokenizer(CHATML + " "),
        "choose",
        160,
        6,
        mode="documents",
        template="chat",
    )
    assert other.template != drawn.template


@pytest.mark.parametrize("bos", ["auto", "always", "never"])
def test_there_is_never_a_second_bos(bos):
    with_bos, documents = chat_tokenizer("{{ bos_token }}" + CHATML), chats(3)
    for mode in ("documents", "packed"):
        drawn = pack(texts_of(*documents), with_bos, "choose", 60, 3, mode=mode, template="chat", bos=bos)
        count = (drawn.ids == 0).sum(axis=1) - (
            0 if drawn.mask is None else (~drawn.mask & (drawn.ids == 0)).sum(axis=1)
        )
        assert (count == (0 if bos == "never" else 1)).all() and (
            (drawn.ids[:, 0] == 0) == (bos != "never")
        ).all()
        assert not drawn.scored[:, 0].any()
        same = pack(
            texts_of(*documents), chat_tokenizer(), "choose", 60, 3, mode=mode, template="chat", bos=bos
        )
        assert (same.ids == drawn.ids).all() and (same.scored == drawn.scored).all()


def test_an_eos_that_the_chat_template_wrote_is_not_doubled():
    tokenizer = chat_tokenizer(
        "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{{ eos_token }}{% endfor %}"
    )
    drawn = pack(texts_of(*chats(9)), tokenizer, "choose", 30, 9, template="chat")
    assert not ((drawn.ids[:, 1:] == 1) & (drawn.ids[:, :-1] == 1)).any() and (drawn.ids == 1).any()


def test_the_bos_policy_is_kept_and_told():
    texts, bare = texts_of(*in_split("choose", 40)), byte_tokenizer()
    bare.bos_token = None
    for mode in ("packed", "documents"):
        auto, always, never, none = (
            pack(texts, tokenizer, "choose", 8, 4, mode=mode, bos=bos)
            for tokenizer, bos in (
                (byte_tokenizer(), "auto"),
                (byte_tokenizer(), "always"),
                (byte_tokenizer(), "never"),
                (bare, "auto"),
            )
        )
        assert auto.sha256 == always.sha256 != never.sha256 == none.sha256
        assert (
            "one BOS first" in auto.template
            and auto.template == always.template
            and "no BOS" in never.template
        )
    with pytest.raises(InputError, match="no BOS token .*'always'"):
        pack(texts, bare, "choose", 8, 4, bos="always")


def test_a_split_without_chats_needs_no_template_process(monkeypatch):
    monkeypatch.setattr("core.texts.chat._render", None)
    texts = texts_of(*in_split("choose", 9), Document("a\nb", "text", (("user", "a"), ("assistant", "b"))))
    assert split_of(texts.documents[-1]) != "choose"
    assert pack(texts, chat_tokenizer(), "choose", 8, 9, mode="documents", template="chat").available == 9


def test_a_tokenizer_without_a_chat_template_says_so():
    with pytest.raises(InputError, match="no chat template"):
        pack(texts_of(*chats(3)), byte_tokenizer(), "choose", 60, 3, template="chat")


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (
            "{% for m in messages %}{{ m['content'] | upper }}{% endfor %}",
            "rewrites or leaves out words of the chat that begins 'be kind",
        ),
        (
            "{{ raise_exception('roles must\nalternate') }}",
            "fails on the chat that begins 'be kind.*roles must",
        ),
        (
            "{% for m in messages %}{{ m['role'] }}{% endfor %}",
            "leaves out words of the chat that begins 'be kind",
        ),
        ("{% for %}", "fails"),
    ],
)
def test_a_chat_template_that_cannot_be_used_is_one_sentence(template, says):
    with pytest.raises(InputError, match=says):
        pack(texts_of(*chats(3)), chat_tokenizer(template), "choose", 60, 3, template="chat")


def test_a_template_may_leave_turns_out_and_repeat_them():
    tokenizer = chat_tokenizer(
        "{% for m in messages if m['role'] != 'system' %}{{ m['role'][0] }}:{{ m['content'] }};{% endfor "
        "%}{{ messages[-1]['content'] }}"
    )
    documents = chats(2)
    drawn = pack(texts_of(*documents), tokenizer, "choose", 90, 2, mode="documents", template="chat")
    for k, index in enumerate(drawn.index):
        assert read_back(tokenizer, drawn, k)[1] == documents[index].turns[2][1] + "aa"


def test_the_day_is_not_the_chats():
    """As SmolLM3's, Mistral's and gpt-oss's templates ask: each day would be another run."""
    chat = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    for day in ("strftime_now('%d %b %Y')", "date_string"):
        (ids,) = asked_ids([[("user", "hm?")]], chat_tokenizer("{{ " + day + " }} " + chat))
        assert chat_tokenizer().decode(ids) == "26 Jul 2024 hm?"
