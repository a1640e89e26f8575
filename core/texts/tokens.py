"""Documents -> tokens, and which of them count in the loss."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from core.errors import InputError
from core.texts import chat
from core.texts.documents import Document
from core.texts.form import Form
from core.texts.special_tokens import own_bos

_TOGETHER = 512  # documents tokenized in one call: where tokens lie in the text takes much memory


class Piece(NamedTuple):
    """A document's tokens: ids int64 [T], counts bool [T] (in the loss, where something comes before it).

    running: whether it is a stretch of running text, to which nothing is joined.
    """

    ids: np.ndarray
    counts: np.ndarray
    running: bool = False


def encoded(documents: Sequence[Document], form: Form) -> Iterator[Piece]:
    """The tokens of every document, in their order, without a BOS.

    Errors: InputError for a chat template that fails, and for a tokenizer that cannot tell a prompt from what
    follows it.
    """
    tokenizer, written = form.tokenizer, _written(documents, form)
    bos = own_bos(tokenizer)
    special = [number for number, token in tokenizer.added_tokens_decoder.items() if token.special]
    for start in range(0, len(written), _TOGETHER):
        part = written[start : start + _TOGETHER]
        located = any(spans is not None for _, spans in part)
        if located and not tokenizer.is_fast:
            raise InputError(
                "The model's tokenizer cannot say where in a text its tokens lie, so no prompt can be told; "
                "give plain texts."
            )
        batch = tokenizer(
            [text for text, _ in part],
            add_special_tokens=False,
            verbose=False,
            return_offsets_mapping=located,
        )
        for k, (text, spans) in enumerate(part):
            ids = np.array(batch["input_ids"][k], dtype=np.int64)
            if spans is None:
                yield Piece(ids, np.ones(len(ids), dtype=bool), documents[start + k].running)
                continue
            offsets = np.array(batch["offset_mapping"][k], dtype=np.int64).reshape(-1, 2)
            counts = _counted(ids, offsets, text, spans, special)
            # a BOS that the chat template wrote: the sequence gets its own
            first = int(form.template == "chat" and ids[:1].tolist() == [bos])
            yield Piece(ids[first:], counts[first:])


def _written(documents: Sequence[Document], form: Form) -> list[tuple[str, chat.Spans | None]]:
    """(text, the characters that count in the loss, None: all) of every document."""
    if form.template == "none":
        return [chat.plain(d) for d in documents]
    chats = iter(chat.rendered([d for d in documents if d.turns], form.tokenizer))
    return [next(chats) if d.turns else (d.text, None) for d in documents]


def _counted(
    ids: np.ndarray, offsets: np.ndarray, text: str, spans: chat.Spans, special: list[int]
) -> np.ndarray:
    """bool [T]: tokens that end inside a span of the text, and the special token right behind one.

    To end there is part of the answer. ids: int64 [T]; offsets: int64 [T, 2], the characters of each token.
    """
    inside = np.zeros(len(text) + 1, dtype=bool)  # the last one: what lies nowhere
    for start, end in spans:
        inside[start:end] = True
    starts, ends = offsets[:, 0], offsets[:, 1]
    behind = np.isin(ids, special) & np.isin(starts, [end for _, end in spans])
    return (ends > starts) & (inside[ends - 1] | behind)
