"""The searches on a real model: `python -m core study --model M --texts A --judge B --work DIR --searches`.

    docs/beds/<model>/searches.json    what each method held after so many forwards, by M and seed, and what
                                       that loses on sequences of texts B that no choice has seen

A seed draws the searches' randomness and, with it, SEQUENCES choosing sequences of its own of texts A, none
of which the run has looked at. Ours is there twice: from nothing, where every forward is counted, and on a
run that is there, whose cost the page tells beside. Every search that ends is kept, and losses are kept in
DIR/home as they are measured: the same command goes on where it was stopped.
"""

import json
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import torch

from core.choose import other_methods
from core.choose.bed import Bed, depths_of, read_bed
from core.choose.learning import from_nothing, from_run, learn
from core.energy.learned import KnownPairs
from core.errors import InputError
from core.measure.state_losses import Forwards, State, open_forwards
from core.model.load import load_model
from core.store.runs import Run, load_run
from core.texts.documents import read_texts
from core.texts.packing import pack
from core.texts.sequences import part_of

LOG = logging.getLogger(__name__)
# tokens; sequences: to choose on, of a chunk, passed over because a run may have looked at them, to judge on
LENGTH, SEQUENCES, CHUNK, SKIPPED, JUDGED = 128, 4, 1, 32, 16
SEEDS, BUDGET = (0, 1, 2), 60  # forwards
MEMORY, FILE = 1 << 30, "searches.json"  # bytes of hidden states
FREE = ("block influence", "angular window")
Curve = list[tuple[float, float, State]]  # forwards, loss on the choosing sequences, ever better states


@dataclass(frozen=True)
class Search:
    """What one search has found."""

    method: str
    removed: int
    seed: int
    budget: float
    curve: Curve

    def held(self, forwards: float = np.inf) -> State | None:
        """The state at hand after so many forwards; None where there was none yet."""
        found = [state for spent, _, state in self.curve if spent <= forwards]
        return found[-1] if found else None

    @property
    def cost(self) -> float:
        """Forwards when the last state was found."""
        return self.curve[-1][0]


@dataclass(frozen=True)
class Searches:
    """What all have found, and what their states lose on the judging sequences."""

    meta: dict
    found: tuple[Search, ...]
    judged: dict[State, np.ndarray]  # float64 [S]: nats above the original
    free: dict[str, dict[int, State]]  # what the rules of FREE choose

    def get(self, method: str, removed: int, seed: int) -> Search | None:
        """The search of a method, if it is there."""
        return next((s for s in self.found if (s.method, s.removed, s.seed) == (method, removed, seed)), None)

    def has(self, method: str, removed: int, seed: int, budget: float) -> bool:
        """Whether that search is there with at least this budget; greedy takes none."""
        own = self.get(method, removed, seed)
        return own is not None and (own.budget >= budget or method == GREEDY)

    def write(self, path: Path) -> None:
        """All of it in one file, whole or not at all."""
        content = {
            "meta": self.meta,
            "searches": [vars(s) for s in self.found],
            "judged": [[s, np.round(v, 4).tolist()] for s, v in sorted(self.judged.items())],
            "free": self.free,
        }
        staging = path.with_suffix(".part")
        staging.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")
        os.replace(staging, path)


def read_searches(path: Path) -> Searches:
    """What `Searches.write` wrote."""
    content = json.loads(path.read_text(encoding="utf-8"))
    found = (
        Search(**{**s, "curve": [(f, loss, tuple(state)) for f, loss, state in s["curve"]]})
        for s in content["searches"]
    )
    free = {name: {int(m): tuple(s) for m, s in own.items()} for name, own in content["free"].items()}
    return Searches(
        content["meta"], tuple(found), {tuple(s): np.array(v) for s, v in content["judged"]}, free
    )


@dataclass(frozen=True)
class Asked:
    """What a method is asked for."""

    meter: Forwards
    run: Run
    removed: int  # M
    seed: int
    influence: State  # the blocks of lowest block influence


def _greedy(asked: Asked, budget: float) -> Curve:
    """Takes what it takes: neither budget nor seed change it."""
    return _points([other_methods.greedy(asked.meter, asked.removed)[asked.removed]])


def _evolutionary(asked: Asked, budget: float) -> Curve:
    return _points(other_methods.evolutionary(asked.meter, asked.removed, budget, asked.seed))


def _points(choices: Iterable[other_methods.Choice]) -> Curve:
    return [(c.forwards, c.loss, c.removed) for c in choices if c.loss is not None]


