"""The audit of couplings: do the pairs of H say anything of what two removals cost beyond their sum?

The two-body part of a pair is L(ij) - L(i) - L(j) + L(), measured on the same sequences; x^T H x says 2 H_ij.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from core.compare.agreement import Agreement, agreement
from core.energy.couplings import FATAL
from core.store.results import Measurement

PAIRS = 30  # that an audit measures
SHARE = 2 / 3  # of them near each other, where couplings are said to be strongest
NEAR = 3  # blocks apart, at most
State = tuple[int, ...]


@dataclass(frozen=True)
class Audit:
    """Measured two-body parts of some pairs, and what the couplings say of them."""

    pairs: tuple[tuple[int, int], ...]
    measured: np.ndarray  # float64 [P], nats
    se: np.ndarray  # float64 [P], nats: standard error over the sequences
    predicted: np.ndarray  # float64 [P]: 2 H_ij, in the units of H
    sequences: int  # the fewest that a pair was measured on

    @cached_property
    def agreement(self) -> Agreement | None:
        """Rank correlation of predicted and measured, with its bootstrap interval over pairs; None of too
        few.
        """
        return agreement(self.predicted, self.measured)

    @property
    def reliability(self) -> float:
        """The share of the measured parts' variance that is not noise of measuring them, 0 to 1: no couplings
        can be expected to correlate with them by more than its root.
        """
        total = float(self.measured.var())
        return max(0.0, 1 - float((self.se**2).mean()) / total) if total > 0 else 0.0

    @property
    def informative(self) -> bool | None:
        """Whether the pairs of H order the measured ones, beyond doubt (True) or not at all (False); None
        where the pairs are too few, or their interval holds both.
        """
        found = self.agreement
        if found is None:
            return None
        return True if found.low > 0 else False if found.high < 0.4 else None


def audit_states(blocks: int, increase: np.ndarray, seed: int = 0) -> list[State]:
    """What an audit measures, the original among it: PAIRS pairs of blocks, two thirds of them NEAR each
    other, and the blocks of those alone.

    increase: float64 [N], measured single removals: choices are made among the cheap ones, so pairs are of
    the cheapest three quarters, or of all that are not fatal alone, where those are more.
    """
    order = np.argsort(increase, kind="stable")
    few = max(3, round(0.75 * blocks), int((np.sort(increase) < FATAL).sum()))
    light = sorted(order[: min(few, blocks)].tolist())
    every = list(itertools.combinations(light, 2))
    near = [p for p in every if p[1] - p[0] <= NEAR]
    rng = np.random.default_rng(seed)
    rng.shuffle(near)
    chosen = near[: round(SHARE * PAIRS)]
    rest = [p for p in every if p not in set(chosen)]
    rng.shuffle(rest)
    chosen = sorted([*chosen, *rest[: PAIRS - len(chosen)]])
    return [(), *((b,) for b in sorted({b for pair in chosen for b in pair})), *chosen]


def audit(H: np.ndarray, losses: Mapping[State, Measurement]) -> Audit | None:
    """The audit of H from what is measured: {state: its loss, sequence by sequence} of one text and setting;
    None where no pair was measured with its blocks alone and the original.
    """
    found, base = [], losses.get(())
    for state in sorted(losses):
        if len(state) != 2 or base is None or not all((b,) in losses for b in state):
            continue
        i, j = state
        parts = [losses[state], losses[(i,)], losses[(j,)], base]
        common = sorted(set.intersection(*(set(m.items.tolist()) for m in parts)))
        if len(common) < 2:
            continue
        both, first, second, none = (m.values[np.isin(m.items, common)] for m in parts)
        part = both - first - second + none
        found.append((state, part.mean(), part.std(ddof=1) / np.sqrt(len(part)), 2 * H[i, j], len(part)))
    if not found:
        return None
    pairs, measured, se, predicted, counts = zip(*found)
    return Audit(pairs, np.array(measured), np.array(se), np.array(predicted), min(counts))


def finding(found: Audit | None, label: str, word: str = "block") -> str:
    """What the audit says, in a sentence or two; label: what the couplings are called, word: a unit."""
    if found is None:
        return f"No pair of {word}s was measured yet: whether the couplings carry information is not known."
    rank, n = found.agreement, len(found.pairs)
    told = f"{n} pairs measured on {found.sequences} sequences"
    if rank is None:
        return f"{told} are too few to say whether the couplings carry information."
    numbers = f"Spearman {rank.spearman:.2f} [{rank.low:.2f}, {rank.high:.2f}], {told}"
    noise = f"; {100 * (1 - found.reliability):.0f} % of what was measured is noise"
    if found.informative:
        return f"The pairs of {label} say what two removals cost beyond their sum: {numbers}{noise}."
    if found.informative is False:
        return (
            f"The pairs of {label} say next to nothing of what two removals cost together: {numbers}{noise}."
        )
    return f"Whether the pairs of {label} carry information is open: {numbers}{noise}."
