"""What llama.cpp is told of how a tokenizer splits text: nothing that is not so."""

import json

import pytest
from tokenizers import Regex, Tokenizer, models
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence, Split

from core.errors import InputError
from core.export.gguf.vocabulary import _LLAMA, _before, add_vocabulary

GPT2, PLAIN = ByteLevel(add_prefix_space=False), ByteLevel(add_prefix_space=False, use_regex=False)
DIGITS = Digits(individual_digits=True)


def split(pattern: str, behaviour: str = "isolated") -> Split:
    return Split(Regex(pattern), behaviour)


@pytest.mark.parametrize(
    ("before", "name"),
    [
        (GPT2, "gpt-2"),
        (Sequence([DIGITS, GPT2]), "smollm"),
        (Sequence([split(_LLAMA), PLAIN]), "llama-bpe"),
        (Sequence([split(_LLAMA.replace("{1,3}", "")), PLAIN]), "qwen2"),
        (PLAIN, None),
        (Sequence([DIGITS, PLAIN]), None),
        (Sequence([split("[\r\n]"), DIGITS, PLAIN]), None),  # as DeepSeek, whose digits stand alone too
        (Sequence([split(r"\p{N}{1,3}|\p{L}+"), PLAIN]), None),
        (Sequence([split(_LLAMA, "removed"), PLAIN]), None),
    ],
)
def test_a_way_to_split_text_has_a_name_or_none(before, name):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = before
    assert _before(json.loads(tokenizer.to_str())["pre_tokenizer"]) == name
    if name is None:
        own = type("Own", (), {"backend_tokenizer": tokenizer})
        with pytest.raises(InputError, match="splits text in a way of its own"):
            add_vocabulary(None, own, 4, "source")
