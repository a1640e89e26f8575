"""Measured states side by side: what the store knows about a model, one row a state.

Losses are those of the report split, which no choice has used.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache

import numpy as np

from core.compare.agreement import Agreement, agreement
from core.ising.units import Name
from core.store import unit_times
from core.store.results import KL, LOSS, SAME, Key, Measurement, Results
from core.store.runs import Run
from core.store.token_kl import median_and_99, token_kl

_TASK = "task:"  # and its name: the metric of a task, what each item scores
_SPEED = "tokens_per_second"
_ROUNDING = 1e-5  # relative, of the loss of a sequence that is measured in another batch
Named = tuple[str, str, str]  # metric, texts, settings
CHOSEN_ON = "choose"  # the split that searches choose on: no loss of it is shown as a result


@dataclass(frozen=True)
class Score:
    """An accuracy with its 95 % Wilson interval."""

    accuracy: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Mean:
    """A mean over sequences with its standard error and 95 % interval, 1.96 of these to each side within what
    can be; None of one sequence.
    """

    mean: float
    se: float | None
    low: float | None
    high: float | None


def mean_of(values: np.ndarray, most: float = math.inf) -> Mean:
    """Of values [n] that lie between 0 and `most`."""
    mean = float(values.mean())
    if len(values) < 2:
        return Mean(mean, None, None, None)
    se = float(values.std(ddof=1) / math.sqrt(len(values)))
    return Mean(mean, se, max(0.0, mean - 1.96 * se), min(most, mean + 1.96 * se))


@dataclass(frozen=True)
class Distance:
    """How far a state is from the original on the same tokens: the ruler of llama.cpp's perplexity tool."""

    kl: Mean  # nats a token: KL(original || state)
    same: Mean  # share of the tokens whose first choice is the original's
    median: float | None = None  # of the KL of all tokens, to the grid of core.store.token_kl; None: not kept
    p99: float | None = None  # 99 % of the tokens have no larger KL

    def to_json(self) -> dict:
        """As results of jobs hold it."""
        return {"kl": {**asdict(self.kl), "median": self.median, "p99": self.p99}, "same": asdict(self.same)}


def distance_of(kl: np.ndarray, same: np.ndarray, histograms: Iterable[str] = ()) -> Distance:
    """Of the means of each sequence, float [n], and the histograms of its tokens (core.store.token_kl)."""
    return Distance(mean_of(kl), mean_of(same, 1.0), *(median_and_99(histograms) or ()))


@dataclass(frozen=True)
class Row:
    """What is measured of one state; None where nothing is."""

    removed: tuple[int, ...]  # units of the run as it is seen
    parameters: int
    bytes: int
    loss: Measurement | None = None
    increase: tuple[float, float, int] | None = None  # above the original, paired: nats, standard error, n
    tasks: dict[str, Score] = field(default_factory=dict)
    tokens_per_second: float | None = None
    distance: Distance | None = None  # on the sequences of the loss
    texts: str = ""  # those of the loss, by one digest however many of the sequences were drawn (`_texts`)

    @property
    def measured_on(self) -> tuple[str, str] | None:
        """Texts and settings of the loss: those of two rows compare where these are the same."""
        return None if self.loss is None else (self.texts or self.loss.key.data, self.loss.key.settings)

    @property
    def tied(self) -> bool:
        """The loss cannot be told from the original's: the increase is within two standard errors."""
        return self.increase is not None and abs(self.increase[0]) <= 2 * self.increase[1]

    def above(self, other: "Row") -> tuple[float, float, int]:
        """(nats, standard error, n) of the losses' paired difference; (NaN, NaN, 0) where one is missing, or
        they are of other texts.
        """
        if self.loss is None or other.loss is None or self.measured_on != other.measured_on:
            return math.nan, math.nan, 0
        return self.loss.minus(other.loss)


def model_key(run: Run) -> str:
    """The name of a run's model in the store of results."""
    return unit_times.model_key(run.meta["model"])


