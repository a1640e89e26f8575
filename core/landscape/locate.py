"""Where any state stands among the listed ones: typed by hand, chosen by peers, or listed elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.ising.energies import energies
from core.ising.states import indicator
from core.landscape.wording import exponent, with_power
from core.spectrum.constraints import Constraints, make_rules
from core.spectrum.lowest import Spectrum, levels

State = tuple[int, ...]


@dataclass(frozen=True)
class Place:
    """One state on the axes of a spectrum; `words` says it in one sentence without its full stop."""

    removed: State
    energy: float
    rank: int | None  # 0-based in the list; None: not listed
    delta: float | None  # energy above the ground state; None: of another number of blocks: not compared
    below: int | None  # listed states of lower energy, by more than the width of a level; None as delta
    same: int | None  # other listed states on its level; None as delta
    allowed: bool  # whether the rules allow it
    words: str

    @property
    def degenerate(self) -> bool:
        """Whether other listed states are on its level."""
        return bool(self.same)


def place(
    H: np.ndarray,
    spectrum: Spectrum,
    states: Sequence[State],
    constraints: Constraints | None = None,
    word: str = "block",
    free: bool = False,
) -> list[Place]:
    """The place of every state (sorted tuples of units of H, [N, N]) in a spectrum, listed or not; word: what
    people call a unit; free: no M was asked for, so that states of any size are compared.

    An unlisted state of an exact spectrum lies above all listed ones, or is outside the rules, or its level
    goes on beyond the list; of one that is not proved it may lie anywhere, and `below` counts listed states
    only.
    """
    if not states:
        return []
    s, n = spectrum, len(H)
    x = indicator(list(states), n)
    e = energies(H, x)
    m = None if free else int(s.x[0].sum())
    level = levels(s.energies, s.tolerance)
    ranks = {state: k for k, state in enumerate(s.removed)}
    rules = make_rules(constraints, n, m)
    allowed, power = rules.allows(x), exponent(s.energies)
    places = []
    for state, row, energy, fits in zip(states, x, e.tolist(), allowed.tolist()):
        rank = ranks.get(tuple(sorted(state)))
        if m is not None and row.sum() != m:
            words = (
                f"removes {int(row.sum())} {word}s, and the listed states {m}: energies of different "
                "numbers are not compared"
            )
            places.append(Place(state, energy, None, None, None, None, fits, words))
            continue
        if rank is None:
            same = int((np.abs(s.energies - energy) <= s.tolerance).sum())
            below = int((s.energies < energy - s.tolerance).sum())
        else:
            same = int((level == level[rank]).sum()) - 1
            below = int((level < level[rank]).sum())
        words = _words(s, rank, energy - float(s.energies[0]), below, same, fits, power)
        places.append(Place(state, energy, rank, energy - float(s.energies[0]), below, same, fits, words))
    return places


def _words(
    s: Spectrum, rank: int | None, delta: float, below: int, same: int, allowed: bool, power: int
) -> str:
    listed, height = len(s.x), f"ΔE {with_power(delta, power)}"
    if rank is not None:
        level = f", on a level with {same} other{'s' if same > 1 else ''}" if same else ""
        return f"rank {rank}, {'the ground state' if rank == 0 else height}{level}"
    if not allowed:
        return f"outside the rules; {height}, with {below} of the {listed} listed states below it"
    if same:
        return (
            f"{height}: on the level that the list cuts off, with {same} listed"
            if s.exact
            else f"{height}: on a level with {same} listed"
        )
    if below == listed:
        last = with_power(delta - float(s.energies[-1] - s.energies[0]), power)
        return f"{height}: above the {listed} listed states, {last} higher than the last"
    return (
        f"{height}: not found by the search, which is not proved; {below} of the {listed} listed states "
        "lie below it"
    )
