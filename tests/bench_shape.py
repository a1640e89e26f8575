"""The shape of a landscape at size: `python -m tests.bench_shape`. Exits with 1 when a bar is missed.

Couplings of 24 and 80 blocks, made like a model's; with --matrix FILE (key H) also others. Everything is
measured twice, and the second counts: the first loads and compiles.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from core.ising.matrix_files import read_matrix
from core.shape import barrier_tree, moves_of, valleys
from core.shape.descent import sampled_basins
from core.shape.tree import columns
from core.spectrum.constraints import make_rules
from core.spectrum.lowest import lowest_states
from core.thermal.density import density
from core.thermal.ensemble import ensemble
from core.thermal.sampling import sample
from tests.bench import failed, figure, machine
from tests.families import llm_like

LISTED = 10_000


def timed(ask: Callable):
    """(what it gives, seconds of the second time)."""
    ask()
    began = time.perf_counter()
    found = ask()
    return found, time.perf_counter() - began


def measure(name: str, H: np.ndarray, removed: int) -> None:
    """One landscape."""
    n = len(H)
    rules = make_rules(None, n, removed)
    s = lowest_states(H, removed, LISTED)
    moves = moves_of(rules)
    tree, seconds = timed(lambda: barrier_tree(valleys(s, moves)))
    figure(
        f"{name}: minima and tree of {len(s.x)} states",
        seconds,
        2.0,
        "s",
        f"{len(tree.valleys.minimum)} minima",
    )
    _, seconds = timed(lambda: columns(tree, tree.lasting(30)))
    figure(f"{name}: columns of 30 leaves", 1e3 * seconds, 300, "ms")
    ends, seconds = timed(lambda: sampled_basins(H, moves, rules, 1000, tolerance=s.tolerance))
    figure(f"{name}: 1000 descents", seconds, None, "s", f"{len(ends.x)} ends")
    if n <= 26:
        found, seconds = timed(lambda: ensemble(H, s, s.gap))
        assert found.how == "exact"
        figure(f"{name}: ensemble at a temperature, all {rules.total} states", seconds, 0.5, "s")
        _, seconds = timed(lambda: density(H, rules, float(s.energies[0]), s.energies[:9], s.tolerance))
        figure(f"{name}: density of all states", seconds, None, "s")
    else:
        found, seconds = timed(lambda: sample(H, rules, 10 * s.gap))
        figure(f"{name}: sampling at ten gaps", seconds, None, "s", f"R-hat {found.rhat:.3f}")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--matrix", type=Path, action="append", default=[])
    args = parser.parse_args()
    print(machine())
    for n, removed in ((24, 8), (24, 12), (80, 26)):
        measure(f"N = {n}, M = {removed}", llm_like(n, 1), removed)
    for file in args.matrix:
        H = read_matrix(file, print)
        for removed in (len(H) // 5, len(H) // 3):
            measure(f"{file.stem}, M = {removed}", H, removed)
    return failed()


if __name__ == "__main__":
    raise SystemExit(main())
