"""Targets instead of counts, by branch: K = 100 states at shares of weights, KV cache and time.

    python -m tests.bench_targets [--limit 10] [--blocks 30,80] [--only SmolLM2]

SmolLM2 by branch from the run that ships; a model of 80 blocks that was trained for this (`python -m
assets.build.train --preset deep`), of which tests/fixtures/deep.npz has the couplings; and matrices made like
gradients of branches. Weights of an attention and an FFN are the model's own, of made matrices those of
SmolLM2-135M (.88 M and 2.65 M), times those of a token at 8k. Bars: .3 s for
30 blocks and fewer, 10 s for more, where a proof that takes longer says its bound.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.energy.couplings import couplings
from core.spectrum.branch_and_bound import compile_engine
from core.spectrum.constraints import Constraints
from core.spectrum.lowest import lowest_states
from core.store import folders
from core.store.runs import load_run
from tests.families import branches

COUNT = 100
WEIGHTS, CACHE, TIME = (0.88, 2.65), (1.0, 0.0), (1.9, 1.1)  # of an attention and an FFN
ESTIMATORS = ("h0", "secant")
DEEP = Path(__file__).parent / "fixtures" / "deep.npz"


@dataclass(frozen=True)
class Case:
    """Couplings [2 n, 2 n] of a model of n blocks of attention and FFN, and what one of each weighs."""

    name: str
    H: np.ndarray
    weights: tuple[float, float] = WEIGHTS

    @property
    def blocks(self) -> int:
        """How many blocks there are."""
        return len(self.H) // 2

    @property
    def bar(self) -> float:
        """Seconds that a search may take."""
        return 0.3 if self.blocks <= 30 else 10.0


def targets(
    blocks: int, of: tuple[float, float] = WEIGHTS
) -> dict[str, tuple[int | None, Constraints | None]]:
    """{what is asked: the target} of a model of so many blocks of two branches that weigh so much."""
    weights, cache, time = (np.tile(one, blocks) for one in (of, CACHE, TIME))
    fifth, third, two = blocks // 5, blocks // 3, 2 * blocks // 5
    attentions, ffns = tuple(range(0, 2 * blocks, 2)), tuple(range(1, 2 * blocks, 2))

    def budgets(*asked: tuple[np.ndarray, float]) -> Constraints:
        least = tuple(share * float(w.sum()) * (1 - 1e-9) for w, share in asked)
        return Constraints(weights=tuple(tuple(w.tolist()) for w, _ in asked), at_least=least)

    def kinds(attention: int, ffn: int) -> tuple[int, Constraints]:
        return attention + ffn, Constraints(groups=((attentions, attention), (ffns, ffn)))

    small, large = fifth / blocks, third / blocks
    return {
        f"M = {2 * blocks // 3}": (2 * blocks // 3, None),
        f"M = {blocks}": (blocks, None),
        f"weights of {fifth} blocks": (None, budgets((weights, small))),
        f"weights of {third} blocks": (None, budgets((weights, large))),
        "kv 60 %": (None, budgets((cache, 0.4))),
        "kv 80 %": (None, budgets((cache, 0.2))),
        f"attention: {two}; FFN: 0": kinds(two, 0),
        f"attention: {4 * blocks // 15}; FFN: {blocks // 10}": kinds(4 * blocks // 15, blocks // 10),
        "time at 8k 75 %": (None, budgets((time, 0.25))),
        f"weights of {fifth}, kv 60 %": (None, budgets((weights, small), (cache, 0.4))),
        f"weights of {fifth}, kv 75 %, time 75 %": (
            None,
            budgets((weights, small), (cache, 0.25), (time, 0.25)),
        ),
    }


def cases(blocks: list[int]) -> Iterator[Case]:
    """The real ones, then made ones of so many blocks."""
    run = load_run(folders.shipped_runs()["smollm2"]).seen("branch")
    own = tuple(float(part["parameters"]) for part in run.meta["model"]["blocks"][:2])
    for name in ESTIMATORS:
        yield Case(f"SmolLM2, {name}", couplings(run, name), (own[0], own[1]))
    with np.load(DEEP) as kept:
        pair = tuple(kept["weights"].tolist())
        for name in kept.files:
            if name != "weights":
                yield Case(f"80 trained blocks, {name}", kept[name].astype(float), (pair[0], pair[1]))
    for n in blocks:
        yield Case(f"branches of {n} blocks", branches(n, 1))


def main(argv: list[str] | None = None) -> None:
    """Print a line for each target of each matrix."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--limit", type=float, default=10.0, help="seconds for one search")
    parser.add_argument("--blocks", default="30,80", help="of the made matrices")
    parser.add_argument("--only", default="", help="of what has this in its name")
    args = parser.parse_args(argv)
    compile_engine()
    for case in cases([int(n) for n in args.blocks.split(",") if n]):
        if args.only not in case.name:
            continue
        for what, (m, rules) in targets(case.blocks, case.weights).items():
            found = lowest_states(case.H, m, COUNT, constraints=rules, time_limit=args.limit)
            share = found.lower_bound / found.energies[0] if len(found.x) else np.nan
            size = f"{int(found.x[0].sum())} units" if len(found.x) else "none"  # that the lowest removes
            proof = "exact" if found.exact else f"NOT exact, bound {share:.3f} E0"
            held = "ok" if found.exact and found.seconds <= case.bar else "over"
            print(
                f"{case.name:24s} {what:38s} {size:9s} {found.seconds:7.3f} s "
                f"{found.nodes:9.2e} nodes  {proof}, bar {case.bar:g} s {held}",
                flush=True,
            )


if __name__ == "__main__":
    main()
