"""States worth measuring, and why each was proposed: low in energy and unlike each other.

After arXiv 2602.00161, section 5.

The energy orders states only as well as its sample allows: below a few standard errors of a difference, rank
0 and rank 40 are the same. Inside that window the order says nothing, so measurements are spent on states
that differ: near-copies of the ground state share what the energy got wrong about it. Two ways to differ are
combined. *Max-min*: again and again the state of the window whose largest Pearson coefficient with those
chosen is smallest. *Medoids*: the window is divided into groups of states alike, and the most central state
of each group speaks for it. Where the barrier tree is known there is a third way, *one per basin*: the bottom
of each of the most persistent valleys.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from core.errors import InputError
from core.ising.energies import energies
from core.ising.states import indicator, pearson
from core.landscape.wording import exponent, with_power
from core.shape.tree import BarrierTree
from core.spectrum.lowest import Spectrum

STANDARD_ERRORS = 1.0  # of an energy difference, inside which states count as equally low
LEAST = 4  # states of the window for each candidate: fewer leave nothing to choose from
WITHOUT_NOISE = 8  # the same where no sample says how far energies scatter
MOST = 2000  # states of the window: all pairs of them are compared
_ROUNDS = 50  # of k-medoids; it ends by itself long before

State = tuple[int, ...]


@dataclass(frozen=True)
class Candidate:
    """A state that is worth measuring, and why it was proposed."""

    removed: State
    reason: str  # one plain sentence, without its full stop
    energy: float
    rank: int | None  # in the spectrum; None: not listed
    diversity: float | None  # 1 - largest Pearson coefficient with those before; None: it is the first


@dataclass(frozen=True)
class Candidates:
    """What was picked, in the order it was picked, and from what."""

    chosen: list[Candidate]
    window: float  # energy above the ground state up to which states were looked at
    states: int  # listed states in the window
    why: str  # where the window comes from, in one sentence without its full stop


def candidates(
    H: np.ndarray,
    spectrum: Spectrum,
    count: int,
    *,
    window: float | None = None,
    noise: np.ndarray | None = None,
    measured: Mapping[State, tuple[float, float, int]] | None = None,
    taken: list[State] | tuple[State, ...] = (),
    names: Sequence[str] | None = None,
    word: str = "block",
    tree: BarrierTree | None = None,
) -> Candidates:
    """Up to `count` listed states, the ground state first; fewer where the window holds fewer.

    Half are chosen by max-min diversity, then come the medoids of the window that are no near-copies of those
    chosen (all but one unit the same), then max-min goes on. With the tree of the spectrum a third by
    max-min, a third of minima of the window, the most persistent first, then medoids: no near-copies either.

    H: float64 [N, N], the couplings of the spectrum.
    window: energy above the ground state; None: from `noise`, else by number.
    noise: float [K], the standard error of each listed state's energy above the ground state
        (core.energy.uncertainty.energy_noise).
    measured: {state: (loss increase, standard error, n)}; the lowest of those with as many blocks comes
        second, listed or not. Losses of a split that is reported on later have no place here: choosing on
        them makes the report too good.
    taken: states picked before; the others differ from them as well, and none of them is repeated.
    tree: of the minima of the spectrum; None: they are not looked at.
    names: of the units [N], for the reasons; None: their numbers. word: what people call a unit.

    Errors: InputError for a count below 1, a negative window, an empty spectrum, or noise of another length.
    """
    _check(spectrum, count, window, noise)
    size, why = window_of(spectrum, count, window, noise)
    x, e, s = spectrum.x[:size], spectrum.energies[:size], spectrum
    reach, power = float(max(e[-1] - e[0], 0.0)), exponent(s.energies)
    within = f"within ΔE {with_power(reach, power)}" if reach > s.tolerance else "on the ground level"
    pool = Pool(H, x, s, [tuple(sorted(map(int, state))) for state in taken])
    if 0 not in pool.found:
        level = f", one of {s.degeneracy} states that have it" if s.degeneracy > 1 else ""
        pool.take(0, f"lowest energy{level}")
    best = _best_measured(measured or {}, int(x[0].sum()))
    if best and best[0] not in pool.states and len(pool.chosen) < count:
        pool.take_state(
            best[0], f"lowest measured loss of the {best[2]} measured ({best[1]:+.3g} nats)", s.removed
        )

    def spread(until: int) -> None:
        while len(pool.chosen) < until and (k := pool.farthest()) is not None:
            pool.take(
                k,
                f"differs most, {pool.changed(k)} of {int(x[k].sum())} {word}s from each one before, "
                f"{within}",
            )

    if tree is None:
        spread((count + 1) // 2)
    else:
        spread((count + 2) // 3)
        for k, reason in _bottoms(tree):
            if len(pool.chosen) < (2 * count + 2) // 3 and k < size and pool.changed(k) > 1:
                pool.take(k, reason)
    if len(pool.chosen) < count:
        groups, called = medoid_groups(x, count), names or range(len(H))
        for medoid, members in sorted(groups, key=lambda g: (-len(g[1]), g[0])):
            if len(pool.chosen) < count and pool.changed(medoid) > 1:
                common = _in_common(x, members, called)
                pool.take(medoid, f"medoid of a group of {len(members)} states {common}, {within}")
    spread(count)
    return Candidates(pool.chosen, reach, size, why)


def one_per_basin(
    H: np.ndarray, tree: BarrierTree, count: int, taken: list[State] | tuple[State, ...] = ()
) -> list[Candidate]:
    """The bottoms of up to `count` valleys, the most persistent first, without those that are taken.

    H: float64 [N, N], the couplings of the tree's spectrum; taken: states picked before. Wherever in the list
    they lie: what the noise of the sample allows is no limit here.
    Errors: InputError for a count below 1 or a spectrum without a state.
    """
    s = tree.valleys.spectrum
    _check(s, count, None, None)
    pool = Pool(H, s.x, s, [tuple(sorted(map(int, state))) for state in taken])
    for k, reason in _bottoms(tree):
        if len(pool.chosen) < count and k not in pool.found:
            pool.take(k, reason)
    return pool.chosen


def _bottoms(tree: BarrierTree) -> list[tuple[int, str]]:
    """(rank, what it is) of every minimum, the most persistent first."""
    v, power = tree.valleys, exponent(tree.valleys.spectrum.energies)
    depth, known = tree.persistence.tolist(), tree.known_persistence.tolist()
    sure = "" if tree.exact else " at most"

    def alone(i: int) -> str:
        if i == 0:
            return "the lowest of all"
        if np.isfinite(depth[i]):
            return f"barrier{sure} {with_power(depth[i], power)} to a lower one"
        return f"no lower one within ΔE {with_power(known[i], power)} of it"

    found, basin = [], v.basin.tolist()
    for i in sorted(range(len(known)), key=lambda i: (i > 0, -known[i], i)):
        states = basin[i]
        valley = f"minimum of a valley of {states} listed state{'s' * (states != 1)}"
        found.append((int(v.minimum[i]), f"{valley}, {alone(i)}"))
    return found


class Pool:
    """The states of the window x [W, N], and what was taken of them, or from elsewhere."""

    def __init__(self, H: np.ndarray, x: np.ndarray, spectrum: Spectrum, taken: list[State]):
        self.H, self.x, self.energies = H, x, spectrum.energies
        self.chosen: list[Candidate] = []
        self.states = set(taken)
        self.taken = indicator(taken, x.shape[1])
        self.found = {k for k, state in enumerate(spectrum.removed[: len(x)]) if state in self.states}
        self.nearest = _coefficient(x, self.taken).max(axis=1) if taken else np.full(len(x), -np.inf)

    def take(self, k: int, reason: str) -> None:
        """State k of the window."""
        diversity = None if not len(self.taken) else float(1.0 - self.nearest[k])
        self._add(self.x[k], Candidate(_state(self.x[k]), reason, float(self.energies[k]), k, diversity))
        self.found.add(k)

    def take_state(self, state: State, reason: str, listed: list[State]) -> None:
        """Any state of as many blocks."""
        row = indicator([state], self.x.shape[1])[0]
        diversity = float(1.0 - _coefficient(row[None], self.taken).max())
        rank = listed.index(state) if state in listed else None
        self._add(row, Candidate(state, reason, float(energies(self.H, row[None])[0]), rank, diversity))
        if rank is not None:
            self.found.add(rank)

    def _add(self, row: np.ndarray, candidate: Candidate) -> None:
        self.chosen.append(candidate)
        self.states.add(candidate.removed)
        self.taken = np.concatenate([self.taken, row[None]])
        self.nearest = np.maximum(self.nearest, _coefficient(self.x, row[None])[:, 0])

    def farthest(self) -> int | None:
        """The state most unlike those taken, the lowest of several; None when all are taken."""
        left = [k for k in range(len(self.x)) if k not in self.found]
        if not left:
            return None
        nearest = self.nearest[left]
        return left[int(np.flatnonzero(nearest <= nearest.min() + 1e-9)[0])]

    def changed(self, k: int) -> int:
        """Blocks in which state k differs from the nearest of those taken."""
        return int((self.x[k] & ~self.taken).sum(axis=1).min())


def _state(row: np.ndarray) -> State:
    return tuple(np.flatnonzero(row).tolist())


def _coefficient(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pearson coefficients; 1 where there is none, of a state that removes everything."""
    return np.nan_to_num(pearson(x, y), nan=1.0)


