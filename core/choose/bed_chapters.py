"""What the study of a real model measures beyond its bed (core.choose.bed_study), chapter by chapter:

    domains     calibrated on some texts, judged on each
    variance    what the chosen state owes to calibration data, estimator, searcher and sample
    lowest      the lowest states of two energies: losses, and two tasks
    tasks       five tasks for the states that would be chosen
    tale        greedy by the accuracy on a task (TALE, arXiv 2510.22767)

Each is made once and kept in DIR/<model>/<part>.json; together they are docs/beds/<model>/chapters.json, from
which core.choose.bed_page writes.
"""

import itertools
import json
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from core.calibration.calibrate import calibrate
from core.calibration.corpus import draw, read_sources
from core.choose.bed import Bed, depths_of
from core.choose.bed_study import JUDGED, LENGTH, MEMORY
from core.choose.study_parts import kept_part
from core.energy.couplings import couplings
from core.ising.energies import energies
from core.ising.states import removed_blocks
from core.measure.state_losses import State, by_prefix, open_forwards, singles_order
from core.measure.task_walk import item_values
from core.model.load import LoadedModel
from core.spectrum.lowest import lowest_states
from core.store import folders
from core.store.runs import Run, load_run
from core.tasks.presets import asked
from core.texts.sequences import Sequences
from core.texts.text_source import OWN, parse_source

LOG = logging.getLogger(__name__)
ROWS, SINGLES = 64, 16  # sequences of a domain: gradient rows, single removals
UNSEEN, OTHERS = 16, 16  # to judge on: of the bed's own texts; of any other domain, and in the variance table
SEEDS, SHARE = 3, 0.5  # samples of the variance table, each so much of the rows and of the single removals
LOWEST, LOWEST_TASKS, LOWEST_ITEMS = 20, ("arc_easy", "piqa"), 100
ITEMS = 200  # of each of the five tasks
TALE_TASK, TALE_ITEMS, TALE_JUDGED, TALE_MOST = "arc_easy", 100, 100, 3
CHAPTERS = ("domains", "variance", "lowest", "tasks", "tale")


@dataclass(frozen=True)
class Asked:
    """What the chapters are measured with.

    texts, judge: the bed's own; domains: more text sources, as `parse_source` reads them; data: a folder with
    the tasks' rows; work: where finished parts lie.
    """

    model: str
    texts: str
    judge: str
    domains: tuple[str, ...]
    data: str | None
    work: Path


@dataclass(frozen=True)
class Calibrated:
    """What a domain says of a model: rows float64 [ROWS, N], single removals float64 [N, SINGLES] in nats."""

    A: np.ndarray
    singles: np.ndarray
    pairs: np.ndarray | None = None  # the default couplings, where its run has them

    def sample(self, seed: int) -> "Calibrated":
        """A random part of its sequences."""
        rng = np.random.default_rng(seed)
        rows, own = (rng.permutation(n)[: round(SHARE * n)] for n in (len(self.A), self.singles.shape[1]))
        return replace(self, A=self.A[rows], singles=self.singles[:, own])

    @property
    def own(self) -> np.ndarray:
        """float64 [N], nats: what each removal costs, no less than nearly free."""
        increase = self.singles.mean(axis=1)
        return np.maximum(increase, 0.05 * float(np.median(np.abs(increase))))

    def estimates(self) -> dict[str, np.ndarray]:
        """{estimator: couplings} that such a calibration gives."""
        H0 = self.A.T @ self.A / len(self.A)
        root, own = np.sqrt(np.diag(H0)), np.sqrt(self.own)
        found = {"h0": H0, "singles": np.diag(self.own)}
        return found | {"hybrid": H0 / np.outer(root, root) * np.outer(own, own)}


def greedy_state(H: np.ndarray, m: int) -> State:
    """The state of M that grows block by block, always the one that raises the energy least."""
    x = np.zeros((1, len(H)), dtype=bool)
    for _ in range(m):
        left = np.flatnonzero(~x[0])
        tried = np.repeat(x, len(left), axis=0)
        tried[np.arange(len(left)), left] = True
        x = tried[[int(energies(H, tried).argmin())]]
    return removed_blocks(x)[0]


def sorted_state(H: np.ndarray, m: int) -> State:
    """The M blocks of least own cost."""
    return tuple(sorted(np.argsort(np.diag(H), kind="stable")[:m].tolist()))


def exact_state(H: np.ndarray, m: int) -> State:
    """The ground state."""
    return lowest_states(H, m, 1).removed[0]


SEARCHERS: dict[str, Callable[[np.ndarray, int], State]] = {
    "exact": exact_state,
    "greedy": greedy_state,
    "sorted": sorted_state,
}


