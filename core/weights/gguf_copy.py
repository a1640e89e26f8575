"""A GGUF file made of what lies in others: entries and tensors as the bytes that they are. Loads no torch.

Tensors pass through a buffer of a few megabytes, so that memory does not grow with the file.
"""

import re
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from core.errors import InputError
from core.weights.gguf_header import ARRAY, MAGIC, SCALARS, Damaged, Header, Tensor, read_header

BUFFER = 2**22  # bytes
_SPLIT_KEYS = "split."  # entries of a split file: what the parts have and the whole has not
_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<parts>\d{5})\.gguf", re.IGNORECASE)
Report = Callable[[int, int, str], None]


class Piece(NamedTuple):
    """A tensor where it lies: `at` bytes from the beginning of `path`."""

    name: str
    tensor: Tensor
    path: Path
    at: int


class Content(NamedTuple):
    """What a file holds, or the parts of a split one together. header: of the first; entries: in its order,
    each as it is written, without those that say how it was split.
    """

    header: Header
    entries: dict[str, bytes]
    pieces: list[Piece]


def parts_of(path: Path, source: str) -> list[Path]:
    """All parts of a split file, in order; none where it is whole. Errors: InputError for a missing one."""
    found = _PART.fullmatch(path.name)
    if not found or found["parts"] == "00001":
        return []
    names = [
        f"{found['stem']}-{k + 1:05d}-of-{found['parts']}{path.suffix}" for k in range(int(found["parts"]))
    ]
    parts = [path.absolute().with_name(name) for name in names]
    if missing := [part.name for part in parts if not part.is_file()]:
        raise InputError(
            f"{source!r} is part of a GGUF file that was split into {len(parts)} and {len(missing)} of them "
            f"are not beside it, the first {missing[0]!r}; put them there."
        )
    return parts


def read_content(paths: Sequence[Path]) -> Content:
    """Of a file, or of all parts of a split one in order. Errors: Damaged; OSError."""
    headers = [read_header(path) for path in paths]
    pieces = [
        Piece(name, tensor, path, header.size + tensor.start)
        for path, header in zip(paths, headers)
        for name, tensor in header.tensors.items()
    ]
    if len({piece.name for piece in pieces}) < len(pieces):
        raise Damaged("has a tensor in two of its parts")
    claimed = headers[0].values.get(f"{_SPLIT_KEYS}tensors.count", len(pieces))
    if len(paths) > 1 and claimed != len(pieces):
        raise Damaged(f"says that it has {claimed} tensors, and its {len(paths)} parts have {len(pieces)}")
    with open(paths[0], "rb") as file:
        start = file.read(headers[0].size)
    entries = {
        key: start[span.start : span.end]
        for key, span in headers[0].spans.items()
        if not key.startswith(_SPLIT_KEYS)
    }
    return Content(headers[0], entries, pieces)


def entry(key: str, kind: int, value: bool | int | float | Sequence) -> bytes:
    """A number or an array of numbers as an entry is written; kind: of each, as the format calls it."""
    if isinstance(value, Sequence):
        form = f"<IIQ{len(value)}{SCALARS[kind]}"
        return _string(key) + struct.pack(form, ARRAY, kind, len(value), *value)
    return _string(key) + struct.pack(f"<I{SCALARS[kind]}", kind, value)


def start_of(header: Header, entries: Mapping[str, bytes], pieces: Iterable[Piece]) -> tuple[bytes, int]:
    """(all that comes before the tensors; bytes of the whole file), aligned as `header` says."""
    table, at = [], 0
    for name, tensor, _, _ in pieces:
        shape = tensor.shape[::-1]
        table.append(_string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, tensor.kind, at))
        at += _aligned(tensor.bytes, header.step)
    counts = struct.pack("<IQQ", header.version, len(table), len(entries))
    start = b"".join([MAGIC, counts, *entries.values(), *table])
    start = start.ljust(_aligned(len(start), header.step), b"\0")
    return start, len(start) + at


def write_content(
    out: BinaryIO, header: Header, entries: Mapping[str, bytes], pieces: Sequence[Piece], report: Report
) -> int:
    """Writes a file; its bytes. report: bytes done, of how many, what. Errors: OSError; Damaged where a
    source has become shorter.
    """
    start, total = start_of(header, entries, pieces)
    out.write(start)
    done = len(start)
    buffer = memoryview(bytearray(BUFFER))
    for name, tensor, path, at in pieces:
        with open(path, "rb", buffering=0) as source:
            source.seek(at)
            left = tensor.bytes
            while left:
                count = source.readinto(buffer[: min(left, BUFFER)])
                if not count:
                    raise Damaged(f"is cut off: the tensor {name[:60]!r} ends before its time")
                out.write(buffer[:count])
                left, done = left - count, done + count
                report(done, total, "writing")
        padding = _aligned(tensor.bytes, header.step) - tensor.bytes
        out.write(bytes(padding))
        done += padding
    report(total, total, "written")
    return total


def _string(text: str) -> bytes:
    content = text.encode("utf-8")
    return struct.pack("<Q", len(content)) + content


def _aligned(size: int, step: int) -> int:
    return -(-size // step) * step
