"""Texts -> documents -> splits -> token sequences.

Documents are split by their hash into calibrate / choose / report = 50 / 25 /
25: what is reported was never used to choose. Sequences are packed within a
domain: one BOS if the tokenizer has one, documents joined by EOS (or a blank
line), cut to `length`.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.errors import InputError
from core.store import DEMO

BUNDLED = DEMO / "texts.jsonl"
SPLITS = {"calibrate": range(0, 128), "choose": range(128, 192), "report": range(192, 256)}
SEPARATOR = "\n\n"


@dataclass(frozen=True)
class Document:
    text: str
    domain: str = "text"


@dataclass(frozen=True)
class Texts:
    """Documents of one source, in file order."""

    source: str
    documents: tuple[Document, ...]

    @property
    def domains(self) -> tuple[str, ...]:
        return tuple(sorted({d.domain for d in self.documents}))

    @property
    def sha256(self) -> str:
        digest = hashlib.sha256()
        for d in self.documents:
            digest.update(json.dumps([d.domain, d.text]).encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class Sequences:
    """Packed sequences of one split: ids int64 [S, length], no padding."""

    ids: np.ndarray
    index: np.ndarray  # int64 [S]: position among all sequences of the split, whatever was drawn
    domain: np.ndarray  # int16 [S]: index into domains
    domains: tuple[str, ...]
    split: str
    source: str
    texts_sha256: str
    available: int  # sequences the split has in all
    template: str
    mask: np.ndarray | None = None
    scored: np.ndarray | None = None

    @property
    def sha256(self) -> str:
        """Of the exact token ids and their order."""
        return hashlib.sha256(np.ascontiguousarray(self.ids, dtype="<i8").tobytes() + str(self.ids.shape).encode()).hexdigest()


def read_texts(path: Path | str | None = None) -> Texts:
    """Documents of a .txt (separated by blank lines) or .jsonl file (column `text`, optional `domain`); None: bundled.

    Errors: InputError for a missing, empty, non-UTF-8 or malformed file.
    """
    file = BUNDLED if path is None else Path(path)
    name = "bundled" if path is None else str(path)
    if not file.is_file():
        raise InputError(f"No text file {name!r}; give a .txt or .jsonl file.")
    try:
        content = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"The text file {name!r} is not UTF-8 (byte {error.start} is 0x{error.object[error.start]:02x}); save it as UTF-8."
        ) from error
    except OSError as error:
        raise InputError(f"The text file {name!r} cannot be read ({error.strerror}); check the path.") from error
    if file.suffix == ".jsonl":
        documents = _parse_jsonl(content, name)
    elif file.suffix == ".txt":
        documents = [Document(part.strip()) for part in content.split(SEPARATOR) if part.strip()]
    else:
        raise InputError(f"The text file {name!r} ends in {file.suffix or 'nothing'}; this version reads .txt and .jsonl.")
    if not documents:
        raise InputError(f"The text file {name!r} has no text; give a file with documents separated by blank lines, or JSON lines.")
    return Texts(name, tuple(documents))


def _parse_jsonl(content: str, name: str) -> list[Document]:
    documents = []
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError, ValueError) as error:
            raise InputError(f"Line {number} of {name!r} is not JSON ({str(error)[:80]}); write one object a line.") from error
        text = row.get("text") if isinstance(row, dict) else None
        if not isinstance(text, str):
            raise InputError(f'Line {number} of {name!r} has no string under the key \'text\'; write {{"text": "..."}}.')
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"Line {number} of {name!r} holds a lone surrogate, which is no text; remove it.") from error
        if text.strip():
            documents.append(Document(text.strip(), str(row.get("domain", "text"))))
    return documents


def split_of(document: Document) -> str:
    """The split a document belongs to, by the first byte of its SHA-256."""
    first = hashlib.sha256(document.text.encode()).digest()[0]
    return next(name for name, numbers in SPLITS.items() if first in numbers)


def available(texts: Texts, tokenizer, length: int) -> dict[str, int]:
    """{split: how many sequences of `length` tokens it has}."""
    return {split: len(_cut(texts, tokenizer, split, length)[0]) for split in SPLITS}


def _cut(texts: Texts, tokenizer, split: str, length: int) -> tuple[np.ndarray, list[int]]:
    """All sequences of a split, int64 [S, length], and the domain number of each."""
    chosen = [d for d in texts.documents if split_of(d) == split]
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    joint = [eos] if eos is not None else tokenizer(SEPARATOR, add_special_tokens=False)["input_ids"]
    head = [] if bos is None else [bos]
    body = length - len(head)
    parts, owner = [], []
    for number, domain in enumerate(texts.domains):
        own = [d.text for d in chosen if d.domain == domain]
        if not own:
            continue
        stream: list[int] = []
        for ids in tokenizer(own, add_special_tokens=False, verbose=False)["input_ids"]:
            stream += [*ids, *joint]
        count = len(stream) // body
        parts.append(np.array(stream[: count * body], dtype=np.int64).reshape(count, body))
        owner += [number] * count
    ids = np.concatenate(parts) if parts else np.empty((0, body), dtype=np.int64)
    if head:
        ids = np.concatenate([np.full((len(ids), 1), bos, dtype=np.int64), ids], axis=1)
    return ids, owner


def pack(texts: Texts, tokenizer, split: str, length: int, samples: int, seed: int = 0) -> Sequences:
    """`samples` sequences of `length` tokens, drawn without repetition from one split.

    Errors: InputError when the split has fewer sequences than asked for.
    """
    if samples < 1:
        raise InputError(f"The number of samples must be at least 1, not {samples}.")
    ids, owner = _cut(texts, tokenizer, split, length)
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    if len(ids) < samples:
        raise InputError(
            f"Too little text: the {split} split of {texts.source!r} gives {len(ids)} sequences of {length} tokens and {samples} were asked for; "
            f"add text, or ask for fewer or shorter sequences."
        )
    order = np.random.default_rng(seed).permutation(len(ids))[:samples]
    return Sequences(
        ids=ids[order],
        index=order.astype(np.int64),
        domain=np.array(owner, dtype=np.int16)[order],
        domains=texts.domains,
        split=split,
        source=texts.source,
        texts_sha256=texts.sha256,
        available=len(ids),
        template=f"packed within a domain; {'no BOS' if bos is None else 'one BOS first'}; joined by {'EOS' if eos is not None else 'a blank line'}",
    )
