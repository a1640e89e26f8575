"""The compiled walk through the tree of partial choices; core.spectrum.branch_and_bound says which subtree is
walked when.

Variables are the open blocks in the order of the nested form (core.spectrum.relaxation): a node at depth k
has decided the first k of them, and the first k squares of the form bound all that lies below it.
"""

import numpy as np
from numba import njit

from core.spectrum.kbest import pool_insert, pool_limit

_FASTMATH = {"reassoc", "contract", "nsz"}  # sums in any order; infinities stay


@njit(cache=True, nogil=True, fastmath=_FASTMATH)
def _dot(row, x, k):
    total = 0.0
    for j in range(k):
        total += row[j] * x[j]
    return total


@njit(cache=True, nogil=True)
def _run_fits(state, block, max_run):
    """Whether removing `block` keeps its run of removed blocks (state 1) within `max_run`."""
    run = 1
    i = block - 1
    while i >= 0 and state[i] == 1:
        run += 1
        i -= 1
    i = block + 1
    while i < len(state) and state[i] == 1:
        run += 1
        i += 1
    return run <= max_run


@njit(cache=True, nogil=True)
def _capacity(state, max_run):
    """The most blocks that can be removed in all when blocks with state 0 stay."""
    most = length = 0
    for value in state:
        if value == 0:
            most += length - length // (max_run + 1)
            length = 0
        else:
            length += 1
    return most + length - length // (max_run + 1)


@njit(cache=True, nogil=True, fastmath=_FASTMATH)
def _energy(exact, x, bits):
    """The energy of a full choice, from the couplings themselves; `bits` becomes x as integers."""
    Q, c, energy = exact
    n = len(c)
    for i in range(n):
        bits[i] = np.int64(x[i])
    for i in range(n):
        if bits[i]:
            energy += c[i]
            for j in range(i):
                if bits[j]:
                    energy += 2 * Q[i, j]
    return energy


@njit(cache=True, nogil=True)
def _pack(bits, blocks, base, words):
    """`words` becomes the state: the fixed blocks of `base`, and the open ones whose bit is set."""
    for w in range(len(words)):
        words[w] = base[w]
    for i in range(len(bits)):
        if bits[i]:
            words[blocks[i] >> 6] |= np.uint64(1) << np.uint64(blocks[i] & 63)


@njit(cache=True, nogil=True, fastmath=_FASTMATH)
def walk(form, exact, prefix, bound, threshold, slack, budget, pool, x, other):
    """Walk the subtree below `prefix` (values of the first variables) depth first.

    Returns (nodes, depth): depth -1 when the subtree is done, else the depth at which the
    budget ended; then x[:depth] is the path, `other[k]` for k < depth the bound of the
    sibling of x[k] that is still open (inf: none), and other[depth] the bound of the node itself.
    States below the threshold go to `pool`. The rules are looked at in here, long as it is: as a compiled
    function of their own they cost a third of the speed.
    """
    (
        R,
        b,
        root,
        rounding,
        klass,
        need,
        blocks,
        base,
        local,
        weights,
        at_least,
        heaviest,
        template,
        max_run,
        least,
    ) = form
    n = len(b)
    acc = np.empty(n + 1)  # bound of the node at each depth, above `root`
    need, left = need.copy(), np.zeros(len(need), np.int64)
    for k in range(n):
        left[klass[k]] += 1
    state = template.copy()  # by block: 1 removed, 0 stays, -1 open
    weight = np.zeros((len(at_least), n + 1))  # of each budget, of the path
    words = np.zeros(len(base), np.uint64)
    bits = np.zeros(n, np.int64)
    depth0 = len(prefix)
    acc[0] = 0.0
    for k in range(depth0):
        x[k] = prefix[k]
        other[k] = np.inf
        acc[k + 1] = acc[k] + (_dot(R[k], x, k + 1) - b[k]) ** 2
        left[klass[k]] -= 1
        if need[klass[k]] >= 0:
            need[klass[k]] -= np.int64(x[k])
        state[blocks[k]] = np.int8(x[k])
        for q in range(len(at_least)):
            weight[q, k + 1] = weight[q, k] + x[k] * weights[q, k]
    nodes = 0
    k = depth0
    entering = True
    own = pool_limit(pool)  # a pool that fills up lowers the threshold as well
    while True:
        limit = min(threshold[0], own)  # other threads lower the threshold
        cut = limit - slack + rounding - root
        if entering:
            nodes += 1
            if (nodes > budget or threshold[1] != 0.0) and k < n:
                other[k] = acc[k]
                return nodes, k
            if k == n:
                energy = _energy(exact, x, bits)
                fits = True
                for q in range(len(at_least)):
                    fits &= weight[q, n] >= at_least[q]
                if fits and energy < limit - slack:
                    _pack(bits, blocks, base, words)
                    pool_insert(pool, energy, words, 0.0)
                    own = pool_limit(pool)
                entering = False
                continue
            s = _dot(R[k], x, k) - b[k]
            g = klass[k]
            zero, one = acc[k] + s * s, acc[k] + (s + R[k, k]) ** 2
            if need[g] >= 0:
                if need[g] == 0:
                    one = np.inf
                if need[g] == left[g]:
                    zero = np.inf
            if local:
                if one < cut and max_run < len(state) and not _run_fits(state, blocks[k], max_run):
                    one = np.inf
                if zero < cut and max_run < len(state):
                    state[blocks[k]] = 0
                    if _capacity(state, max_run) < least:
                        zero = np.inf
                    state[blocks[k]] = -1
                for q in range(len(at_least)):
                    reach = weight[q, k]
                    for r in range(len(need)):
                        if r != g:
                            reach += heaviest[q, k + 1, r, need[r] if need[r] >= 0 else n]
                    most = need[g] if need[g] >= 0 else n
                    if one < cut:  # then most > 0
                        behind = heaviest[q, k + 1, g, most - 1 if need[g] >= 0 else n]
                        if reach + weights[q, k] + behind < at_least[q]:
                            one = np.inf
                    if zero < cut and reach + heaviest[q, k + 1, g, most] < at_least[q]:
                        zero = np.inf
            x[k] = 0.0 if zero <= one else 1.0
            acc[k + 1], other[k] = min(zero, one), max(zero, one)
            if acc[k + 1] >= cut:
                other[k] = np.inf
                entering = False
                continue
        else:
            # back to the deepest node whose sibling is open
            k -= 1
            if k < depth0:
                return nodes, -1
            left[klass[k]] += 1
            if need[klass[k]] >= 0:
                need[klass[k]] += np.int64(x[k])
            state[blocks[k]] = -1
            if other[k] >= cut:
                continue
            x[k] = 1.0 - x[k]
            acc[k + 1] = other[k]
            other[k] = np.inf
            entering = True
        left[klass[k]] -= 1
        if need[klass[k]] >= 0:
            need[klass[k]] -= np.int64(x[k])
        state[blocks[k]] = np.int8(x[k])
        for q in range(len(at_least)):
            weight[q, k + 1] = weight[q, k] + x[k] * weights[q, k]
        k += 1


@njit(cache=True, nogil=True)
def merge(pool, found, slack):
    """Insert the states of `found` into `pool`."""
    for i in range(found.size[0]):
        pool_insert(pool, found.energies[i], found.words[i], slack)
