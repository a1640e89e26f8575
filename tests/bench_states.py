"""Many states of the demo in one job, against pruning, loading and evaluating each: `python -m
tests.bench_states`.

The same losses on the same sequences: one `benchmark` command for 200 random states of M = 8, and one `prune`
and one `evaluate` command for each of the first few of them. Seconds are those of the wall, each command in a
fresh store.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.bench import failed, figure, machine

ROOT = Path(__file__).resolve().parents[1]
SEQUENCES, M = 64, 8


def command(home: Path, *argv) -> tuple[dict, float]:
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "core", *map(str, argv), "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "BLOCKSCAPE_HOME": str(home)},
    )
    return json.loads(done.stdout), time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--states", type=int, default=200)
    parser.add_argument(
        "--separate",
        type=int,
        default=10,
        help="how many of them are also pruned, loaded and evaluated one by one",
    )
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    drawn = {tuple(sorted(rng.choice(24, M, replace=False).tolist())) for _ in range(2 * args.states)}
    states = sorted(drawn)[: args.states]
    rng.shuffle(states)
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "states.json").write_text(json.dumps([{"removed": list(map(int, s))} for s in states]))
        single = []
        for k, state in enumerate(states[: args.separate]):
            home, blocks = folder / f"home-{k}", ",".join(map(str, state))
            _, prune = command(
                home, "prune", "--model", "demo", "--blocks", blocks, "--out", folder / f"pruned-{k}"
            )
            found, evaluate = command(
                home, "evaluate", "--model", folder / f"pruned-{k}", "--sequences", SEQUENCES, "--no-tasks"
            )
            single.append((prune + evaluate, found["loss"]))
        together, seconds = command(
            folder / "home",
            "benchmark",
            "--model",
            "demo",
            "--states",
            folder / "states.json",
            "--sequences",
            SEQUENCES,
        )
    each = {tuple(s["removed"]): s["loss"] for s in together["states"]}
    apart = max(abs(each[tuple(map(int, s))] - loss) for s, (_, loss) in zip(states, single))
    one, many = float(np.mean([s for s, _ in single])), seconds / len(states)
    figure("largest difference of the two losses, 1e-6 nats", 1e6 * apart, 10, "")
    figure(f"{args.states} states in one job", seconds, None, "s")
    figure(f"prune, load, evaluate: mean of {len(single)}", one, None, "s a state")
    figure("a state in the one job, against one by one", many / one, 1 / 5, "x")
    return failed()


if __name__ == "__main__":
    sys.exit(main())
