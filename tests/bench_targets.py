"""Targets instead of counts, by branch: K = 100 states at shares of weights, KV cache and time.

    python -m tests.bench_targets [--limit 10] [--blocks 30,80]

Matrices made like gradients of branches, and the shipped SmolLM2 by branch where its run knows them. Weights
of an attention and an FFN are those of SmolLM2-135M (.88 M and 2.65 M), times those of a token at 8k.
"""

import argparse

import numpy as np

from core.energy.couplings import couplings
from core.errors import InputError
from core.spectrum.branch_and_bound import compile_engine
from core.spectrum.constraints import Constraints
from core.spectrum.lowest import lowest_states
from core.store import folders
from core.store.runs import load_run
from tests.families import branches

COUNT = 100
WEIGHTS, CACHE, TIME = (0.88, 2.65), (1.0, 0.0), (1.9, 1.1)  # of an attention and an FFN


def targets(blocks: int) -> dict[str, tuple[int | None, Constraints | None]]:
    """{what is asked: (M, the budgets)} of a model of so many blocks of two branches."""
    weights, cache, time = (np.tile(one, blocks) for one in (WEIGHTS, CACHE, TIME))
    block, fifth, third, two = sum(WEIGHTS), blocks // 5, blocks // 3, 2 * blocks // 5
    attentions, ffns = tuple(range(0, 2 * blocks, 2)), tuple(range(1, 2 * blocks, 2))

    def budgets(*asked: tuple[np.ndarray, float]) -> Constraints:
        return Constraints(
            weights=tuple(tuple(w.tolist()) for w, _ in asked), at_least=tuple(least for _, least in asked)
        )

    return {
        f"M = {2 * blocks // 3}": (2 * blocks // 3, None),
        f"M = {blocks}": (blocks, None),
        f"weights of {fifth} blocks": (None, budgets((weights, block * fifth))),
        f"weights of {third} blocks": (None, budgets((weights, block * third))),
        f"{two} attentions": (two, Constraints(groups=((attentions, two), (ffns, 0)))),
        "kv 60 %": (None, budgets((cache, two))),
        f"weights of {fifth}, kv 60 %": (None, budgets((weights, block * fifth), (cache, two))),
        f"weights of {fifth}, kv 75 %, time 75 %": (
            None,
            budgets((weights, block * fifth), (cache, blocks // 4), (time, 0.25 * time.sum())),
        ),
    }


def main(argv: list[str] | None = None) -> None:
    """Print a line for each target of each matrix."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--limit", type=float, default=10.0, help="seconds for one search")
    parser.add_argument("--blocks", default="30,80", help="of the made matrices")
    args = parser.parse_args(argv)
    compile_engine()
    named = [(f"branches of {n} blocks", branches(int(n), 1)) for n in args.blocks.split(",")]
    for name, folder in folders.shipped_runs().items():
        try:
            named.append((f"{name} by branch", couplings(load_run(folder).seen("branch"), "h0")))
        except InputError:  # of before branches were kept
            continue
    for name, H in named:
        for what, (m, rules) in targets(len(H) // 2).items():
            found = lowest_states(H, m, COUNT, constraints=rules, time_limit=args.limit)
            share = found.lower_bound / found.energies[0] if len(found.x) else np.nan
            proof = "exact" if found.exact else f"NOT exact, bound {share:.3f} E0"
            print(
                f"{name:22s} {what:38s} {found.seconds:7.3f} s {found.nodes:9.2e} nodes  {proof}", flush=True
            )


if __name__ == "__main__":
    main()
