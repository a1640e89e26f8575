"""What begins a sequence and what stands between documents: what the tokenizer does, what the model saw."""

from types import SimpleNamespace

import pytest

from core.calibration.own_samples import first_token
from core.texts import pack
from core.texts.form import Form
from core.texts.special_tokens import begins, begins_unlike_before, separator
from tests.conftest import byte_tokenizer
from tests.texts.made import CHATML, chats, in_split, texts_of


def tokenizer_of(
    *special: str, bos: str | None = None, eos: str | None = None, adds: bool = False, template: str = ""
):
    """A byte tokenizer with those special tokens; adds: it writes its BOS itself."""
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": list(special)})
    tokenizer.bos_token, tokenizer.eos_token = bos, eos
    tokenizer.add_bos_token = adds
    tokenizer.chat_template = template or None
    return tokenizer


def test_bos_auto_does_what_the_tokenizer_does():
    texts = texts_of(*in_split("choose", 40))
    silent, speaks = (tokenizer_of(bos="<s>", eos="</s>", adds=adds) for adds in (False, True))
    assert (begins(silent), begins(speaks)) == ([], [0])
    assert (begins_unlike_before(silent), begins_unlike_before(speaks)) == ({"begins": "no BOS"}, {})
    assert begins_unlike_before(tokenizer_of(eos="</s>")) == {}  # it never had one
    drawn = [pack(texts, t, "choose", 8, 4) for t in (silent, speaks)]
    assert [d.template.split("; ")[1] for d in drawn] == ["no BOS", "one BOS first"]
    assert not (drawn[0].ids == 0).any() and (drawn[1].ids[:, 0] == 0).all()
    always = pack(texts, silent, "choose", 8, 4, bos="always")
    assert always.sha256 == drawn[1].sha256 and always.template == drawn[1].template


@pytest.mark.parametrize(
    ("special", "eos", "template", "expected"),
    [
        ((), "</s>", "", "</s>"),
        ((), "</s>", "{{ '</s>' }}", "</s>"),  # it ends turns, and documents too
        (("[end]",), "[end]", "", "[end]"),  # a plain model's own, whatever it is called
        (("<|im_end|>", "<|endoftext|>"), "<|im_end|>", CHATML, "<|endoftext|>"),
        (("<|im_end|>", "<|endoftext|>"), "<|im_end|>", "", "<|endoftext|>"),  # known without a template
        (("[over]", "<|end_of_text|>"), "[over]", "{{ '[over]' }}", "<|end_of_text|>"),
        ((), None, "", None),
    ],
)
def test_between_documents_stands_what_stood_there_in_pretraining(special, eos, template, expected):
    tokenizer = tokenizer_of(*special, eos=eos, template=template)
    form = Form(tokenizer, 8)
    assert separator(tokenizer) == form.separator == expected
    joint = tokenizer.convert_tokens_to_ids(expected) if expected else tokenizer("\n\n").input_ids
    assert form.joint == ([joint] if expected else joint)
    called = {eos: "EOS", None: "a blank line"}.get(expected, expected)
    assert form.words() == f"packed within a domain; no BOS; joined by {called}"


def test_a_chat_token_never_separates_documents():
    """Where no token is known to, a blank line does; the byte vocabulary's `</s>` is known."""
    tokenizer = tokenizer_of("<|im_end|>", eos="<|im_end|>", template=CHATML)
    assert separator(tokenizer) == "</s>"
    bare = {"eos_token": "<|im_end|>", "added_tokens_decoder": {}, "chat_template": None}
    assert separator(SimpleNamespace(**bare)) is None


def test_a_turns_token_that_is_called_bos_stays_in_the_chat():
    """Some instruct models begin every turn by what they call BOS: it is no BOS of the sequence."""
    tokenizer = tokenizer_of(
        "<|im_start|>", "<|im_end|>", bos="<|im_start|>", eos="<|im_end|>", template=CHATML
    )
    start = tokenizer.bos_token_id
    for bos in ("auto", "never"):
        drawn = pack(
            texts_of(*chats(3)), tokenizer, "choose", 90, 3, mode="documents", template="chat", bos=bos
        )
        assert (drawn.ids[:, 0] == start).all() and ((drawn.ids == start).sum(axis=1) == 5).all()
        assert "no BOS" in drawn.template


def test_a_bos_that_only_the_chat_template_writes_is_kept():
    tokenizer = tokenizer_of(
        "<|im_start|>", "<|im_end|>", bos="<s>", eos="</s>", template="{{ bos_token }}" + CHATML
    )
    assert begins(tokenizer) == []
    drawn = pack(texts_of(*chats(3)), tokenizer, "choose", 90, 3, mode="documents", template="chat")
    assert (drawn.ids[:, 0] == 0).all() and "one BOS first" in drawn.template
    assert "no BOS" in pack(texts_of(*chats(3)), tokenizer, "choose", 20, 3).template


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"bos": "<s>", "eos": "</s>", "adds": True}, ("<s>", "BOS")),
        ({"bos": "<s>", "eos": "</s>"}, ("</s>", "EOS")),
        ({"bos": "<|im_start|>", "eos": "<|im_end|>"}, ("<|endoftext|>", "<|endoftext|>")),
        ({"bos": "<s>"}, ("<s>", "BOS")),
    ],
)
def test_own_samples_begin_where_a_document_begins(options, expected):
    tokenizer = tokenizer_of("<|im_start|>", "<|im_end|>", "<|endoftext|>", **options)
    loaded = type("Loaded", (), {"tokenizer": tokenizer, "source": "made up"})
    token, called = first_token(loaded)
    assert (tokenizer.convert_ids_to_tokens(token), called) == expected
