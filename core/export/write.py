"""Write a pruned checkpoint: whole, verified in a fresh process, or not at all.

The folder is written elsewhere on the same disk, reloaded by another Python process
that (core.export.verify) must find no missing or unexpected tensor, the gated model's logits, and
the same greedy tokens with and without cache; only then does it get its name.
Its blockscape.json says where it comes from and holds the SHA-256 of every other file.
"""

import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import transformers

import core
from core.errors import InputError
from core.export.card import card
from core.export.form_names import NATIVE, PARTIAL, PORTABLE, form_of
from core.export.forms import FORMS, HEALED, Form, Written, healed_parts
from core.export.verify import made_up_ids
from core.ising.units import BLOCK, BRANCH, Name, in_order
from core.model.gates import gated, removal
from core.model.load import LoadedModel, load_model
from core.model.places import Place
from core.model.surgery import check_removal, divided
from core.store.folders import check_free
from core.store.runs import file_sha256

_COPIED = (  # what is beside config and weights: the tokenizer, and what prepares images
    "tokenizer*",
    "special_tokens_map.json",
    "vocab.*",
    "merges.txt",
    "added_tokens.json",
    "chat_template*",
    "*.model",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
)
PROVENANCE = "blockscape.json"
ZIP_LIMIT = 64 * 2**20  # bytes that a browser is offered in one piece
Report = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Export:
    """A checkpoint that was written and verified."""

    out: Path
    removed: tuple[Name, ...]
    parameters: tuple[int, int]  # before, after
    bytes: tuple[int, int]  # weight files on disk, before, after
    blocks: tuple[int, int]  # before, after: those of which something is left
    kv_bytes: tuple[int, int]  # of keys and values a token of context, before, after
    largest_difference: float  # of a logit against the gated model
    form: str = NATIVE
    units: tuple[int, int] | None = None  # before, after, where a part of a block went alone
    llama_cpp: str | None = None  # what it did with a GGUF file

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
            **self._of_parts(),
        }

    def _of_parts(self) -> dict:
        """What is to be said where not only whole blocks went."""
        if self.units is None:
            return {}
        llama_cpp = {"llama_cpp": self.llama_cpp} if self.llama_cpp else {}
        return {"units": list(self.units), "form": self.form, "note": PARTIAL[self.form].about, **llama_cpp}


def prune(
    source: str,
    removed: Sequence[Name],
    out: Path,
    *,
    form: str | None = None,
    provenance: dict | None = None,
    workshop: Path | None = None,
    remote_code: bool = False,
    report: Report = lambda done, total, message: None,
) -> Export:
    """Remove blocks, or attention or FFN of them, from `source` and write a folder of the pruned model.

    removed: blocks by number, branches by name ("12a"). form: of core.export.form_names; None: where only
    whole blocks go, a checkpoint that loads as `source` does, by from_pretrained of its auto class; else the
    portable form. `workshop` is a folder on the disk of `out` to write in until it is verified; None: beside
    `out`. Weights keep the checkpoint's own type; quantised ones are written in bf16
    (core.weights.quantised), which is larger. remote_code: as in core.model.load.load_model; the code goes
    with the checkpoint. Errors: InputError for bad units, an existing `out`, or a model that cannot be
    pruned, or not in this form; RuntimeError when the written folder fails verification (it is then removed).
    """
    out = Path(out)
    check_free(out)
    report(0, 4, "loading")
    loaded, units = _asked(load_model(source, device="cpu", remote_code=remote_code), removed)
    named = form_of(loaded.units.stored(units), form)
    check_whole(loaded)
    FORMS[named].check(loaded, units)
    before = _before(loaded, units, source)
    report(1, 4, "reference logits")
    probe = _probe(loaded, units)

    report(2, 4, "writing")
    dtype = loaded.files.written()
    if dtype != loaded.model.dtype:
        del loaded
        loaded, _ = _asked(load_model(source, device="cpu", dtype=dtype, remote_code=remote_code), removed)
    return _placed(loaded, units, out, named, FORMS[named], before, probe, provenance or {}, workshop, report)


def check_whole(loaded: LoadedModel) -> None:
    """Errors: InputError for a model that lacks parts of blocks already."""
    if loaded.files.partial:
        raise InputError(
            f"{loaded.source!r} lacks parts of blocks already, which a second removal would forget; take the "
            "model that it was made from."
        )


