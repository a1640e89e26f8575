"""What the Explore lens draws of a landscape's shape: the tree of its minima, and its temperatures."""

import math

import numpy as np

from core.energy.uncertainty import energy_error
from core.landscape.landscape import Landscape
from core.shape.tree import BarrierTree, columns
from core.spectrum.constraints import Constraints, make_rules
from core.thermal.removal import removal
from core.view.encoding import encode
from core.view.messages import TemperatureData, TreeData

LEAVES = (10, 20, 30, 50, 100)  # that a tree may be thinned to
GAPS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)  # the temperatures of the lens


def tree_data(tree: BarrierTree) -> TreeData:
    """The minima of a landscape, its merges, and where to draw the most persistent of them."""
    minima = len(tree.valleys.minimum)
    return {
        "valley": encode(tree.valleys.valley, "<i4"),
        "survivor": encode(tree.survivor, "<u2"),
        "dying": encode(tree.dying, "<u2"),
        "saddle": encode(tree.saddle, "<u2"),
        "orders": [
            encode(_from_left_to_right(tree, n), "<u2") for n in (*[n for n in LEAVES if n < minima], minima)
        ],
        "whole": math.isinf(tree.top),
    }


def _from_left_to_right(tree: BarrierTree, count: int) -> np.ndarray:
    kept = tree.lasting(count)
    return kept[np.argsort(columns(tree, kept), kind="stable")]


def temperature_data(
    found: Landscape,
    rows: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    constraints: Constraints | None = None,
) -> list[TemperatureData]:
    """How likely each unit is removed at multiples of the gap and where T is the noise of E0, ascending.

    rows, weights: as core.view.lens.landscape_data, without which no noise is known. [] without a gap.
    """
    s = found.spectrum
    if not (0 < s.gap < math.inf):
        return []
    noise = None if rows is None else energy_error(rows, s.x[0], weights)
    asked = [(gaps * s.gap, False) for gaps in GAPS]
    asked += [(noise, True)] if noise is not None and noise > s.tolerance else []
    asked.sort()
    rules = make_rules(constraints, len(found.H), found.removed)
    known = removal(found.H, s, [t for t, _ in asked], rules)
    return [
        {
            "temperature": t,
            "gaps": t / s.gap,
            "noise": noisy,
            "how": one.how if one else "unknown",
            "error": one.error if one else 1.0,
            "removed": encode(one.removed, "<f8") if one else "",
        }
        for (t, noisy), one in zip(asked, known)
    ]
