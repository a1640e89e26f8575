"""Low states by chance: simulated annealing at fixed counts, then the closure of the best under single swaps.

Seeded and without proof. The exact search starts from it; beyond the reach of the
search it is what remains.
"""

import math
import time

import numpy as np
from numba import njit

from core.pool import Pool, pack, pool_insert, pool_limit
from core.relaxation import Reduced


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
    """Whether x (in the open blocks) keeps the budget and the run limit; `template` holds the fixed blocks."""
    if at_least > -np.inf:
        total = 0.0
        for i in range(len(x)):
            if x[i]:
                total += weights[i]
        if total < at_least:
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
def _anneal(Q, c, constant, klass, need, free, extras, base, starts, sweeps, restarts, seed, slack, pool):
    """Anneal `restarts` times, from random states (or from rows of `starts` when there is a budget or a run limit)."""
    weights, at_least, blocks, template, max_run, local = extras
    n = len(c)
    np.random.seed(seed)
    x, h = np.zeros(n, np.int64), np.empty(n)
    words = np.zeros(len(base), np.uint64)
    for _ in range(restarts):
        if local:
            x[:] = starts[np.random.randint(len(starts))]
        else:
            _random_state(klass, need, x)
        energy = _fields(Q, c, x, h)
        hot = cold = 0.0
        # moves uphill at random places set the scale of the temperature
        sizes = np.empty(64)
        for s in range(64):
            i, j = np.random.randint(n), np.random.randint(n)
            sizes[s] = abs(h[i]) if free[i] else abs(h[i] - h[j])
        sizes.sort()
        hot, cold = max(sizes[32], 1e-300), max(sizes[32] * 1e-3, 1e-300)
        cool = (cold / hot) ** (1.0 / max(1, sweeps - 1))
        temperature = hot
        for sweep in range(sweeps + 1):
            final = sweep == sweeps
            moved = True
            while moved:
                moved = False
                for step in range(n):
                    i = step if final else np.random.randint(n)
                    if free[i] and (final or np.random.random() < 0.5):
                        change = h[i] if x[i] == 0 else -h[i]
                        if change < -slack if final else (change <= 0 or np.random.random() < math.exp(-change / temperature)):
                            _flip(Q, x, h, i)
                            if local and not _allowed(x, weights, at_least, blocks, template, max_run):
                                _flip(Q, x, h, i)
                            else:
                                energy += change
                                moved = True
                        continue
                    if final:  # the best partner
                        j, change = -1, -slack
                        for t in range(n):
                            if klass[t] == klass[i] and x[t] != x[i]:
                                d = (h[t] - h[i] if x[i] else h[i] - h[t]) - 2 * Q[i, t]
                                if d < change:
                                    x[i], x[t] = x[t], x[i]
                                    fits = not local or _allowed(x, weights, at_least, blocks, template, max_run)
                                    x[i], x[t] = x[t], x[i]
                                    if fits:
                                        j, change = t, d
                        if j < 0:
                            continue
                    else:
                        j = np.random.randint(n)
                        if klass[j] != klass[i] or x[j] == x[i]:
                            continue
                        change = (h[j] - h[i] if x[i] else h[i] - h[j]) - 2 * Q[i, j]
                        if change > 0 and np.random.random() >= math.exp(-change / temperature):
                            continue
                    _flip(Q, x, h, i)
                    _flip(Q, x, h, j)
                    if local and not final and not _allowed(x, weights, at_least, blocks, template, max_run):
                        _flip(Q, x, h, i)
                        _flip(Q, x, h, j)
                        continue
                    energy += change
                    moved = True
                if not final:
                    break
            temperature *= cool
        _words(x, blocks, base, words)
        pool_insert(pool, constant + _fields(Q, c, x, h), words, slack)


@njit(cache=True, nogil=True)
def _close(Q, c, constant, klass, free, extras, base, limit, slack, pool):
    """Insert every state that one swap (or flip in a free class) makes from a state of the pool, until nothing enters."""
    weights, at_least, blocks, template, max_run, local = extras
    n = len(c)
    energies, rows, size = pool
    x, h = np.zeros(n, np.int64), np.empty(n)
    words = np.zeros(len(base), np.uint64)
    known = np.zeros(len(energies), np.bool_)  # which places of the pool are expanded; follows the insertions
    expanded = 0
    at = 0
    while at < size[0] and expanded < limit:
        if known[at]:
            at += 1
            continue
        known[at] = True
        expanded += 1
        for i in range(n):
            x[i] = np.int64((rows[at, blocks[i] >> 6] >> np.uint64(blocks[i] & 63)) & np.uint64(1))
        energy = constant + _fields(Q, c, x, h)
        first = at + 1
        for i in range(n):
            if free[i]:
                change = h[i] if x[i] == 0 else -h[i]
                if energy + change < pool_limit(pool) - slack:
                    x[i] = 1 - x[i]
                    if not local or _allowed(x, weights, at_least, blocks, template, max_run):
                        _words(x, blocks, base, words)
                        place = pool_insert(pool, energy + change, words, slack)
                        if place >= 0:
                            for p in range(len(known) - 1, place, -1):
                                known[p] = known[p - 1]
                            known[place] = False
                            first = min(first, place)
                    x[i] = 1 - x[i]
            if x[i] == 0:
                continue
            for j in range(n):
                if x[j] or klass[j] != klass[i]:
                    continue
                change = h[j] - h[i] - 2 * Q[i, j]
                if energy + change < pool_limit(pool) - slack:
                    x[i], x[j] = 0, 1
                    if not local or _allowed(x, weights, at_least, blocks, template, max_run):
                        _words(x, blocks, base, words)
                        place = pool_insert(pool, energy + change, words, slack)
                        if place >= 0:
                            for p in range(len(known) - 1, place, -1):
                                known[p] = known[p - 1]
                            known[place] = False
                            first = min(first, place)
                    x[i], x[j] = 1, 0
        at = first
    return expanded


def _open_form(problem: Reduced, template: np.ndarray, rules) -> tuple:
    """What the compiled moves need of the rules: (free classes, (weights, budget, blocks, template, max_run, any of both), fixed words)."""
    budget = rules.at_least - float(rules.weights[template == 1].sum())
    state = np.where(template == 1, 1, 0).astype(np.int64)
    extras = (rules.weights[problem.blocks], budget, problem.blocks, state, rules.max_run, rules.local)
    return problem.need[problem.klass] < 0, extras, pack(template == 1)[0]


def warm_start(pool: Pool, problem: Reduced, template: np.ndarray, rules, slack: float, seeds: np.ndarray | None = None) -> None:
    """Fill `pool` with low states: `seeds` bool [k, N] and what annealing finds, closed under swaps."""
    free, extras, base = _open_form(problem, template, rules)
    n = len(problem.blocks)
    if seeds is not None:
        for x in seeds:
            insert_state(pool, problem, template, x, slack)
    if n and not rules.local:
        before = math.inf
        for round_ in range(12):
            _anneal(problem.Q, problem.c, problem.constant, problem.klass, problem.need, free, extras, base, np.zeros((1, n), np.int64), 30, 8, round_, slack, pool)
            _close(problem.Q, problem.c, problem.constant, problem.klass, free, extras, base, 4 * len(pool[0]), slack, pool)
            now = float(pool[0][: pool[2][0]].sum())
            if round_ >= 2 and now == before:
                break
            before = now
