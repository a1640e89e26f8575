"""Budgets as whole numbers of units allow them.

Units of a kind weigh the same, so what goes of one or two kinds is one or two whole numbers, and only some
of those meet all budgets. The hull of these asks for more than the budgets between whole numbers, and for the
same of whole ones: "12 attentions and 21.2 M weights", of .88 M and 2.65 M each, is also "17 units".
"""

import numpy as np


def sharpened(weights: np.ndarray, at_least: np.ndarray, fixed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(weights float64 [B', N], at_least float64 [B']) that the same choices keep: the edges of the hull,
    where units weigh in one or two ways; else the budgets as they are.

    weights: float64 [B, N]; at_least: float64 [B]; fixed: int8 [N], 0 stays, 1 goes, -1 open.
    """
    kinds, kind = np.unique(weights, axis=1, return_inverse=True)  # [B, T], [N]
    heavy = np.flatnonzero(kinds.any(axis=0))
    if not 1 <= len(heavy) <= 2:
        return weights, at_least
    of = [(kind == k) for k in heavy]
    first, second = of[0], of[-1] if len(of) == 2 else np.zeros(len(fixed), bool)
    other = kinds[:, heavy[-1]] if len(of) == 2 else np.zeros(len(kinds))
    a = np.arange((fixed[first] == 1).sum(), (fixed[first] != 0).sum() + 1)
    b = np.arange((fixed[second] == 1).sum(), (fixed[second] != 0).sum() + 1)
    total = np.multiply.outer(kinds[:, heavy[0]], a)[:, :, None] + np.multiply.outer(other, b)[:, None]
    fits = (total >= at_least[:, None, None]).all(axis=0)  # [a, b]
    possible = fits.any(axis=1)
    if not possible.any():  # the search says so
        return weights, at_least
    corners = _lower_hull(list(zip(a[possible].tolist(), b[fits.argmax(axis=1)][possible].tolist())))
    edges = [(1, 0, corners[0][0]), (0, 1, corners[-1][1])]
    edges += [(p[1] - q[1], q[0] - p[0], p[1] * q[0] - p[0] * q[1]) for p, q in zip(corners, corners[1:])]
    asked = [edge for edge in dict.fromkeys(edges) if edge[2] > 0]
    if not asked:
        return weights, at_least
    rows = np.array([x * first + y * second for x, y, _ in asked], dtype=np.float64)
    return rows, np.array([least - 1e-9 for _, _, least in asked])


def _lower_hull(points: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The corners from below of points (a, b) with rising a, down to the lowest b."""
    lowest = min(b for _, b in points)
    corners: list[tuple[int, int]] = []
    for a, b in points:
        while len(corners) > 1 and _turns_right(corners[-2], corners[-1], (a, b)):
            corners.pop()
        corners.append((a, b))
        if b == lowest:
            break
    return corners


def _turns_right(p: tuple[int, int], q: tuple[int, int], r: tuple[int, int]) -> bool:
    return (q[0] - p[0]) * (r[1] - p[1]) <= (q[1] - p[1]) * (r[0] - p[0])
