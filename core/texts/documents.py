"""Sources -> documents with domains, and the split that each document belongs to."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import NamedTuple

from core.errors import InputError, quoted
from core.texts.readers import RUNNING, Row, rows_of
from core.texts.shapes import column_of_text, words_of
from core.texts.splits import FIRST, SPLITS, hashed, stretches
from core.texts.text_source import OWN, Asked, TextSource, is_text, sources_of

HUB_LIMIT = 10_000  # documents read of a hub dataset that names no limit: some never end
LOOKED_AT = 32  # rows that say which column the texts are in
DOMAIN_LIMIT = 2**15 - 1  # what a run's int16 can number
LONG = 2 * FIRST  # characters of a document that is cut into stretches where documents are too few


@dataclass(frozen=True)
class Document:
    """A text and its domain.

    turns: (role, content) of a chat, or of a prompt and its completion; `text` is then their lines.
    split: of a stretch of running text, the one it was cut for; None: a document that is whole.
    """

    text: str
    domain: str = "text"
    turns: tuple[tuple[str, str], ...] = ()
    split: str | None = None

    @property
    def running(self) -> bool:
        """Whether it is a stretch of running text, no document that is whole."""
        return self.split is not None


@dataclass(frozen=True)
class Texts:
    """Documents of all sources, in their order; empty: rows that are null or blank, and left out."""

    source: str
    documents: tuple[Document, ...]
    sources: tuple[TextSource, ...] = ()
    weights: Mapping[str, float] | None = None  # {domain: its share}; None: nobody gave a weight
    empty: int = 0

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains that documents have, in alphabetical order; a run numbers them so."""
        return tuple(sorted({d.domain for d in self.documents}))

    @property
    def sha256(self) -> str:
        """Of domains, texts, and turns or splits, in their order."""
        digest = hashlib.sha256()
        for d in self.documents:
            more = filter(None, (d.turns, d.split))
            digest.update(json.dumps([d.domain, d.text, *more]).encode())
        return digest.hexdigest()


def split_of(document: Document) -> str:
    """The split a document belongs to: by its hash, or a stretch of running text by where it stands."""
    return document.split or hashed(document.text)


def read_texts(sources: Asked | Sequence[Asked] | None = None, beside: bool = False) -> Texts:
    """Documents of one source or several; None: the bundled texts.

    A string is read as `parse_source` does, a Path is a path whatever it holds, an object is what `to_json`
    gave. beside: they stand beside something that is no text.

    Domains are unique across sources: a source whose domains have no name of their own and meet one that is
    taken gets "-2", "-3" and so on behind them.
    Errors: InputError for what cannot be read, has no text, or names one domain twice.
    """
    asked = sources_of(sources)
    if any(s.is_own for s in asked):
        raise InputError(
            f"The text source {OWN!r} stands for what a model writes, and no model is given here; name texts."
        )
    with_domain = [s.domain for s in asked if s.domain]
    if again := next((d for d in with_domain if with_domain.count(d) > 1), None):
        raise InputError(f"Two text sources have the domain {quoted(again)}; give each a domain of its own.")
    if any(s.weight is not None for s in asked) and not any(s.share for s in asked):
        raise InputError(
            "All text sources have the weight 0, so nothing would be drawn; give at least one more than 0."
        )
    taken = set(with_domain)
    documents: list[Document] = []
    weights: dict[str, float] = {}
    read: list[TextSource] = []
    empty = 0
    for source in asked:
        own, blank, source = _read(source, alone=len(asked) == 1 and not beside)
        empty += blank
        read.append(source)
        names: dict[str, str] = {}
        for d in dict.fromkeys(document.domain for document in own):
            names[d] = d if source.domain else free_name(d, taken)
            taken.add(names[d])
        documents += (
            [replace(d, domain=names[d.domain]) for d in own]
            if any(k != v for k, v in names.items())
            else own
        )
        weights |= dict.fromkeys(names.values(), source.share / len(names))
    if len(weights) > DOMAIN_LIMIT:
        raise InputError(
            f"The texts have {len(weights):,} domains and at most {DOMAIN_LIMIT:,} can be told apart; name "
            "one by domain=."
        )
    weighted = any(s.weight is not None for s in asked)
    named = " + ".join(s.path for s in asked)
    return Texts(named, tuple(documents), tuple(read), weights if weighted else None, empty)


def free_name(name: str, taken: Collection[str]) -> str:
    """The name, or where it is taken the first of name-2, name-3... that is not."""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    return free


class _Found(NamedTuple):
    """What a source has: its documents, the rows that are null or blank, the column of the texts."""

    documents: list[Document]
    empty: int
    source: TextSource


def _read(source: TextSource, alone: bool) -> _Found:
    """All documents of one source; rows that are null or blank are left out, and counted."""
    # a file alone has always been called so, and its hash with it
    unnamed = "text" if alone and source.kind in (RUNNING, ".jsonl") else source.stem
    limit = limit_of(source)
    rows = rows_of(source)
    first = list(islice(rows, min(LOOKED_AT, limit or LOOKED_AT)))
    column = column_of_text([row for _, row in first], source)
    source = source if column == source.column else replace(source, column=column)
    documents: list[Document] = []
    empty = 0
    for place, row in chain(first, rows):
        if document := _document(row, source, place, unnamed):
            documents.append(document)
        else:
            empty += 1
        if len(documents) == limit:
            break
    if not documents:
        rows_read = f" in its {empty:,} row{'s' * (empty != 1)}" if empty and source.kind != RUNNING else ""
        raise InputError(
            f"The text source {source.path!r} has no text{rows_read}; give a file with running text, or rows "
            "of texts."
        )
    return _Found(_for_splits(documents, source), empty, source)


def limit_of(source: TextSource) -> int | None:
    """How many documents are read of a source at most; None: all."""
    return HUB_LIMIT if source.is_hub and source.limit is None else source.limit


def _for_splits(documents: list[Document], source: TextSource) -> list[Document]:
    """Running text as its stretches, other documents as they are, unless they are too few for the splits."""
    if source.kind == RUNNING:
        return [stretch for d in documents for stretch in _stretches(d)]
    if {split_of(d) for d in documents} == set(SPLITS):
        return documents
    # too few for the splits: one novel is a row, too
    return [s for d in documents for s in ([d] if d.turns or len(d.text) < LONG else _stretches(d))]


def _stretches(document: Document) -> list[Document]:
    """A running text, as what each split has of it."""
    return [Document(text, document.domain, (), split) for split, text in stretches(document.text)]


def _document(row: Row | None, source: TextSource, place: str, unnamed: str) -> Document | None:
    """The document of a row; None when it is null or blank. Errors: InputError for a row without a text."""
    where = f"{place} of {source.path!r}"
    found = words_of(row, source, where)
    if found is None or row is None:
        return None
    named = row.get("domain")
    domain = source.domain or (unnamed if named is None else str(named))
    check_text(found.text + domain + "".join(role for role, _ in found.turns), where)
    return Document(found.text, domain, found.turns) if found.text else None


def check_text(text: str, where: str) -> None:
    """Errors: InputError for what cannot be written; where: the row that has it."""
    if not is_text(text):
        raise InputError(f"{where} holds a lone surrogate, which is no text; remove it.")
