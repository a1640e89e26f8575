"""A race: states are measured on growing batches of the same sequences, and whoever is surely worse leaves.

A state leaves where the confidence sequence of its paired difference to some other state lies above zero.
The best state leaves only where one of the K - 1 intervals to the others is wrong at some look, so each has
the level delta / (K - 1), and the intervals hold at all looks together: who looks after every batch, and
stops when it pleases, errs no more often. What is left when the sequences end is a tie.

The intervals (`low`) are Student's, mixed over effect sizes (Wang and Ramdas, arXiv 2310.03722; exact for
normal differences of unknown variance), with two guards for what losses are and theirs are not. Skew: t is
also taken as Hall transforms it (J. R. Stat. Soc. B 54, 1992), and the wider end counts. A tail not seen
yet: to each end belongs one more difference, as large as the largest so far, against what the end would say.
docs/race.md has how often each of these, and others, lose the best state, and what they cost.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from core.errors import InputError
from core.measure.state_losses import Forwards, State, by_prefix, counted, stratified
from core.texts import Sequences
from core.texts.sequences import part_of

BATCH = 8  # sequences between two looks
FIRST_LOOK = 16  # items before which nobody leaves
DELTA = 0.05
_SHARPEST = 32  # items at which the intervals are narrowest for what they promise

Report = Callable[[int, int, str], None]


class Moments:
    """Moments of the differences L_i - L_j of K states, from items that come in batches; [..., K, K] each,
    where a leading axis is one of many races.

    A pair is counted as long as both are in the race.
    """

    def __init__(self, shape: tuple[int, ...]):
        self.n = np.zeros((*shape, shape[-1]), dtype=np.int64)
        self.sums = np.zeros((3, *self.n.shape))  # of the first three powers
        self.largest = np.zeros(self.n.shape)

    def add(self, losses: np.ndarray, racing: np.ndarray) -> None:
        """Losses [..., K, B] of a batch; those of states that are not racing [..., K] are not read."""
        both = racing[..., :, None] & racing[..., None, :]
        losses = np.where(racing[..., None], losses, 0.0)
        difference = losses[..., :, None, :] - losses[..., None, :, :]
        square = difference * difference
        self.n += losses.shape[-1] * both
        self.sums[0] += both * difference.sum(axis=-1)
        self.sums[1] += both * square.sum(axis=-1)
        self.sums[2] += both * (square * difference).sum(axis=-1)
        self.largest = np.maximum(self.largest, both * np.sqrt(square.max(axis=-1)))

    def mean(self) -> np.ndarray:
        """[..., K, K]: mean of L_i - L_j; 0 where nothing was counted."""
        return self.sums[0] / np.maximum(self.n, 1)


def critical(n: np.ndarray, alpha: float) -> np.ndarray:
    """float64: what |t| of n normal items of mean zero exceeds at any n with a chance of at most alpha;
    infinite of too few items.

    The t test mixed over normal effect sizes, as sharp as it gets near `_SHARPEST` items.
    """
    n = np.maximum(np.asarray(n, dtype=np.float64), 2.0)
    spread = (-2 * math.log(alpha) + math.log(1 - 2 * math.log(alpha))) / _SHARPEST
    ratio = np.exp(2 / n * (0.5 * np.log1p(n * spread) - math.log(alpha)))
    rest = 1 - ratio / (1 + n * spread)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(rest > 0, np.sqrt((n - 1) * (ratio - 1) / rest), np.inf)


def low(pairs: Moments, alpha: float) -> np.ndarray:
    """[..., K, K]: lower ends of the intervals of the mean of L_i - L_j; minus the transpose are the upper
    ones. Each pair's holds at all n together but for a chance of alpha; minus infinity of too few items.
    """
    count, (total, squares, cubes) = np.maximum(pairs.n, 1), pairs.sums
    mean = total / count
    variance = np.maximum(squares / count - mean**2, 0)
    third = cubes / count - 3 * mean * squares / count + 2 * mean**3
    n = pairs.n + 1  # one more difference, against the end
    with np.errstate(divide="ignore", invalid="ignore"):
        k = np.where(variance > 0, third / variance**1.5, 0) / np.sqrt(n)
    mean = (total - pairs.largest) / n
    variance = np.maximum((squares + pairs.largest**2) / n - mean**2, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        limit = critical(n, alpha)
        # the t that Hall's transformation takes to the limit
        hall = np.where(np.abs(k) > 1e-6, 3 / k * (np.cbrt(1 + k * (limit - k / 6)) - 1), limit)
        end = mean - np.where(np.isinf(limit), np.inf, np.maximum(limit, hall)) * np.sqrt(variance / (n - 1))
    return np.where((pairs.n >= FIRST_LOOK) & ~np.isinf(limit), end, -np.inf)


def stay(pairs: Moments, racing: np.ndarray, alpha: float) -> np.ndarray:
    """bool [..., K]: who is still racing after a look: all that no other of the racing surely beats."""
    beaten = (low(pairs, alpha) > 0) & racing[..., None, :]
    return racing & ~beaten.any(axis=-1)


@dataclass(frozen=True)
class Racer:
    """What is known of a state at the end of its race."""

    removed: State
    items: int  # sequences it was measured on: those at which it left, or all of the race
    loss: float  # nats, mean over them; or what the forwards' ruler is
    above: float  # nats, mean paired difference to the winner over them
    low: float  # its interval; infinite of too few items
    high: float
    left: bool  # whether it left, surely worse than another


@dataclass(frozen=True)
class Raced:
    """What a race has found."""

    racers: list[Racer]  # the lowest loss among those left first, then who left, the last first
    items: int  # sequences at which it was decided, or all
    forwards: float  # spent, over all sequences
    of_all: float  # that measuring every state on every sequence takes

    @property
    def winner(self) -> Racer:
        """The lowest mean of those left."""
        return self.racers[0]

    @property
    def ties(self) -> list[Racer]:
        """Those left, the winner first: nothing tells them apart."""
        return [racer for racer in self.racers if not racer.left]

    @property
    def dropped(self) -> list[Racer]:
        """Those that left."""
        return [racer for racer in self.racers if racer.left]


def in_batches(sequences: Sequences) -> Sequences:
    """The same sequences in a fixed random order in which every batch has its share of every domain."""
    order = np.random.default_rng(0).permutation(len(sequences.ids))
    return stratified(part_of(sequences, order), BATCH)


def race(
    forwards: Forwards,
    states: Sequence[State],
    *,
    delta: float = DELTA,
    report: Report = lambda done, total, message: None,
) -> Raced:
    """The best of the states, and all that cannot be told from it: the best of them leaves with a chance of
    at most delta.

    forwards: opened with chunks of `BATCH` on sequences `in_batches`; what it keeps is written after every
    state of every batch, so that a race which was killed measures nothing twice. The race goes by its
    ruler: the loss, or KL to the original; what overflows counts as core.measure.state_losses.OVERFLOW.
    Errors: InputError for fewer than two states or a delta that is no share.
    """
    # like prefixes together: they share hidden states
    states = by_prefix({tuple(sorted(s)) for s in states}, forwards.blocks)
    if len(states) < 2:
        raise InputError(f"A race needs two different states; {len(states)} is given. Give more.")
    check_delta(delta)
    alpha = delta / (len(states) - 1)
    pairs, racing = Moments((len(states),)), np.ones(len(states), dtype=bool)
    items = np.zeros(len(states), dtype=np.int64)
    losses = np.zeros((len(states), forwards.sequences))
    for chunk, part in enumerate(forwards.chunks):
        if racing.sum() == 1:
            break
        for k in np.flatnonzero(racing):
            report(part.start, forwards.sequences, f"sequences, {racing.sum()} of {len(states)} states left")
            losses[k, part] = counted(forwards.measure(states[k], chunk))
            forwards.save()
        pairs.add(losses[:, part], racing)
        items[racing] = part.stop
        racing = stay(pairs, racing, alpha)
    report(forwards.sequences, forwards.sequences, f"sequences, {racing.sum()} of {len(states)} states left")
    means = np.array([row[:n].mean() for row, n in zip(losses, items)])
    order = sorted(range(len(states)), key=lambda k: (not racing[k], -items[k], means[k]))
    best, ends = order[0], low(pairs, alpha)
    racers = [
        Racer(
            states[k],
            int(items[k]),
            float(means[k]),
            float(pairs.mean()[k, best]),
            0.0 if k == best else float(ends[k, best]),
            0.0 if k == best else float(-ends[best, k]),
            not racing[k],
        )
        for k in order
    ]
    return Raced(racers, int(items.max()), forwards.forwards, forwards_of_all(forwards, states))


def check_delta(delta: float) -> None:
    """Errors: InputError unless it is a share between 0 and a half."""
    if not 0 < delta <= 0.5:
        raise InputError(
            f"A delta of {delta:g} is no chance to lose the best state by; give one above 0 and up to 0.5, "
            f"for example {DELTA:g}."
        )


def forwards_of_all(forwards: Forwards, states: Sequence[State]) -> float:
    """What measuring every state on every sequence would take, batch by batch, in this order; nothing is
    executed.
    """
    size = max(part.stop - part.start for part in forwards.chunks)
    dry = Forwards(
        forwards.units,
        forwards.sequences,
        lambda part, kept, skip, hidden: (np.zeros((1, part.stop - part.start)), []),
        room=forwards.room,
        shares=forwards.shares,
        chunk=size,
    )
    for chunk in range(len(dry.chunks)):
        for state in states:
            dry.measure(state, chunk)
    return dry.forwards
