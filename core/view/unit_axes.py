"""Axes on which every unit of a model has its place, and how units are named on hover."""

import numpy as np

from core.ising.units import BLOCK, Units

TICKS = 16  # at most, on an axis of units
SYMBOLS = ("circle", "square", "diamond", "triangle-up")  # of the kinds of branches, in depth order


def titled(units: Units, unit: int) -> str:
    """A unit where a sentence begins: "Block 12", "12a (attention)"."""
    name = units.names[unit]
    if units.by == BLOCK:
        return f"Block {name}"
    return f"{'Block ' * name.isdecimal()}{name} ({units.kinds[unit]})"


def both_titled(units: Units, i: int, j: int) -> str:
    """Two units where a sentence begins: "Blocks 3 and 12", "3a (attention) and 12f (FFN)"."""
    return f"Blocks {i} and {j}" if units.by == BLOCK else f"{titled(units, i)} and {titled(units, j)}"


def depth_ticks(units: Units) -> dict:
    """Of an axis of units in depth order: by branch a number where a block's units stand, else what the axis
    has of itself.
    """
    if units.by == BLOCK:
        return {}
    every = -(-len(units.of_block) // TICKS)
    shown = range(0, len(units.of_block), every)
    return {
        "tickvals": [float(np.mean(units.of_block[b])) for b in shown],
        "ticktext": [str(b) for b in shown],
    }


def by_kind(units: Units) -> tuple[np.ndarray, list[tuple[str, int]]]:
    """(int64 [N]: the units with those of a kind together, [(kind, how many)])."""
    kinds = list(dict.fromkeys(units.kinds))
    rank = np.array([kinds.index(kind) for kind in units.kinds])
    return np.argsort(rank, kind="stable"), [(kind, units.kinds.count(kind)) for kind in kinds]


def symbols(units: Units) -> list[str]:
    """A plotly symbol for every unit; by branch it tells the kind."""
    if units.by == BLOCK:
        return [SYMBOLS[0]] * len(units)
    kinds = list(dict.fromkeys(units.kinds))
    return [SYMBOLS[kinds.index(kind) % len(SYMBOLS)] for kind in units.kinds]