def wilson(successes: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """The Wilson score interval of a proportion."""
    p, scale = successes / n, 1 + z * z / n
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


@dataclass(frozen=True)
class Points:
    """Energies against measured losses of the states of one M."""

    rows: list[Row]  # the states, and all that is measured of them
    energy: np.ndarray  # float64 [n]
    increase: np.ndarray  # float64 [n], nats above the original
    se: np.ndarray  # float64 [n], nats: its standard error

    @property
    def states(self) -> list[tuple[int, ...]]:
        """The removed blocks of every point."""
        return [row.removed for row in self.rows]

    @property
    def best(self) -> int:
        """The state of lowest loss."""
        return int(np.argmin(self.increase))

    @property
    def lowest(self) -> int:
        """The state of lowest energy among those that are measured."""
        return int(np.argmin(self.energy))

    @property
    def agreement(self) -> Agreement | None:
        """How well energy orders the losses; None where the points are too few to say."""
        return agreement(self.energy, self.increase)

    def tied(self) -> list[int]:
        """The states that cannot be told from the best.

        Their paired difference is within two standard errors.
        """
        best = self.rows[self.best]
        found = []
        for k, row in enumerate(self.rows):
            difference, se, n = row.above(best)
            if row is best or (n > 1 and difference <= 2 * se):
                found.append(k)
        return found


def points(rows: list[Row], energy: Mapping[tuple[int, ...], float]) -> Points:
    """The points of the rows that have both an energy, {state: energy}, and a measured increase, on the texts
    and in the settings of most of them: nats of other texts do not compare. A state that overflows is the
    worst; above an original that does nothing can be told.
    """
    both = [(row, row.increase) for row in rows if row.removed in energy and row.increase]
    both = [one for one in both if one[1][2] and one[1][0] > -math.inf]  # no NaN either
    rows_on = Counter(row.measured_on for row, _ in both)
    usual = max(rows_on, key=rows_on.__getitem__, default=None)
    both = [one for one in both if one[0].measured_on == usual]
    increase, se = (np.array([measured[k] for _, measured in both]) for k in (0, 1))
    return Points([row for row, _ in both], np.array([energy[row.removed] for row, _ in both]), increase, se)


def finding(
    found: Points,
    named: Mapping[tuple[int, ...], str],
    said: Callable[[tuple[int, ...]], str] = lambda state: ", ".join(map(str, state)),
) -> str:
    """What the measurements say about the energies, in one or two sentences; named: {state: what it is
    called}; said: how the units of any other are.
    """
    n = len(found.rows)
    if n < 2:
        return "Measure some states to see what their energies are worth."
    rank = found.agreement
    order = (
        f"{_word(rank)}: Spearman {rank.spearman:.2f} [{rank.low:.2f}, {rank.high:.2f}] over {n} measured "
        "states."
        if rank
        else f"{n} measured states are too few to say how well energy orders them."
    )
    best, lowest, tied = found.best, found.lowest, found.tied()
    if lowest in tied and len(tied) > 1:
        return f"{order} {len(tied)} of them cannot be told from the best, the lowest in energy among them."
    if lowest == best:
        return f"{order} The lowest in energy is the best."
    difference, se, _ = found.rows[lowest].above(found.rows[best])
    state = found.states[best]
    name = named.get(state) or f"without {said(state)}"
    error = "" if math.isnan(se) else f" ± {se:.4f}"
    return f"{order} The lowest in energy is not the best: {name} loses {difference:.4f}{error} nats less."


def _word(rank: Agreement) -> str:
    if rank.low > 0.8:
        return "Energy orders the losses well"
    if rank.low > 0:
        return "Energy orders the losses roughly"
    return (
        "Energy does not order the losses" if rank.high < 0.5 else "Whether energy orders the losses is open"
    )


def compare(run: Run, states: list[tuple[int, ...]], results: Results) -> list[Row]:
    """One row for the original and for every state, from the measurements of the run's model.

    Where a state was measured on several texts or settings, those count on which most of these states were
    measured beside the original, and of these the ones with most items in common with it. Tokens per second
    are of one setting for all.
    """
    return _rows(run, states, results.of_model(model_key(run), but=CHOSEN_ON), results)


def record(run: Run, states: list[tuple[int, ...]], results: Results) -> dict:
    """Every measurement of the original and of the states, item by item, with all that names it: for JSON.

    The same item of two states is the same sequence, question or request. A score is the mean of its values.
    """
    wanted = {(), *(run.units.stored(s) for s in states)}
    found = [m for m in results.of_model(model_key(run), but=CHOSEN_ON) if m.key.removed in wanted]
    model = {
        name: run.meta["model"][name]
        for name in ("name", "source", "config", "weights")
        if name in run.meta["model"]
    }
    return {
        "run": run.key,
        "model": model,
        "measurements": [
            {
                "removed": list(m.key.removed),
                "metric": m.key.metric,
                "split": m.key.split,
                "data": m.key.data,
                "settings": json.loads(m.key.settings),
                "n": len(m.values),
                "mean": m.mean,
                "se": None if math.isnan(m.se) else m.se,
                **(_tokens(m, results) if m.key.metric == KL else {}),
                "seconds": m.seconds,
                "versions": dict(m.versions),
                "items": m.items.tolist(),
                "values": m.values.tolist(),
            }
            for m in found
        ],
    }


def _tokens(kl: Measurement, results: Results) -> dict[str, float]:
    """Median and 99 % of the KL of single tokens, where their distribution was kept."""
    found = median_and_99(token_kl(results, kl.key).get(kl.key.removed, {}).values())
    return dict(zip(("median", "p99"), found)) if found else {}


def _rows(
    run: Run, states: list[tuple[int, ...]], found: list[Measurement], results: Results | None = None
) -> list[Row]:
    """results: where the distributions of the KL of tokens are read, if they are wanted."""
    originals = {(m.key.data, m.key.settings): m for m in found if _is_loss(m) and not m.key.removed}
    read = cache(lambda key: token_kl(results, key) if results else {})
    by_state: dict[tuple[int, ...], list[Measurement]] = {}
    for m, state in _in_view(run, found):
        by_state.setdefault(state, []).append(m)
    asked, texts = dict.fromkeys([(), *states]), _texts(originals.values())
    shared: Counter[Named] = Counter()
    for state in asked:
        shared.update({_named(m, texts) for m in by_state.get(state, [])})
    rows = [_row(run, state, by_state.get(state, []), originals, texts, shared) for state in [(), *states]]
    return [
        replace(row, distance=_distance(row.loss, by_state.get(row.removed, []), read)) if row.loss else row
        for row in rows
    ]


def _distance(
    loss: Measurement, own: list[Measurement], read: Callable[[Key], dict[tuple[Name, ...], dict[int, str]]]
) -> Distance | None:
    """To the original, measured beside the loss; None where it was not."""
    beside = {m.key.metric: m for m in own if replace(m.key, metric=LOSS) == loss.key}
    if not {KL, SAME} <= set(beside):
        return None
    histograms = read(replace(loss.key, removed=())).get(loss.key.removed, {})
    return distance_of(beside[KL].values, beside[SAME].values, histograms.values())


def _texts(originals: Iterable[Measurement]) -> dict[tuple[str, str], str]:
    """{(data, settings): the digest of the same texts that most was measured on}. A model's own samples have
    another digest for every number that is drawn, but the same sequences under the same numbers: so the
    original loses the same on each.
    """
    found: dict[tuple[str, str], str] = {}
    firsts: list[Measurement] = []
    for m in sorted(originals, key=lambda m: -len(m.values)):
        first = next((f for f in firsts if f.key.settings == m.key.settings and _same_items(f, m)), m)
        firsts += [m] if first is m else []
        found[m.key.data, m.key.settings] = first.key.data
    return found


def _same_items(a: Measurement, b: Measurement) -> bool:
    """Whether two measurements of one state agree on all items that both have, and there are some."""
    _, mine, theirs = np.intersect1d(a.items, b.items, return_indices=True)
    return len(mine) > 0 and np.allclose(a.values[mine], b.values[theirs], rtol=_ROUNDING, atol=0.0)


def _named(m: Measurement, texts: Mapping[tuple[str, str], str]) -> Named:
    """What is measured, of which texts and how: that of two states compares where it is the same."""
    return m.key.metric, texts.get((m.key.data, m.key.settings), m.key.data), m.key.settings


def _row(
    run: Run,
    state: tuple[int, ...],
    own: list[Measurement],
    originals: Mapping[tuple[str, str], Measurement],
    texts: Mapping[tuple[str, str], str],
    shared: Mapping[Named, int],
) -> Row:
    """What is measured of a state; originals: {(data, settings): the loss of the original there}; texts: as
    `_texts` gives them; shared: of how many of the states that are asked for each is measured.
    """

    def base_of(loss: Measurement | None) -> Measurement | None:
        return originals.get((loss.key.data, loss.key.settings)) if loss else None

    def compares(loss: Measurement) -> tuple[bool, int, int]:
        base = base_of(loss)
        common = loss.minus(base)[2] if base else 0
        return common > 0, shared[_named(loss, texts)], common

    model = run.meta["model"]
    loss = max(filter(_is_loss, own), key=compares, default=None)
    base = base_of(loss)
    timed = max((name for name in shared if name[0] == _SPEED), key=shared.__getitem__, default=None)
    tasks = [m for m in own if m.key.metric.startswith(_TASK)]
    return Row(
        state,
        model["parameters"] - sum(model["blocks"][b]["parameters"] for b in state),
        model["bytes"] - sum(model["blocks"][b]["bytes"] for b in state),
        loss,
        loss.minus(base) if state and loss and base else None,
        {
            m.key.metric.removeprefix(_TASK): _score(m)
            for m in sorted(tasks, key=lambda m: (shared[_named(m, texts)], len(m.values)))
        },
        next((m.mean for m in own if _named(m, texts) == timed), None),
        texts=_named(loss, texts)[1] if loss else "",
    )


def _score(m: Measurement) -> Score:
    n = len(m.values)
    return Score(m.mean, *wilson(float(m.values.sum()), n), n)


def _is_loss(m: Measurement) -> bool:
    return m.key.metric == LOSS and m.key.split == "report"


def _in_view(run: Run, found: Iterable[Measurement]) -> Iterator[tuple[Measurement, tuple[int, ...]]]:
    """(measurement, its state as the run is seen) of what can be said in that view: half a block is no state
    by block, and a store may hold what an old version let in.
    """
    state_of = cache(run.units.state)
    for m in found:
        state = state_of(m.key.removed)
        if state is not None:
            yield m, state


def measured_rows(run: Run, results: Results, removed: int) -> list[Row]:
    """The original, and every state of M blocks whose loss was measured."""
    found = results.of_model(model_key(run), but=CHOSEN_ON)
    states = {state for m, state in _in_view(run, filter(_is_loss, found)) if len(state) == removed}
    return _rows(run, sorted(states), found)


def pair_losses(run: Run, results: Results) -> dict[tuple[int, ...], Measurement]:
    """{state: its loss} of the original, single removals and pairs, all on the same texts: those that most
    pairs were measured on.
    """
    found = filter(_is_loss, results.of_model(model_key(run), but=CHOSEN_ON))
    by_text: dict[tuple[str, str], dict[tuple[int, ...], Measurement]] = {}
    for m, state in _in_view(run, found):
        if len(state) <= 2:
            by_text.setdefault((m.key.data, m.key.settings), {})[state] = m
    return max(by_text.values(), key=lambda own: sum(len(s) == 2 for s in own), default={})


def measured_increases(run: Run, results: Results) -> dict[tuple[int, ...], tuple[float, float, int]]:
    """{state: (loss increase, standard error, n)} of every measured state of the run's model."""
    found = results.of_model(model_key(run), but=CHOSEN_ON)
    states = {state for _, state in _in_view(run, filter(_is_loss, found)) if state}
    return {
        row.removed: row.increase
        for row in _rows(run, sorted(states), found)
        if row.increase and row.increase[2]
    }


def measured_kl(run: Run, results: Results) -> dict[tuple[int, ...], Mean]:
    """{state: its KL to the original, nats a token} of every state of the run's model that it is measured of.

    Of several texts or settings the one with the most sequences counts.
    """
    found = results.of_model(model_key(run), but=CHOSEN_ON)
    own = [(m, s) for m, s in _in_view(run, found) if m.key.metric == KL and s]
    return {state: mean_of(m.values) for m, state in sorted(own, key=lambda one: len(one[0].values))}
