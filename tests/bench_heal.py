"""What healing wins back of the demo's loss: every method at an equal budget, on two states.

`python -m tests.bench_heal --seconds 60 --out FILE.json` adds what FILE lacks and prints the table of
docs/healing.md. The budget is CPU seconds of the training, by the process's own clock: a busy machine
changes nothing.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from core.calibration.corpus import draw, read_sources
from core.energy.sources import open_source
from core.heal.replacement import replace_blocks
from core.heal.settings import METHODS, Settings
from core.heal.teacher import Teacher
from core.heal.training import train
from core.measure.evaluation import sequence_losses
from core.model.load import load_model
from core.model.surgery import remove_blocks
from core.spectrum.lowest import lowest_states
from core.texts.sequences import part_of

LENGTH, LEARN, HELD, REPORT = 128, 1589, 32, 128
PROBE = 12  # steps that tell what a token costs


def measured(method: str, removed: list[int], seed: int, seconds: float) -> dict:
    """Losses on the report split and what came back, of one state healed by one method."""
    original, student, texts = load_model("demo"), load_model("demo"), read_sources(None)
    learn, held, report = (
        draw(original, texts, split, LENGTH, count)
        for split, count in (("calibrate", LEARN), ("choose", HELD), ("report", REPORT))
    )
    before, pruned = (float(sequence_losses(original, report.ids, r).mean()) for r in ((), removed))
    began = time.process_time()
    if METHODS[method].rate is None:
        replace_blocks(student, original, removed, method, part_of(learn, slice(0, 256)))
        tokens = 0
    else:
        remove_blocks(student, removed)
        budget = int(seconds / _token_seconds(method, removed, learn, held))
        began = time.process_time()
        settings = Settings(method, tokens=budget, seed=seed)
        with tempfile.TemporaryDirectory() as work:
            tokens = train(student, Teacher(original), removed, settings, learn, held, Path(work)).tokens
    spent = time.process_time() - began
    healed = float(sequence_losses(student, report.ids).mean())
    won = (pruned - healed) / (pruned - before)
    return {
        "original": before,
        "pruned": pruned,
        "healed": healed,
        "won": won,
        "cpu": spent,
        "tokens": tokens,
    }


def _token_seconds(method: str, removed: list[int], learn, held) -> float:
    """CPU seconds of a token in a training of a few steps, evaluations included."""
    original, student = load_model("demo"), load_model("demo")
    remove_blocks(student, removed)
    settings = Settings(method, tokens=PROBE * 8 * LENGTH, evaluations=1)
    began = time.process_time()
    with tempfile.TemporaryDirectory() as work:
        found = train(student, Teacher(original), removed, settings, learn, held, Path(work))
    return (time.process_time() - began) / found.tokens


def table(found: dict) -> str:
    """Markdown: a line a state and method, the mean over seeds with the lowest and the highest."""
    lines = [
        "| M | method | loss, pruned | healed | won back | tokens | CPU seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    groups: dict[tuple, list[dict]] = {}
    for key, row in found.items():
        m, method, _ = key.split(" ")
        groups.setdefault((int(m), method), []).append(row)
    for (m, method), rows in groups.items():
        won = [100 * row["won"] for row in rows]
        mean = {name: np.mean([row[name] for row in rows]) for name in ("pruned", "healed", "tokens", "cpu")}
        spread = f" ({min(won):.0f} to {max(won):.0f})" if len(won) > 1 else ""
        lines.append(
            f"| {m} | `{method}` | {mean['pruned']:.4f} | {mean['healed']:.4f} | {np.mean(won):.0f} %{spread}"
            f" | {mean['tokens'] / 1000:.0f}k | {mean['cpu']:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure what is not in the file yet, then print."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--seconds", type=float, default=60, help="CPU seconds of a training")
    asked.add_argument("--seeds", type=int, default=2)
    asked.add_argument("--out", type=Path, required=True)
    args = asked.parse_args()
    found = json.loads(args.out.read_text()) if args.out.exists() else {}
    source = open_source("demo")
    H = source.couplings(source.default)
    for seed in range(args.seeds):
        for m in (6, 12):
            removed = [int(b) for b in lowest_states(H, m, 1).removed[0]]
            for method in METHODS:
                key = f"{m} {method} {seed}"
                if key in found or (seed and METHODS[method].rate is None):  # no seed in those
                    continue
                found[key] = {"removed": removed, **measured(method, removed, seed, args.seconds)}
                args.out.write_text(json.dumps(found, indent=1))
                print(key, found[key], flush=True)
    print(table(found))


if __name__ == "__main__":
    main()
