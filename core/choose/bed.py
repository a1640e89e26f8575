"""A measured bed: many states of one model with their losses, sequence by sequence, on which estimators and
searches are judged without the model.

Half of the sequences are for choosing and half for judging. Groups say where states come from, since one
kind of state alone misleads: random ones rank estimators by how they see fatal blocks, sets of cheap blocks
by what matters where a choice is made.
"""

import io
import itertools
import json
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from core.choose.moves import swaps
from core.errors import InputError
from core.ising.states import indicator, removed_blocks
from core.measure.state_losses import DISTANCES, Forwards, State, by_prefix
from core.store.runs import canonical_key

DEPTHS = (3, 6, 10, 15)  # of 30 blocks; of another N in proportion
COUNT = 200  # states of a group
Report = Callable[[int, int, str], None]


def depths_of(blocks: int) -> tuple[int, ...]:
    """The M of a bed: a tenth, a fifth, a third and half of the blocks."""
    return tuple(dict.fromkeys(max(2, round(blocks * m / 30)) for m in DEPTHS))


@dataclass(frozen=True)
class Bed:
    """States and what was measured of them.

    meta: where from; removed: K states, the original among them; groups: {name: which states}, "random-6" or
    "cheapest-6" behind their M; values: float32 [metrics, K, S], of core.measure.state_losses.DISTANCES.
    """

    meta: dict
    removed: tuple[State, ...]
    groups: Mapping[str, np.ndarray]
    values: np.ndarray

    @property
    def blocks(self) -> int:
        """N."""
        return self.meta["blocks"]

    @cached_property
    def at(self) -> dict[State, int]:
        """{state: its row}."""
        return {state: k for k, state in enumerate(self.removed)}

    @cached_property
    def x(self) -> np.ndarray:
        """bool [K, N]."""
        return indicator(list(self.removed), self.blocks)

    def half(self, judging: bool) -> slice:
        """The sequences that are judged on, or chosen on."""
        half = self.values.shape[2] // 2
        return slice(half, None) if judging else slice(half)

    def increase(self, part: slice = slice(None)) -> np.ndarray:
        """float64 [K, S]: loss increase over the original, nats, of these sequences."""
        loss = self.values[0].astype(np.float64)
        return (loss - loss[self.at[()]])[:, part]

    def write(self, path: Path) -> None:
        """All of it in one file."""
        counts = np.array([len(s) for s in self.removed], dtype=np.uint8)
        flat = np.array(list(itertools.chain(*self.removed)), dtype=np.uint8)
        loss, *distances = self.values
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(
            path,
            allow_pickle=False,
            meta=json.dumps(self.meta),
            counts=counts,
            removed=flat,
            loss=loss.astype(np.float32),
            **{name: d.astype(np.float16) for name, d in zip(DISTANCES[1:], distances)},
            **{f"group {name}": rows.astype(np.uint16) for name, rows in self.groups.items()},
        )


def read_bed(path: Path) -> Bed:
    """A bed that was written. Errors: InputError where it is not there or damaged."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            ends = np.cumsum(arrays["counts"])
            removed = tuple(tuple(map(int, s)) for s in np.split(arrays["removed"], ends[:-1]))
            return Bed(
                json.loads(str(arrays["meta"])),
                removed,
                {
                    name.removeprefix("group "): arrays[name].astype(int)
                    for name in arrays.files
                    if name.startswith("group ")
                },
                np.array([arrays[name].astype(np.float32) for name in DISTANCES if name in arrays.files]),
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"The bed {str(path)!r} cannot be read ({error.__class__.__name__}); measure it again."
        ) from error


def drawn(
    blocks: int, increase: np.ndarray, depths: Iterable[int], count: int = COUNT, seed: int = 0
) -> dict:
    """{group: states} that no estimator has chosen: the original and single removals, all pairs, and of each
    M random states and random sets of the cheapest 2 M blocks (at most three quarters of all).

    increase: float64 [N], of single removals. A smaller count gives the first of the same states.
    """
    groups: dict[str, list[State]] = {
        "singles": [(), *((i,) for i in range(blocks))],
        "pairs": list(itertools.combinations(range(blocks), 2)),
    }
    order = np.argsort(increase, kind="stable")
    for m in depths:
        cheap = order[: min(2 * m, max(m + 1, round(0.75 * blocks)))]
        for name, among in (("random", np.arange(blocks)), ("cheapest", cheap)):
            groups[f"{name}-{m}"] = _sets(among, m, count, np.random.default_rng([seed, m, len(among)]))
    return groups


def _sets(among: np.ndarray, m: int, count: int, rng: np.random.Generator) -> list[State]:
    """Different random sets of m of some blocks; all of them where there are no more."""
    every = itertools.combinations(sorted(among.tolist()), m)
    few = list(itertools.islice(every, count + 1))
    if len(few) <= count:
        return few
    found: dict[State, None] = {}
    while len(found) < count:
        found[tuple(sorted(rng.choice(among, m, replace=False).tolist()))] = None
    return list(found)


def around(state: State, blocks: int, count: int = COUNT, seed: int = 0) -> list[State]:
    """The state, and random ones of those one swap away."""
    near = removed_blocks(swaps(indicator([state], blocks)[0]))
    chosen = np.random.default_rng([seed, *state]).permutation(len(near))[:count]
    return [state, *(near[k] for k in chosen)]


def walk(forwards: Forwards, groups: Mapping[str, Iterable[State]], report: Report, meta: dict) -> Bed:
    """Measure all states of all groups, and the original, in the order in which they share the most prefixes;
    what the store of `forwards` knows is not measured again.
    """
    states = {(): None} | {tuple(s): None for own in groups.values() for s in own}
    order = by_prefix(states, forwards.blocks)
    found: dict[State, np.ndarray] = {}
    for k, state in enumerate(order):
        report(k, len(order), "states of the bed")
        found[state] = np.concatenate([forwards.every(state, c) for c in range(len(forwards.chunks))], axis=1)
        del forwards.losses[state]
    forwards.save()
    at = {state: k for k, state in enumerate(order)}
    meta = {**meta, "blocks": forwards.blocks, "sequences": forwards.sequences}
    return Bed(
        {**meta, "key": canonical_key(meta)},
        tuple(order),
        {name: np.array([at[tuple(s)] for s in own]) for name, own in groups.items()},
        np.array([found[state] for state in order]).swapaxes(0, 1),
    )