def write_healed(
    original: LoadedModel,
    student: LoadedModel,
    removed: Sequence[int],
    out: Path,
    *,
    healed: dict,
    places: Sequence[Place] = (),
    provenance: dict | None = None,
    workshop: Path | None = None,
    report: Report = lambda done, total, message: None,
) -> Export:
    """Write a student, `original` without its units `removed` and trained since, as `prune` writes a pruned
    model: verified in a fresh process against the student's own logits.

    places: what core.model.surgery.remove_blocks has left empty in blocks that stay: then it is written in
    the portable form. healed: how, which blockscape.json holds under that name, so that nobody takes it for
    the pruned model. The student's weights are rounded to the checkpoint's own type. Errors: as `prune`.
    """
    out = Path(out)
    check_free(out)
    before = _before(original, removed, original.source)
    dtype = original.files.written()
    with torch.no_grad():  # the weights alone: positions are computed in float32, whatever those are in
        for p in student.model.parameters():
            p.data = p.data.to(dtype).float()
    report(2, 4, "writing")
    probe = _probe(student, ())
    for p in student.model.parameters():
        p.data = p.data.to(dtype)
    told = {**(provenance or {}), "healed": healed}
    form, how = (PORTABLE, healed_parts(places)) if places else (NATIVE, HEALED)
    done = _placed(student, (), out, form, how, before, probe, told, workshop, report)
    for p in student.model.parameters():
        p.data = p.data.float()
    return done


class _Before(NamedTuple):
    """The model as it was, and what is asked of it."""

    source: str
    name: str
    removed: tuple[Name, ...]
    kept: list[int]  # blocks of which something is left
    parameters: int
    bytes: int
    blocks: int
    units: int
    gone: int  # of the units
    kv_bytes: int


def _asked(loaded: LoadedModel, removed: Sequence[Name]) -> tuple[LoadedModel, list[int]]:
    """(the model by branch where a part of a block goes alone, else by block; its units of these names).
    Errors: InputError.
    """
    if any(isinstance(name, str) for name in removed):
        branches = loaded.seen(BRANCH)
        state = branches.units.parse(",".join(map(str, removed)))
        removed = branches.units.stored(state)
        if any(isinstance(name, str) for name in removed):
            return branches, check_removal(branches, state)
    loaded = loaded.seen(BLOCK)
    return loaded, check_removal(loaded, [name for name in removed if isinstance(name, int)])


def _before(loaded: LoadedModel, units: Sequence[int], source: str) -> _Before:
    whole, _ = divided(loaded, units)
    return _Before(
        source,
        loaded.name,
        loaded.units.stored(units),
        [i for i in range(len(loaded.blocks)) if i not in whole],
        loaded.parameters(),
        loaded.weights_bytes(),
        len(loaded.blocks),
        len(loaded.units),
        len(units),
        sum(b.kv_bytes for b in loaded.blocks),
    )