def measure(asked_for: Asked, loaded: LoadedModel, run: Run, bed: Bed, chapters: Iterable[str]) -> None:
    """The chapters that are not there yet, into the parts of `asked_for.work`."""
    chapter = _Chapters(asked_for, loaded, run, bed)
    for name in chapters:
        getattr(chapter, name)()


def collect(work: Path, target: Path) -> dict:
    """All parts that are finished as one file, what it has of an earlier study kept."""
    found = json.loads(target.read_text(encoding="utf-8")) if target.exists() else {}
    for file in sorted(work.glob("*.json")):
        if file.stem.partition("-")[0] in CHAPTERS:
            found[file.stem] = json.loads(file.read_text(encoding="utf-8"))
    if found:
        target.write_text(json.dumps(found, separators=(",", ":")) + "\n", encoding="utf-8")
    return found


class _Chapters:
    """The chapters of one model."""

    def __init__(self, asked_for: Asked, loaded: LoadedModel, run: Run, bed: Bed):
        self.asked, self.loaded, self.run, self.bed = asked_for, loaded, run, bed
        self.work = asked_for.work
        self.sources = {
            "texts": asked_for.texts,
            **{parse_source(d).domain or parse_source(d).stem: d for d in asked_for.domains},
            OWN: OWN,
        }

    def part(self, name: str, make: Callable[[], object]):
        """As core.choose.study_parts.Subject.part."""
        return kept_part(self.work / f"{name}.json", make)

    # sequences and calibrations

    def sequences(self, domain: str, split: str, count: int) -> Sequences:
        """Of a domain; what the bed is judged on stands for the report split of its texts."""
        source = self.asked.judge if domain == "texts" and split == "report" else self.sources[domain]
        return draw(self.loaded, read_sources(source), split, LENGTH, count)

    def calibrated(self, domain: str) -> Calibrated:
        """From the run that is there, or measured."""
        run = self.run if domain == "texts" else None
        if domain == OWN and self.asked.model in folders.shipped_runs():
            run = load_run(folders.shipped_runs()[self.asked.model])
        if run is not None and run.secants is not None and run.pairs is not None:
            loss = run.secants.loss.astype(np.float64)
            A = run.rows.A[:ROWS].astype(np.float64)
            return Calibrated(A, (loss[1:] - loss[0])[:, :SINGLES], couplings(run, "pairs"))
        found = self.part(f"calibration-{domain}", lambda: self._calibrate(domain))
        return Calibrated(np.array(found["A"]), np.array(found["singles"]))

    def _calibrate(self, domain: str) -> dict:
        checkpoint = folders.home() / "calibration" / domain
        run = calibrate(self.loaded, self.sequences(domain, "calibrate", ROWS), checkpoint=checkpoint)
        assert run is not None  # of one process
        meter = open_forwards(self.loaded, self.sequences(domain, "choose", SINGLES), memory=MEMORY)
        loss = np.array([meter.whole(state) for state in singles_order(meter.units)])
        meter.save()
        return {"A": run.rows.A.tolist(), "singles": (loss[:0:-1] - loss[0]).tolist()}

    def measured(self, sequences: Sequences, states: Iterable[State]) -> dict:
        """{original: its loss, states, increase: one list a state, one number a sequence}, in nats."""
        meter = open_forwards(self.loaded, sequences, memory=MEMORY)
        base, found = meter.whole(()), {}
        for state in by_prefix({tuple(s): None for s in states}, meter.blocks):
            found[state] = meter.whole(state) - base
            meter.save()
        return {
            "original": float(base.mean()),
            "states": list(found),
            "increase": [v.round(5).tolist() for v in found.values()],
        }

    # chapters

    def domains(self) -> None:
        """Ground states by domain, and their losses on each."""
        depths = depths_of(self.run.blocks)
        grounds: dict[str, dict[str, list]] = {}
        costs: dict[str, dict[str, list]] = {}
        for domain in self.sources:
            found = self.calibrated(domain)
            matrices = {k: v for k, v in found.estimates().items() if k in ("h0", "singles")}
            if found.pairs is not None:
                matrices["pairs"] = found.pairs
            grounds[domain] = {k: [exact_state(H, m) for m in depths] for k, H in matrices.items()}
            own = {"h0": np.diag(matrices["h0"]), "singles": found.singles.mean(axis=1)}
            costs[domain] = {k: v.round(6).tolist() for k, v in own.items()}
        states = [s for own in grounds.values() for found in own.values() for s in found]
        for domain in self.sources:
            seen = self.sequences(domain, "report", UNSEEN if domain == "texts" else OTHERS)
            self.part(f"domains-{domain}", partial(self.measured, seen, states))
        self.part("domains", lambda: {"depths": depths, "grounds": grounds, "costs": costs})

    def variance(self) -> None:
        """One state of each calibration, estimator, searcher and sample, on the bed's sequences."""
        m = depths_of(self.run.blocks)[1]

        def make() -> dict:
            rows: list[list] = []
            for domain in self.sources:
                whole = self.calibrated(domain)
                for seed in range(SEEDS):
                    for name, H in whole.sample(seed).estimates().items():
                        if name != "singles":  # what the hybrid's own costs are when sorted
                            for searcher, search in SEARCHERS.items():
                                rows.append([domain, name, searcher, seed, list(search(H, m))])
            states = [tuple(row[-1]) for row in rows]
            LOG.info("%d choices, %d states", len(rows), len(set(states)))
            found = self.measured(self.sequences("texts", "report", OTHERS), states)
            return {"m": m, "rows": rows, **found}

        self.part("variance", make)

    def lowest(self) -> None:
        """Losses and tasks of the lowest states of two energies."""
        m = depths_of(self.run.blocks)[1]
        lists = {
            name: lowest_states(couplings(self.run, name), m, LOWEST).removed[:LOWEST]
            for name in ("pairs", "h0")
        }
        every = list(dict.fromkeys(itertools.chain(*lists.values())))

        def make() -> dict:
            return {"m": m, "lists": lists, **self.measured(self.sequences("texts", "report", JUDGED), every)}

        self.part("lowest", make)
        if self.asked.data:
            self._items("lowest", LOWEST_TASKS, every, LOWEST_ITEMS)

    def tasks(self) -> None:
        """Five tasks for the original and the states that would be chosen."""
        depths = depths_of(self.run.blocks)[1:]
        chosen = self.part("tasks", lambda: {"chosen": {m: dict(self._chosen(m)) for m in depths}})["chosen"]
        states = list(dict.fromkeys(tuple(s) for own in chosen.values() for s in own.values()))
        self._items("tasks", (), states, ITEMS)

    def _chosen(self, m: int) -> Iterator[tuple[str, State]]:
        for name in ("h0", "singles", "pairs"):
            yield name, exact_state(couplings(self.run, name), m)
        if f"block influence-{m}" in self.bed.groups:
            yield "block influence", self.bed.removed[self.bed.groups[f"block influence-{m}"][0]]
        rows = [k for k, s in enumerate(self.bed.removed) if len(s) == m]
        loss = self.bed.increase(self.bed.half(False))[rows].mean(axis=1)
        yield "best of the bed", self.bed.removed[rows[int(loss.argmin())]]

    def tale(self) -> None:
        """Again and again the block without which the accuracy on a task is best, and what that is worth on
        other items; of equal ones the one that is cheapest to remove alone.
        """
        assert self.run.singles is not None
        alone = self.run.singles.increase
        removed: State = ()
        states: list[State] = []
        for m in range(1, TALE_MOST + 1):
            tried = [tuple(sorted((*removed, b))) for b in range(self.run.blocks) if b not in removed]
            found = self.part(f"tale-{m}", partial(self._values, TALE_TASK, tried, TALE_ITEMS))
            worth = np.array(found["values"]).mean(axis=1)
            cost = [alone[list(s)].sum() for s in tried]
            removed = tried[int(np.lexsort((cost, -worth))[0])]
            states.append(removed)
        others = {
            name: exact_state(couplings(self.run, name), TALE_MOST) for name in ("h0", "singles", "pairs")
        }
        every = list(dict.fromkeys([(), *states, *others.values()]))

        def judged() -> dict:
            seen = self.measured(self.sequences("texts", "report", JUDGED), every)
            items = self._values(TALE_TASK, every, TALE_JUDGED, TALE_ITEMS)
            return {"tale": states, "others": others, "losses": seen, **items}

        self.part("tale", judged)

    def _items(self, chapter: str, names: tuple[str, ...], states: list[State], count: int) -> None:
        """One part a task: which items each state, and the original, has right."""
        preset, _ = asked((), "quick-real", None, self.asked.data)
        for name in names or [task.partition("::")[0] for task in preset.tasks]:
            self.part(f"{chapter}-{name}", partial(self._values, name, [(), *states], count))

    def _values(self, name: str, states: list[State], count: int, skip: int = 0) -> dict:
        preset, _ = asked((), "quick-real", None, self.asked.data)
        one = replace(preset, tasks=tuple(t for t in preset.tasks if t.partition("::")[0] == name))
        values = item_values(self.loaded, one, states, count, skip)[name]
        return {"metric": one.quoted(name), "states": states, "values": values.astype(int).tolist()}
