"""Finer cuts on the model of a bed: attention and FFN on their own against whole blocks, at equal keys and
values, equal weights and equal milliseconds a token, on sequences that no choice has seen.

    docs/beds/<model>/times.json    milliseconds a token, of the whole model and of a branch of each kind
    docs/beds/<model>/units.json    the choices, what each loses sequence by sequence, random states of units,
                                    and what the best of each kind has right on tasks

It is measured by `python -m core study --model M --units ...`, part by part (core.choose.bed_parts), and told
by core.choose.bed_units_page.
"""

import json
import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from core.choose import other_methods
from core.choose.bed_parts import Parts, machine_of, written
from core.choose.learning import from_run, learn
from core.energy.couplings import couplings
from core.ising.units import BLOCK, BRANCH, Name, State, Units
from core.measure.state_losses import Forwards, by_prefix, open_forwards
from core.measure.task_walk import item_values
from core.measure.token_time import time_by_kind
from core.model.load import LoadedModel
from core.spectrum.constraints import Constraints
from core.spectrum.lowest import lowest_states
from core.store.runs import Run, load_run
from core.tasks.presets import PRESETS, Preset
from core.tasks.presets import asked as asked_for
from core.texts.documents import read_texts
from core.texts.packing import pack
from core.texts.sequences import Sequences, part_of

LOG = logging.getLogger(__name__)
FILE, TIMES = "units.json", "times.json"
# tokens; sequences of the choosing split that the run has seen, that a seed chooses on; to judge on
LENGTH, SKIPPED, CHOOSING, JUDGED = 128, 64, 16, 64
BUDGET, SEEDS = 40.0, (0, 1, 2)  # forwards of CHOOSING sequences that learning gets
RANDOM = 40  # states of each random group
ENDS = 1  # blocks at each end that random states leave in
MEMORY = 2 << 30  # bytes of hidden states
ESTIMATORS = ("h0", "singles", "hybrid", "secant")
CONTEXTS, TIME_SHARES = (1024, 8192), (80, 75)  # tokens; percent of the milliseconds that are left
ITEMS = 200  # of each task
WHOLE, UNITS, ATTENTION = SPACES = ("whole blocks", "units", "attention only")


@dataclass(frozen=True)
class Space:
    """Where a choice is looked for: which units may go, and how many or how much."""

    removed: int | None  # units; None: as many as the budget asks for
    constraints: Constraints | None = None


@dataclass(frozen=True)
class Target:
    """What must go: so much of what each unit weighs, of every kind of choice that can give it."""

    name: str
    about: str
    cost: np.ndarray  # float64 [units]
    least: float
    spaces: dict[str, Space]


def targets_of(run: Run, times: dict | None = None) -> list[Target]:
    """Three and four fifths of the keys and values are left; the weights of a fifth and of a third of the
    blocks go; 80 and 75 % of the milliseconds a token are left. run: seen by branch; times: as
    `measured_times` gives them.
    """
    parts, n = run.meta["model"]["blocks"], len(run.units.of_block)
    column = lambda name: np.array([float(p[name]) for p in parts])  # noqa: E731
    kv, weights = column("kv_bytes"), column("bytes")
    found = []
    for count in (round(2 * n / 5), round(n / 5)):
        share = 100 - round(100 * count / n)
        found.append(
            _target(run, f"kv {share} %", f"the keys and values of {count} of {n} blocks go", kv, count / n)
        )
    for count in (round(n / 5), round(n / 3)):
        found.append(
            _target(run, f"weights of {count} blocks", f"what {count} blocks weigh goes", weights, count / n)
        )
    for context, own in (times or {"contexts": {}})["contexts"].items():
        cost = np.array([own["kinds"].get(p["kind"], {"milliseconds": 0.0})["milliseconds"] for p in parts])
        for share in TIME_SHARES:
            gone = (1 - share / 100) * own["milliseconds"]
            if gone < cost.sum():
                about = f"{gone:.3g} of {own['milliseconds']:.3g} ms a token go"
                name = f"time at {context} tokens {share} %"
                found.append(_target(run, name, about, cost, gone / cost.sum()))
    return found


