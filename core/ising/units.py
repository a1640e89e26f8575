"""Units: what a state removes, whole blocks or their branches one by one.

A state is a sorted tuple of unit numbers. Seen by block, unit i is block i. Seen by branch, every sub-module
that writes to the residual stream is a unit, in depth order: "12a" is the attention of block 12, "12f" its
FFN. What leaves a process (files, links, the store) names units instead of numbering them, a whole block by
its number, so that both views speak of the same thing.
"""

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from core.errors import InputError
from core.ising.states import block_list, check_blocks, parse_blocks

BLOCK, BRANCH = VIEWS = ("block", "branch")
State = tuple[int, ...]
Name = int | str  # 12: a whole block; "12a": a branch of it
# of a branch, by a word of its kind; the first that fits
_LETTERS = (("attention", "a"), ("FFN", "f"), ("MoE", "f"), ("Mamba", "m"), ("convolution", "c"), ("", "x"))
_HALF = re.compile(r"([0-9]{1,4})([a-z][0-9]?)")


@dataclass(frozen=True)
class Units:
    """The units of one view of a model."""

    by: str  # BLOCK or BRANCH
    names: tuple[str, ...]  # "12", "12a"
    block: tuple[int, ...]  # of each unit
    kinds: tuple[str, ...]  # "attention + FFN", "attention"; empty where nothing is known of them

    def __len__(self) -> int:
        return len(self.names)

    @property
    def word(self) -> str:
        """What people call one of them."""
        return "block" if self.by == BLOCK else "unit"

    @cached_property
    def number(self) -> dict[str, int]:
        """{name: its unit}."""
        return {name: u for u, name in enumerate(self.names)}

    @cached_property
    def of_block(self) -> tuple[State, ...]:
        """The units of each block."""
        found: list[list[int]] = [[] for _ in range(max(self.block, default=-1) + 1)]
        for u, b in enumerate(self.block):
            found[b].append(u)
        return tuple(map(tuple, found))

    @cached_property
    def same_block(self) -> np.ndarray:
        """bool [N, N]: different units of one block."""
        block = np.array(self.block)
        return (block[:, None] == block) & ~np.eye(len(block), dtype=bool)

    def parse(self, text: str) -> State:
        """A state from "3, 7-9, 12a": a number is all of a block. Errors: InputError."""
        if self.by == BLOCK:
            if half := _HALF.search(text):
                raise InputError(
                    f"{half[0]!r} names a part of block {half[1]}, and only whole blocks are removed here; "
                    "name blocks, or see the model by branch."
                )
            return parse_blocks(text, len(self))
        state: dict[int, None] = {}
        for part in text.split(","):
            for unit in self._of_part(part.strip(), text):
                if unit in state:
                    named = self.names[unit] if _HALF.fullmatch(part.strip()) else self.block[unit]
                    raise InputError(f"{named} is listed twice in {text[:80]!r}; name each unit once.")
                state[unit] = None
        return tuple(sorted(state))

    def _of_part(self, part: str, text: str) -> State:
        half = _HALF.fullmatch(part)
        if half is None:
            try:
                blocks = parse_blocks(part, len(self.of_block))
            except InputError as error:
                if not re.fullmatch(r"[0-9]{1,4}( *- *[0-9]{1,4})?", part):
                    raise InputError(
                        f"{part[:40]!r} in the list {text[:80]!r} is neither a block, a range of blocks nor "
                        "a branch; write for example 3,7-9,12a,13f."
                    ) from error
                raise
            return tuple(u for b in blocks for u in self.of_block[b])
        name = f"{int(half[1])}{half[2]}"
        if name not in self.number:
            b = int(half[1])
            if b >= len(self.of_block):
                raise InputError(
                    f"Block {b} does not exist: the model has blocks 0 to {len(self.of_block) - 1}."
                )
            has = ", ".join(self.names[u] for u in self.of_block[b])
            raise InputError(f"Block {b} has no branch {name!r}; it has {has}.")
        return (self.number[name],)

    def check_left(self, state: Iterable[int]) -> None:
        """Errors: InputError where no block, nor a part of one, would be left."""
        check_blocks([name for name in self.stored(state) if isinstance(name, int)], len(self.of_block))

    def write(self, state: Iterable[int]) -> str:
        """The text that `parse` reads, whole blocks as numbers: "3,7-9,12a"."""
        return written(self.stored(state))

    def said(self, state: Iterable[int]) -> str:
        """A state for people, in depth order: "3, 7, 12a"."""
        return ", ".join(map(str, self.stored(state)))

    def listed(self, state: Iterable[int]) -> list[Name]:
        """What JSON says of a state: numbers by block, names by branch, one a unit."""
        return [u if self.by == BLOCK else self.names[u] for u in sorted(state)]

    def stored(self, state: Iterable[int]) -> tuple[Name, ...]:
        """The one name of a state in every view, in depth order: (3, "12a"), whole blocks by number."""
        if self.by == BLOCK:
            return tuple(sorted(state))
        gone = set(state)
        found: list[Name] = []
        for b, own in enumerate(self.of_block):
            removed = [u for u in own if u in gone]
            found += [b] if len(removed) == len(own) else [self.names[u] for u in removed]
        return tuple(found)

    def state(self, stored: Iterable[Name]) -> State | None:
        """The state of a name that `stored` or `listed` gave, here or in another view; None where this view
        cannot say it, or there is no such block.
        """
        found: set[int] = set()
        for name in stored:
            if isinstance(name, str) and name in self.number:
                found.add(self.number[name])
            elif isinstance(name, int) and 0 <= name < len(self.of_block):
                found.update(self.of_block[name])
            else:
                return None
        return tuple(sorted(found))


