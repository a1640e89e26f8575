"""Documents -> splits -> token sequences.

Documents are split by their hash into calibrate / choose / report = 50 / 25 /
25: what is reported was never used to choose. Sequences are packed within a
domain (one BOS if the tokenizer has one, documents joined by EOS or a blank
line, cut to `length`), or are one document each, padded on the right.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from core.errors import InputError
from core.texts import chat
from core.texts.documents import BUNDLED, FORM, Document, Source, Texts, is_weight, parse_source, read_texts

__all__ = [
    "BOS",
    "BUNDLED",
    "FORM",
    "MODES",
    "SPLITS",
    "TEMPLATES",
    "Document",
    "Sequences",
    "Source",
    "Texts",
    "available",
    "available_by_domain",
    "joined",
    "pack",
    "parse_source",
    "read_texts",
    "shares",
    "split_of",
]

SPLITS = {"calibrate": range(0, 128), "choose": range(128, 192), "report": range(192, 256)}
MODES = {"packed": "packed within a domain", "documents": "one document a sequence, padded on the right"}
TEMPLATES = ("none", "chat")
BOS = ("auto", "always", "never")
SEPARATOR = "\n\n"
_TOGETHER = 512  # documents tokenized in one call: where tokens lie in the text takes much memory


@dataclass(frozen=True)
class Sequences:
    """Token sequences of one split: ids int64 [S, length].

    Where sequences are padded, or have a prompt, mask bool [S, length] says which tokens are real, and scored
    bool [S, length] which ones the loss counts when they are predicted (by those before them): no padding, no
    BOS, no prompt, never the first; at least one in each sequence. Else both are None: all tokens are real,
    and all but the first count.
    """

    ids: np.ndarray
    index: np.ndarray  # int64 [S]: position among all sequences of the split, whatever was drawn
    domain: np.ndarray  # int16 [S]: index into domains
    domains: tuple[str, ...]
    split: str
    source: str
    texts_sha256: str
    available: int  # sequences the split has in all
    template: str  # how documents became sequences, in words
    mask: np.ndarray | None = None
    scored: np.ndarray | None = None
    skipped: int = 0  # documents (packed: sequences) of the split with nothing to predict
    sources: tuple[Source, ...] = ()
    form: Mapping[str, str] = field(default_factory=dict)  # mode, template and bos, as `pack` takes them

    @property
    def predicted(self) -> int:
        """Tokens whose prediction the loss counts."""
        return len(self.ids) * (self.ids.shape[1] - 1) if self.scored is None else int(self.scored.sum())

    @property
    def sha256(self) -> str:
        """Of the exact token ids and their order, and of mask and scored where there are any."""
        digest = hashlib.sha256(
            np.ascontiguousarray(self.ids, dtype="<i8").tobytes() + str(self.ids.shape).encode()
        )
        for flags in (self.mask, self.scored):
            digest.update(b"" if flags is None else np.ascontiguousarray(flags, dtype=bool).tobytes())
        return digest.hexdigest()


def joined(parts: Sequence[Sequences]) -> Sequences:
    """Sequences of one split and length, one after the other; their domains must have names of their own."""
    flags = {}
    for name in ("mask", "scored"):
        some = any(getattr(p, name) is not None for p in parts)
        flags[name] = np.concatenate([_flags(p, name) for p in parts]) if some else None
    first = np.cumsum([0, *(len(p.domains) for p in parts[:-1])])
    return Sequences(
        ids=np.concatenate([p.ids for p in parts]),
        index=np.concatenate([p.index for p in parts]),
        domain=np.concatenate([p.domain + np.int16(start) for p, start in zip(parts, first)]),
        domains=tuple(name for p in parts for name in p.domains),
        split=parts[0].split,
        source=" + ".join(p.source for p in parts),
        texts_sha256=hashlib.sha256("".join(p.texts_sha256 for p in parts).encode()).hexdigest(),
        available=sum(p.available for p in parts),
        template=" | ".join(p.template for p in parts),
        skipped=sum(p.skipped for p in parts),
        sources=tuple(s for p in parts for s in p.sources),
        form=parts[0].form,
        **flags,
    )


def _flags(part: Sequences, name: str) -> np.ndarray:
    """Its mask or scored, written out where all tokens are real and all but the first count."""
    found = getattr(part, name)
    if found is not None:
        return found
    flags = np.ones(part.ids.shape, dtype=bool)
    flags[:, 0] = name == "mask"
    return flags


def split_of(document: Document) -> str:
    """The split a document belongs to, by the first byte of its SHA-256."""
    first = hashlib.sha256(document.text.encode()).digest()[0]
    return next(name for name, numbers in SPLITS.items() if first in numbers)


@dataclass(frozen=True)
class _Form:
    """How documents become sequences. Errors: InputError for what there is not."""

    tokenizer: object
    length: int
    mode: str = "packed"
    template: str = "none"
    bos: str = "auto"

    def __post_init__(self):
        for what, value, there in (
            ("mode", self.mode, MODES),
            ("template", self.template, TEMPLATES),
            ("bos", self.bos, BOS),
        ):
            if value not in there:
                raise InputError(f"There is no {what} {value!r} for texts; give one of {', '.join(there)}.")
        if self.length < 2:
            raise InputError(
                f"Sequences must have 2 or more tokens, not {self.length}; give a larger length."
            )
        if self.bos == "always" and self.tokenizer.bos_token_id is None:
            raise InputError(
                "The model's tokenizer has no BOS token to begin with, and bos is 'always'; take 'auto' or "
                "'never'."
            )

    @property
    def head(self) -> list[int]:
        """What each sequence begins with."""
        return (
            []
            if self.bos == "never" or self.tokenizer.bos_token_id is None
            else [self.tokenizer.bos_token_id]
        )

    @property
    def joint(self) -> list[int]:
        """What ends a document in a packed sequence."""
        eos = self.tokenizer.eos_token_id
        return [eos] if eos is not None else self.tokenizer(SEPARATOR, add_special_tokens=False)["input_ids"]

    @property
    def padding(self) -> int:
        return next(
            (
                token
                for token in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id)
                if token is not None
            ),
            0,
        )

    @property
    def words(self) -> str:
        words = [MODES[self.mode], "one BOS first" if self.head else "no BOS"]
        if self.mode == "packed":
            words.append(f"joined by {'EOS' if self.tokenizer.eos_token_id is not None else 'a blank line'}")
        if self.template == "chat":  # no other digest knows the template
            words.append(
                f"chat template {hashlib.sha256(chat.template_of(self.tokenizer).encode()).hexdigest()[:8]}"
            )
        return "; ".join(words)


def available(texts: Texts, tokenizer, length: int, **form: str) -> dict[str, int]:
    """{split: how many sequences of `length` tokens it has}; mode, template and bos as in `pack`."""
    return {
        split: sum(own.values())
        for split, own in available_by_domain(texts, tokenizer, length, **form).items()
    }


def available_by_domain(texts: Texts, tokenizer, length: int, **form: str) -> dict[str, dict[str, int]]:
    """{split: {domain: how many sequences of `length` tokens it has}}: what weights can draw from."""
    how, found = _Form(tokenizer, length, **form), {}
    for split in SPLITS:
        counts = np.bincount(_cut(texts, split, how).owner, minlength=len(texts.domains))
        found[split] = dict(zip(texts.domains, counts.tolist()))
    return found


def pack(
    texts: Texts,
    tokenizer,
    split: str,
    length: int,
    samples: int,
    seed: int = 0,
    *,
    weights: Mapping[str, float] | None = None,
    mode: str = "packed",
    template: str = "none",
    bos: str = "auto",
) -> Sequences:
    """`samples` sequences of `length` tokens, drawn without repetition from one split.

    weights: {domain: share}; a domain that is not named gives nothing. None: the sources' own weights, and
    where
        they have none, all sequences are equally likely.
    mode: "packed", or "documents": one document a sequence, cut to `length` or padded on the right.
    template: "none": a chat is lines of plain text, all of them scored, and of a prompt with its completion
    the
        completion is. "chat": both are written by the tokenizer's chat template, and what the assistant says
        is scored, with the special token that ends it; other documents stay plain text.
    bos: "auto": one BOS first if the tokenizer has one; "always": the same, and refused if it has none;
    "never". A
        chat template's own BOS counts as that one.

    Errors: InputError when the split, or a domain with a weight, has fewer sequences than asked for, when the
    tokenizer lacks what was asked for, and when its chat template fails.
    """
    if samples < 1:
        raise InputError(f"The number of samples must be at least 1, not {samples}.")
    form = _Form(tokenizer, length, mode, template, bos)
    weights = _checked(weights, texts) if weights is not None else texts.weights
    cut = _cut(texts, split, form)
    if len(cut.ids) < samples:
        raise InputError(
            f"Too little text: the {split} split of {texts.source!r} gives {len(cut.ids)} sequences of "
            f"{length} tokens and {samples} were asked for"
            f"{f' ({cut.skipped} more have nothing to predict)' if cut.skipped else ''}; "
            f"add text, or ask for fewer or shorter sequences."
        )
    order = np.random.default_rng(seed).permutation(len(cut.ids))
    if weights is not None:
        order = _by_weight(
            order,
            cut.owner,
            texts.domains,
            shares(samples, [weights.get(d, 0.0) for d in texts.domains]),
            split,
            length,
        )
    order = order[:samples]
    return Sequences(
        ids=cut.ids[order],
        index=order.astype(np.int64),
        domain=cut.owner[order],
        domains=texts.domains,
        split=split,
        source=texts.source,
        texts_sha256=texts.sha256,
        available=len(cut.ids),
        template=form.words,
        mask=None if cut.mask is None else cut.mask[order],
        scored=None if cut.scored is None else cut.scored[order],
        skipped=cut.skipped,
        sources=texts.sources,
        form={"mode": mode, "template": template, "bos": bos},
    )


# weights -> how many sequences of which domain


def _checked(weights: Mapping[str, float], texts: Texts) -> Mapping[str, float]:
    for domain, weight in weights.items():
        if domain not in texts.domains:
            raise InputError(
                f"{texts.source!r} has no domain {domain!r} to weigh; there are "
                f"{', '.join(texts.domains[:20])}."
            )
        if not is_weight(weight):
            raise InputError(
                f"The weight of the domain {domain!r} must be a finite number of at least 0, not {weight!r}."
            )
    if not any(weights.values()):
        raise InputError(
            f"The weights of {texts.source!r} are all 0, so nothing would be drawn; give at least one more "
            "than 0."
        )
    return weights


def shares(samples: int, weights: list[float]) -> list[int]:
    """`samples` divided in proportion to the weights, by the largest remainder; of equal ones the first is
    served.
    """
    total = sum(map(Fraction, weights))
    exact = [Fraction(w) * samples / total for w in weights]
    whole = [int(e) for e in exact]
    for k in sorted(range(len(exact)), key=lambda k: whole[k] - exact[k])[: samples - sum(whole)]:
        whole[k] += 1
    return whole


def _by_weight(
    order: np.ndarray, owner: np.ndarray, domains: tuple[str, ...], shares: list[int], split: str, length: int
) -> np.ndarray:
    """Of every domain its share, the first in `order`; the order stays."""
    owned, drawn = owner[order], np.zeros(len(order), dtype=bool)
    for number, share in enumerate(shares):
        own = np.flatnonzero(owned == number) if share else []
        if len(own) < share:
            raise InputError(
                f"Too little text: the domain {domains[number]!r} gives {len(own)} sequences of {length} "
                f"tokens in the {split} split and its "
                f"weight asks for {share}; add text, lower its weight, or ask for fewer or shorter sequences."
            )
        drawn[own[:share]] = True
    return order[drawn]


# documents -> tokens -> sequences


class _Piece(NamedTuple):
    """A document's tokens: ids int64 [T], counts bool [T] (in the loss, where something comes before it)."""

    ids: np.ndarray
    counts: np.ndarray