def _target(run: Run, name: str, about: str, cost: np.ndarray, share: float) -> Target:
    """A target of a share of all that units cost. Blocks and attentions go in numbers that are enough
    whichever they are.
    """
    units, parts = run.units, run.meta["model"]["blocks"]
    least = float(cost.sum()) * share * (1 - 1e-9)
    attention = tuple(u for u, p in enumerate(parts) if p["kv_bytes"])
    rest = tuple(u for u in range(len(units)) if u not in attention)
    blocks = _enough(np.array([cost[list(own)].sum() for own in units.of_block]), least)
    count = _enough(cost[list(attention)], least)
    spaces = {}
    if blocks:
        spaces[WHOLE] = Space(blocks)
    if cost[list(rest)].any():  # or else units are attention only
        spaces[UNITS] = Space(None, Constraints(weights=(tuple(cost.tolist()),), at_least=(least,)))
    if count:
        spaces[ATTENTION] = Space(count, Constraints(groups=((attention, count), (rest, 0))))
    return Target(name, about, cost, least, spaces)


def _enough(costs: np.ndarray, least: float) -> int:
    """How many go so that `least` goes even where they are the lightest; 0 where all are not enough, or all
    but none would be left.
    """
    total = np.cumsum(np.sort(costs))
    count = int((total < least).sum()) + 1
    return count if count < len(costs) else 0


@dataclass(frozen=True)
class Asked:
    """What finer cuts are measured with. texts, judge: text sources; tasks: a protocol, None for none."""

    loaded: LoadedModel
    texts: str
    judge: str
    folder: Path  # of the bed
    parts: Parts
    tasks: Preset | None = None


def measure(asked: Asked) -> bool:
    """The share of what each way of choosing takes for each target, judged, and of random states; where all
    of that is there, of the tasks. Whether everything is there.
    """
    study = _Study(asked)
    made: dict[str, Callable[[], object]] = {
        f"units-{number}-{space.replace(' ', '_')}": partial(study.choices, target, space)
        for number, target in enumerate(study.targets)
        for space in target.spaces
    }
    made |= {f"units-random-{k}": partial(study.random, name) for k, name in enumerate(study.groups)}
    if not asked.parts.make(made):
        return False
    if asked.tasks is None:
        return True
    chosen = best_choices(_all_choices(asked.parts))
    states = list(dict.fromkeys([(), *(state_of(c["removed"], study.run.units) for c in chosen)]))
    return asked.parts.make(
        {f"units-tasks-{k}": partial(study.right, task, states) for k, task in enumerate(asked.tasks.tasks)}
    )


def collect(parts: Parts, folder: Path) -> None:
    """units.json from the parts that are there; what was measured before stays where there are none."""
    choices, found = _all_choices(parts), parts.read("units-random")
    if choices or found:
        tasks = parts.read("units-tasks").values()
        meta = parts.one("units-meta", dict)
        content = {
            "meta": meta,
            "choices": choices,
            "random": {k: v for p in found.values() for k, v in p.items()},
        }
        written(folder / FILE, content | {"tasks": {t["task"]: t for t in tasks}})


def _all_choices(parts: Parts) -> list[dict]:
    found = parts.read("units")
    return [c for name, own in found.items() if name.split("-")[1].isdigit() for c in own]


def best_choices(choices: list[dict]) -> list[dict]:
    """Of each target and kind of choice the one that loses least on the choosing sequences: what is judged
    has no say.
    """
    best: dict[tuple[str, str], dict] = {}
    for c in choices:
        at = c["target"], c["space"]
        if at not in best or c["chosen on"] < best[at]["chosen on"]:
            best[at] = c
    return list(best.values())


def protocol_of(tasks: str) -> Preset:
    """The five tasks of quick-real over a folder of their rows; or one task, the demo's by its name
    "bundled". Errors: InputError.
    """
    if Path(tasks).is_dir():
        return asked_for((), "quick-real", None, tasks)[0]
    named: tuple[tuple[str, ...], str | None] = ((), tasks) if tasks in PRESETS else ((tasks,), None)
    return asked_for(*named, shots=None)[0]


