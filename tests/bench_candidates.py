"""Do automatic candidates hold a better state than as many of lowest energy? On the demo, measured: `python
-m tests.bench_candidates`.

Every state is measured on 64 sequences of the choose split. Printed: the best loss increase (nats) among the
K lowest and among K candidates, their paired difference with its standard error, and the same where the best
is chosen on one half of the sequences and read off on the other. For H0 and H1 block 0, which gradients
misjudge, is kept.
"""

import argparse

import numpy as np

from core.energy.sources import open_source
from core.energy.uncertainty import energy_noise
from core.landscape.candidates import candidates
from core.measure.state_losses import open_forwards, stratified
from core.model.load import load_model
from core.spectrum.constraints import Constraints
from core.spectrum.lowest import lowest_states
from core.texts import pack, read_texts

SEQUENCES, LISTED = 64, 1000


def choices(estimator: str, removed: int, counts: list[int]) -> dict[int, tuple[list, list]]:
    """{K: (the K lowest states, K candidates)}."""
    demo = open_source("demo")
    H = demo.couplings(estimator)
    found = lowest_states(
        H, removed, LISTED, constraints=Constraints(keep=() if estimator == "hybrid" else (0,))
    )
    noise = energy_noise(demo, estimator, found.x)
    return {
        k: (found.removed[:k], [c.removed for c in candidates(H, found, k, noise=noise).chosen])
        for k in counts
    }


def best(states: list, increase: dict, chosen_on: np.ndarray | slice = slice(None)) -> tuple:
    return min(states, key=lambda state: increase[state][chosen_on].mean())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--removed", type=int, nargs="+", default=[4, 8, 12])
    parser.add_argument("--counts", type=int, nargs="+", default=[4, 8, 12])
    parser.add_argument("--couplings", nargs="+", default=["h0", "h1", "hybrid"])
    args = parser.parse_args()
    cells = {(m, e): choices(e, m, args.counts) for m in args.removed for e in args.couplings}
    every = {
        state for cell in cells.values() for pair in cell.values() for states in pair for state in states
    }
    loaded = load_model("demo")
    sequences = stratified(pack(read_texts(), loaded.tokenizer, "choose", 128, SEQUENCES))
    meter = open_forwards(loaded, sequences, keep=False)
    base, increase = meter.whole(()), {}
    # like prefixes together
    for k, state in enumerate(sorted(every, key=lambda s: [b for b in range(meter.blocks) if b not in s]), 1):
        increase[state] = meter.whole(state) - base
        print(f"\rmeasured {k} of {len(every)} states", end="" if k < len(every) else "\n", flush=True)
    half = np.arange(SEQUENCES) % 2 == 0
    print(
        f"{'M':>3} {'couplings':<9} {'K':>3} {'lowest':>8} {'candidates':>10} {'difference':>18} "
        f"{'unseen halves':>16}"
    )
    for (m, estimator), cell in cells.items():
        for k, pair in cell.items():
            a, b = (increase[best(states, increase)] for states in pair)
            unseen = [
                np.mean([increase[best(states, increase, h)][~h].mean() for h in (half, ~half)])
                for states in pair
            ]
            error = (b - a).std(ddof=1) / SEQUENCES**0.5
            print(
                f"{m:>3} {estimator:<9} {k:>3} {a.mean():8.4f} {b.mean():10.4f} {(b - a).mean():+9.4f} ± "
                f"{error:.4f}   {unseen[0]:7.4f} {unseen[1]:8.4f}"
            )


if __name__ == "__main__":
    main()
