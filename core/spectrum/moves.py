"""Low states by moves at fixed counts, compiled: annealing, kicks, and the closure of the best under single
swaps.

Seeded and without proof. The exact search starts from them; core.spectrum.heuristic offers them alone.
"""

import math
import time
from collections.abc import Iterator

import numpy as np
from numba import njit

from core.spectrum.constraints import Rules
from core.spectrum.kbest import Pool, pack, pool_insert, pool_limit, pool_states
from core.spectrum.relaxation import Reduced

_AT_LEAST = 6  # pieces of a first round, some milliseconds each, that no time limit cuts: without states
# that are fairly low nothing can be said


@njit(cache=True, nogil=True)
def _fields(Q, c, x, h):
    """h_i = c_i + 2 sum_j Q_ij x_j; the energy of x."""
    n = len(c)
    energy = 0.0
    for i in range(n):
        h[i] = c[i]
    for j in range(n):
        if x[j]:
            for i in range(n):
                h[i] += 2 * Q[j, i]
    for i in range(n):
        if x[i]:
            energy += 0.5 * (h[i] + c[i])
    return energy


@njit(cache=True, nogil=True)
def _flip(Q, x, h, i):
    sign = 2.0 if x[i] == 0 else -2.0
    x[i] = 1 - x[i]
    for j in range(len(h)):
        h[j] += sign * Q[i, j]


@njit(cache=True, nogil=True)
def _allowed(x, weights, at_least, blocks, template, max_run):
    """Whether x (in the open blocks) keeps the budgets and the run limit; `template` holds the fixed
    blocks.
    """
    for q in range(len(at_least)):
        total = 0.0
        for i in range(len(x)):
            if x[i]:
                total += weights[q, i]
        if total < at_least[q]:
            return False
    if max_run < len(template):
        for i in range(len(x)):
            template[blocks[i]] = x[i]
        run = 0
        for value in template:
            run = run + 1 if value else 0
            if run > max_run:
                return False
    return True


@njit(cache=True, nogil=True)
def _words(x, blocks, base, words):
    for w in range(len(words)):
        words[w] = base[w]
    for i in range(len(x)):
        if x[i]:
            words[blocks[i] >> 6] |= np.uint64(1) << np.uint64(blocks[i] & 63)


@njit(cache=True, nogil=True)
def _read(words, blocks, x):
    for i in range(len(x)):
        x[i] = np.int64((words[blocks[i] >> 6] >> np.uint64(blocks[i] & 63)) & np.uint64(1))


@njit(cache=True, nogil=True)
def _random_state(klass, need, x):
    n = len(klass)
    order = np.random.permutation(n)
    left = need.copy()
    for i in order:
        k = klass[i]
        if left[k] < 0:
            x[i] = np.random.randint(2)
        else:
            x[i] = 1 if left[k] > 0 else 0
            left[k] -= x[i]


@njit(cache=True, nogil=True)
def _change(Q, h, x, i, j):
    """What swapping i and j, one of them removed, adds to the energy."""
    return (h[j] - h[i] if x[i] else h[i] - h[j]) - 2 * Q[i, j]


@njit(cache=True, nogil=True)
def _swap(Q, x, h, i, j):
    _flip(Q, x, h, i)
    _flip(Q, x, h, j)


@njit(cache=True, nogil=True)
def _descend(Q, klass, free, extras, slack, x, h):
    """The best swap of each variable in turn, until no swap or flip lowers the energy by more than
    `slack`.
    """
    weights, at_least, blocks, template, max_run, local = extras
    n = len(h)
    quiet = 0  # variables in a row without a move
    i = 0
    for _ in range(100 * n):  # rounding may let equal states follow each other for ever
        if quiet == n:
            break
        best, partner = -slack, -1
        if free[i] and (h[i] if x[i] == 0 else -h[i]) < best:
            x[i] = 1 - x[i]
            if not local or _allowed(x, weights, at_least, blocks, template, max_run):
                best, partner = (-h[i] if x[i] == 0 else h[i]), i
            x[i] = 1 - x[i]
        for j in range(n):
            if klass[j] == klass[i] and x[j] != x[i]:
                change = _change(Q, h, x, i, j)
                if change < best:
                    x[i], x[j] = x[j], x[i]
                    if not local or _allowed(x, weights, at_least, blocks, template, max_run):
                        best, partner = change, j
                    x[i], x[j] = x[j], x[i]
        quiet += 1
        if partner == i:
            _flip(Q, x, h, i)
            quiet = 0
        elif partner >= 0:
            _swap(Q, x, h, i, partner)
            quiet = 0
        i = (i + 1) % n


