"""Steps from a state to its neighbours, within rules: what learning looks at next to the best states, and its
mutants.

A swap is one unit for another. By branch, what weighs differently is exchanged, too: one FFN for as many
attentions as make up for it, and back, whatever the budgets weigh; and a whole block for two halves of
others, and back: what a half costs depends on the other half of its block, so that one swap at a time leads
uphill in between.
"""

import numpy as np

from core.choose.other_methods import SWAPS, Level, mutant
from core.ising.energies import energies
from core.ising.states import indicator, removed_blocks
from core.ising.units import BLOCK, State, Units
from core.spectrum.constraints import Rules

_WIDE = 30  # neighbours whose own neighbours are looked at
_FIRST = 4  # units that an exchange begins with, the lowest of a kind
_MOST = 8  # units that are exchanged for one
_PAIRS = 10  # pairs of halves that are offered for a block, the lowest
# of a mutant's steps where they are possible: exchanges, blocks for halves; the others are swaps
_EXCHANGES, _HALVES = 0.1, 0.1


def around(H: np.ndarray, best: np.ndarray, rules: Rules, units: Units) -> np.ndarray:
    """bool [K, N]: states within one move of the best [B, N], and one swap away from the lowest of these by
    H [N, N]. Where M is free, a unit more or less is a move, too.
    """

    def beside(x: np.ndarray) -> np.ndarray:
        return swaps(x) if (rules.counts >= 0).all() else np.concatenate([swaps(x), flips(x)])

    far = [move(H, x, rules, units) for x in best for move in (exchanges, halves)]
    near = np.unique(np.concatenate([*(beside(x) for x in best), *far]), axis=0)
    lowest = near[np.argsort(energies(H, near), kind="stable")[:_WIDE]]
    near = np.unique(np.concatenate([near, *(beside(x) for x in lowest)]), axis=0)
    return near[rules.allows(near)]


def swaps(x: np.ndarray) -> np.ndarray:
    """bool [M (N - M), N]: the states one swap away from the state x [N]."""
    out, in_ = np.flatnonzero(x), np.flatnonzero(~x)
    y = np.repeat(x[None], len(out) * len(in_), axis=0)
    rows = np.arange(len(y))
    y[rows, np.repeat(out, len(in_))] = False
    y[rows, np.tile(in_, len(out))] = True
    return y


def flips(x: np.ndarray) -> np.ndarray:
    """bool [N, N]: the states with one unit more or less than x [N]."""
    return x[None] ^ np.eye(len(x), dtype=bool)


def exchanges(H: np.ndarray, x: np.ndarray, rules: Rules, units: Units) -> np.ndarray:
    """bool [K, N]: states with one unit more or less than x [N] and, for it, as many units of another kind as
    the budgets ask for or leave over: the lowest by H [N, N], one after the other, the first of them any of
    the lowest few. None where all counts are given, or all units are of one kind.
    """
    kinds, free = _kinds(units), _uncounted(rules)
    flipped = np.flatnonzero(free)
    starts, may = [np.zeros((0, len(x)), dtype=bool)], [np.zeros((0, len(x)), dtype=bool)]
    flips_ = x[None] ^ np.eye(len(x), dtype=bool)[flipped]
    for u, y, change in zip(flipped, flips_, _changes(H, flips_)):
        for kind in np.unique(kinds[free & (kinds != kinds[u])]):
            own = free & (kinds == kind)
            others = np.flatnonzero(own & (x != x[u]))
            first = others[np.argsort(change[others], kind="stable")[:_FIRST]]
            starts.append(y ^ np.eye(len(x), dtype=bool)[first])
            may.append(np.repeat(own[None], len(first), axis=0))
    own = np.concatenate(may)
    return _thinned(H, _topped_up(H, np.concatenate(starts), own, rules), own, rules)


