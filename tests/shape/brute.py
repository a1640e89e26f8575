"""The same figures the slow way: all states, all pairs, definitions word by word."""

import itertools

import numpy as np

from core.ising.energies import energies
from core.spectrum.constraints import make_rules
from core.spectrum.lowest import levels, tie_tolerance


def kinds(n: int, seed: int) -> dict[str, np.ndarray]:
    """Matrices of every kind: random, like a language model's, duplicated blocks, integers, zero."""
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(3 * n, n))
    near = np.exp(-np.abs(np.subtract.outer(np.arange(n), np.arange(n))) / 3)
    scale = np.exp(rng.normal(size=n))
    scale[[0, -1]] *= 10
    twice = A[:, np.arange(n) // 2]
    integer = rng.integers(-2, 3, size=(n, n))
    return {
        "random": A.T @ A / len(A),
        "indefinite": (lambda B: B + B.T)(rng.normal(size=(n, n))),
        "like a model": near * np.outer(scale, scale),
        "duplicated": twice.T @ twice / len(A),
        "integer": (integer + integer.T).astype(float),
        "zero": np.zeros((n, n)),
    }


class Brute:
    """All states of M of n units under a swap (or shift by one), their levels and what follows."""

    def __init__(self, H, m: int | None, move: str = "swap", allowed=lambda state: True, tolerance=None):
        """m None: any number of units, of which one may also come or go alone; tolerance: the width of a
        level, None: that of M alone.
        """
        n = len(H)
        sizes = range(n + 1) if m is None else [m]
        states = [s for k in sizes for s in itertools.combinations(range(n), k) if allowed(s)]
        x = np.array([[i in s for i in range(n)] for s in states])
        e = energies(H, x)
        level = levels(e, tie_tolerance(H, make_rules(None, n, m)) if tolerance is None else tolerance)
        order = sorted(range(len(states)), key=lambda k: (level[k], states[k]))
        self.states = [states[k] for k in order]
        self.e, self.level = e[order], level[order]
        self.number = {s: k for k, s in enumerate(self.states)}
        self.near = [
            sorted(
                self.number[t]
                for i, j in itertools.product(s, range(n))
                if j not in s and (move == "swap" or abs(i - j) == 1)
                for t in [tuple(sorted({*s, j} - {i}))]
                if t in self.number
            )
            for s in self.states
        ]
        if m is None:
            for k, s in enumerate(self.states):
                alone = [tuple(sorted({*s} ^ {j})) for j in range(n)]
                self.near[k] = sorted({*self.near[k], *(self.number[t] for t in alone if t in self.number)})

    def plateau(self, k: int) -> set[int]:
        """The states of the level that moves within it join with state k."""
        found, front = {k}, [k]
        while front:
            here = front.pop()
            for j in self.near[here]:
                if self.level[j] == self.level[k] and j not in found:
                    found.add(j)
                    front.append(j)
        return found

    def minima(self) -> list[int]:
        """The first state of every plateau that nothing leads down from."""
        found = []
        for k in range(len(self.states)):
            own = self.plateau(k)
            lower = any(self.level[j] < self.level[k] for i in own for j in self.near[i])
            if k == min(own) and not lower:
                found.append(k)
        return found

    def descent(self, k: int) -> int:
        """The minimum that state k drains into."""
        lower = [j for j in self.near[k] if self.level[j] < self.level[k]]
        if lower:
            return self.descent(min(lower))
        own = self.plateau(k)
        exits = [j for i in own for j in self.near[i] if self.level[j] < self.level[k]]
        return self.descent(min(exits)) if exits else min(own)

    def barrier(self, a: int, b: int) -> int:
        """The lowest level up to which moves join two states; the number of levels: never."""
        for top in range(max(self.level[a], self.level[b]), int(self.level.max()) + 1):
            seen, front = {a}, [a]
            while front:
                here = front.pop()
                for j in self.near[here]:
                    if self.level[j] <= top and j not in seen:
                        seen.add(j)
                        front.append(j)
            if b in seen:
                return top
        return int(self.level.max()) + 1