def _check(spectrum: Spectrum, count: int, window: float | None, noise: np.ndarray | None) -> None:
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
        raise InputError(f"The number of candidates must be a whole number of at least 1, not {count!r}.")
    if not len(spectrum.x):
        raise InputError(
            "No state is listed, so there is nothing to choose candidates from; list some first."
        )
    if window is not None and not window >= 0:
        raise InputError(f"The energy window must be a number of at least 0, not {window!r}.")
    if noise is not None and np.shape(noise) != (len(spectrum.x),):
        raise InputError(
            f"The noise must be one number for each of the {len(spectrum.x)} listed states, not shape "
            f"{np.shape(noise)}."
        )


def window_of(
    spectrum: Spectrum, count: int, window: float | None, noise: np.ndarray | None
) -> tuple[int, str]:
    """(listed states in the window, where it comes from)."""
    above = spectrum.energies - spectrum.energies[0]
    most = min(len(above), MOST)
    whole = f"; all {most} looked at lie inside"
    if window is not None:
        inside = min(int((above <= window + spectrum.tolerance).sum()), most)
        return inside, "the window was given" + (whole if inside == most else "")
    least = min((WITHOUT_NOISE if noise is None else LEAST) * count, most)
    if noise is None:
        return (
            least,
            f"the {least} lowest states were looked at: no sample says how far their energies scatter",
        )
    inside = equally_low(above[:most], noise[:most], spectrum.tolerance)
    error = "one standard error" if STANDARD_ERRORS == 1 else f"{STANDARD_ERRORS:g} standard errors"
    if inside < least:
        return (
            least,
            f"only {inside} states lie within {error} of the ground state, so the {least} lowest were looked "
            "at",
        )
    return inside, f"up to there an energy is within {error} of the ground state's" + (
        whole if inside == most else ""
    )