def halves(H: np.ndarray, x: np.ndarray, rules: Rules, units: Units) -> np.ndarray:
    """bool [K, N]: states with a whole block more or less than x [N] and, for it, one unit of each of its
    kinds, of other blocks: for each block the pairs that are lowest by H [N, N]. Of blocks of two branches.
    """
    kinds, open_ = _kinds(units), rules.fixed < 0
    found = [np.zeros((0, len(x)), dtype=bool)]
    for own in units.of_block:
        if len(own) != 2 or x[own[0]] != x[own[1]] or not open_[list(own)].all():
            continue
        y = x.copy()
        y[list(own)] ^= True
        change = _changes(H, y[None])[0]
        first, second = (np.flatnonzero(open_ & (x != x[u]) & (kinds == kinds[u])) for u in own)
        pairs = change[first][:, None] + change[second] + 2 * H[np.ix_(first, second)]
        i, j = np.divmod(np.argsort(pairs, axis=None, kind="stable")[:_PAIRS], max(1, len(second)))
        each = np.eye(len(x), dtype=bool)
        found.append(y ^ each[first[i]] ^ each[second[j]])
    return np.concatenate(found)


def mutant_within(parent: State, rules: Rules, units: Units, rng: np.random.Generator) -> State | None:
    """The parent with one to SWAPS moves drawn at random, within the rules; None where the draw leads to
    none. By block, and where nothing but M is asked for, swaps as EvoPress draws them.
    """
    if units.by == BLOCK and rules.free and len(rules.counts) == 1 and rules.counts[0] >= 0:
        return mutant(parent, [Level(tuple(range(len(units))), len(parent))], rng)
    x = indicator([parent], len(units))[0]
    for _ in range(min(rng.integers(1, SWAPS + 1, 2))):
        luck = rng.random() if units.by != BLOCK else 1.0
        moved = None
        if luck < _EXCHANGES:
            moved = _random_exchange(x, rules, units, rng)
        elif luck < _EXCHANGES + _HALVES:
            moved = _random_halves(x, rules, units, rng)
        x = _random_swap(x, rules, units, rng) if moved is None else moved
        if x is None:
            return None
    return filled(x, rules, rng)


def drawn(rules: Rules, rng: np.random.Generator) -> State | None:
    """A random state with the number of each class that the rules ask for, and what a budget asks for
    besides; None where the draw leads to none.
    """
    x = rules.fixed == 1
    for k, count in enumerate(rules.counts):
        own = np.flatnonzero((rules.klass == k) & (rules.fixed < 0))
        more = count - int((x & (rules.klass == k)).sum())
        if count >= 0 and more > 0:
            x[rng.choice(own, more, replace=False)] = True
    return filled(x, rules, rng)


def filled(
    x: np.ndarray, rules: Rules, rng: np.random.Generator, among: np.ndarray | None = None
) -> State | None:
    """The state x [N] with units of uncounted classes more, until the rules allow it, and without those that
    it can do without; in random order, of `among` bool [N] if given. None where no such state is met.
    """
    x, free = x.copy(), np.flatnonzero(_uncounted(rules) & (True if among is None else among))
    for u in rng.permutation(free):
        if rules.allows(x)[0]:
            break
        x[u] = True
    if not rules.allows(x)[0]:
        return None
    for u in rng.permutation(free):
        if x[u]:
            x[u] = False
            x[u] = not rules.allows(x)[0]
    return removed_blocks(x[None])[0]


def _random_swap(x: np.ndarray, rules: Rules, units: Units, rng: np.random.Generator) -> np.ndarray | None:
    """x [N] with one unit for another of its class, of its kind where a budget weighs them; None where there
    is no other.
    """
    out = rng.permutation(np.flatnonzero(x & (rules.fixed < 0)))[:1]
    alike = rules.klass == rules.klass[out].max(initial=-1)
    if len(rules.at_least):
        alike &= _kinds(units) == _kinds(units)[out].max(initial=-1)
    in_ = np.flatnonzero(~x & (rules.fixed < 0) & alike)
    if not len(in_):
        return None
    y = x.copy()
    y[out], y[rng.choice(in_)] = False, True
    return y


