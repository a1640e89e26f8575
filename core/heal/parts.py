"""What can be healed: states of whole blocks, at once or in several rounds, which of them then go first; and
states without an attention or an FFN alone. Loads no torch.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from core.errors import InputError
from core.heal.settings import KL, LORA, Settings
from core.ising.units import Name
from core.spectrum.lowest import lowest_states

Parts = list[list[int]]


def in_parts(removed: Sequence[int], rounds: int, H: np.ndarray | None = None) -> Parts:
    """The removed blocks in as many parts, the earlier ones the larger where they are not equal.

    H: float [N, N], in whose order of energies they go: what has gone after a round is, among the choices of
    as many of the removed blocks that hold what had gone before, the one of lowest energy. None: in the order
    in which they are named. Errors: InputError for more rounds than blocks.
    """
    if not 1 <= rounds <= len(removed):
        raise InputError(
            f"{len(removed)} blocks cannot be removed in {rounds} rounds, of which each takes one or more; "
            f"choose 1 to {len(removed)}."
        )
    sizes = [len(part) for part in np.array_split(np.arange(len(removed)), rounds)]
    if H is None:
        ends = np.cumsum(sizes)
        return [list(removed[end - size : end]) for end, size in zip(ends, sizes)]
    open_, gone = sorted(removed), list[int]()
    parts = []
    for size in sizes[:-1]:
        bound = 2 * H[np.ix_(open_, gone)].sum(axis=1)  # to what has gone
        lowest = lowest_states(H[np.ix_(open_, open_)], size, 1, bound).removed[0]
        parts.append([open_[k] for k in lowest])
        gone += parts[-1]
        open_ = [b for b in open_ if b not in gone]
    return [*parts, open_]


def check_names(removed: Sequence[Name], settings: Settings, rounds: int) -> None:
    """Errors: InputError where a part of a block goes alone, and the method or rounds take whole blocks."""
    part = next((name for name in removed if isinstance(name, str)), None)
    if part is None:
        return
    if settings.method not in (KL, LORA) or settings.replace:
        raise InputError(
            f"{part!r} is a part of a block, and {settings.replace or settings.method!r} is about whole "
            f"ones; choose the method {KL!r} or {LORA!r}, without a replacement."
        )
    if rounds > 1:
        raise InputError(
            f"{part!r} is a part of a block, and {rounds} rounds take whole ones; leave the rounds out."
        )


def share_of(settings: Settings, rounds: int, number: int) -> Settings:
    """What one round of several gets: an equal share of the budget and of the evaluations, and a seed of its
    own, so that it begins with other texts than the rounds before.

    Errors: InputError where the settings know no rounds.
    """
    if not settings.trains or settings.replace:
        raise InputError(
            "Removing in rounds heals by training between them, of plain removal; choose a method that "
            f"trains and no replacement, or one round, not {settings.replacement!r} in {rounds}."
        )
    tokens, minutes = settings.tokens, settings.minutes
    return replace(
        settings,
        tokens=None if tokens is None else max(1, tokens // rounds),
        minutes=None if minutes is None else minutes / rounds,
        evaluations=-(-settings.evaluations // rounds),
        seed=settings.seed + number,
    )
