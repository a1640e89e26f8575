"""The searches on a real model: `python -m core study --model M --texts A --judge B --work DIR --searches`.

    docs/beds/<model>/searches.json    what each method held after so many forwards, by M and seed, and what
                                       that loses on sequences of texts B that no choice has seen

A seed draws the searches' randomness and, with it, SEQUENCES choosing sequences of its own of texts A, none
of which the run has looked at. Ours is there twice: from nothing, where every forward is counted, and on a
run that is there, whose cost the page tells beside. Every search that ends is a part of its own
(core.choose.bed_parts), and losses are kept in DIR/home as they are measured: the same command goes on where
it was stopped.
"""

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import product
from pathlib import Path

import numpy as np
import torch

from core.choose import other_methods
from core.choose.bed import depths_of, read_bed
from core.choose.bed_parts import Parts, machine_of, written
from core.choose.learning import from_nothing, from_run, learn
from core.energy.learned import KnownPairs
from core.errors import InputError
from core.measure.state_losses import Forwards, State, open_forwards
from core.model.load import LoadedModel
from core.store.runs import Run, load_run
from core.texts.documents import read_texts
from core.texts.packing import pack
from core.texts.sequences import Sequences, part_of

LOG = logging.getLogger(__name__)
# tokens; sequences: to choose on, of a chunk, passed over because a run may have looked at them, to judge on
LENGTH, SEQUENCES, CHUNK, SKIPPED, JUDGED = 128, 16, 4, 64, 64
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

    def write(self, path: Path) -> None:
        """All of it in one file, whole or not at all."""
        content = {
            "meta": self.meta,
            "searches": [vars(s) for s in self.found],
            "judged": [[s, np.round(v, 4).tolist()] for s, v in sorted(self.judged.items())],
            "free": self.free,
        }
        written(path, content)


def read_searches(path: Path) -> Searches:
    """What `Searches.write` wrote."""
    content = json.loads(path.read_text(encoding="utf-8"))
    judged = {tuple(s): np.array(v) for s, v in content["judged"]}
    found = tuple(map(_read_search, content["searches"]))
    return Searches(content["meta"], found, judged, _read_free(content["free"]))


def _read_search(fields: dict) -> Search:
    return Search(**{**fields, "curve": [(f, loss, tuple(state)) for f, loss, state in fields["curve"]]})


def _read_free(free: dict) -> dict[str, dict[int, State]]:
    return {name: {int(m): tuple(s) for m, s in own.items()} for name, own in free.items()}


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


