"""Two GGUF files held against each other by the package gguf, which reads them with other code than wrote
one of them; and one written anew in float32. Loads no torch.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np

from core.export.gguf.blocks import plan_gguf
from core.weights.gguf_copy import Piece, parts_of, read_content, start_of
from core.weights.gguf_header import read_header

Field = gguf.gguf_reader.ReaderField
_FLOAT32, _FLOAT16 = gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16
_PLAIN = {_FLOAT32: "<f4", _FLOAT16: "<f2"}


def same_bytes(source_file: Path, file: Path, removed: Sequence[int]) -> int:
    """How many tensors of `file` are the bytes of those that `source_file` keeps without these blocks, which
    is all of them; and every entry is, too, but those that must say something else, which say it.

    Errors: RuntimeError with the first that is not so.
    """
    cut, new = plan_gguf(source_file, removed), gguf.GGUFReader(file)
    old = [gguf.GGUFReader(part) for part in parts_of(source_file, str(source_file)) or [source_file]]
    _check_entries(_entries(old[0]), _entries(new), {key: after for key, (_, after) in cut.changes.items()})
    kept = [b for b in range(cut.blocks[0]) if b not in removed]
    number = {str(b): str(n) for n, b in enumerate(kept)}
    expected = {}
    for tensor in (tensor for reader in old for tensor in reader.tensors):
        first, *rest = tensor.name.split(".")
        if first == "blk":
            if rest[0] not in number:
                continue
            rest[0] = number[rest[0]]
        expected[".".join([first, *rest])] = tensor
    found = {tensor.name: tensor for tensor in new.tensors}
    if other := set(found) ^ set(expected):
        raise RuntimeError(f"the tensor {min(other)!r} is missing or left over")
    for name, tensor in found.items():
        told = [(t.tensor_type, t.shape.tolist(), _digest(t.data)) for t in (tensor, expected[name])]
        if told[0] != told[1]:
            raise RuntimeError(f"the tensor {name!r} is not the one of the original")
    return len(found)


def _entries(reader: gguf.GGUFReader) -> dict[str, Field]:
    return {name: f for name, f in reader.fields.items() if not name.startswith(("GGUF.", "split."))}


def _check_entries(old: dict[str, Field], new: dict[str, Field], changed: dict) -> None:
    if other := set(new) ^ (set(old) | set(changed)):
        raise RuntimeError(f"the entry {min(other)!r} is missing or left over")
    for name, field in new.items():
        same = (
            field.contents() == changed[name]
            if name in changed
            else [p.tobytes() for p in field.parts] == [p.tobytes() for p in old[name].parts]
        )
        if not same:
            raise RuntimeError(f"the entry {name!r} says {str(field.contents())[:60]}")


def _digest(data: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(data).data).hexdigest()


def is_plain(file: Path) -> bool:
    """Whether every tensor of a file is float32."""
    return {tensor.kind for tensor in read_header(file).tensors.values()} == {_FLOAT32}


def write_float32(file: Path, out: Path) -> None:
    """The same model with every tensor as float32, as the package gguf dequantises it. Errors: OSError."""
    header, entries, pieces = read_content([file])
    wide = [piece._replace(tensor=replace(piece.tensor, kind=_FLOAT32)) for piece in pieces]
    with open(out, "wb") as target:
        target.write(start_of(header, entries, wide)[0])
        for piece in pieces:
            values = np.asarray(_values(piece), dtype="<f4").tobytes()
            target.write(values.ljust(-(-len(values) // header.step) * header.step, b"\0"))


def _values(piece: Piece) -> np.ndarray:
    """Its numbers, in its shape."""
    _, tensor, path, at = piece
    if tensor.kind in (_FLOAT32, _FLOAT16):
        return np.memmap(path, _PLAIN[tensor.kind], "r", at, tensor.shape)
    each, held = gguf.GGML_QUANT_SIZES[tensor.kind]
    rows = (*tensor.shape[:-1], tensor.shape[-1] // each * held)
    return gguf.dequantize(np.memmap(path, np.uint8, "r", at, rows), tensor.kind)
