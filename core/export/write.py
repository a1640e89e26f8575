"""Write a pruned checkpoint: whole, verified in a fresh process, or not at all.

The folder is written elsewhere on the same disk, reloaded by another Python process
that must find no missing or unexpected tensor, the gated model's logits, and
the same greedy tokens with and without cache; only then does it get its name.
Its blockscape.json says where it comes from and holds the SHA-256 of every other file.

`python -m core.export.write FOLDER PROBE [--trust-remote-code]` is that other process.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import transformers

import core
from core.errors import InputError
from core.measure.evaluation import greedy
from core.model.gates import gated, removal
from core.model.load import load_model
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
PROBE_TOKENS, GREEDY_TOKENS = 24, 12
LOGITS_TOLERANCE = 1e-5  # relative to the largest logit
ZIP_LIMIT = 64 * 2**20  # bytes that a browser is offered in one piece
Report = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Export:
    out: Path
    removed: list[int]
    parameters: tuple[int, int]  # before, after
    bytes: tuple[int, int]  # weight files on disk, before, after
    blocks: tuple[int, int]  # before, after
    kv_bytes: tuple[int, int]  # of keys and values a token of context, before, after
    largest_difference: float  # of a logit against the gated model

    def to_json(self) -> dict:
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
    Weights keep the checkpoint's own type; quantised ones are written in bf16 (core.model.quantised), which
    is larger. remote_code: as in core.model.load.load_model; the code goes with the checkpoint. Errors:
    InputError for bad blocks, an existing `out`, or a model that cannot be pruned; RuntimeError when the
    written folder fails verification (it is then removed).
    """
    out = Path(out)
    check_free(out)
    report(0, 4, "loading")
    loaded = load_model(source, device="cpu", remote_code=remote_code)
    blocks = check_removal(loaded, removed)
    parameters, size = loaded.parameters(), loaded.weights_bytes()
    report(1, 4, "reference logits")
    ids = _probe_ids(loaded.config.vocab_size, loaded.max_length)
    with torch.no_grad(), gated(loaded, removal(loaded, blocks)):
        logits = loaded.model(input_ids=ids, use_cache=False).logits.float().numpy()
    folder, original = loaded.folder, loaded.blocks
    kv = (sum(b.kv_bytes for b in original), sum(b.kv_bytes for b in original if b.index not in blocks))
    del loaded

    report(2, 4, "writing")
    stored = load_model(source, device="cpu", dtype="auto", remote_code=remote_code)
    remove_blocks(stored, blocks)
    out.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=workshop or out.parent))
    try:
        checkpoint = staging / "checkpoint"
        stored.model.save_pretrained(checkpoint)
        for pattern in (*_COPIED, *(["*.py"] if stored.own_code else [])):
            for file in folder.glob(pattern):
                shutil.copyfile(file, checkpoint / file.name)
        after = stored.parameters()
        record = {
            "removed": blocks,
            "kept": [i for i in range(len(original)) if i not in blocks],
            "source": source,
            "parameters": [parameters, after],
            "versions": {"blockscape": core.__version__, "transformers": transformers.__version__},
            **(provenance or {}),
            "files": {file.name: file_sha256(file) for file in sorted(checkpoint.iterdir())},
        }
        (checkpoint / PROVENANCE).write_text(
            json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        for file in checkpoint.iterdir():
            file.chmod(0o644)  # safetensors leaves 0600
            _sync(file)
        own_code = stored.own_code
        del stored
        report(3, 4, "verifying in a fresh process")
        np.savez(staging / "probe.npz", ids=ids.numpy(), logits=logits)
        difference = _verify_elsewhere(checkpoint, staging / "probe.npz", own_code)
        sizes = (size, sum(f.stat().st_size for f in checkpoint.glob("*.safetensors")))
        checkpoint.chmod(0o755)
        if out.exists():
            out.rmdir()
        os.replace(checkpoint, out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    report(4, 4, "done")
    return Export(
        out, blocks, (parameters, after), sizes, (len(original), len(original) - len(blocks)), kv, difference
    )


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


def _probe_ids(vocabulary: int, max_length: int | None) -> torch.Tensor:
    length = min(PROBE_TOKENS, (max_length or PROBE_TOKENS + GREEDY_TOKENS) - GREEDY_TOKENS)
    return torch.randint(0, vocabulary, (2, max(2, length)), generator=torch.Generator().manual_seed(0))


def _sync(file: Path) -> None:
    with open(file, "rb") as f:
        os.fsync(f.fileno())


def _verify_elsewhere(checkpoint: Path, probe: Path, own_code: bool) -> float:
    """Run `verify` in a fresh process, own_code: with the checkpoint's. The largest difference of a logit.

    Errors: RuntimeError with its finding.
    """
    command = [sys.executable, "-m", "core.export.write", str(checkpoint.resolve()), str(probe.resolve())]
    done = subprocess.run(
        command + ["--trust-remote-code"] * own_code,
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
    )
    try:
        found = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, json.JSONDecodeError) as error:
        raise RuntimeError(
            "The pruned checkpoint could not be verified: "
            f"{(done.stderr.strip().splitlines() or ['no output'])[-1]}"
        ) from error
    if found["problem"]:
        raise RuntimeError(f"The pruned checkpoint failed verification and was not kept: {found['problem']}.")
    return found["difference"]


def verify(checkpoint: Path, probe: Path, remote_code: bool = False) -> dict:
    """{problem: sentence or None, difference: largest logit difference} of a checkpoint against a probe (ids,
    logits).
    """
    # refuses missing, unexpected and mismatched tensors
    loaded = load_model(str(checkpoint), device="cpu", remote_code=remote_code)
    with np.load(probe, allow_pickle=False) as expected:
        ids, logits = torch.from_numpy(expected["ids"]), expected["logits"]
    with torch.no_grad():
        own = loaded.model(input_ids=ids, use_cache=False).logits.float().numpy()
        cached, plain = (greedy(loaded.model, ids, GREEDY_TOKENS, use_cache) for use_cache in (True, False))
    difference = float(np.abs(own - logits).max()) if own.shape == logits.shape else float("inf")
    problem = None
    if not difference <= LOGITS_TOLERANCE * float(np.abs(logits).max()):
        problem = f"its logits differ from the gated model's by {difference:.2g}"
    elif not torch.equal(cached, plain):
        problem = "greedy tokens differ with and without cache"
    return {"problem": problem, "difference": difference}


if __name__ == "__main__":
    try:
        finding = verify(Path(sys.argv[1]), Path(sys.argv[2]), "--trust-remote-code" in sys.argv[3:])
    except InputError as error:
        finding = {"problem": str(error).rstrip("."), "difference": None}
    print(json.dumps(finding))
