"""A convex bound on E over exact counts, and its nested form for a tree search.

Feasible states satisfy x_i^2 = x_i and, per class, sum x = need. So
E(x) = x^T Q x + c.x may be read as x^T (Q + diag u) x + (c - u).x for any u; `tighten`
chooses the u whose continuous minimum is highest. This is the dual of the semidefinite
relaxation of max-cut with linear equations (Poljak, Rendl and Wolkowicz 1995; Billionnet
and Elloumi 2007), solved here by an interior-point method (Helmberg, Rendl, Vanderbei and Wolkowicz 1996).
A budget, w.x at least W, enters with a price: E(x) - price (w.x - W) is no higher than E on every state that
keeps it, and `tighten` finds the prices as well (Lagrangian relaxation). `nest` writes the result as
bound + sum_k (R_k . x - b_k)^2 with R lower triangular, as in sphere decoding: every prefix of the sum bounds
all completions of a partial choice.
"""

import math
import time
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

_EPS = np.finfo(np.float64).eps


@dataclass(frozen=True)
class Reduced:
    """E over the open blocks only: x^T Q x + c.x + constant, with `need` of each class removed (-1: any
    number), and of each budget at least so much.
    """

    blocks: np.ndarray  # int64 [n]: block of each variable
    Q: np.ndarray  # float64 [n, n], zero diagonal
    c: np.ndarray  # float64 [n]
    constant: float
    klass: np.ndarray  # int64 [n]
    need: np.ndarray  # int64 [C]
    weights: np.ndarray  # float64 [B, n]
    at_least: np.ndarray  # float64 [B]

    def priced(self, price: np.ndarray) -> "Reduced":
        """What budgets cost at prices float64 [B], not negative, on top of E: nowhere higher than E."""
        if not len(price):
            return self
        c, constant = self.c - price @ self.weights, self.constant + float(price @ self.at_least)
        return replace(self, c=c, constant=constant)

    def fix(self, value: np.ndarray) -> tuple["Reduced", np.ndarray] | None:
        """The problem left when value int8 [n] (-1: open) is fixed, and value with what its classes then
        decide.

        None when a class cannot have its number any more, or a budget is out of reach.
        """
        value = value.copy()
        need = self.need.copy()
        for k in np.flatnonzero(need >= 0):
            own = self.klass == k
            need[k] -= int((value[own] == 1).sum())
            open_ = own & (value < 0)
            if not 0 <= need[k] <= open_.sum():
                return None
            if need[k] == 0 or need[k] == open_.sum():
                value[open_] = need[k] > 0
                need[k] = 0
        one, open_ = value == 1, value < 0
        at_least = self.at_least - self.weights[:, one].sum(axis=1)
        if (self.weights[:, open_].sum(axis=1) < at_least).any():
            return None
        smaller = Reduced(
            self.blocks[open_],
            np.ascontiguousarray(self.Q[np.ix_(open_, open_)]),
            self.c[open_] + 2 * self.Q[np.ix_(open_, one)].sum(axis=1),
            self.constant + float(self.c[one].sum() + self.Q[np.ix_(one, one)].sum()),
            self.klass[open_],
            need,
            np.ascontiguousarray(self.weights[:, open_]),
            at_least,
        )
        return smaller, value


@dataclass(frozen=True)
class Shift:
    """What is added to E so that its continuous minimum rises, and no feasible state's energy."""

    u: np.ndarray  # float64 [n]: of the diagonal
    price: np.ndarray  # float64 [B]: of the budgets, not negative

    def among(self, kept: np.ndarray) -> "Shift":
        """For those variables only, bool [n]."""
        return replace(self, u=self.u[kept])


@dataclass(frozen=True)
class Relaxation:
    """The tightened form at its continuous minimum."""

    bound: float  # no feasible state lies below
    shift: Shift
    mean: np.ndarray  # float64 [n]: where the minimum is
    covariance: np.ndarray  # float64 [n, n]: inverse curvature within the equations
    converged: bool  # False: left early, because variables seem decided


