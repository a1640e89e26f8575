"""How often races lose the best state, and what they cost, by the rule that lets states leave; writes a
section of docs/race.md: `python -m tests.bench_race`.

1000 simulated races of 10 states a cell, 256 items in batches of 8, delta = 5 %. State 0 is the best; what
the others lose above it is drawn independently, which is the hardest case: a chance for each of them.
`--real` also measures 20 states of the demo, and races them in 1000 random orders of their items.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.choose.race import BATCH, DELTA, Moments, critical, stay
from tests.bench import machine

PAGE = Path(__file__).resolve().parents[1] / "docs" / "race.md"
RACES, STATES, ITEMS, FEW = 1000, 10, 256, 32
GAPS = {"equal": (0.0, 0.0), "close": (0.02, 0.2), "clear": (0.3, 1.5)}  # standard deviations, first to last


# what the others lose above the best, [R, K - 1, S], of unit variance about their gaps [K - 1, 1]


def _gaussian(rng, shape, gaps):
    return gaps + rng.standard_normal(shape)


def _student(rng, shape, gaps):
    return gaps + rng.standard_t(3, shape) / 3**0.5


def _lognormal(rng, shape, gaps):
    x = rng.lognormal(0, 1, shape)
    return gaps + (x - np.e**0.5) / ((np.e - 1) * np.e) ** 0.5


def _mirrored(rng, shape, gaps):
    return 2 * gaps - _lognormal(rng, shape, gaps)


def _some(rng, shape, gaps):
    """-1, 0 or 1: four items of five do not tell the states apart."""
    u, half = rng.random(shape), np.minimum(gaps * 0.2**0.5, 0.19) / 2
    return (u < 0.1 + half) * 1.0 - (u > 0.9 + half)


def _every(rng, shape, gaps):
    """-1 or 1."""
    return np.where(rng.random(shape) < 0.5 + np.minimum(gaps, 0.95) / 2, 1.0, -1.0)


def _rare(rng, shape, gaps):
    """On one item of 20 much worse, else a little better."""
    return gaps + ((rng.random(shape) < 0.05) - 0.05) / (0.05 * 0.95) ** 0.5


KINDS = {
    "normal": _gaussian,
    "Student's t, 3 degrees": _student,
    "lognormal, others at times much worse": _lognormal,
    "lognormal, others at times much better": _mirrored,
    "Bernoulli, -1, 0 or 1": _some,
    "Bernoulli, -1 or 1": _every,
    "rare, 5 % of items": _rare,
}


# rules: (moments, racing, alpha) -> racing


def _limited(limit: Callable[[np.ndarray, float], np.ndarray], first: int):
    """Who is beaten where the plain t of a pair exceeds a limit, from so many items on."""

    def rule(pairs: Moments, racing: np.ndarray, alpha: float) -> np.ndarray:
        n = int(pairs.n.max())
        mean = pairs.sums[0] / n
        error = np.sqrt(np.maximum(pairs.sums[1] / n - mean**2, 0) / (n - 1))
        with np.errstate(invalid="ignore"):
            beaten = (mean > limit(n, alpha) * error) & racing[..., None, :] & (n >= first)
        return racing & ~beaten.any(axis=-1)

    return rule


def asymptotic(n, alpha):
    """The normal mixture of arXiv 2103.06476, as sharp as it gets near 32 items."""
    spread = (-2 * np.log(alpha) + np.log(1 - 2 * np.log(alpha))) / 32
    return np.sqrt((n * spread + 1) / (n * spread) * 2 * np.log(np.sqrt(n * spread + 1) / alpha))


RULES = {
    "2.5 standard errors": _limited(lambda n, alpha: 2.5, BATCH),
    "asymptotic": _limited(asymptotic, BATCH),
    f"asymptotic from {FEW} items": _limited(asymptotic, FEW),
    "Student": _limited(critical, BATCH),
    f"Student from {FEW} items": _limited(critical, FEW),
    "the race": stay,
}


@dataclass
class Outcome:
    """Of many races under one rule."""

    lost: float  # share that lost state 0
    early: float  # share that lost it by FEW items
    cost: float  # items measured, of all items of all states
    left: float  # states at the end, mean


def races(losses: np.ndarray, rules: dict = RULES, delta: float = DELTA) -> dict[str, Outcome]:
    """Each rule on the same races: losses [R, K, S], state 0 the best."""
    count, states, items = losses.shape
    pairs, every = Moments((count, states)), np.ones((count, states), dtype=bool)
    racing = {name: every.copy() for name in rules}
    early, cost = dict.fromkeys(rules, 0.0), dict.fromkeys(rules, 0.0)
    for start in range(0, items, BATCH):
        batch = losses[..., start : start + BATCH]
        pairs.add(batch, every)  # of those still racing they are what the race itself has
        for name, rule in rules.items():
            left = racing[name].sum(axis=1)
            cost[name] += batch.shape[-1] * left[left > 1].sum() / losses.size
            racing[name] = rule(pairs, racing[name], delta / (states - 1))
            if start + BATCH == FEW:
                early[name] = 1 - racing[name][:, 0].mean()
    return {
        name: Outcome(1 - left[:, 0].mean(), early[name], cost[name], left.sum(axis=1).mean())
        for name, left in racing.items()
    }


def simulated(kind: str, gap: str, count: int = RACES, seed: int = 0, states: int = STATES) -> np.ndarray:
    """Losses [R, K, S] of races."""
    gaps = np.linspace(*GAPS[gap], states - 1)[:, None]
    others = KINDS[kind](np.random.default_rng(seed), (count, states - 1, ITEMS), gaps)
    return np.concatenate([np.zeros((count, 1, ITEMS)), others], axis=1)


def real(removed: int = 6, states: int = 20) -> np.ndarray:
    """Losses [K, S] of the lowest states of the demo on its choose split, the best first."""
    from core.choose.race import in_batches
    from core.energy.sources import open_source
    from core.measure.state_losses import open_forwards
    from core.model.load import load_model
    from core.spectrum.lowest import lowest_states
    from core.texts import pack, read_texts

    loaded = load_model("demo")
    found = lowest_states(open_source("demo").couplings("hybrid"), removed, states).removed
    sequences = in_batches(pack(read_texts(), loaded.tokenizer, "choose", 128, ITEMS))
    forwards = open_forwards(loaded, sequences, chunk=BATCH)
    losses = np.array([forwards.whole(state) for state in found])
    forwards.save()
    return losses[np.argsort(losses.mean(axis=1))]


def told(outcomes: dict[str, Outcome]) -> str:
    """Cells of a row."""
    cells = []
    for o in outcomes.values():
        bad = "**" if o.lost > DELTA else ""
        cells.append(f"{bad}{100 * o.lost:.1f}{bad} ({100 * o.early:.1f}) / {100 * o.cost:.0f}")
    return " | ".join(cells)


def section(rows: list[str], of_demo: str, count: int) -> str:
    """The section of docs/race.md, without its heading."""
    return "\n".join(
        [
            f"`python -m tests.bench_race --real`, {machine()}.",
            "",
            f"{count} simulated races a cell, {STATES} states, {ITEMS} items in batches of {BATCH}. In a "
            f"cell: races that lost the best state, in percent (in brackets: by {FEW} items), and the share "
            "of all measurements that was made, in percent. **Bold** misses the promised "
            f"{100 * DELTA:g} %. The gaps of the 9 others are in standard deviations of a difference: equal "
            "0, close .02 to .2, clear .3 to 1.5; their noise is independent, the hardest case. *2.5 "
            "standard errors* is the rule that was in use before; *asymptotic* is the confidence sequence of "
            "[arXiv 2103.06476](https://arxiv.org/abs/2103.06476); *Student* is point 1 alone.",
            "",
            f"| differences | gaps | {' | '.join(RULES)} |",
            f"|{'---|' * (2 + len(RULES))}",
            *rows,
            *of_demo.splitlines(),
        ]
    )


def write(text: str) -> None:
    """Put the section on the page, whose other sections stay."""
    head, page = "## What was measured\n", PAGE.read_text(encoding="utf-8")
    before, _, after = page.partition(head)
    rest = after[after.index("\n## ") :] if "\n## " in after else ""
    PAGE.write_text(f"{before}{head}\n{text}\n{rest}", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--races", type=int, default=RACES)
    parser.add_argument("--real", action="store_true", help="also race states of the demo")
    args = parser.parse_args()
    rows = []
    for kind in KINDS:
        for gap in GAPS:
            rows.append(f"| {kind} | {gap} | {told(races(simulated(kind, gap, args.races)))} |")
            print(rows[-1], flush=True)
    of_demo = ""
    if args.real:
        losses, rng = real(), np.random.default_rng(0)
        orders = np.array([rng.permutation(losses.shape[1]) for _ in range(args.races)])
        outcomes = races(np.moveaxis(losses[:, orders], 0, 1))
        difference = losses[1:] - losses[0]
        mean, sd = difference.mean(axis=1), difference.std(axis=1)
        skew = (((difference - mean[:, None]) / sd[:, None]) ** 3).mean(axis=1)
        of_demo = (
            f"\nReal losses: the 20 lowest states of the demo at M = 6 (hybrid). The best is "
            f"{mean.min():.4f} to {mean.max():.4f} nats better than the others, {(mean / sd).min():.2f} to "
            f"{(mean / sd).max():.2f} standard deviations of a paired difference; skewness "
            f"{skew.min():.1f} to {skew.max():.1f}. {args.races} random orders of the 256 sequences; lost is "
            "the state that is best on all of them:\n\n"
            "| rule | lost, % | measurements made, % | states left |\n|---|---|---|---|\n"
            + "\n".join(
                f"| {name} | {100 * o.lost:.1f} | {100 * o.cost:.0f} | {o.left:.1f} |"
                for name, o in outcomes.items()
            )
            + "\n"
        )
        print(of_demo)
    write(section(rows, of_demo, args.races))
    return 0


if __name__ == "__main__":
    sys.exit(main())