def _from_nothing(asked: Asked, budget: float) -> Curve:
    asked.meter.charged += 1  # block influence
    return _learned(from_nothing(asked.meter.blocks), asked, budget)


def _from_run(asked: Asked, budget: float) -> Curve:
    return _learned(from_run(asked.run), asked, budget)


def _learned(known: KnownPairs, asked: Asked, budget: float) -> Curve:
    found = learn(known, asked.meter, asked.removed, budget, proposals=[asked.influence], seed=asked.seed)
    return found.curve


GREEDY, EVOLUTIONARY, SCRATCH, LEARNED = "greedy", "evolutionary", "learned from nothing", "learned on a run"
METHODS: dict[str, Callable[[Asked, float], Curve]] = {
    GREEDY: _greedy,
    EVOLUTIONARY: _evolutionary,
    SCRATCH: _from_nothing,
    LEARNED: _from_run,
}


def measure(
    model: str,
    texts: str,
    judge: str,
    folder: Path,
    methods: Sequence[str] = (),
    budget: float = BUDGET,
    seeds: Sequence[int] = SEEDS,
) -> Searches:
    """The searches that are asked for (none: all) and not there yet at this budget, on the run and the bed of
    `folder`; those that are there stay, unless they were measured on other texts.

    Errors: InputError for a method that is not one of METHODS.
    """
    if unknown := set(methods) - set(METHODS):
        raise InputError(f"There is no search {sorted(unknown)[0]!r}; there are {', '.join(METHODS)}.")
    torch.set_num_threads(1)
    loaded, run, bed = load_model(model), load_run(folder / "run"), read_bed(folder / "bed.npz")
    tokens = lambda source, split, count: pack(  # noqa: E731
        read_texts(source), loaded.tokenizer, split, LENGTH, count
    )
    unseen = open_forwards(loaded, tokens(judge, "report", JUDGED), memory=MEMORY)
    choose = tokens(texts, "choose", SKIPPED + SEQUENCES * (max(SEEDS) + 1))
    names = {"texts": Path(texts).name, "judge": Path(judge).name}
    sizes = {"length": LENGTH, "sequences": SEQUENCES, "chunk": CHUNK, "judged": JUDGED}
    searches, path = Searches({**names, **sizes}, (), {}, _free(bed)), folder / FILE
    if path.exists() and (earlier := read_searches(path)).meta == searches.meta:
        searches = earlier
    for seed, m, name in product(seeds, depths_of(run.blocks), methods or METHODS):
        if searches.has(name, m, seed, budget):
            continue
        first = SKIPPED + seed * SEQUENCES
        own = part_of(choose, slice(first, first + SEQUENCES))
        meter = open_forwards(loaded, own, memory=MEMORY, chunk=CHUNK)
        curve = METHODS[name](Asked(meter, run, m, seed, searches.free[FREE[0]][m]), budget)
        meter.save()
        LOG.info("%s, M = %d, seed %d: %.4f after %.1f forwards", name, m, seed, curve[-1][1], curve[-1][0])
        searches = _with(searches, Search(name, m, seed, budget, curve), unseen)
        searches.write(path)
    unseen.save()
    return searches


def _free(bed: Bed) -> dict[str, dict[int, State]]:
    """What the rules of FREE choose, as the bed holds it."""
    return {
        name: {
            m: bed.removed[bed.groups[f"{name}-{m}"][0]]
            for m in depths_of(bed.blocks)
            if f"{name}-{m}" in bed.groups
        }
        for name in FREE
    }


def _with(searches: Searches, new: Search, unseen: Forwards) -> Searches:
    """With a search in its place, and with every state judged that some column of the page looks at."""
    found = [
        s for s in searches.found if (s.method, s.removed, s.seed) != (new.method, new.removed, new.seed)
    ]
    found = sorted([*found, new], key=lambda s: (s.seed, s.removed, list(METHODS).index(s.method)))
    searches = replace(searches, found=tuple(found))
    states = {s for own in searches.free.values() for s in own.values()}
    for search in found:
        states |= {s for at in looked_at(searches, search) if (s := search.held(at)) is not None}
    base = unseen.whole(())
    judged = {s: searches.judged[s] if s in searches.judged else unseen.whole(s) - base for s in states}
    return replace(searches, judged=judged)


def looked_at(searches: Searches, search: Search) -> list[float]:
    """Forwards at which what a search holds is looked at: N, 2 N, a third of what greedy takes on the same
    sequences, and its end.
    """
    greedy = searches.get(GREEDY, search.removed, search.seed)
    return [BUDGET / 2, BUDGET, *([greedy.cost / 3] if greedy else []), np.inf]