def tighten(
    problem: Reduced,
    target: float,
    close: float,
    share: float = 0.02,
    early: bool = True,
    start: Shift | None = None,
    deadline: float = math.inf,
) -> Relaxation:
    """The highest continuous bound, up to `share` of its distance to `target` or up to `close`, or what is
    reached of it by `deadline` (of time.perf_counter).

    With `early`, ends before that when the bound already decides many variables for states
    below `target`, or those of the largest couplings. start: a shift to begin with, as returned for a
    problem with fewer fixed blocks.
    """
    n = len(problem.c)
    spins = _spins(problem)
    W, d, scale = spins.W, spins.d, spins.scale
    target = target - spins.shift
    y = _first_shift(problem, spins, start)
    price = y[n + 1 :]  # a view: the prices are the last of y
    Z = spins.slack(y)
    before = y
    # feasible: X meets its equations, as it does after one full step; spare: what is left above each budget
    X, spare, feasible, converged = None, price, False, True
    for _ in range(100 if len(price) else 60):  # about fifteen are needed, with budgets forty
        try:
            inverse = np.linalg.inv(Z)
        except np.linalg.LinAlgError:  # at the limit of the arithmetic: the point before is as good
            y = before
            if X is None:  # at once: couplings of zero
                G = W @ np.linalg.pinv(Z) @ W.T
            break
        inverse = (inverse + inverse.T) / 2
        G = W @ inverse @ W.T
        diagonal = np.diag(G)
        if X is None:
            mu = float((d[: n + 1] / diagonal).mean())
            X, spare = inverse * mu, mu / price
        gap = float((X * Z).sum() + spare @ price)
        bound = float(-(d @ y))
        below = target - bound if np.isfinite(target) else 1e-3 * scale
        if feasible and gap <= max(share * below, close, 1e-13 * scale):
            break
        if early and np.isfinite(target) and _decides_enough(G, below, spins):
            converged = False
            break
        if time.perf_counter() > deadline:
            break
        mu = gap / (2 * (len(Z) + len(price)))
        hessian, towards = _newton(G, W @ X @ W.T, spins.budgets)
        own = np.arange(n + 1, len(y))
        hessian[own, own] += spare / price
        towards[own] += 1 / price
        try:
            step = np.linalg.solve(hessian, mu * towards - d)
        except np.linalg.LinAlgError:
            break
        dZ = spins.slack(step) - spins.Z
        dX = X @ dZ @ inverse
        dX = mu * inverse - X - (dX + dX.T) / 2
        more = mu / price - spare - spare / price * step[n + 1 :]
        length = min(_length(X, dX), _reach(spare, more))
        feasible |= length == 1.0
        X, spare = X + length * dX, spare + length * more
        length = min(_length(Z, dZ), _reach(price, step[n + 1 :]))
        if length == 0.0:  # at the limit of the arithmetic
            break
        before, y = y, y + length * step
        price = y[n + 1 :]
        Z = spins.slack(y)
    covariance = G[:n, :n] - np.outer(G[:n, n], G[n, :n]) / G[n, n]
    bound = float(spins.shift - d @ y + 1 / G[n, n])
    shift = Shift(y[:n], y[n + 1 :])
    return Relaxation(bound, shift, 0.5 + G[:n, n] / G[n, n], covariance, converged)


