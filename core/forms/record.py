"""What an export says of itself: the record that lies in its folder, and what a job tells of it."""

import json
import os
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core.errors import InputError
from core.forms.config_changes import Change
from core.forms.names import LOGITS, NATIVE, form_of, forms_of
from core.ising.units import Name, in_order

PROVENANCE = "blockscape.json"
ZIP_LIMIT = 64 * 2**20  # bytes that a browser is offered in one piece


@dataclass(frozen=True)
class Export:
    """A checkpoint that was written and verified."""

    out: Path
    removed: tuple[Name, ...]
    parameters: tuple[int, int]  # before, after
    bytes: tuple[int, int]  # weight files on disk, before, after
    blocks: tuple[int, int]  # before, after: those of which something is left
    kv_bytes: tuple[int, int]  # of keys and values a token of context, before, after
    largest_difference: float | None  # of a logit against the gated model; None: no logits were compared
    form: str = NATIVE
    units: tuple[int, int] | None = None  # before, after, where a part of a block went alone
    llama_cpp: str | None = None  # what it did with a GGUF file
    proof: str = LOGITS  # of core.forms.names.PROOFS
    config: tuple[Change, ...] = ()  # what was changed in it

    def to_json(self) -> dict:
        """What a job's result says of it."""
        return {
            "out": str(self.out),
            "removed": list(self.removed),
            "parameters": list(self.parameters),
            "bytes": list(self.bytes),
            "blocks": list(self.blocks),
            "kv_bytes": list(self.kv_bytes),
            "verified": True,
            "proof": self.proof,
            **({"config": [list(change) for change in self.config]} if self.config else {}),
            **({} if self.units is None else {"units": list(self.units)}),
            **({} if self.form == NATIVE else self._of_form()),
        }

    def _of_form(self) -> dict:
        """What is to be said of another form than the usual one."""
        llama_cpp = {"llama_cpp": self.llama_cpp} if self.llama_cpp else {}
        return {"form": self.form, "note": forms_of(self.removed)[self.form].about, **llama_cpp}


def read_record(folder: Path) -> dict | None:
    """What an export's folder says of it; None of any other folder."""
    try:
        record = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def is_export_of(out: Path, source: str, removed: Sequence[Name], form: str | None = None) -> bool:
    """Whether `out` is the verified checkpoint of `source` without these blocks and branches, in a form, its
    weights as they were.
    """
    record = read_record(out) or {}
    own = (record.get("source"), record.get("removed"), record.get("form", NATIVE))
    try:
        return own == (source, list(in_order(removed)), form_of(removed, form)) and "healed" not in record
    except InputError:
        return False


def is_healed_of(out: Path, source: str, removed: Sequence[Name], asked: dict) -> bool:
    """Whether `out` is what `write_healed` wrote of `source` where the same was asked."""
    record = read_record(out) or {}
    try:
        own = (record["source"], record["removed"], record["healed"]["asked"])
    except (TypeError, KeyError):
        return False
    return own == (source, list(in_order(removed)), asked)


def origin_of(place: Path) -> dict:
    """{"of": what an export that is pruned or converted again, by its folder or its GGUF file, says of
    itself}; empty of any other model.
    """
    record = read_record(place.parent if place.is_file() else place)
    if record is None or (place.is_file() and place.name not in record.get("files", {})):
        return {}
    return {"of": {name: v for name, v in record.items() if name != "files"}}


def zip_export(out: Path, limit: int = ZIP_LIMIT) -> Path | None:
    """A checkpoint as one .zip beside its folder, whole or absent; None when its files have more than `limit`
    bytes, or the disk does not take it: the checkpoint is there all the same.
    """
    files = sorted(p for p in out.iterdir() if p.is_file())
    if sum(p.stat().st_size for p in files) > limit:
        return None
    target = out.with_name(f"{out.name}.zip")
    try:
        # deleted where it does not get its name; weights hardly shrink
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as staging:
            with zipfile.ZipFile(Path(staging, "zip"), "w", zipfile.ZIP_STORED) as archive:
                for file in files:
                    archive.write(file, f"{out.name}/{file.name}")
            os.replace(Path(staging, "zip"), target)
    except OSError:
        return None
    return target