class _Rows(NamedTuple):
    """A domain's sequences before their BOS: ids int64, counts and mask (real tokens) bool, each [S,
    body].
    """

    ids: np.ndarray
    counts: np.ndarray
    mask: np.ndarray


class _Cut(NamedTuple):
    """All sequences of a split: ids int64 [S, length], owner int16 [S] (number of the domain), the rest as in
    Sequences.
    """

    ids: np.ndarray
    owner: np.ndarray
    mask: np.ndarray | None
    scored: np.ndarray | None
    skipped: int


def _cut(texts: Texts, split: str, form: _Form) -> _Cut:
    if form.template == "chat" and not any(d.turns for d in texts.documents):
        raise InputError(f"{texts.source!r} has no chats or prompts for a chat template; take template none.")
    chosen = [d for d in texts.documents if split_of(d) == split]
    pieces: dict[str, list[_Piece]] = {domain: [] for domain in texts.domains}
    for document, piece in zip(chosen, _encoded(_written(chosen, form), form)):
        pieces[document.domain].append(piece)
    rows = [_LAYOUTS[form.mode](own, form, form.length - len(form.head)) for own in pieces.values()]
    ids, counts, mask = map(np.concatenate, zip(*rows))
    for token in form.head:
        ids, counts, mask = _behind(token, ids), _behind(False, counts), _behind(True, mask)
    counts[:, 0] = False  # nothing predicts the first token
    useful = counts.any(axis=1)
    owner = np.repeat(np.arange(len(rows), dtype=np.int16), [len(own.ids) for own in rows])
    whole = form.mode == "packed" and all(piece.counts.all() for own in pieces.values() for piece in own)
    return _Cut(
        ids=ids[useful],
        owner=owner[useful],
        mask=None if whole else mask[useful],
        scored=None if whole else counts[useful],
        skipped=int((~useful).sum()),
    )


