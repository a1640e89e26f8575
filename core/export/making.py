"""Make a folder of a pruned model: whole, proved, or not at all.

Whatever the way (`Making`), it is written elsewhere on the same disk and proved there; only then does it get
its name. Its blockscape.json says where it comes from and holds the SHA-256 of every other file.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import transformers

import core
from core.export.workshop import SHELF, check_disk, clear, named
from core.forms.card import card
from core.forms.config_changes import Change
from core.forms.names import LOGITS, NATIVE
from core.forms.record import PROVENANCE, Export, origin_of
from core.ising.units import Name
from core.store.folders import writing
from core.store.named_models import place_of
from core.store.runs import file_sha256
from core.weights.files import WeightFiles

Report = Callable[[int, int, str], None]
_COPIED = (  # what is beside config and weights: the tokenizer, what prepares images, the licence
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "chat_template*"),
    *("vocab.*", "merges.txt", "emoji.json", "*.model", "*.spm", "*.tiktoken", "*.tokenizer"),
    *("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json"),
    *("LICENSE*", "NOTICE*"),
)


@dataclass(frozen=True)
class Before:
    """A model as it was, and what is asked of it."""

    source: str
    name: str
    removed: tuple[Name, ...]
    kept: list[int]  # blocks of which something is left
    parameters: int
    bytes: int
    blocks: int
    units: int
    gone: int  # units that go
    kv_bytes: int

    @property
    def partial(self) -> bool:
        """Whether a part of a block goes alone."""
        return any(isinstance(name, str) for name in self.removed)


@dataclass(frozen=True)
class Written:
    """What was put into a folder."""

    parameters: int
    kv_bytes: int  # of keys and values a token, as the description of what is left promises
    config: tuple[Change, ...] = ()  # what was changed in it


@dataclass(frozen=True)
class Making:
    """One way to write a model in a form.

    write: into a new folder; given a second one, what is whole is kept there, too, for who goes on after a
    kill. prove: (that folder, one for what the proof needs) -> what was found, with the
    problem if there is one raised as RuntimeError. beside: files of the original that go along. weights: a
    pattern of the files that hold them. item: bytes of a number in the promise of a cache. size: bytes that
    will be written, about.
    """

    before: Before
    form: str
    write: Callable[[Path, Report, Path | None], Written]
    prove: Callable[[Path, Path], dict]
    beside: Sequence[Path] = field(default=())
    weights: str = "*.safetensors"
    item: int = 4
    size: int = 0


def beside(files: WeightFiles) -> list[Path]:
    """What goes along with a checkpoint: tokenizer, processors, licence, and code where it is the model's
    own.
    """
    found = [file for pattern in _COPIED for file in files.tokenizer_folder.glob(pattern)]
    found += files.folder.glob("*.py") if files.own_code else []
    return sorted({file for file in found if file.is_file()})


def made(
    making: Making,
    out: Path,
    *,
    provenance: dict | None = None,
    workshop: Path | None = None,
    report: Report = lambda done, total, message: None,
) -> Export:
    """What was written to `out`, once it is proved; what is there already is replaced then, and not before.

    provenance: what else blockscape.json says. workshop: a folder on the disk of `out` to write in; None:
    beside `out`. Errors: InputError where the disk lacks room or says no; RuntimeError where the proof fails.
    Nothing of it is then left.
    """
    before = making.before
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        shelf = workshop and workshop / SHELF
        there = sum(file.stat().st_size for file in shelf.glob("*")) if shelf else 0
        check_disk(making.size - there, workshop or out.parent)
        staging = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=workshop or out.parent))
        try:
            checkpoint = staging / "checkpoint"
            report(2, 4, "writing")
            written = making.write(checkpoint, report, shelf)
            _add_record(making, written, checkpoint, provenance or {})
            report(3, 4, "verifying in a fresh process")
            try:
                found = making.prove(checkpoint, staging)
                _check_cache(found, written, making.item)
            except RuntimeError:  # what is on the shelf is no better
                shutil.rmtree(shelf or staging, ignore_errors=True)
                raise
            size = sum(f.stat().st_size for f in checkpoint.glob(making.weights))
            checkpoint.chmod(0o755)
            named(checkpoint, staging, out)
        finally:
            clear(staging, out)
    report(4, 4, "done")
    return Export(
        out,
        before.removed,
        (before.parameters, written.parameters),
        (before.bytes, size),
        (before.blocks, len(before.kept)),
        (before.kv_bytes, written.kv_bytes),
        found["difference"],
        making.form,
        (before.units, before.units - before.gone) if before.partial else None,
        found.get("llama_cpp"),
        found.get("proof", LOGITS),
        written.config,
    )


def _add_record(making: Making, written: Written, checkpoint: Path, provenance: dict) -> None:
    """What is beside the weights in the model's folder, the card, and the record with the digest of each."""
    before = making.before
    for file in making.beside:
        shutil.copyfile(file, checkpoint / file.name)
    record = {
        "removed": list(before.removed),
        "kept": before.kept,
        **({} if making.form == NATIVE else {"form": making.form}),
        "source": before.source,
        "parameters": [before.parameters, written.parameters],
        "versions": {"blockscape": core.__version__, "transformers": transformers.__version__},
        **origin_of(place_of(before.source).expanduser()),
        **provenance,
    }
    told = card(record, before.name, before.blocks, checkpoint)
    (checkpoint / "README.md").write_text(told, encoding="utf-8")
    record["files"] = {file.name: file_sha256(file) for file in sorted(checkpoint.iterdir())}
    (checkpoint / PROVENANCE).write_text(
        json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    for file in checkpoint.iterdir():
        file.chmod(0o644)  # safetensors leaves 0600
        _sync(file)


def _check_cache(found: dict, written: Written, item: int) -> None:
    """Errors: RuntimeError where a fresh process has seen another cache than was promised; item: bytes of a
    number in the promise, which is of the source's type, in which an export need not be written.
    """
    if "kv" in found and found["kv"] * item != written.kv_bytes:
        raise RuntimeError(
            f"The pruned checkpoint failed verification and was not kept: its cache holds {found['kv']} "
            f"numbers a token, not {written.kv_bytes // item}."
        )


def _sync(file: Path) -> None:
    with open(file, "rb") as f:
        os.fsync(f.fileno())
