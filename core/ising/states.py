"""States: which blocks are removed, and how alike two choices are.

Many states are a bool array x [K, N] (True: removed); one state is its sorted
tuple of removed blocks. Blocks are 0-based.
"""

import re
from collections.abc import Iterable

import numpy as np

from core.errors import InputError

_NUMBER = re.compile(r"[0-9]{1,4}")


def removed_blocks(x: np.ndarray) -> list[tuple[int, ...]]:
    """The sorted removed blocks of each row of x [K, N]."""
    x = np.asarray(x, dtype=bool)
    blocks = np.nonzero(x)[1].tolist()
    ends = np.cumsum(x.sum(axis=1)).tolist()
    return [tuple(blocks[start:end]) for start, end in zip([0, *ends], ends)]


def indicator(states: list[tuple[int, ...]], blocks: int) -> np.ndarray:
    """bool [K, N] from lists of removed blocks."""
    x = np.zeros((len(states), blocks), dtype=bool)
    for row, state in zip(x, states):
        row[list(state)] = True
    return x


def pearson(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """float64 [K, L]: Pearson coefficient of every row of x [K, N] with every row of y [L, N].

    For equal M and p = M/N this is (x.y/N - p^2) / (p (1 - p)) (arXiv 2602.00161, section 5);
    the general formula used here also holds where M differs. A state that removes
    nothing or everything has no coefficient: NaN.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    px, py = x.mean(axis=1), y.mean(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        r = (x @ y.T / x.shape[1] - np.outer(px, py)) / np.sqrt(np.outer(px * (1 - px), py * (1 - py)))
    return np.clip(r, -1.0, 1.0)


def blocks_changed(x: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """int [K]: blocks removed in x [K, N] that `reference` [N] keeps (M - overlap at equal M)."""
    return (np.asarray(x, dtype=bool) & ~np.asarray(reference, dtype=bool)).sum(axis=1)


def diversity(x: np.ndarray) -> np.ndarray:
    """float64 [K]: 1 - the largest Pearson coefficient to any *other* row of x; NaN for a single state."""
    if len(x) < 2:
        return np.full(len(x), np.nan)
    r = pearson(x, x)
    np.fill_diagonal(r, -np.inf)
    return 1.0 - r.max(axis=1)


_ZOBRIST = np.random.Generator(np.random.Philox(key=2602)).integers(0, 1 << 16, size=10_000)


def short_hashes(x: np.ndarray) -> list[str]:
    """Four hex digits for each row of x [K, N], by Zobrist hashing: they stay when ranks move."""
    table = _ZOBRIST[: x.shape[1]]
    return [f"{h:04x}" for h in np.bitwise_xor.reduce(np.where(x, table, 0), axis=1).tolist()]


def parse_blocks(text: str, blocks: int | None = None) -> tuple[int, ...]:
    """Sorted block list from "3, 7-9, 20".

    Errors: InputError for anything else, doubles, or a block >= `blocks`.
    """
    found: list[int] = []
    seen: set[int] = set()
    for part in text.split(","):
        ends = [end.strip() for end in part.split("-")]
        if len(ends) > 2 or not all(_NUMBER.fullmatch(end) for end in ends):
            raise InputError(
                f"{part.strip()[:40]!r} in the block list {text[:80]!r} is not a block or a range; write for "
                "example 3,7-9,20."
            )
        first, last = int(ends[0]), int(ends[-1])
        if blocks is not None and last >= blocks:
            raise InputError(f"Block {last} does not exist: the model has blocks 0 to {blocks - 1}.")
        if last < first:
            raise InputError(
                f"The range {part.strip()!r} in the block list runs backwards; write {last}-{first}."
            )
        twice = seen.intersection(range(first, last + 1))
        if twice:
            raise InputError(f"Block {min(twice)} is listed twice in {text[:80]!r}; name each block once.")
        seen.update(range(first, last + 1))
        found.extend(range(first, last + 1))
    return tuple(sorted(found))


def check_blocks(removed: Iterable[int], blocks: int) -> tuple[int, ...]:
    """The sorted blocks that a state removes of N = `blocks`.

    Errors: InputError for unknown or doubled ones, or all of them.
    """
    state = tuple(sorted(removed))
    if len(set(state)) < len(state) or (state and not 0 <= state[0] <= state[-1] < blocks):
        raise InputError(
            f"The blocks {str(list(state))[:80]} do not fit the model: name each of 0 to {blocks - 1} at "
            "most once."
        )
    if len(state) >= blocks:
        raise InputError(f"All {blocks} blocks would be removed; keep at least one.")
    return state


def block_list(state: Iterable[int]) -> str:
    """The text that `parse_blocks` reads, three blocks or more in a row as a range: "3,7-9,20"."""
    runs: list[list[int]] = []
    for block in sorted(state):
        if runs and block == runs[-1][1] + 1:
            runs[-1][1] = block
        else:
            runs.append([block, block])
    return ",".join(f"{a}-{b}" if b > a + 1 else f"{a},{b}" if b > a else f"{a}" for a, b in runs)
