"""Tensors of safetensors files as they lie there: found by their headers, copied and compared as bytes.

Nothing is decoded, so every type goes through, those of quantised weights too, and no more than a piece of a
tensor is in memory at once. The format: 8 bytes with the length of a JSON header, that header ({name: {dtype,
shape, data_offsets}}), then all data without gaps (https://github.com/huggingface/safetensors).
"""

import json
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.errors import InputError
from core.weights.files import INDEX, WeightFiles

PIECE = 8 << 20  # bytes that are read at once
_LONGEST_HEADER = 100_000_000  # bytes, as the format's own library has it
_BITS = re.compile(r"(?:F|BF|I|U|C)(\d+)")


@dataclass(frozen=True)
class OnDisk:
    """A tensor in a file."""

    file: Path
    dtype: str  # as the header calls it: "BF16"
    shape: tuple[int, ...]
    begin: int  # of its bytes, from the file's beginning
    size: int  # bytes

    def pieces(self) -> Iterator[bytes]:
        """Its bytes. Errors: InputError where the file is shorter than its header says."""
        left = self.size
        with open(self.file, "rb") as file:
            file.seek(self.begin)
            while left:
                piece = file.read(min(left, PIECE))
                if not piece:
                    raise InputError(f"{self.file.name} ends within a tensor; take this weight file anew.")
                left -= len(piece)
                yield piece

    def same(self, other: "OnDisk") -> bool:
        """Whether type, shape and every byte are those of another."""
        if (self.dtype, self.shape, self.size) != (other.dtype, other.shape, other.size):
            return False
        return all(a == b for a, b in zip(self.pieces(), other.pieces(), strict=True))


def stored_tensors(files: WeightFiles) -> dict[str, OnDisk]:
    """{name: tensor}, file by file, in the order of each. Errors: InputError for a damaged or cut file, and
    for a name in two.
    """
    found: dict[str, OnDisk] = {}
    for path in files.read:
        for name, tensor in _header(path, files.source).items():
            if name in found:
                raise InputError(
                    f"{files.source!r} has the tensor {name} in {found[name].file.name} and in {path.name}; "
                    "take its weight files anew."
                )
            found[name] = tensor
    return found


def _header(path: Path, source: str) -> dict[str, OnDisk]:
    """The tensors of a file. Errors: InputError."""
    size = path.stat().st_size
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= min(size - 8, _LONGEST_HEADER):
                raise ValueError("its header is cut off")
            entries = json.loads(file.read(length))
        entries.pop("__metadata__", None)
        found = {}
        for name, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"]):
            begin, end = entry["data_offsets"]
            tensor = OnDisk(path, entry["dtype"], tuple(entry["shape"]), 8 + length + begin, end - begin)
            bits = _bits(tensor.dtype)
            if bits and math.prod(tensor.shape) * bits != tensor.size * 8:
                raise ValueError(f"{name} has {tensor.size} bytes, which its shape does not fit")
            found[name] = tensor
        end = max((t.begin + t.size for t in found.values()), default=8 + length)
        if end != size:
            raise ValueError(f"it has {size} bytes and not {end}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"The weight file {path.name} of {source!r} is cut off or damaged ({error}); take it anew from "
            "the model's origin."
        ) from error
    return found


def _bits(dtype: str) -> int:
    """Of a number of a type; 0 where its name does not say."""
    own = {"BOOL": 8}.get(dtype)
    match = _BITS.match(dtype)
    return own or (int(match[1]) if match else 0)


def write_tensors(path: Path, tensors: Sequence[tuple[str, OnDisk]], copied: Callable[[int], None]) -> None:
    """A new safetensors file of these tensors under their new names, on disk when this returns.

    copied: told how many bytes more there are, piece by piece. The largest types come first, so that every
    tensor is aligned.
    """
    ordered = sorted(tensors, key=lambda item: -_bits(item[1].dtype))
    header: dict[str, dict] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, tensor in ordered:
        place = [at, at + tensor.size]
        header[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": place}
        at += tensor.size
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, tensor in ordered:
            for piece in tensor.pieces():
                file.write(piece)
                copied(len(piece))
        file.flush()
        os.fsync(file.fileno())


def write_index(folder: Path, files: dict[str, str], size: int) -> None:
    """The index of several files; files: {tensor: file name}; size: bytes of all tensors."""
    content = {"metadata": {"total_size": size}, "weight_map": dict(sorted(files.items()))}
    (folder / INDEX).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
