"""Which forms a state of a model can be written in, and what that takes, told before anything is loaded."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.forms.names import GGUF, NATIVE, PORTABLE, SHAPES, FormName, forms_of
from core.ising.units import Name
from core.weights.packed import is_packed

_SUFFIX = ".gguf"


@dataclass(frozen=True)
class Offer:
    """A form, in words; why_not: a sentence where it is known that it cannot be had."""

    form: str
    name: FormName
    why_not: str | None = None


def offers(model: Mapping[str, Any], place: Path, removed: Sequence[Name]) -> list[Offer]:
    """The forms of a state, the usual one first; model: what a run says of it, whose weights are at `place`.

    A form that is offered may still be refused by what its weights say when they are read.
    """
    return [
        Offer(form, name, _no_llama(model) if form == GGUF and not _whole_of_gguf(place, removed) else None)
        for form, name in forms_of(removed).items()
    ]


def gguf_at(place: Path) -> Path | None:
    """The GGUF file of the model at a place, or the first part of a split one; None of safetensors. A folder
    is looked through as core.weights.find does.
    """
    if not place.is_dir():
        return place if place.suffix.lower() == _SUFFIX else None
    if (place / "config.json").is_file() and any(place.glob("*.safetensors")):
        return None
    return min((file for file in place.iterdir() if file.suffix.lower() == _SUFFIX), default=None)


def _whole_of_gguf(place: Path, removed: Sequence[Name]) -> bool:
    """Whether whole blocks go from a GGUF file, which may then be of any architecture."""
    return gguf_at(place) is not None and _whole(removed)


def _whole(removed: Sequence[Name]) -> bool:
    return not any(isinstance(name, str) for name in removed)


def _no_llama(model: Mapping[str, Any]) -> str | None:
    if model["type"] == "llama":
        return None
    return (
        f"Blockscape writes GGUF of Llama models and from GGUF files, and this is of the type "
        f"{model['type']!r}: take the Hugging Face checkpoint, and convert it with llama.cpp's own script."
    )


def bytes_after(
    model: Mapping[str, Any], place: Path, form: str, removed: Sequence[Name], gone: Sequence[Mapping]
) -> int:
    """Of the weights of an export of the model whose weights are at `place`, without the units `gone` that a
    form leaves out of what is removed. Rounded ones stay as they are in GGUF of a GGUF file and, where whole
    blocks go, in a checkpoint of a quantised one; else they are written in a wider type.
    """
    left = model["parameters"] - sum(b["parameters"] for b in gone)
    if "written_item" not in model or (form == GGUF and gguf_at(place)):
        return model["bytes"] - sum(b["bytes"] for b in gone)  # of before: all was written as it was stored
    if form in (NATIVE, PORTABLE) and _whole(removed) and _is_packed(place):
        return model["bytes"] * left // model["parameters"]
    return left * model["written_item"]


def _is_packed(place: Path) -> bool:
    """Whether a folder holds quantised safetensors."""
    try:
        config = json.loads((place / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and is_packed(config, place)


def left_out(names: Sequence[Name], form: str) -> list[Name]:
    """What a form does not write, of what is removed."""
    return [name for name in names if form != SHAPES or isinstance(name, int)]


def free_bytes(folder: Path) -> int:
    """Of the disk on which a folder is, or would be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
