"""The header of a GGUF file, read within bounds before any library sees the file.

Libraries believe the lengths that a header claims: one that says 2^60 keeps them busy for ever, or takes all
memory. Here every length is held against the bytes that are there. Format: GGUF versions 2 and 3, ggml's
docs/gguf.md.
"""

import mmap
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

MAGIC = b"GGUF"
_VERSIONS = (2, 3)
# how struct calls the format's numbers
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, ARRAY = 8, 9
MOST_ENTRIES = 2_000_000  # of an array: the largest vocabularies have 300,000 tokens, and merges as many
MOST_DIMENSIONS = 4


class Damaged(ValueError):
    """What is wrong with the file, in words that follow its name."""


@dataclass(frozen=True)
class Tensor:
    """One tensor as the header describes it; shape as PyTorch writes it, first dimension first."""

    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    start: int  # from where tensors begin

    @property
    def numbers(self) -> int:
        """How many it holds."""
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        """What it takes in the file."""
        each, held = GGML_QUANT_SIZES[self.kind]
        return self.numbers // each * held


class Span(NamedTuple):
    """Where an entry lies in the file, its name included; kind: of its value; inner: of an array's."""

    start: int
    end: int
    kind: int
    inner: int | None = None


@dataclass(frozen=True)
class Header:
    """values: every entry but arrays, of which their lengths are in `lengths`; tensors by name.

    spans: of every entry, in the order of the file. step: bytes to whose multiples tensors are aligned.
    """

    values: dict[str, Any]
    lengths: dict[str, int]
    tensors: dict[str, Tensor]
    size: int  # bytes before the tensors
    spans: dict[str, Span]
    version: int
    step: int

    @property
    def architecture(self) -> str:
        """What general.architecture says."""
        return str(self.values.get("general.architecture", ""))

    @property
    def blocks(self) -> int:
        """How many blocks the tensors are of, by their names blk.0., blk.1., ..."""
        numbers = [name.split(".")[1] for name in self.tensors if name.startswith("blk.")]
        return 1 + max((int(n) for n in numbers if n.isdecimal()), default=-1)

    def own(self, name: str) -> Any:
        """What the file says of its architecture under a name without the prefix; None: nothing, or an
        array.
        """
        return self.values.get(f"{self.architecture}.{name}")


def read_array(path: Path, header: Header, key: str) -> list | None:
    """The numbers of an array in a file's header; None where it has no array of numbers by that name.
    Errors: OSError.
    """
    span = header.spans.get(key)
    if span is None or span.inner not in SCALARS:
        return None
    form = f"<{header.lengths[key]}{SCALARS[span.inner]}"
    with open(path, "rb") as file:
        file.seek(span.end - struct.calcsize(form))
        return list(struct.unpack(form, file.read(struct.calcsize(form))))


def read_header(path: Path) -> Header:
    """The header of a GGUF file. Errors: Damaged; OSError."""
    with open(path, "rb") as file:
        if file.read(4) != MAGIC:
            raise Damaged("does not begin with the letters GGUF, so it is no GGUF file")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            try:
                return _Walk(content).header()
            except struct.error as error:
                raise Damaged("is cut off within its header") from error
            except UnicodeDecodeError as error:
                raise Damaged("has a name in its header that is no UTF-8") from error


class _Walk:
    """One pass over a header."""

    def __init__(self, content: mmap.mmap):
        self.content, self.at = content, 4

    def take(self, form: str) -> Any:
        """One number."""
        found = struct.unpack_from(f"<{form}", self.content, self.at)
        self.at += struct.calcsize(f"<{form}")
        return found[0]

    def count(self, what: str, each: int) -> int:
        """How many there are to come, of `each` bytes or more: never more than the file holds."""
        claimed = self.take("Q")
        if claimed * each > len(self.content) - self.at:
            raise Damaged(f"claims {claimed:,} {what}, more than its {len(self.content):,} bytes can hold")
        return claimed

    def string(self) -> str:
        """A string, as names and values are written."""
        size = self.count("letters in one name", 1)
        self.at += size
        return self.content[self.at - size : self.at].decode("utf-8")

    def value(self, kind: int) -> Any:
        """A value of one of the format's types; of an array, its length."""
        if kind == _STRING:
            return self.string()
        if kind == ARRAY:
            return self.array()
        if kind not in SCALARS:
            raise Damaged(f"has a value of the type {kind}, which the format does not know")
        return self.take(SCALARS[kind])

    def array(self) -> int:
        """Passes over an array; its length."""
        kind = self.take("I")
        each = struct.calcsize(f"<{SCALARS[kind]}") if kind in SCALARS else 8
        length = self.count("entries of an array", each)
        if length > MOST_ENTRIES:
            raise Damaged(f"has an array of {length:,} entries and at most {MOST_ENTRIES:,} are read")
        if kind in SCALARS:
            self.at += length * each
        elif kind == _STRING:
            for _ in range(length):
                self.string()
        else:
            raise Damaged(f"has an array of the type {kind}, which no model uses")
        return length

    def tensor(self) -> tuple[str, Tensor]:
        """(its name, the tensor) of one line of the table."""
        name, dimensions = self.string(), self.take("I")
        if not 0 < dimensions <= MOST_DIMENSIONS:
            raise Damaged(f"says that the tensor {name[:60]!r} has {dimensions:,} dimensions")
        shape = tuple(self.take("Q") for _ in range(dimensions))[::-1]
        kind, start = self.take("I"), self.take("Q")
        if kind not in list(GGMLQuantizationType):
            raise Damaged(
                f"has the tensor {name[:60]!r} in the type {kind}, which the package gguf does not know"
            )
        return name, Tensor(shape, GGMLQuantizationType(kind), start)

    def header(self) -> Header:
        """All of it."""
        if (version := self.take("I")) not in _VERSIONS:
            raise Damaged(f"is of version {version:,} and versions 2 and 3 are read")
        tensors, entries = self.count("tensors", 24), self.count("entries", 13)
        values: dict[str, Any] = {}
        lengths: dict[str, int] = {}
        spans: dict[str, Span] = {}
        for _ in range(entries):
            start = self.at
            key, kind = self.string(), self.take("I")
            inner = struct.unpack_from("<I", self.content, self.at)[0] if kind == ARRAY else None
            found: dict[str, Any] = lengths if kind == ARRAY else values
            found[key] = self.value(kind)
            spans[key] = Span(start, self.at, kind, inner)
        if len(spans) < entries:
            raise Damaged("names an entry twice")
        table = dict(self.tensor() for _ in range(tensors))
        if len(table) < tensors:
            raise Damaged("names a tensor twice")
        step = values.get("general.alignment", 32)
        if not isinstance(step, int) or not 0 < step <= 2**20 or step & (step - 1):
            raise Damaged(f"aligns its tensors to {str(step)[:20]} bytes")
        size = -(-self.at // step) * step
        for name, tensor in table.items():
            self._check(name, tensor, size)
        return Header(values, lengths, table, size, spans, version, step)

    def _check(self, name: str, tensor: Tensor, size: int) -> None:
        each, _ = GGML_QUANT_SIZES[tensor.kind]
        if not tensor.numbers or tensor.shape[-1] % each:
            raise Damaged(f"says that the tensor {name[:60]!r} has the shape {list(tensor.shape)}")
        if size + tensor.start + tensor.bytes > len(self.content):
            raise Damaged(f"is cut off: the tensor {name[:60]!r} lies beyond its {len(self.content):,} bytes")