def _behind(first: int, rows: np.ndarray) -> np.ndarray:
    """[S, 1 + body]: every row behind the same value."""
    return np.pad(rows, ((0, 0), (1, 0)), constant_values=first)


def _written(documents: list[Document], form: _Form) -> list[tuple[str, chat.Spans | None]]:
    """(text, the characters that count in the loss, None: all) of every document."""
    if form.template == "none":
        return [chat.plain(d) for d in documents]
    chats = iter(chat.rendered([d for d in documents if d.turns], form.tokenizer))
    return [next(chats) if d.turns else (d.text, None) for d in documents]


def _encoded(written: list[tuple[str, chat.Spans | None]], form: _Form) -> Iterator[_Piece]:
    tokenizer = form.tokenizer
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
                yield _Piece(ids, np.ones(len(ids), dtype=bool))
                continue
            # the sequence gets its own
            first = int(form.template == "chat" and ids[:1].tolist() == [tokenizer.bos_token_id])
            counts = _counted(
                ids, np.array(batch["offset_mapping"][k], dtype=np.int64).reshape(-1, 2), text, spans, special
            )
            yield _Piece(ids[first:], counts[first:])


def _counted(
    ids: np.ndarray, offsets: np.ndarray, text: str, spans: chat.Spans, special: list[int]
) -> np.ndarray:
    """bool [T]: tokens that end inside a span, and the special token right behind one: to end there is part
    of the answer.
    """
    inside = np.zeros(len(text) + 1, dtype=bool)  # the last one: what lies nowhere
    for start, end in spans:
        inside[start:end] = True
    starts, ends = offsets[:, 0], offsets[:, 1]
    behind = np.isin(ids, special) & np.isin(starts, [end for _, end in spans])
    return (ends > starts) & (inside[ends - 1] | behind)