def measured_times(loaded: LoadedModel, folder: Path) -> dict:
    """{machine, contexts: {tokens: {milliseconds, kinds}}}, measured once for a model and kept beside its
    bed. A model that has not the positions is timed at the longest context that it has.
    """
    file = folder / TIMES
    if not file.exists():
        most = loaded.max_length or max(CONTEXTS)
        contexts = [c for c in CONTEXTS if c <= most] or [most]
        found = {}
        for context in contexts:
            LOG.info("timing tokens at %d", context)
            time = time_by_kind(loaded, context)
            kinds = {k: {"milliseconds": round(v.milliseconds, 5)} for k, v in time.kinds.items()}
            found[str(context)] = {"milliseconds": round(time.milliseconds, 5), "kinds": kinds}
        written(file, {"machine": machine_of(loaded), "contexts": found})
    return json.loads(file.read_text(encoding="utf-8"))


class _Study:
    """What is measured of one model."""

    def __init__(self, asked: Asked):
        self.asked = asked
        self.whole = load_run(asked.folder / "run")
        self.run, self.loaded = self.whole.seen(BRANCH), asked.loaded.seen(BRANCH)
        self.targets = targets_of(self.run, measured_times(asked.loaded, asked.folder))
        self.groups = random_groups(self.run)
        self.asked.parts.one(
            "units-meta",
            lambda: {
                **{"texts": Path(asked.texts).name, "judge": Path(asked.judge).name},
                "machine": machine_of(asked.loaded),
                **{
                    "length": LENGTH,
                    "judged": JUDGED,
                    "choosing": CHOOSING,
                    "budget": BUDGET,
                    "seeds": len(SEEDS),
                },
                "preset": asked.tasks.name if asked.tasks else "",
            },
        )

    def _tokens(self, source: str, split: str, count: int) -> Sequences:
        return pack(read_texts(source), self.loaded.tokenizer, split, LENGTH, count)

    @cached_property
    def unseen(self) -> Forwards:
        """Over the sequences that choices are judged on."""
        return open_forwards(self.loaded, self._tokens(self.asked.judge, "report", JUDGED), memory=MEMORY)

    @cached_property
    def choosing(self) -> Sequences:
        """What all seeds choose on."""
        found = self._tokens(self.asked.texts, "choose", SKIPPED + CHOOSING * len(SEEDS))
        return part_of(found, slice(SKIPPED, None))

    @cached_property
    def chosen_on(self) -> Forwards:
        """Over those."""
        return open_forwards(self.loaded, self.choosing, memory=MEMORY)

    @cached_property
    def influence(self) -> dict[str, dict]:
        """Block influence by block and by branch, on sequences that the run has seen."""
        look = self._tokens(self.asked.texts, "choose", SKIPPED)
        return {
            by: other_methods.block_influence(self.loaded.seen(by), look, len(self.run.seen(by).units))
            for by in (BLOCK, BRANCH)
        }

    def choices(self, target: Target, space: str) -> list[dict]:
        """What every way chooses for a target, judged."""
        found = []
        for name, state, forwards in (*self._given(target, space), *self._learned(target, space)):
            increase = self._increase(self.unseen, state)
            choice = {
                **{"target": target.name, "about": target.about, "space": space, "method": name},
                "removed": self.run.units.listed(state),
                "forwards": round(forwards, 1),
                "chosen on": round(float(self._increase(self.chosen_on, state).mean()), 5),
                "increase": increase.round(4).tolist(),
            }
            LOG.info("%s, %s, %s: %+.3f", target.name, space, name, increase.mean())
            found.append(choice)
        return found

    def _branches(self, blocks: State) -> State:
        return tuple(u for b in blocks for u in self.run.units.of_block[b])

    def _given(self, target: Target, space: str) -> Iterator[tuple[str, State, float]]:
        """(how it is chosen, its units, forwards beyond the calibration) of what costs nothing more."""
        own = target.spaces[space]
        if space == WHOLE:
            assert own.removed is not None
            for name in ("singles", "pairs"):
                blocks = lowest_states(couplings(self.whole, name), own.removed, 1).removed[0]
                yield name, self._branches(blocks), 0.0
            yield "block influence", self._branches(self.influence[BLOCK][own.removed].removed), 0.0
            return
        for name in ESTIMATORS:
            found = lowest_states(couplings(self.run, name), own.removed, 1, constraints=own.constraints)
            yield name, found.removed[0], 0.0
        if space == ATTENTION:  # LLM-Drop chooses among attentions alone
            assert own.constraints is not None
            allowed = own.constraints.groups[0][0]
            kept = [u for u in _by_influence(self.influence[BRANCH]) if u in allowed][: own.removed]
            yield "block influence (LLM-Drop)", tuple(sorted(kept)), 0.0

    def _learned(self, target: Target, space: str) -> Iterator[tuple[str, State, float]]:
        """By learning, once a seed, each on choosing sequences of its own."""
        own, by = target.spaces[space], BLOCK if space == WHOLE else BRANCH
        run = self.whole if by == BLOCK else self.run
        for seed in SEEDS:
            first = CHOOSING * seed
            part = part_of(self.choosing, slice(first, first + CHOOSING))
            meter = open_forwards(self.loaded.seen(by), part, memory=MEMORY)
            found = learn(from_run(run), meter, own.removed, BUDGET, constraints=own.constraints, seed=seed)
            state = self._branches(found.removed) if by == BLOCK else found.removed
            yield f"learned, seed {seed}", state, found.forwards

    def random(self, name: str) -> dict[str, dict[str, float]]:
        """{group: {state: its mean increase}} of random states."""
        order = by_prefix(self.groups[name], len(self.run.units))
        found = {s: float(self._increase(self.unseen, s).mean()) for s in order}
        self.unseen.save()
        return {name: {self.run.units.write(s): round(v, 4) for s, v in found.items()}}

    def right(self, task: str, states: list[State]) -> dict:
        """{task, metric, right: {state: a 1 or 0 for each item}}."""
        assert self.asked.tasks is not None
        protocol = replace(self.asked.tasks, tasks=(task,))
        ((name, values),) = item_values(self.loaded, protocol, states, ITEMS).items()
        told = ("".join(map(str, own)) for own in values.astype(int).tolist())
        right = {self.run.units.write(s): own for s, own in zip(states, told)}
        return {"task": name, "metric": protocol.quoted(name), "right": right}

    @staticmethod
    def _increase(meter: Forwards, state: State) -> np.ndarray:
        """float64 [S]: nats above the original."""
        found = meter.whole(state) - meter.whole(())
        meter.save()
        return found


