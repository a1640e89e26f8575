"""Documents of a split -> all its sequences: the tokens of each domain laid out in rows, one function a mode.

In a row come one BOS, if the tokenizer itself writes one or the form says so, and then documents of one
domain: packed (joined by the token that the model saw between documents, or a blank line, cut to the length;
a stretch of running text is cut by itself, as it stands), or one each, padded on the right, of running text
one paragraph each.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from core.errors import InputError
from core.texts.documents import Document, Texts, split_of
from core.texts.form import Form
from core.texts.splits import paragraphs
from core.texts.tokens import Piece, encoded


class _Rows(NamedTuple):
    """A domain's sequences before their BOS: ids int64, counts and mask (real tokens) bool, all [S, body]."""

    ids: np.ndarray
    counts: np.ndarray
    mask: np.ndarray


def _packed(pieces: list[Piece], form: Form, body: int) -> _Rows:
    """Streams cut into rows: one of all whole documents, and one of every stretch of running text.

    What is left at the end of a stream is left out.
    """
    streams = [_joined([p for p in pieces if not p.running], form), *_runs(pieces, form, body)]
    ids, counts = zip(*((_rows(i, body), _rows(c, body)) for i, c in streams))
    return _Rows(np.concatenate(ids), np.concatenate(counts), np.ones((sum(map(len, ids)), body), dtype=bool))


_Stream = tuple[np.ndarray, np.ndarray]  # ids int64 [T], counts bool [T]


def _joined(pieces: list[Piece], form: Form) -> _Stream:
    """Documents one behind the other, the form's joint behind each."""
    joint = np.array(form.joint, dtype=np.int64)
    ids, counts = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=bool)]
    for piece in pieces:
        ids.append(piece.ids)
        counts.append(piece.counts)
        # a chat template may have written it
        if not (form.template == "chat" and np.array_equal(piece.ids[-1:], joint)):
            ids.append(joint)
            counts.append(np.full(len(joint), piece.counts[-1:].all()))
    return np.concatenate(ids), np.concatenate(counts)


def _runs(pieces: list[Piece], form: Form, body: int) -> list[_Stream]:
    """The stretches of running text, each by itself; one that is too short for a row goes on in the next, a
    blank line between them.
    """
    streams: list[list[np.ndarray]] = []
    for piece in pieces:
        if not piece.running:
            continue
        if streams and sum(map(len, streams[-1])) < body:
            streams[-1] += [form.blank_line, piece.ids]
        else:
            streams.append([piece.ids])
    whole = map(np.concatenate, streams)
    return [(ids, np.ones(len(ids), dtype=bool)) for ids in whole]


def _rows(stream: np.ndarray, body: int) -> np.ndarray:
    """[S, body] of a stream."""
    count = len(stream) // body
    return stream[: count * body].reshape(count, body)


def _one_each(pieces: list[Piece], form: Form, body: int) -> _Rows:
    """One document a row; of one with a single token nothing counts."""
    shape = (len(pieces), body)
    rows = _Rows(
        np.full(shape, form.padding, dtype=np.int64), np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    )
    for k, (ids, counts, _) in enumerate(pieces):
        here = slice(min(len(ids), body))
        rows.ids[k, here], rows.mask[k, here] = ids[here], True
        rows.counts[k, here] = counts[here] & (len(ids) > 1)
    return rows


# one for each of core.texts.form.MODES
LAYOUTS: dict[str, Callable[[list[Piece], Form, int], _Rows]] = {"packed": _packed, "documents": _one_each}


class Laid(NamedTuple):
    """All sequences of a split: ids int64 [S, length], owner int16 [S] (number of the domain).

    mask, scored, skipped: as in core.texts.sequences.Sequences. tokens: what the split has in all; words: how
    they became sequences.
    """

    ids: np.ndarray
    owner: np.ndarray
    mask: np.ndarray | None
    scored: np.ndarray | None
    skipped: int
    tokens: int
    words: str


def laid_out(texts: Texts, split: str, form: Form) -> Laid:
    """The sequences of one split that have anything to predict, domain after domain, in the order of texts.

    Errors: InputError for a chat template where no document is a chat or a prompt, and as
    core.texts.tokens.encoded.
    """
    if form.template == "chat" and not any(d.turns for d in texts.documents):
        raise InputError(f"{texts.source!r} has no chats or prompts for a chat template; take template none.")
    chosen = [d for d in texts.documents if split_of(d) == split]
    if form.mode == "documents":  # of running text, its paragraphs
        chosen = [p for d in chosen for p in (_paragraphs(d) if d.running else [d])]
    pieces: dict[str, list[Piece]] = {domain: [] for domain in texts.domains}
    for document, piece in zip(chosen, encoded(chosen, form)):
        pieces[document.domain].append(piece)
    rows = [LAYOUTS[form.mode](own, form, form.length - len(form.head)) for own in pieces.values()]
    ids, counts, mask = map(np.concatenate, zip(*rows))
    for token in form.head:
        ids, counts, mask = _behind(token, ids), _behind(False, counts), _behind(True, mask)
    counts[:, 0] = False  # nothing predicts the first token
    useful = counts.any(axis=1)
    owner = np.repeat(np.arange(len(rows), dtype=np.int16), [len(own.ids) for own in rows])
    whole = form.mode == "packed" and all(piece.counts.all() for own in pieces.values() for piece in own)
    return Laid(
        ids=ids[useful],
        owner=owner[useful],
        mask=None if whole else mask[useful],
        scored=None if whole else counts[useful],
        skipped=int((~useful).sum()),
        tokens=sum(len(piece.ids) for own in pieces.values() for piece in own),
        words=form.words(
            rows=any(not d.running for d in texts.documents), running=any(d.running for d in texts.documents)
        ),
    )


def _paragraphs(document: Document) -> list[Document]:
    return [replace(document, text=text) for text in paragraphs(document.text)]


def _behind(first: int, rows: np.ndarray) -> np.ndarray:
    """[S, 1 + body]: every row behind the same value."""
    return np.pad(rows, ((0, 0), (1, 0)), constant_values=first)
