"""Token sequences of one split, and what is known of where they come from."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from core.texts.special_tokens import as_read
from core.texts.text_source import TextSource


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
    content: str = ""  # SHA-256 of the texts alone, beside which own samples may stand
    empty: int = 0  # rows of the sources that are null or blank, and left out
    sources: tuple[TextSource, ...] = ()
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


def part_of(sequences: Sequences, which: slice | np.ndarray) -> Sequences:
    """Some of the sequences, or all in another order."""
    return replace(
        sequences,
        ids=sequences.ids[which],
        index=sequences.index[which],
        domain=sequences.domain[which],
        mask=None if sequences.mask is None else sequences.mask[which],
        scored=None if sequences.scored is None else sequences.scored[which],
    )


def start_of(sequences: Sequences, tokenizer: Any) -> str:
    """The start of the first sequence as the model reads it, special tokens visible."""
    real = slice(None) if sequences.mask is None else sequences.mask[0]
    return as_read(sequences.ids[0][real], tokenizer)


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
        content=next((p.content for p in parts if p.content), ""),
        empty=sum(p.empty for p in parts),
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
