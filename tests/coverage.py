"""Every causal-LM type of the pinned transformers, tiny and random, through discovery, gates, rows and
removal, and home as files.

    python -m tests.coverage [TYPE ...]     writes docs/coverage.md; goes on where it was cut off

A type passes when its blocks are found, a gate at 1 changes nothing, the rows of a batch are those of
its samples one by one, gates at 0 are the model with those blocks removed, and its head can be cut off
(core.model.head). What is written of it is proved by tests.targets.
"""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".coverage-types.jsonl"  # what is done, one line a type
TABLE = ROOT / "docs" / "coverage.md"
PER_PROCESS, SECONDS = 16, 240
REMOVED = (1, 2)
TARGETS = {"memory": "in memory", "shards": "by shard", "portable": "portable"}  # of tests.targets
CLOSE = 1e-6  # logits, of their norm, in float64: rounding must not decide, nor the processor
ROWS_CLOSE = 1e-5  # rows, of their norm: they are summed in float32 all the same
CLOSE_SINGLE = 1e-5  # logits where a type computes in float32 only
ROUNDED = 1e-3  # rows in float32 against those in float64


def check(model_type: str) -> dict:
    """{gate, kinds, what}: what fits a type; `what` is empty when everything holds."""
    import torch

    from core.calibration.gradient_rows import gradient_rows
    from core.errors import InputError
    from core.ising.units import BRANCH
    from core.model.gates import gate_of, gated, keep_all, removal
    from core.model.load import wrap
    from core.model.surgery import without
    from core.store.runs import by_block
    from core.weights.files import WeightFiles
    from tests import zoo

    zoo.check(model_type, zoo.tiny_model(model_type))
    model = zoo.tiny_model(model_type)
    try:
        loaded = wrap(model, None, model_type, WeightFiles(model_type, ROOT))
    except InputError as error:
        return {"gate": "", "kinds": "", "what": str(error)}
    kinds = Counter(b.kind for b in loaded.blocks)
    about = {"gate": gate_of(loaded), "kinds": ", ".join(f"{count} {kind}" for kind, count in kinds.items())}
    ids = torch.randint(3, 90, (3, 9), generator=torch.Generator().manual_seed(0))

    def logits() -> torch.Tensor:
        with torch.no_grad():
            return model(input_ids=ids, use_cache=False).logits

    def apart(a: torch.Tensor, b: torch.Tensor) -> float:
        return float((a - b).norm() / b.norm())

    if not loaded.head.pieces:
        return {**about, "what": "the logits are not computed in pieces"}
    single, _, _ = gradient_rows(loaded, ids)
    close = CLOSE if computes_in_double(model, ids) else CLOSE_SINGLE
    plain = logits()
    with gated(loaded, keep_all(loaded)):
        if apart(logits(), plain) > close:
            return {**about, "what": "a gate at 1 changes the logits"}
    rows, _, _ = gradient_rows(loaded, ids)
    if apart(single, rows) > ROUNDED:
        return {**about, "what": f"rows depend on the precision (off by {apart(single, rows):.1e})"}
    alone = torch.cat([gradient_rows(loaded, ids[i : i + 1])[0] for i in range(len(ids))])
    if (
        not torch.isfinite(rows).all()
        or float(((rows - alone).norm(dim=1) / alone.norm(dim=1)).max()) > ROWS_CLOSE
    ):
        return {
            **about,
            "what": f"the rows of a batch are not those of its samples (off by {apart(rows, alone):.1e})",
        }
    seen = loaded.seen(BRANCH)
    halves, _, _ = gradient_rows(seen, ids)
    summed = torch.from_numpy(by_block(halves.numpy(), seen.units))
    if apart(summed, rows) > 1e-6:
        return {
            **about,
            "what": f"rows of branches do not add up to those of blocks ({apart(summed, rows):.1e})",
        }
    if any(sum(p.parameters for p in b.branches) != b.parameters for b in loaded.blocks):
        return {**about, "what": "the parameters of branches do not add up to those of their block"}
    if (rows == 0).all(dim=0).any():
        return {**about, "what": "a block has no gradient"}
    with gated(loaded, removal(loaded, REMOVED)):
        zero = logits()
    if apart(zero, plain) < 1e-3:
        return {**about, "what": "gates at 0 change nothing"}
    with without(loaded, REMOVED):
        gone = logits()
    if apart(zero, gone) > close:
        return {
            **about,
            "what": f"gates at 0 are not the model with the blocks removed (off by {apart(zero, gone):.1e})",
        }
    if apart(logits(), plain) > 1e-6:
        return {**about, "what": "the model is not whole again after a removal"}
    return {**about, "what": ""}


def computes_in_double(model, ids) -> bool:
    """Turn a model into float64, and say whether it computes in that; one that does not stays in float32."""
    import torch

    experts = model.config._experts_implementation
    try:
        model.double().set_experts_implementation("eager")  # the grouped product takes no float64
        with torch.no_grad():
            model(input_ids=ids, use_cache=False)
    except RuntimeError:
        model.float().set_experts_implementation(experts)
        return False
    return True