def whole(blocks: int, kinds: Sequence[str] = ()) -> Units:
    """The view by block of a model of so many."""
    return Units(BLOCK, tuple(map(str, range(blocks))), tuple(range(blocks)), tuple(kinds))


def units_of(branches: Sequence[Sequence[str]], by: str) -> Units:
    """The units of a model, from the kinds of the branches of each block; by branch, a block with one branch
    is one unit under its number.

    Errors: InputError for another view.
    """
    if by not in VIEWS:
        raise InputError(f"A model is seen by block or by branch, not by {by[:40]!r}; choose one of the two.")
    if by == BLOCK or all(len(own) == 1 for own in branches):
        return whole(len(branches), [" + ".join(own) for own in branches])
    names, block, kinds = [], [], []
    for b, own in enumerate(branches):
        letters = [next(letter for word, letter in _LETTERS if word in kind) for kind in own]
        seen: Counter[str] = Counter()
        for kind, letter in zip(own, letters):
            seen[letter] += 1
            again = str(seen[letter]) if seen[letter] > 1 else ""
            names.append(str(b) if len(own) == 1 else f"{b}{letter}{again}")
            block.append(b)
            kinds.append(kind)
    return Units(BRANCH, tuple(names), tuple(block), tuple(kinds))


def read_names(text: str) -> tuple[Name, ...]:
    """The stored name of a state of some model, from "3, 7-9, 12a". Errors: InputError."""
    found: list[Name] = []
    for part in text.split(","):
        half = _HALF.fullmatch(part.strip())
        if half:
            found.append(f"{int(half[1])}{half[2]}")
            continue
        try:
            found += parse_blocks(part)
        except InputError as error:
            if not re.search(r"[a-z]", part):
                raise
            raise InputError(
                f"{part.strip()[:40]!r} in the list {text[:80]!r} is neither a block, a range of blocks nor "
                "a branch; write for example 3,7-9,12a,13f."
            ) from error
    names = in_order(found)
    for name, after in itertools.pairwise(names):
        if _block_of(name) == _block_of(after) and (name == after or isinstance(name, int)):
            raise InputError(f"{after} is listed twice in {text[:80]!r}; name each unit once.")
    return names


def _block_of(name: Name) -> int:
    return int(re.sub("[a-z].*", "", str(name)))


def in_order(names: Iterable[Name]) -> tuple[Name, ...]:
    """Names by depth."""
    return tuple(sorted(names, key=lambda name: (_block_of(name), str(name))))


def written(removed: Iterable[Name]) -> str:
    """A stored name as people write it, three blocks or more in a row as a range: "3,7-9,12a"."""
    parts: list[str] = []
    for whole, run in itertools.groupby(removed, lambda name: isinstance(name, int)):
        own = list(run)
        parts += [block_list(map(int, own))] if whole else map(str, own)
    return ",".join(parts)


def name_text(removed: Iterable[Name]) -> str:
    """A stored name as one text: "3,12a"."""
    return ",".join(map(str, removed))


def read_name(text: str) -> tuple[Name, ...]:
    """The stored name of `name_text`."""
    return tuple(int(part) if part.isdecimal() else part for part in text.split(",")) if text else ()