@dataclass(frozen=True)
class Study:
    """What searches are measured with: a model, its text sources, the folder of its bed, and where parts
    lie.
    """

    loaded: LoadedModel
    texts: str
    judge: str
    folder: Path
    parts: Parts

    def tokens(self, source: str, split: str, count: int) -> Sequences:
        """Sequences of a text source."""
        return pack(read_texts(source), self.loaded.tokenizer, split, LENGTH, count)

    @cached_property
    def run(self) -> Run:
        """The bed's."""
        return load_run(self.folder / "run")

    @cached_property
    def free(self) -> dict[str, dict[int, State]]:
        """What the rules of FREE choose, as the bed holds it."""
        bed = read_bed(self.folder / "bed.npz")
        return {
            name: {
                m: bed.removed[bed.groups[f"{name}-{m}"][0]]
                for m in depths_of(bed.blocks)
                if f"{name}-{m}" in bed.groups
            }
            for name in FREE
        }

    @cached_property
    def choosing(self) -> Sequences:
        """What all seeds choose on, behind what a run may have looked at."""
        return self.tokens(self.texts, "choose", SKIPPED + SEQUENCES * (max(SEEDS) + 1))

    @cached_property
    def unseen(self) -> Forwards:
        """Over the sequences that states are judged on."""
        return open_forwards(self.loaded, self.tokens(self.judge, "report", JUDGED), memory=MEMORY)

    def judged(self, states: Iterable[State]) -> list:
        """[[state, nats above the original of each judging sequence]]."""
        base = self.unseen.whole(())
        found = [[s, np.round(self.unseen.whole(s) - base, 4).tolist()] for s in dict.fromkeys(states)]
        self.unseen.save()
        return found

    def search(self, method: str, m: int, seed: int, budget: float) -> dict:
        """{search: its fields, judged: what all states that it held lose}."""
        first = SKIPPED + seed * SEQUENCES
        own = part_of(self.choosing, slice(first, first + SEQUENCES))
        meter = open_forwards(self.loaded, own, memory=MEMORY, chunk=CHUNK)
        curve = METHODS[method](Asked(meter, self.run, m, seed, self.free[FREE[0]][m]), budget)
        meter.save()
        LOG.info("%s, M = %d, seed %d: %.4f after %.1f forwards", method, m, seed, curve[-1][1], curve[-1][0])
        return {
            "search": vars(Search(method, m, seed, budget, curve)),
            "judged": self.judged(state for _, _, state in curve),
        }

    def rules(self) -> dict:
        """{meta, free, judged} of what the rules of FREE choose."""
        names = {"texts": Path(self.texts).name, "judge": Path(self.judge).name}
        sizes = {"length": LENGTH, "sequences": SEQUENCES, "chunk": CHUNK, "judged": JUDGED}
        states = (s for own in self.free.values() for s in own.values())
        meta = {**names, **sizes, "machine": machine_of(self.loaded)}
        return {"meta": meta, "free": self.free, "judged": self.judged(states)}


def measure(
    study: Study, methods: Sequence[str] = (), budget: float = BUDGET, seeds: Sequence[int] = SEEDS
) -> bool:
    """This process's share of the searches that are asked for (none: all) and not there yet at this budget;
    whether all are there now.

    Errors: InputError for a method that is not one of METHODS.
    """
    if unknown := set(methods) - set(METHODS):
        raise InputError(f"There is no search {sorted(unknown)[0]!r}; there are {', '.join(METHODS)}.")
    torch.set_num_threads(1)
    parts: dict[str, Callable[[], object]] = {"search-rules": study.rules}
    for seed, m, method in product(seeds, depths_of(study.run.blocks), methods or METHODS):
        spends = "" if method == GREEDY else f"-{budget:g}"
        name = f"search-{method.replace(' ', '_')}-{m}-{seed}{spends}"
        parts[name] = partial(study.search, method, m, seed, budget)
    return study.parts.make(parts)


def collect(parts: Parts, folder: Path) -> None:
    """searches.json from the parts that are there, of each search the one with the largest budget; what was
    measured before stays where there are none.
    """
    found = parts.read("search")
    rules = found.pop("search-rules", None)
    if rules is None or not found:
        return
    searches: dict[tuple[str, int, int], Search] = {}
    known = {tuple(s): np.array(v) for part in (rules, *found.values()) for s, v in part["judged"]}
    for part in found.values():
        search = _read_search(part["search"])
        at = search.method, search.removed, search.seed
        if at not in searches or searches[at].budget < search.budget:
            searches[at] = search
    order = sorted(searches.values(), key=lambda s: (s.seed, s.removed, list(METHODS).index(s.method)))
    every = Searches(rules["meta"], tuple(order), known, _read_free(rules["free"]))
    states = {s for own in every.free.values() for s in own.values()}
    for search in order:
        states |= {s for at in looked_at(every, search) if (s := search.held(at)) is not None}
    replace(every, judged={s: known[s] for s in states}).write(folder / FILE)


def looked_at(searches: Searches, search: Search) -> list[float]:
    """Forwards at which what a search holds is looked at: N, 2 N, a third of what greedy takes on the same
    sequences, and its end.
    """
    greedy = searches.get(GREEDY, search.removed, search.seed)
    return [BUDGET / 2, BUDGET, *([greedy.cost / 3] if greedy else []), np.inf]
