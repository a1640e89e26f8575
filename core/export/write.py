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
from core.blocks.description import Block
from core.export.verify import made_up_ids, verify_elsewhere
from core.model.gates import gated, removal
from core.model.load import LoadedModel, load_model
from core.model.surgery import check_removal, remove_blocks
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
    removed: list[int]
    parameters: tuple[int, int]  # before, after
    bytes: tuple[int, int]  # weight files on disk, before, after
    blocks: tuple[int, int]  # before, after
    kv_bytes: tuple[int, int]  # of keys and values a token of context, before, after
    largest_difference: float  # of a logit against the gated model

    def to_json(self) -> dict:
        """What a job's result says of it."""
        return {
            "out": str(self.out),
            "removed": self.removed,
            "parameters": list(self.parameters),
            "bytes": list(self.bytes),
            "blocks": list(self.blocks),
            "kv_bytes": list(self.kv_bytes),
            "verified": True,
        }


def prune(
    source: str,
    removed: Sequence[int],
    out: Path,
    *,
    provenance: dict | None = None,
    workshop: Path | None = None,
    remote_code: bool = False,
    report: Report = lambda done, total, message: None,
) -> Export:
    """Remove blocks from `source` and write a checkpoint that loads as `source` does, by from_pretrained of
    its auto class.

    `workshop` is a folder on the disk of `out` to write in until it is verified; None: beside `out`.
    Weights keep the checkpoint's own type; quantised ones are written in bf16 (core.weights.quantised), which
    is larger. remote_code: as in core.model.load.load_model; the code goes with the checkpoint. Errors:
    InputError for bad blocks, an existing `out`, or a model that cannot be pruned; RuntimeError when the
    written folder fails verification (it is then removed).
    """
    out = Path(out)
    check_free(out)
    report(0, 4, "loading")
    loaded = load_model(source, device="cpu", remote_code=remote_code)
    blocks = check_removal(loaded, removed)
    before = _Before(loaded.parameters(), loaded.weights_bytes(), loaded.blocks)
    report(1, 4, "reference logits")
    probe = _probe(loaded, blocks)

    report(2, 4, "writing")
    dtype = loaded.files.written()
    if dtype != loaded.model.dtype:
        del loaded
        loaded = load_model(source, device="cpu", dtype=dtype, remote_code=remote_code)
    stored = loaded
    remove_blocks(stored, blocks)
    after, own_code = stored.parameters(), stored.own_code
    out.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=workshop or out.parent))
    try:
        checkpoint = staging / "checkpoint"
        record = {
            "removed": blocks,
            "kept": [i for i in range(len(before.blocks)) if i not in blocks],
            "source": source,
            "parameters": [before.parameters, after],
            "versions": {"blockscape": core.__version__, "transformers": transformers.__version__},
            **(provenance or {}),
        }
        _write(stored, checkpoint, record)
        del stored
        report(3, 4, "verifying in a fresh process")
        np.savez(staging / "probe.npz", ids=probe["ids"], logits=probe["logits"])
        difference = verify_elsewhere(checkpoint, staging / "probe.npz", own_code)
        size = sum(f.stat().st_size for f in checkpoint.glob("*.safetensors"))
        checkpoint.chmod(0o755)
        if out.exists():
            out.rmdir()
        os.replace(checkpoint, out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    report(4, 4, "done")
    kept = [b for b in before.blocks if b.index not in blocks]
    return Export(
        out,
        blocks,
        (before.parameters, after),
        (before.bytes, size),
        (len(before.blocks), len(kept)),
        (sum(b.kv_bytes for b in before.blocks), sum(b.kv_bytes for b in kept)),
        difference,
    )


class _Before(NamedTuple):
    """The model as it was."""

    parameters: int
    bytes: int
    blocks: list[Block]


def _probe(loaded: LoadedModel, blocks: list[int]) -> dict[str, np.ndarray]:
    """{ids, logits} of the model with the blocks gated off: what the checkpoint must give."""
    ids = made_up_ids(loaded.config.vocab_size, loaded.max_length)
    with torch.no_grad(), gated(loaded, removal(loaded, blocks)):
        logits = loaded.model(input_ids=ids, use_cache=False).logits.float()
    return {"ids": ids.numpy(), "logits": logits.numpy()}


def _write(stored: LoadedModel, checkpoint: Path, record: dict) -> None:
    """Weights, config, what is beside them in the model's folder, and the record with the digest of each."""
    stored.model.save_pretrained(checkpoint)
    own_code = stored.files.folder.glob("*.py") if stored.own_code else ()
    copied = (file for pattern in _COPIED for file in stored.files.tokenizer_folder.glob(pattern))
    for file in (*copied, *own_code):
        shutil.copyfile(file, checkpoint / file.name)
    record = {**record, "files": {file.name: file_sha256(file) for file in sorted(checkpoint.iterdir())}}
    (checkpoint / PROVENANCE).write_text(
        json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    for file in checkpoint.iterdir():
        file.chmod(0o644)  # safetensors leaves 0600
        _sync(file)


def is_export_of(out: Path, source: str, removed: Sequence[int]) -> bool:
    """Whether `out` is the verified checkpoint of `source` without these blocks."""
    try:
        record = json.loads((out / PROVENANCE).read_text(encoding="utf-8"))
        return (record["source"], record["removed"]) == (source, sorted(removed))
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