def check_many(types: list[str]) -> None:
    """In this process: one line of JSON a type, as they are done."""
    from tests.targets import targets

    for model_type in types:
        began = time.perf_counter()
        try:
            found = check(model_type)
        except Exception as error:
            lines = str(error).strip().splitlines() or [""]
            found = {"gate": "", "kinds": "", "what": f"{type(error).__name__}: {lines[0][:200]}"}
        found["targets"] = targets(model_type)
        print(
            json.dumps({"type": model_type, **found, "seconds": round(time.perf_counter() - began, 2)}),
            flush=True,
        )


def run(types: list[str]) -> None:
    """Check types in processes of their own, and note each in CACHE as it is done."""
    left = list(types)
    while left:
        part = left[:PER_PROCESS]
        worker = [sys.executable, "-c", f"from tests.coverage import check_many; check_many({part!r})"]
        began, out = time.monotonic(), ""
        try:
            out = subprocess.run(worker, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS).stdout
        except subprocess.TimeoutExpired as late:
            out = (late.stdout or b"").decode()
        done = [json.loads(line) for line in out.splitlines() if line.startswith('{"type"')]
        if len(done) < len(part):  # the next one ended the process, or took all its time
            what = "took too long" if time.monotonic() - began > SECONDS else "ended the process"
            lost = {"gate": "", "kinds": "", "what": what, "targets": {}, "seconds": 0}
            done.append({"type": part[len(done)], **lost})
        with open(CACHE, "a", encoding="utf-8") as f:
            f.writelines(json.dumps(entry) + "\n" for entry in done)
        for entry in done:
            print(f"{entry['type']:<28} {entry['seconds']:6.2f} s  {entry['what'] or 'passes'}", flush=True)
        left = left[len(done) :]


def results() -> dict[str, dict]:
    lines = CACHE.read_text(encoding="utf-8").splitlines() if CACHE.is_file() else []
    return {entry["type"]: entry for entry in map(json.loads, lines)}


def write_table(found: dict[str, dict], unbuildable: dict[str, str]) -> None:
    import torch
    import transformers

    passed = [t for t, entry in found.items() if not entry["what"]]
    lines = [
        "# Which model types work",
        "",
        f"Written by `python -m tests.coverage` with transformers {transformers.__version__} and torch "
        f"{torch.__version__}: every causal-LM type, as a tiny random model of four blocks.",
        "A type passes when its blocks are found, gates at 1 change nothing, the rows of a batch are those "
        "of its samples one by one (in float64, to 1e-5 of their norm), gates at 0 are the model with "
        "those blocks removed (to 1e-6), and its losses are had from a few tokens' logits at a time.",
        "",
        f"**{len(passed)} of {len(found) + len(unbuildable)} types pass**, "
        f"{sum('whole blocks' not in found[t]['gate'] for t in passed)} of them with the paper's gate on "
        "attention and FFN outputs, the others with a gate on whole blocks.",
        "",
        *_about_targets(found),
        "",
        "| type | blocks | gate | | " + " | ".join(TARGETS.values()) + " |",
        "|---|---|---|---|" + "---|" * len(TARGETS),
    ]
    for t, entry in sorted(found.items()):
        gate = "block" if "whole blocks" in entry["gate"] else "paper" if entry["gate"] else ""
        lines.append(
            f"| {t} | {entry['kinds']} | {gate} | "
            f"{'passes' if not entry['what'] else entry['what'].replace('|', '/')} | "
            + " | ".join(_cells(entry["targets"]))
            + " |"
        )
    lines += [
        f"| {t} | | | not built: {why} |" + " |" * len(TARGETS) for t, why in sorted(unbuildable.items())
    ]
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _cells(found: dict[str, str]) -> list[str]:
    """What each target is in the table: proved, or why not."""
    said = [found.get(name, "not tried") for name in TARGETS]
    return [
        "proved" if why == "" else "as in memory" if i and why == said[0] else why.replace("|", "/")
        for i, why in enumerate(said)
    ]


def _about_targets(found: dict[str, dict]) -> list[str]:
    counts = {name: sum(e["targets"].get(name) == "" for e in found.values()) for name in TARGETS}
    return [
        "The last three columns are what is written of a model without two blocks (where its type cannot be "
        "without those, without others): a checkpoint of its own type by way of memory, the same shard by "
        "shard, and the portable form. Proved: loaded again, no tensor missing or left over; the gated "
        "model's logits; the same greedy tokens with and without cache. Shard by shard, every file and the "
        "config are also what comes by way of memory, tensor for tensor.",
        "",
        f"Proved are {counts['memory']} types by way of memory, {counts['shards']} shard by shard, "
        f"{counts['portable']} in the portable form, "
        f"{sum('' in e['targets'].values() for e in found.values())} in at least one.",
    ]


def main(argv: list[str]) -> int:
    from tests.zoo import TYPES, unbuildable

    if not argv and set(results()) >= set(TYPES) - set(unbuildable):
        CACHE.unlink()  # all done: from the beginning
    wanted = argv or [t for t in TYPES if t not in unbuildable and t not in results()]
    run(wanted)
    found = {t: entry for t, entry in results().items() if t in TYPES}
    if not argv:
        write_table(found, unbuildable)
    print(f"{sum(not e['what'] for e in found.values())} of {len(TYPES)} types pass")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