def _random_exchange(
    x: np.ndarray, rules: Rules, units: Units, rng: np.random.Generator
) -> np.ndarray | None:
    """x [N] with one unit more or less and as many of another kind for it, as `exchanges`; None where there
    are no two kinds.
    """
    kinds, free = _kinds(units), _uncounted(rules)
    if len(np.unique(kinds[free])) < 2:
        return None
    u = rng.choice(np.flatnonzero(free))
    others = np.unique(kinds[free & (kinds != kinds[u])])
    y = x.copy()
    y[u] ^= True
    found = filled(y, rules, rng, kinds == rng.choice(others))
    return None if found is None else indicator([found], len(x))[0]


def _random_halves(x: np.ndarray, rules: Rules, units: Units, rng: np.random.Generator) -> np.ndarray | None:
    """x [N] with a whole block more or less and a unit of each of its kinds for it, as `halves`."""
    kinds, open_ = _kinds(units), rules.fixed < 0
    blocks = [own for own in units.of_block if len(own) == 2 and x[own[0]] == x[own[1]]]
    blocks = [own for own in blocks if open_[list(own)].all()]
    # as many of the whole ones as of those that stay: they are far fewer
    gone = [own for own in blocks if x[own[0]]]
    blocks = gone if gone and rng.random() < 0.5 else [own for own in blocks if not x[own[0]]]
    if not blocks:
        return None
    own = list(blocks[rng.integers(len(blocks))])
    y = x.copy()
    for u in own:
        others = np.flatnonzero(open_ & (x != x[u]) & (kinds == kinds[u]))
        if not len(others):
            return None
        y[[u, rng.choice(others)]] ^= True
    return y


def _topped_up(H: np.ndarray, y: np.ndarray, may: np.ndarray, rules: Rules) -> np.ndarray:
    """The states y [K, N] with units of `may` [K, N] more until they keep the budgets, one after the other
    that of lowest energy; at most `_MOST`.
    """
    y = y.copy()
    for _ in range(_MOST):
        short = (y @ rules.weights.T < rules.at_least).any(axis=1) & (may & ~y).any(axis=1)
        if not short.any():
            break
        change = np.where(may[short] & ~y[short], _changes(H, y[short]), np.inf)
        y[np.flatnonzero(short), change.argmin(axis=1)] = True
    return y


def _thinned(H: np.ndarray, y: np.ndarray, may: np.ndarray, rules: Rules) -> np.ndarray:
    """The states y [K, N] without units of `may` [K, N] that no budget needs, one after the other that whose
    return lowers the energy most; at most `_MOST`.
    """
    y = y.copy()
    for _ in range(_MOST):
        over = y @ rules.weights.T - rules.at_least
        spare = (rules.weights.T[None] <= over[:, None]).all(axis=2)
        change = np.where(may & y & spare, _changes(H, y), np.inf)
        better = change.min(axis=1, initial=np.inf) < 0
        if not better.any():
            break
        y[np.flatnonzero(better), change[better].argmin(axis=1)] = False
    return y


def _changes(H: np.ndarray, y: np.ndarray) -> np.ndarray:
    """float64 [K, N]: what one unit more or less changes of the energy of the states y [K, N]."""
    own = np.diag(H)
    return np.where(y, -1, 1) * (2 * (y @ H - own * y) + own)


def _uncounted(rules: Rules) -> np.ndarray:
    """bool [N]: units that rules neither fix nor count."""
    return (rules.fixed < 0) & (rules.counts[rules.klass] < 0)


def _kinds(units: Units) -> np.ndarray:
    """int64 [N]: the kind of each unit, by number."""
    number = {kind: k for k, kind in enumerate(dict.fromkeys(units.kinds))}
    return np.array([number[kind] for kind in units.kinds] or [0] * len(units))