@njit(cache=True, nogil=True)
def _temperatures(Q, klass, free, x, h):
    """Hot and cold for annealing: from the moves that leave a local minimum."""
    n = len(h)
    sizes = np.empty(256)
    found = 0
    for _ in range(8192):
        i, j = np.random.randint(n), np.random.randint(n)
        if found == len(sizes):
            break
        if klass[i] == klass[j] and x[i] != x[j]:
            sizes[found] = abs(_change(Q, h, x, i, j))
            found += 1
        elif free[i]:
            sizes[found] = abs(h[i])
            found += 1
    if found == 0:
        return 0.0, 0.0
    sizes = np.sort(sizes[:found])
    return 0.5 * sizes[found // 3], 0.2 * sizes[found // 50]


@njit(cache=True, nogil=True)
def _anneal(Q, c, constant, klass, need, free, extras, base, starts, sweeps, restarts, seed, slack, pool):
    """Anneal `restarts` times, from random states, or from rows of `starts` where a budget or a run limit
    makes those rare.
    """
    weights, at_least, blocks, template, max_run, local = extras
    n = len(c)
    np.random.seed(seed)
    x, h, g = np.zeros(n, np.int64), np.empty(n), np.empty(n)
    words = np.zeros(len(base), np.uint64)
    for _ in range(restarts):
        if len(starts):
            x[:] = starts[np.random.randint(len(starts))]
        else:
            _random_state(klass, need, x)
        _fields(Q, c, x, h)
        _descend(Q, klass, free, extras, slack, x, h)
        energy = constant + _fields(Q, c, x, g)
        limit = pool_limit(pool)
        hot, cold = _temperatures(Q, klass, free, x, h)
        if hot > 0:
            cold = max(cold, 1e-4 * hot)
            for sweep in range(sweeps):
                temperature = hot * (cold / hot) ** (sweep / max(1, sweeps - 1))
                for _ in range(n):
                    i, j = np.random.randint(n), np.random.randint(n)
                    flips = free[i] and np.random.random() < 0.5
                    if not flips and (klass[i] != klass[j] or x[i] == x[j]):
                        continue
                    change = (h[i] if x[i] == 0 else -h[i]) if flips else _change(Q, h, x, i, j)
                    if change > 0 and np.random.random() >= math.exp(-change / temperature):
                        continue
                    x[i] = 1 - x[i]
                    if not flips:
                        x[j] = 1 - x[j]
                    fits = not local or _allowed(x, weights, at_least, blocks, template, max_run)
                    x[i] = 1 - x[i]
                    if not flips:
                        x[j] = 1 - x[j]
                    if fits:
                        if flips:
                            _flip(Q, x, h, i)
                        else:
                            _swap(Q, x, h, i, j)
                        energy += change
                        if energy < limit - slack:  # what is passed on the way counts as well
                            _words(x, blocks, base, words)
                            pool_insert(pool, constant + _fields(Q, c, x, g), words, slack)
                            limit = pool_limit(pool)
            _descend(Q, klass, free, extras, slack, x, h)
        _words(x, blocks, base, words)
        pool_insert(pool, constant + _fields(Q, c, x, g), words, slack)


@njit(cache=True, nogil=True)
def _kick(Q, c, constant, klass, free, extras, base, kicks, seed, slack, pool):
    """Descend `kicks` times from a state of the pool with two to five random moves on top."""
    weights, at_least, blocks, template, max_run, local = extras
    n = len(c)
    np.random.seed(seed)
    x, y, h = np.zeros(n, np.int64), np.zeros(n, np.int64), np.empty(n)
    words = np.zeros(len(base), np.uint64)
    for _ in range(kicks):
        _read(pool.words[np.random.randint(pool.size[0])], blocks, x)
        y[:] = x
        moves = 2 + np.random.randint(4)
        for _ in range(20 * moves):
            i, j = np.random.randint(n), np.random.randint(n)
            if free[i] and np.random.random() < 0.5:
                y[i] = 1 - y[i]
            elif klass[i] == klass[j] and y[i] != y[j]:
                y[i], y[j] = y[j], y[i]
            else:
                continue
            if local and not _allowed(y, weights, at_least, blocks, template, max_run):
                y[:] = x
                continue
            x[:] = y
            moves -= 1
            if moves == 0:
                break
        _fields(Q, c, x, h)
        _descend(Q, klass, free, extras, slack, x, h)
        _words(x, blocks, base, words)
        pool_insert(pool, constant + _fields(Q, c, x, h), words, slack)


@njit(cache=True, nogil=True)
def _close(Q, c, constant, klass, free, extras, base, most, slack, pool):
    """Offer every state that one swap (or flip in a free class) makes from a state of the pool, the lowest
    first, until nothing enters; `most`: states to take at most. How many were taken.
    """
    weights, at_least, blocks, template, max_run, local = extras
    n = len(c)
    x, h = np.zeros(n, np.int64), np.empty(n)
    words = np.zeros(len(base), np.uint64)
    batch = max(64, len(pool.energies) // 16)  # then the order is looked at again
    expanded = 0
    limit = pool_limit(pool)  # asked for seldom: the arrays of a tuple are slow to reach
    while True:
        before = expanded
        for slot in np.argsort(pool.energies[: pool.size[0]]):
            if pool.closed[slot]:
                continue
            if expanded == most:
                return expanded
            if expanded == before + batch:
                break
            pool.closed[slot] = True
            expanded += 1
            _read(pool.words[slot], blocks, x)
            energy = constant + _fields(Q, c, x, h)
            for i in range(n):
                if free[i]:
                    change = h[i] if x[i] == 0 else -h[i]
                    if energy + change < limit - slack:
                        x[i] = 1 - x[i]
                        if not local or _allowed(x, weights, at_least, blocks, template, max_run):
                            _words(x, blocks, base, words)
                            if pool_insert(pool, energy + change, words, slack):
                                limit = pool_limit(pool)
                        x[i] = 1 - x[i]
                if x[i] == 0:
                    continue
                for j in range(n):
                    if x[j] or klass[j] != klass[i]:
                        continue
                    change = h[j] - h[i] - 2 * Q[i, j]
                    if energy + change < limit - slack:
                        x[i], x[j] = 0, 1
                        if not local or _allowed(x, weights, at_least, blocks, template, max_run):
                            _words(x, blocks, base, words)
                            if pool_insert(pool, energy + change, words, slack):
                                limit = pool_limit(pool)
                        x[i], x[j] = 1, 0
        if expanded == before:
            return expanded


def _open_form(problem: Reduced, template: np.ndarray, rules: Rules) -> tuple:
    """What the compiled moves need of the rules: (free classes, (weights, budgets, blocks, template,
    max_run, any of both), fixed words).
    """
    state = np.where(template == 1, 1, 0).astype(np.int64)
    extras = (problem.weights, problem.at_least, problem.blocks, state, rules.max_run, rules.local)
    return problem.need[problem.klass] < 0, extras, pack(template == 1)[0]


def insert_states(pool: Pool, problem: Reduced, template: np.ndarray, x: np.ndarray, slack: float) -> None:
    """Put the rows of x bool [k, N] that agree with `template` into the pool; they must be feasible."""
    for row in x[((template < 0) | (x == (template == 1))).all(axis=1)]:
        y = row[problem.blocks].astype(np.float64)
        pool_insert(pool, problem.constant + problem.c @ y + y @ problem.Q @ y, pack(row)[0], slack)


def improve(
    pool: Pool,
    problem: Reduced,
    template: np.ndarray,
    rules: Rules,
    slack: float,
    rounds: int,
    patience: int = 2,
    seed: int = 0,
    deadline: float = math.inf,
) -> None:
    """Anneal from random states, kick those of the pool, close it under swaps; until `patience` rounds bring
    nothing new.

    With a budget or a run limit random states are rarely feasible: there the pool must hold a state.
    """
    if len(problem.blocks) == 0 or (rules.local and pool.size[0] == 0):
        return
    quiet, before = 0, math.inf
    for round_ in range(seed, seed + rounds):
        for piece, _ in enumerate(_round(pool, problem, template, rules, slack, round_)):
            if time.perf_counter() > deadline and (round_ > seed or piece >= _AT_LEAST):
                return
        now = float(pool.energies[: pool.size[0]].sum())
        quiet = quiet + 1 if now == before else 0
        before = now
        if quiet == patience:
            break


def _round(
    pool: Pool, problem: Reduced, template: np.ndarray, rules: Rules, slack: float, seed: int
) -> Iterator[None]:
    """One round of `improve`, in pieces of some milliseconds so that a time limit is kept."""
    n = len(problem.blocks)
    free, extras, base = _open_form(problem, template, rules)
    energy = (problem.Q, problem.c, problem.constant, problem.klass)
    starts = np.zeros((0, n), np.int64)
    if rules.local:
        starts = pool_states(pool, len(template))[:, problem.blocks].astype(np.int64)
    for part in range(2):
        _anneal(*energy, problem.need, free, extras, base, starts, 60, 1, 2 * seed + part, slack, pool)
        yield
    for part in range(4):
        _kick(*energy, free, extras, base, 16, 4 * seed + part, slack, pool)
        yield
    left, piece, done = 4 * len(pool.energies), max(1, 2**20 // n**2), math.inf
    while left > 0 and done >= piece:
        done = _close(*energy, free, extras, base, min(left, piece), slack, pool)
        left -= int(done)
        yield
