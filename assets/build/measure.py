"""Calibrate and measure the bundled demo: `python -m assets.build.measure`, after `assets.build.train`.

Writes assets/demo/run (A, A sampled, singles, secants, pairs) and assets/demo/README.md, the
table of what the model can do and loses. Refuses to pass a model that is not
good enough to lose something.
"""

import json
import os
import platform
import shutil

import numpy as np
import torch
from core.landscape.minima import minima

from core.calibration.calibrate import calibrate
from core.calibration.pairs import with_pairs
from core.calibration.secants import with_secants
from core.energy.couplings import couplings
from core.measure.evaluation import evaluate
from core.model.load import load_model
from core.spectrum.lowest import lowest_states
from core.store.folders import DEMO, DEMO_RUN
from core.store.runs import save_run
from core.tasks.items import read_tasks
from core.texts import pack, read_texts

SAMPLES, LENGTH, SINGLES, SECANTS, PAIRS, REPORT = 1024, 128, 128, 24, 8, 256
MARGIN, FAMILIES, WORST_SINGLE, MINIMA = 0.20, 4, 0.15, 10


def main() -> int:
    torch.set_num_threads(min(2, os.cpu_count() or 1))
    loaded, texts = load_model("demo"), read_texts()
    calibration = pack(texts, loaded.tokenizer, "calibrate", LENGTH, SAMPLES)
    singles = pack(texts, loaded.tokenizer, "choose", LENGTH, SINGLES)
    request = {
        "model": "demo",
        "texts": None,
        "samples": SAMPLES,
        "length": LENGTH,
        "seed": 0,
        "sampled": True,
        "singles": SINGLES,
    }
    run = calibrate(loaded, calibration, sampled=True, singles=singles, request=request)
    run = with_secants(run, loaded, pack(texts, loaded.tokenizer, "choose", LENGTH, SECANTS))
    run = with_pairs(run, loaded, pack(texts, loaded.tokenizer, "choose", LENGTH, PAIRS))
    if DEMO_RUN.exists():
        shutil.rmtree(DEMO_RUN)
    save_run(run, DEMO_RUN)
    report = pack(texts, loaded.tokenizer, "report", LENGTH, REPORT)
    result = evaluate(loaded, report, read_tasks())
    m = round(run.blocks / 3)
    H = couplings(run)
    found = lowest_states(H, m, 2600)
    valleys = int(minima(H, found.x, tolerance=found.tolerance).sum())

    middle = run.singles.increase[1:-1]
    good = [name for name, row in result.tasks.items() if row["accuracy"] - row["chance"] >= MARGIN]
    (DEMO / "README.md").write_text(table(run, result, good, m, valleys), encoding="utf-8")
    print((DEMO / "README.md").read_text(encoding="utf-8"))
    problems = []
    if len(good) < FAMILIES:
        problems.append(
            f"only {len(good)} task families are {MARGIN:.0%} above chance, {FAMILIES} are needed"
        )
    if middle.max() > WORST_SINGLE:
        problems.append(
            f"removing block {1 + int(middle.argmax())} costs {middle.max():.3f} nats, at most "
            f"{WORST_SINGLE} is allowed"
        )
    if valleys < MINIMA:
        problems.append(f"M = {m} shows {valleys} minima, {MINIMA} are needed")
    for problem in problems:
        print("not good enough:", problem)
    return 1 if problems else 0


def table(run, result, good, m, valleys) -> str:
    log = json.loads((DEMO / "training.json").read_text(encoding="utf-8"))
    step = max(1, len(log["curve"]) // 12)
    curve = [*log["curve"][step - 1 :: step][:-1], log["curve"][-1]]
    lines = [
        "# The demo model",
        "",
        f"A LlamaForCausalLM of {run.blocks} blocks, {log['parameters']:,} parameters, trained from scratch "
        "on an invented world "
        f"(`assets/build/world.py`). This page is written by `python -m assets.build.measure`.",
        "",
        "| training | |",
        "|---|---|",
        f"| tokens | {log['tokens']:,} in {log['steps']:,} steps of {log['batch']} x {log['length']} |",
        f"| time | {log['seconds'] / 60:.0f} minutes, {log['threads']} thread |",
        f"| machine | {log['machine']}, torch {log['torch']} |",
        f"| seed | {log['seed']} |",
        "",
        "| step | " + " | ".join(str(s) for s, _ in curve) + " |",
        "|---|" + "---|" * len(curve),
        "| training loss, nats | " + " | ".join(f"{v:.3f}" for _, v in curve) + " |",
        "",
        f"Loss on {result.sequences} sequences of the report split: {result.loss:.4f} ± {result.loss_se:.4f} "
        f"nats, perplexity {np.exp(result.loss):.3f} "
        f"(measured on {platform.machine()}, {os.cpu_count()} cores).",
        "",
        "| held-out task | accuracy | chance | items |",
        "|---|---|---|---|",
        *[
            f"| {name} | {row['accuracy']:.3f} | {row['chance']:.3f} | {row['n']} |"
            for name, row in result.tasks.items()
        ],
        "",
        f"{len(good)} of {len(result.tasks)} families are at least 20 points above chance: "
        f"{', '.join(good)}.",
        "",
        f"Removing one block alone raises the loss (nats, {run.singles.sequences} sequences of the choose "
        "split, ± paired standard error):",
        "",
        "| block | increase | | block | increase | | block | increase |",
        "|---|---|---|---|---|---|---|---|",
    ]
    third = -(-run.blocks // 3)

    def cell(i: int) -> str:
        return f"{i} | {run.singles.increase[i]:+.4f} ± {run.singles.se[i]:.4f}" if i < run.blocks else " | "

    lines += [f"| {cell(r)} | | {cell(r + third)} | | {cell(r + 2 * third)} |" for r in range(third)]
    lines += [
        "",
        f"The landscape from {len(run.rows.A)} samples has {valleys} minima among the 2600 lowest states at "
        f"M = {m}.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