def _packed(pieces: list[_Piece], form: _Form, body: int) -> _Rows:
    """All documents in one stream, cut; what is left at its end is left out."""
    joint = np.array(form.joint, dtype=np.int64)
    ids, counts = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=bool)]
    for piece in pieces:
        ids.append(piece.ids)
        counts.append(piece.counts)
        # a chat template may have written it
        if not (form.template == "chat" and np.array_equal(piece.ids[-1:], joint)):
            ids.append(joint)
            counts.append(np.full(len(joint), piece.counts[-1:].all()))
    stream, counted = np.concatenate(ids), np.concatenate(counts)
    shape = (len(stream) // body, body)
    end = shape[0] * body
    return _Rows(stream[:end].reshape(shape), counted[:end].reshape(shape), np.ones(shape, dtype=bool))


def _one_each(pieces: list[_Piece], form: _Form, body: int) -> _Rows:
    """One document a row; of one with a single token nothing counts."""
    shape = (len(pieces), body)
    rows = _Rows(
        np.full(shape, form.padding, dtype=np.int64), np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    )
    for k, (ids, counts) in enumerate(pieces):
        here = slice(min(len(ids), body))
        rows.ids[k, here], rows.counts[k, here], rows.mask[k, here] = (
            ids[here],
            counts[here] & (len(ids) > 1),
            True,
        )
    return rows


_LAYOUTS: dict[str, Callable[[list[_Piece], _Form, int], _Rows]] = {"packed": _packed, "documents": _one_each}