def _by_influence(choices: dict) -> list[int]:
    """Units in the order in which block influence takes them."""
    order: list[int] = []
    for m in sorted(choices):
        order += [u for u in choices[m].removed if u not in order]
    return order


def random_groups(run: Run) -> dict[str, list[State]]:
    """Random states of each kind, the blocks at the ends left in. run: seen by branch."""
    units, rng = run.units, np.random.default_rng(0)
    parts, n = run.meta["model"]["blocks"], len(run.units.of_block)
    inner = [u for u in range(len(units)) if ENDS <= units.block[u] < n - ENDS]
    attention = [u for u in inner if parts[u]["kv_bytes"]]
    rest = [u for u in inner if not parts[u]["kv_bytes"]]
    least = sum(p["bytes"] for p in parts) / 5

    def mixed() -> State:
        state: list[int] = []
        for u in rng.permutation(inner):
            if sum(parts[v]["bytes"] for v in state) >= least:
                break
            state.append(int(u))
        return tuple(sorted(state))

    def some(among: list[int], count: int) -> State:
        return tuple(sorted(int(u) for u in rng.choice(among, count, replace=False)))

    def states(draw: Callable[[], State]) -> list[State]:
        found = {draw(): None for _ in range(4 * RANDOM)}  # small models have few of a kind
        return list(found)[:RANDOM]

    few, many, ffns = round(n / 5), round(2 * n / 5), math.ceil(n / 8)
    return {
        f"{few} attentions": states(lambda: some(attention, few)),
        f"{many} attentions": states(lambda: some(attention, many)),
        f"{ffns} FFNs": states(lambda: some(rest, ffns)),
        "weights of a fifth of the blocks": states(mixed),
    }


def state_of(removed: list[Name], units: Units) -> State:
    """The state of a choice."""
    state = units.state(removed)
    assert state is not None  # of the bed's own model
    return state
