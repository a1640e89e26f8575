"""What a state is, in facts: the parts of its energy, its structure, what it saves."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from core.ising import Spins, energies, to_spins
from core.states import indicator

PAIRS = 5  # strongest ones that are named
_DEPTHS = ("first third", "middle third", "last third")


@dataclass(frozen=True)
class Pair:
    """Two blocks and what they add to the energy together."""

    i: int
    j: int
    energy: float


@dataclass(frozen=True)
class SpinParts:
    """The same energy with s = 2x - 1: fields + couplings + offset. strongest: pairs of all blocks, J_ij s_i s_j."""

    fields: float  # sum h_i s_i
    couplings: float  # sum_{i<j} J_ij s_i s_j
    offset: float
    strongest: tuple[Pair, ...]


@dataclass(frozen=True)
class Saved:
    """What removing the blocks saves, and of how much."""

    parameters: int
    parameters_of: int
    bytes: int
    bytes_of: int
    kv_bytes: int  # a token of context
    kv_bytes_of: int
    active: int  # parameters a token uses
    kinds: tuple[tuple[str, int, int], ...]  # (kind, removed, all of it), in the order of the model


@dataclass(frozen=True)
class Card:
    removed: tuple[int, ...]
    energy: float
    own: float  # sum H_ii
    pairs: float  # 2 sum_{i<j} H_ij
    strongest: tuple[Pair, ...]  # of the removed blocks, 2 H_ij, largest size first
    spins: SpinParts
    runs: tuple[tuple[int, int], ...]  # (first, last) of consecutive removed blocks
    depths: tuple[tuple[str, int, int], ...]  # (part of the depth, removed, blocks in it)
    saved: Saved | None

    @property
    def longest_run(self) -> int:
        return max((last - first + 1 for first, last in self.runs), default=0)


def card(H: np.ndarray, state: tuple[int, ...], model: Mapping | None = None, linear: np.ndarray | None = None, pairs: int = PAIRS) -> Card:
    """The facts of one state of H [N, N], listed or not. model: run.meta["model"], where there is one; linear: float [N], own costs beside H_ii."""
    n, state = len(H), tuple(sorted(state))
    x = indicator([state], n)
    g = np.zeros(n) if linear is None else np.asarray(linear, dtype=np.float64)
    own = float(np.diag(H)[list(state)].sum() + g[list(state)].sum())
    energy = float(energies(H, x, g)[0])
    spins = to_spins(H, g)
    return Card(
        state, energy, own, energy - own, _strongest(2 * H, list(state), pairs), _in_spins(spins, 2.0 * x[0] - 1, pairs), _runs(state),
        tuple((name, int(part.sum()), len(part)) for name, part in zip(_DEPTHS, np.array_split(x[0], 3))),
        _saved(model, state) if model else None,
    )  # fmt: skip


def _strongest(values: np.ndarray, blocks: list[int], count: int) -> tuple[Pair, ...]:
    """The pairs i < j of `blocks` with the largest |values[i, j]|."""
    i, j = (np.array(blocks, dtype=np.int64)[k] for k in np.triu_indices(len(blocks), 1))
    order = np.argsort(-np.abs(values[i, j]), kind="stable")[:count]
    return tuple(Pair(int(i[k]), int(j[k]), float(values[i[k], j[k]])) for k in order)


def _in_spins(spins: Spins, s: np.ndarray, count: int) -> SpinParts:
    terms = spins.J * np.outer(s, s)
    return SpinParts(float(spins.h @ s), float(np.triu(terms, 1).sum()), spins.offset, _strongest(terms, list(range(len(s))), count))


def _runs(state: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    grouped = ([block for _, block in run] for _, run in groupby(enumerate(state), lambda place: place[1] - place[0]))
    return tuple((run[0], run[-1]) for run in grouped)


def _saved(model: Mapping, state: tuple[int, ...]) -> Saved:
    blocks = model["blocks"]
    gone = [blocks[i] for i in state]
    kinds = {b["kind"]: 0 for b in blocks}
    for b in gone:
        kinds[b["kind"]] += 1
    total = lambda parts, name: int(sum(b[name] for b in parts))  # noqa: E731
    return Saved(
        total(gone, "parameters"), int(model["parameters"]), total(gone, "bytes"), int(model["bytes"]),
        total(gone, "kv_bytes"), total(blocks, "kv_bytes"), int(sum(b.get("active_parameters", b["parameters"]) for b in gone)),
        tuple((kind, count, sum(b["kind"] == kind for b in blocks)) for kind, count in kinds.items()),
    )  # fmt: skip
