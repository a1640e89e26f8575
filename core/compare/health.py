"""Health: how far the couplings that are shown may be believed on this model at this M.

It goes by measurements alone: the state that the couplings call the lowest against the best of cheap choices
of other kinds (single removals in order, windows), how energies order what was measured, and the
audit of the pairs. Without a measurement it is not known.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from core.compare.agreement import agreement
from core.compare.audit import Audit
from core.compare.comparison import Points, Row, points
from core.energy.sources import Source
from core.ising.energies import energies
from core.ising.states import indicator, removed_blocks

State = tuple[int, ...]
GREEN, YELLOW, RED, UNKNOWN = "green", "yellow", "red", "not known"
WORSE = 1.5  # times the best increase: beyond that the lowest state is no choice
CLOSE = 1.15  # times: below that it is as good as the best
NOTHING = 0.01  # nats: who loses less has lost nothing, and is as many times as bad as who gains
FEW = 6  # states of M that an order is judged by, at least
RELIABLE = 0.5  # share of measured pairs that is not noise, at least, for them to tell against couplings
CLEARLY = 0.1  # Spearman: by so much own costs alone order better than pairs that carry no information
SEQUENCES = 16  # that the check measures on
LOWEST, CHEAP, WINDOWS, OTHERS = 3, 3, 2, 4  # states of a check of each kind


@dataclass(frozen=True)
class Health:
    """A colour, what it means in a sentence, and what else was found."""

    colour: str  # GREEN, YELLOW, RED or UNKNOWN
    sentence: str
    facts: tuple[str, ...] = ()


def check_states(listed: np.ndarray, increase: np.ndarray | None, seed: int = 0) -> list[State]:
    """What tells most of couplings at M, the original first: the lowest of the listed states and two that
    differ from it in much; the cheapest M blocks by single removals and sets near them; the windows of
    cheapest blocks; and random sets of the cheaper half.

    listed: bool [K, N], the lowest states in order; increase: float64 [N], measured single removals; None
    where there are none: random states and windows stand in.
    """
    n, m = listed.shape[1], int(listed[0].sum())
    shared = (listed & listed[0]).sum(axis=1)
    far = np.flatnonzero(shared <= m - max(2, m // 3)).tolist()
    low = [0, *far[: LOWEST - 1], *range(1, len(listed))][: min(LOWEST, len(listed))]
    found = removed_blocks(listed[list(dict.fromkeys(low))])
    rng = np.random.default_rng([seed, m])
    cost = np.zeros(n) if increase is None else np.asarray(increase, dtype=float)
    order = np.argsort(cost, kind="stable") if increase is not None else rng.permutation(n)
    cheap = lambda room: tuple(sorted(rng.choice(order[: min(n, m + room)], m, replace=False).tolist()))  # noqa: E731
    found += [tuple(sorted(order[:m].tolist())), *(cheap(2) for _ in range(CHEAP - 1))]
    windows = [tuple(range(first, first + m)) for first in range(1, n - m)]  # not the very ends
    found += sorted(windows, key=lambda w: cost[list(w)].sum())[:WINDOWS]
    found += [cheap(max(2, m)) for _ in range(OTHERS)]
    return [(), *dict.fromkeys(found)]


def health_of(
    source: Source,
    estimator: str,
    mix: Mapping[str, float] | None,
    ground: State,
    rows: Sequence[Row],
    audit: Audit | None,
) -> Health:
    """The verdict on the couplings of a source whose lowest state is `ground`; rows: what is measured of its
    states of as many units. Errors: InputError, as core.energy.sources.
    """
    H = source.couplings(estimator, mix)
    states = [row.removed for row in rows if row.removed]
    energy = dict(zip(states, map(float, energies(H, indicator(states, len(H)))))) if states else {}
    nats = source.about(estimator).unit.startswith("nats")
    return health(H, ground, points(list(rows), energy), audit, nats, source.units.said)


def health(
    H: np.ndarray,
    ground: State,
    found: Points,
    audit: Audit | None,
    nats: bool,
    said: Callable[[State], str] = lambda state: ", ".join(map(str, state)),
) -> Health:
    """The verdict on couplings H [N, N] whose lowest state at M is `ground`.

    found: every measured state of M with its energy; nats: energies are said to be loss increases; said: what
    a state is called.
    """
    m = len(ground)
    facts = tuple(_facts(found, audit, nats))
    if ground not in found.states:
        n = len(found.rows)
        told = f"{n} other states were" if n > 1 else "one other state was" if n else "nothing was"
        return (
            Health(
                UNKNOWN,
                f"Not known at M = {m}: {told} measured, but not the state these couplings call lowest.",
                facts,
            )
            if n
            else Health(UNKNOWN, f"Not known: nothing was measured at M = {m}.", facts)
        )
    lowest, best = found.states.index(ground), found.best
    others = len(found.rows) - 1
    if not others:
        return Health(
            UNKNOWN,
            f"Not known at M = {m}: only the lowest state was measured, {found.increase[lowest]:+.2f} nats, "
            "and nothing beside it.",
            facts,
        )
    difference, se, common = found.rows[lowest].above(found.rows[best])
    beyond = common > 1 and (difference > 2 * se or difference == np.inf)  # what overflows has no error
    cost = found.increase.clip(min=NOTHING)
    ratio = cost[lowest] / cost[best]
    numbers = (
        f"the lowest state loses {found.increase[lowest]:.2f} nats, "
        f"{said(found.states[best])} only {found.increase[best]:.2f}"
    )
    rank = found.agreement
    order = rank is not None and rank.n >= FEW
    if beyond and ratio >= WORSE:
        return Health(RED, f"Do not trust this landscape at M = {m}: {numbers}.", facts)
    if order and rank is not None and rank.high < 0.5:
        return Health(
            RED,
            f"Do not trust this landscape at M = {m}: its energies do not order what was measured (Spearman "
            f"{rank.spearman:.2f} [{rank.low:.2f}, {rank.high:.2f}] over {rank.n} states).",
            facts,
        )
    if order and (worthless := _worthless_pairs(H, found, audit)):
        return Health(RED, f"Do not trust this landscape at M = {m}: {worthless}.", facts)
    if beyond and ratio > CLOSE:
        return Health(YELLOW, f"With care at M = {m}: {numbers}.", facts)
    surely = "" if lowest == best else "surely "
    good = f"no measured state of M = {m} is {surely}better than the lowest in energy"
    good = (
        good if not beyond else f"the lowest state is within {100 * (ratio - 1):.0f} % of the best measured"
    )
    if not order:
        return Health(
            YELLOW, f"Few measurements at M = {m} ({len(found.rows)} states): so far {good}.", facts
        )
    assert rank is not None
    told = f"Spearman {rank.spearman:.2f} [{rank.low:.2f}, {rank.high:.2f}] over {rank.n} states"
    if rank.low < 0.5:
        return Health(
            YELLOW, f"With care at M = {m}: {good}, and the order of the others is loose ({told}).", facts
        )
    if audit is not None and audit.informative is False and _matter(H, found):
        return Health(
            YELLOW,
            f"With care at M = {m}: {good} ({told}), but its pairs do not agree with measured ones.",
            facts,
        )
    return Health(GREEN, f"Good at M = {m}: {good}, and energies order the measured states ({told}).", facts)


def _worthless_pairs(H: np.ndarray, found: Points, audit: Audit | None) -> str | None:
    """What is wrong where the pairs of H decide and should not: the audit, which is no mere noise, finds no
    information in them, and the measured states are ordered clearly better by the own costs alone.
    """
    seen = None if audit is None else audit.agreement
    if audit is None or seen is None or seen.low > 0 or audit.reliability < RELIABLE:
        return None
    with_pairs, own = found.agreement, agreement(indicator(found.states, len(H)) @ np.diag(H), found.increase)
    if with_pairs is None or own is None or own.spearman - with_pairs.spearman < CLEARLY:
        return None
    return (
        f"its pairs carry no information (Spearman {seen.spearman:.2f} [{seen.low:.2f}, {seen.high:.2f}] "
        f"with {len(audit.pairs)} measured ones), and own costs alone order the measured states better "
        f"({own.spearman:.2f} against {with_pairs.spearman:.2f})"
    )


def _matter(H: np.ndarray, found: Points) -> bool:
    """Whether the pairs change the order of the measured states: else they may be wrong."""
    x = indicator(found.states, len(H))
    own = x @ np.diag(H)
    return bool((np.argsort(own, kind="stable") != np.argsort(energies(H, x), kind="stable")).any())


def _facts(found: Points, audit: Audit | None, nats: bool) -> list[str]:
    facts = []
    if found.rows:
        fewest = min(row.increase[2] for row in found.rows if row.increase)
        facts.append(f"{len(found.rows)} states of this M measured, on {fewest} sequences or more.")
    rank = found.agreement
    if rank is not None:
        facts.append(
            f"Energy against loss: Spearman {rank.spearman:.2f} [{rank.low:.2f}, {rank.high:.2f}] over "
            f"{rank.n} states."
        )
    costly = found.increase > 0
    if nats and costly.sum() > 1:
        ratio = found.energy[costly] / found.increase[costly]
        facts.append(
            f"Predicted over measured increase: {np.median(ratio):.2f} in the middle, {ratio.min():.2f} to "
            f"{ratio.max():.2f}."
        )
    if audit is not None:
        rank = audit.agreement
        told = f"Spearman {rank.spearman:.2f} [{rank.low:.2f}, {rank.high:.2f}]" if rank else "too few to say"
        facts.append(f"Audit of {len(audit.pairs)} pairs: {told}.")
    return facts
