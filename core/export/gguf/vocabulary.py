"""A tokenizer of tokenizer.json as the entries of a GGUF file: byte-level BPE, or BPE with SentencePiece's
spaces.
"""

import json
from collections.abc import Iterator
from typing import Any

import gguf

from core.errors import InputError

# how Llama 3 and Qwen2 split text before merging, and how llama.cpp calls that
_LLAMA = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_SPLITS = {_LLAMA: "llama-bpe", _LLAMA.replace("{1,3}", ""): "qwen2"}


def add_vocabulary(writer: gguf.GGUFWriter, tokenizer: Any, size: int, source: str) -> None:
    """The tokenizer's tokens, merges and special tokens; size: tokens that the model has.

    Errors: InputError for one that is no BPE, or splits text before it in a way that is not known here.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    described: dict[str, Any] = json.loads(backend.to_str()) if backend else {"model": {"type": "none"}}
    model = described["model"]
    if model["type"] != "BPE":
        raise InputError(
            f"The tokenizer of {source!r} is of the kind {model['type']!r}, and only BPE is written as GGUF "
            "here; choose another form."
        )
    added = {t["id"]: t for t in described.get("added_tokens", [])}
    known = {i: t for t, i in model["vocab"].items()} | {i: t["content"] for i, t in added.items()}
    tokens = [known.get(i, f"[PAD{i}]") for i in range(size)]
    fallback = bool(model.get("byte_fallback"))
    unknown = model.get("unk_token") if fallback else None
    kinds = [
        _token_type(token, added.get(i), fallback, unknown) if i in known else gguf.TokenType.UNUSED
        for i, token in enumerate(tokens)
    ]
    before = "default" if fallback else _before(described.get("pre_tokenizer") or {})
    if before is None:
        raise InputError(
            f"The tokenizer of {source!r} splits text in a way of its own before it merges bytes, and how "
            "llama.cpp calls that is not known here; choose another form, or use llama.cpp's own "
            "converter."
        )
    writer.add_tokenizer_model("llama" if fallback else "gpt2")
    writer.add_tokenizer_pre(before)
    writer.add_token_list(tokens)
    if fallback:  # the order of merges, as SentencePiece has it
        rank = {"".join(pair): -float(k) for k, pair in enumerate(_pairs(model["merges"]))}
        writer.add_token_scores(
            [rank.get(t, -1e4) if k == gguf.TokenType.NORMAL else 0.0 for t, k in zip(tokens, kinds)]
        )
    writer.add_token_types(kinds)
    if not fallback:
        writer.add_token_merges([" ".join(pair) for pair in _pairs(model["merges"])])
    _add_special(writer, tokenizer, size)


def _before(own: dict[str, Any]) -> str | None:
    """How llama.cpp calls what a byte-level tokenizer does before it merges; None where that is not known."""
    *first, last = own.get("pretokenizers", [own])
    if last.get("type") != "ByteLevel" or len(first) > 1:
        return None
    if not first:
        return "gpt-2" if last["use_regex"] else None
    if first[0].get("type") == "Digits":
        return "smollm" if first[0]["individual_digits"] and last["use_regex"] else None
    pattern = first[0].get("pattern", {}).get("Regex")
    return None if last["use_regex"] or first[0].get("behavior") != "Isolated" else _SPLITS.get(pattern)


def _add_special(writer: gguf.GGUFWriter, own: Any, size: int) -> None:
    for name in ("bos", "eos", "unk", "pad"):
        if (number := getattr(own, f"{name}_token_id", None)) is not None and number < size:
            getattr(writer, f"add_{name}_token_id")(number)
    ids = own("a")["input_ids"]
    writer.add_add_bos_token(bool(ids) and ids[0] == own.bos_token_id)
    if template := getattr(own, "chat_template", None):
        writer.add_chat_template(template)


def _pairs(merges: list) -> Iterator[tuple[str, str]]:
    for merge in merges:
        first, second = merge.split(" ", 1) if isinstance(merge, str) else merge
        yield first, second


def _token_type(token: str, added: dict | None, fallback: bool, unknown: str | None) -> gguf.TokenType:
    if token == unknown:
        return gguf.TokenType.UNKNOWN
    if added:
        return gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
    if fallback and len(token) == 6 and token.startswith("<0x"):
        return gguf.TokenType.BYTE
    return gguf.TokenType.NORMAL