def _placed(
    loaded: LoadedModel,
    units: Sequence[int],
    out: Path,
    form: str,
    how: Form,
    before: _Before,
    probe: dict[str, np.ndarray],
    provenance: dict,
    workshop: Path | None,
    report: Report,
) -> Export:
    """What was written to `out`, once a fresh process has verified it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=workshop or out.parent))
    try:
        checkpoint = staging / "checkpoint"
        own_code = loaded.own_code
        written = _write(loaded, units, checkpoint, form, how, before, provenance)
        report(3, 4, "verifying in a fresh process")
        np.savez(staging / "probe.npz", ids=probe["ids"], logits=probe["logits"])
        found = how.prove(checkpoint, staging / "probe.npz", own_code)
        _check_cache(found, written, loaded.item_size)
        size = sum(f.stat().st_size for f in checkpoint.glob(how.weights))
        checkpoint.chmod(0o755)
        if out.exists():
            out.rmdir()
        os.replace(checkpoint, out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    report(4, 4, "done")
    return Export(
        out,
        before.removed,
        (before.parameters, written.parameters),
        (before.bytes, size),
        (before.blocks, len(before.kept)),
        (before.kv_bytes, written.kv_bytes),
        found["difference"],
        form,
        None if form == NATIVE else (before.units, before.units - before.gone),
        found.get("llama_cpp"),
    )


def _probe(loaded: LoadedModel, units: Sequence[int]) -> dict[str, np.ndarray]:
    """{ids, logits} of the model with the units gated off: what the checkpoint must give."""
    ids = made_up_ids(loaded.config.vocab_size, loaded.max_length)
    with torch.no_grad(), gated(loaded, removal(loaded, units)):
        logits = loaded.model(input_ids=ids, use_cache=False).logits.float()
    return {"ids": ids.numpy(), "logits": logits.numpy()}


def _write(
    loaded: LoadedModel,
    units: Sequence[int],
    checkpoint: Path,
    form: str,
    how: Form,
    before: _Before,
    provenance: dict,
) -> Written:
    """Weights, config, what is beside them in the model's folder, and the record with the digest of each."""
    written = how.write(loaded, units, checkpoint)
    own_code = loaded.files.folder.glob("*.py") if loaded.own_code else ()
    copied = (file for pattern in _COPIED for file in loaded.files.tokenizer_folder.glob(pattern))
    for file in (*copied, *own_code):
        shutil.copyfile(file, checkpoint / file.name)
    if form != NATIVE:
        text = card(form, before.name, before.removed, (before.units, before.units - before.gone))
        (checkpoint / "README.md").write_text(text, encoding="utf-8")
    record = {
        "removed": list(before.removed),
        "kept": before.kept,
        **({} if form == NATIVE else {"form": form}),
        "source": before.source,
        "parameters": [before.parameters, written.parameters],
        "versions": {"blockscape": core.__version__, "transformers": transformers.__version__},
        **provenance,
        "files": {file.name: file_sha256(file) for file in sorted(checkpoint.iterdir())},
    }
    (checkpoint / PROVENANCE).write_text(
        json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    for file in checkpoint.iterdir():
        file.chmod(0o644)  # safetensors leaves 0600
        _sync(file)
    return written


def _check_cache(found: dict, written: Written, item_size: int) -> None:
    """Errors: RuntimeError where a fresh process has seen another cache than was promised; item_size: bytes
    of a number in the promise, which is of the source's type, in which an export need not be written.
    """
    if "kv" in found and found["kv"] * item_size != written.kv_bytes:
        raise RuntimeError(
            f"The pruned checkpoint failed verification and was not kept: its cache holds {found['kv']} "
            f"numbers a token, not {written.kv_bytes // item_size}."
        )


def is_export_of(out: Path, source: str, removed: Sequence[Name], form: str | None = None) -> bool:
    """Whether `out` is the verified checkpoint of `source` without these blocks and branches, in a form, its
    weights as they were.
    """
    try:
        record = json.loads((out / PROVENANCE).read_text(encoding="utf-8"))
        own = (record["source"], record["removed"], record.get("form", NATIVE))
        return own == (source, list(in_order(removed)), form_of(removed, form)) and "healed" not in record
    except (OSError, ValueError, TypeError, KeyError, InputError):
        return False


def is_healed_of(out: Path, source: str, removed: Sequence[Name], asked: dict) -> bool:
    """Whether `out` is what `write_healed` wrote of `source` where the same was asked."""
    try:
        record = json.loads((out / PROVENANCE).read_text(encoding="utf-8"))
        own = (record["source"], record["removed"], record["healed"]["asked"])
        return own == (source, list(in_order(removed)), asked)
    except (OSError, ValueError, TypeError, KeyError):
        return False


def zip_export(out: Path, limit: int = ZIP_LIMIT) -> Path | None:
    """A checkpoint as one .zip beside its folder, whole or absent; None when its files have more than `limit`
    bytes.
    """
    files = sorted(p for p in out.iterdir() if p.is_file())
    if sum(p.stat().st_size for p in files) > limit:
        return None
    target = out.with_name(f"{out.name}.zip")
    handle, staging = tempfile.mkstemp(prefix=f".{out.name}-", suffix=".zip", dir=out.parent)
    try:
        # weights hardly shrink
        with os.fdopen(handle, "wb") as f, zipfile.ZipFile(f, "w", zipfile.ZIP_STORED) as archive:
            for file in files:
                archive.write(file, f"{out.name}/{file.name}")
        os.replace(staging, target)
    finally:
        Path(staging).unlink(missing_ok=True)
    return target


def _sync(file: Path) -> None:
    with open(file, "rb") as f:
        os.fsync(f.fileno())