def _newton(G: np.ndarray, X: np.ndarray, budgets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(matrix, right side) of the Newton step for y without the prices' own barrier.

    G, X: float64 [n + 1, n + 1], the inverse slack and the primal point over the spins; budgets: float64
    [B, n + 1]. What y_i multiplies is E_ii, or of a budget w the matrix -(w e^T + e w^T) / 2, e the last
    spin.
    """
    size, (g, x) = len(G), (budgets @ G, budgets @ X)
    hessian = np.empty((size + len(budgets),) * 2)
    hessian[:size, :size] = G * X
    hessian[np.diag_indices(size)] *= 1 + 1e-11  # two blocks of a class of two are one variable
    hessian[size:, :size] = -(x * G[-1] + g * X[-1]) / 2
    hessian[:size, size:] = hessian[size:, :size].T
    mixed = np.outer(x[:, -1], g[:, -1])
    hessian[size:, size:] = (mixed + mixed.T + X[-1, -1] * (g @ budgets.T) + G[-1, -1] * (x @ budgets.T)) / 4
    return hessian, np.concatenate([np.diag(G), -g[:, -1]])


@dataclass(frozen=True)
class _Spins:
    """The problem in spins s = x - 1/2 and a last one that is 1, as functions of what the equations leave
    free.
    """

    W: np.ndarray  # float64 [n + 1, size]: s as a function of (1, z)
    couplings: np.ndarray  # float64 [n + 1, n + 1]
    Z: np.ndarray  # float64 [size, size]: the couplings over (1, z)
    shift: float  # kept apart: it may dwarf the couplings
    d: np.ndarray  # float64 [n + 1 + B]: the bound is shift - d.y over y = (u, -t, prices)
    budgets: np.ndarray  # float64 [B, n + 1]: the weights, and 0 for the last spin

    @cached_property
    def sizes(self) -> np.ndarray:
        """float64 [n]: the largest coupling of each variable."""
        return np.abs(self.couplings[:-1]).max(axis=1)

    @cached_property
    def scale(self) -> float:
        return float(self.sizes.max()) or 1e-40

    def slack(self, y: np.ndarray) -> np.ndarray:
        """float64 [size, size]: the matrix that y must leave positive definite."""
        size = len(self.W)
        Z = self.Z + (self.W.T * y[:size]) @ self.W
        if len(y) > size:  # a budget pulls at the last spin, which is the first of (1, z)
            pull = y[size:] @ self.budgets @ self.W / 2
            Z[0] -= pull
            Z[:, 0] -= pull
        return Z


def _spins(problem: Reduced) -> _Spins:
    Q, n = problem.Q, len(problem.c)
    classes = [k for k in np.unique(problem.klass) if problem.need[k] >= 0]
    members = np.zeros((n, len(classes)))
    start = np.full(n, 0.5)
    for j, k in enumerate(classes):
        own = problem.klass == k
        members[own, j] = 1
        start[own] = problem.need[k] / own.sum()
    basis = np.linalg.qr(members, mode="complete")[0][:, len(classes) :] if classes else np.eye(n)
    W = np.zeros((n + 1, basis.shape[1] + 1))
    W[:n, 0], W[:n, 1:], W[n, 0] = start - 0.5, basis, 1.0
    spin = np.zeros((n + 1, n + 1))
    spin[:n, :n] = Q
    spin[:n, n] = spin[n, :n] = (problem.c + Q.sum(axis=1)) / 2
    shift = problem.constant + Q.sum() / 4 + problem.c.sum() / 2
    d = np.concatenate([np.full(n, 0.25), [1.0], problem.weights.sum(axis=1) / 2 - problem.at_least])
    return _Spins(W, spin, W.T @ spin @ W, shift, d, np.pad(problem.weights, ((0, 0), (0, 1))))


def _first_shift(problem: Reduced, spins: _Spins, start: Shift | None) -> np.ndarray:
    """float64 [n + 1 + B]: y to start from, with a positive definite slack and prices above 0."""
    Q, n, scale = problem.Q, len(problem.c), spins.scale
    y = np.zeros(len(spins.d))
    usual = float(np.median(spins.sizes)) or 1e-6 * scale
    y[n + 1 :] = usual if start is None else np.maximum(start.price, 1e-6 * usual)
    pull = 2 * spins.couplings[:n, n] - y[n + 1 :] @ problem.weights
    tied = problem.need[problem.klass] >= 0
    pull[tied] -= np.median(pull[tied]) if tied.any() else 0.0
    y[:n] = (np.abs(Q).sum(axis=1) + np.abs(pull) + 1e-3 * scale) if start is None else start.u
    Z = spins.slack(y)
    # the corner above its Schur complement
    y[n] = 0.1 * scale - (Z[0, 0] - Z[0, 1:] @ np.linalg.solve(Z[1:, 1:], Z[1:, 0]))
    return y


def _decides_enough(G: np.ndarray, below: float, spins: _Spins) -> bool:
    """Whether states at most `below` above the bound have one value only in many variables, or in those of
    the largest couplings; G: float64 [n + 1, n + 1], the inverse slack over the spins.
    """
    n = len(G) - 1
    far = np.maximum(np.abs(0.5 + G[:n, n] / G[n, n]), np.abs(0.5 - G[:n, n] / G[n, n]))
    variance = np.diag(G)[:n] - G[:n, n] ** 2 / G[n, n]
    fixable = 0.98 * far**2 > (below - 1 / G[n, n]) * variance
    if fixable.sum() > 0.1 * n:
        return True
    return bool(fixable.any() and (fixable.all() or spins.sizes[~fixable].max() < 0.3 * spins.scale))


def _length(A: np.ndarray, step: np.ndarray) -> float:
    """How far to go from A, positive definite, along `step` so that it stays so: 1 at most."""
    length = 1.0
    while length > 1e-8:
        try:
            np.linalg.cholesky(A + length * step)
            return length if length == 1.0 else 0.95 * length
        except np.linalg.LinAlgError:
            length *= 0.8
    return 0.0


def _reach(a: np.ndarray, step: np.ndarray) -> float:
    """How far to go from a, all above 0, along `step` so that it stays so: 1 at most."""
    furthest = min((-a[step < 0] / step[step < 0]).tolist(), default=np.inf)
    return 1.0 if furthest > 1.0 else 0.95 * furthest


def branching_order(problem: Reduced, relaxation: Relaxation) -> np.ndarray:
    """int64 [n]: variables whose fixing raises the bound most come first."""
    n = len(problem.c)
    C = relaxation.covariance.copy()
    open_ = np.ones(n, dtype=bool)
    left = np.array([(problem.klass == k).sum() for k in range(len(problem.need))])
    tied = problem.need[problem.klass] >= 0
    order: list[int] = []
    while open_.any():
        # the last of a class is decided by the others and raises nothing
        candidates = open_ & ~(tied & (left[problem.klass] == 1))
        if not candidates.any():
            order.extend(np.flatnonzero(open_).tolist())
            break
        variance = np.where(candidates, np.maximum(np.diag(C), 1e-300), np.inf)
        i = int(np.argmin(variance))
        order.append(i)
        open_[i] = False
        left[problem.klass[i]] -= 1
        if variance[i] > 1e-280:  # else nothing is left to vary
            C = C - np.outer(C[:, i], C[i]) / variance[i]
        if tied[i] and left[problem.klass[i]] == 1:  # decided now, so no reason to wait
            last = int(np.flatnonzero(open_ & (problem.klass == problem.klass[i]))[0])
            order.append(last)
            open_[last] = False
    return np.array(order, dtype=np.int64)


@dataclass(frozen=True)
class Nested:
    """E = bound + sum_k (R_k .

    x - b_k)^2 over x in `order`, up to `rounding`; rows of decided variables are zero.
    """

    order: np.ndarray  # int64 [n]
    R: np.ndarray  # float64 [n, n], lower triangular
    b: np.ndarray  # float64 [n]
    bound: float
    rounding: float  # covers float64 rounding of every partial sum below the target


def nest(problem: Reduced, shift: Shift, order: np.ndarray, target: float) -> Nested:
    """The nested form for a shift that makes the problem convex within its equations."""
    u, n, problem = shift.u, len(order), problem.priced(shift.price)
    klass = problem.klass[order]
    S, p = np.eye(n), np.zeros(n)
    kept = np.ones(n, dtype=bool)
    for k in np.unique(klass):
        if problem.need[k] >= 0:  # the last of a class is need - the others
            own = np.flatnonzero(klass == k)
            S[own[-1], own] = -1.0
            p[own[-1]] = problem.need[k]
            kept[own[-1]] = False
    S = S[:, kept]
    Q = problem.Q[np.ix_(order, order)]
    extra = 0.0
    while True:
        lift = u[order] + extra
        A = Q + np.diag(lift)
        linear = problem.c[order] - lift
        a = S.T @ (linear + 2 * (A @ p))
        constant = problem.constant + linear @ p + p @ A @ p
        A = S.T @ A @ S
        try:
            U = np.linalg.cholesky(A[::-1, ::-1])[::-1, ::-1]
            break
        except np.linalg.LinAlgError:  # convex only up to rounding
            extra = max(
                4 * extra, 1e-13 * max(float(np.abs(problem.Q).max()), float(np.abs(u).max()), 1e-300)
            )
    T = U.T
    b = np.linalg.solve(T.T, a) * -0.5 if len(a) else a
    bound = float(constant - b @ b)
    residual = float(np.abs(A - T.T @ T).sum() + np.abs(a + 2 * T.T @ b).sum())
    reach = (
        np.sqrt(max(target - bound, 0.0)) if np.isfinite(target) else float(np.abs(T).sum() + np.abs(b).sum())
    )
    rows = float((np.abs(T).sum(axis=1) + np.abs(b)).sum())
    sums = abs(constant) + b @ b + np.abs(problem.Q).sum() + np.abs(problem.c).sum() + 2 * np.abs(u).sum()
    R, full = np.zeros((n, n)), np.zeros(n)
    R[np.ix_(kept, kept)], full[kept] = T, b
    return Nested(order, R, full, bound, 2 * residual + 4 * _EPS * n * reach * rows + 16 * _EPS * sums)


def root_bound(problem: Reduced, target: float, close: float, deadline: float = math.inf) -> float:
    """An energy below which no feasible state lies: the bound, as far as it is tightened by `deadline`, less
    its rounding.
    """
    if not len(problem.blocks):
        return problem.constant
    relaxation = tighten(problem, target, close, early=False, deadline=deadline)
    nested = nest(problem, relaxation.shift, np.arange(len(problem.blocks)), target)
    return nested.bound - nested.rounding