def equally_low(above: np.ndarray, noise: np.ndarray, tolerance: float = 0.0) -> int:
    """How many of the lowest states the sample cannot tell from the ground state.

    above: float [K], sorted, energies above the ground state; noise: float [K], their standard errors.
    Counted from the lowest on, for as long as the energy is at most STANDARD_ERRORS of the median standard
    error so far.
    """
    for k in range(1, len(above)):
        if above[k] > STANDARD_ERRORS * float(np.median(noise[1 : k + 1])) + tolerance:
            return k
    return len(above)


def _best_measured(
    measured: Mapping[State, tuple[float, float, int]], removed: int
) -> tuple[State, float, int] | None:
    """(state, loss increase, how many were measured) of the lowest measured one that removes as many blocks.

    None without a choice.
    """
    same = {tuple(sorted(state)): value[0] for state, value in measured.items() if len(state) == removed}
    if len(same) < 2:
        return None
    best = min(same, key=lambda state: (same[state], state))
    return best, same[best], len(same)


def medoid_groups(x: np.ndarray, count: int) -> list[tuple[int, np.ndarray]]:
    """(medoid, members) of up to `count` groups of the states x [W, N], by k-medoids on 1 - Pearson.

    Medoids are rows of x. Begun greedily (each further medoid lowers the sum of distances most), so it is the
    same every time.
    """
    distance = 1.0 - _coefficient(x, x)
    medoids = [int(distance.sum(axis=1).argmin())]
    nearest = distance[medoids[0]]
    while len(medoids) < min(count, len(x)):
        gain = np.maximum(nearest - distance, 0.0).sum(axis=1)
        medoids.append(int(gain.argmax()))
        nearest = np.minimum(nearest, distance[medoids[-1]])
    for _ in range(_ROUNDS):
        group = distance[:, medoids].argmin(axis=1)
        members = [np.flatnonzero(group == g) for g in range(len(medoids))]
        central = [
            int(own[distance[np.ix_(own, own)].sum(axis=1).argmin()]) if len(own) else medoids[g]
            for g, own in enumerate(members)
        ]
        if central == medoids:
            break
        medoids = central
    return [(medoid, own) for medoid, own in zip(medoids, members) if len(own)]


def _in_common(x: np.ndarray, members: np.ndarray, names: Sequence) -> str:
    """What sets a group of the states x apart, in words."""
    share, overall = x[members].mean(axis=0), x.mean(axis=0)
    common = np.flatnonzero((share == 1) & (overall < 1))
    if len(common):
        return f"that all remove {_listed(common[np.argsort(overall[common], kind='stable')][:3], names)}"
    block = int((share - overall).argmax())
    return f"of which {100 * share[block]:.0f} % remove {names[block]}"


def _listed(blocks: np.ndarray, names: Sequence) -> str:
    *first, last = (names[b] for b in sorted(map(int, blocks)))
    return f"{', '.join(map(str, first))} and {last}" if first else str(last)
