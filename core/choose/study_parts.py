"""The parts of the study: what is measured of a subject, each made once and kept (core.choose.study)."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from core.calibration.calibrate import calibrate
from core.choose import other_methods
from core.choose.learning import ROWS as PRIOR_ROWS
from core.choose.learning import influence, known_of, learn
from core.compare.agreement import spearman
from core.energy.couplings import couplings
from core.energy.learned import prior_from
from core.ising.energies import energies
from core.ising.states import indicator, removed_blocks
from core.ising.units import BLOCK
from core.measure.prefix_walk import prefix_walk
from core.measure.state_losses import Forwards, open_forwards, singles_of, stratified
from core.model.load import LoadedModel, load_model
from core.store.folders import ASSETS, DEMO_RUN
from core.store.runs import Run, load_run, save_run
from core.texts.documents import read_texts
from core.texts.packing import pack
from core.texts.sequences import Sequences
from core.texts.text_source import BUNDLED_NAME

LOG = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parents[2]
LENGTH, CHOOSE, REPORT, WALK, ROWS = 128, 256, 256, 128, 256  # tokens; sequences
# random states of an M, and the sequences of the report split that they are measured on
SAMPLE, SAMPLE_SEQUENCES = 500, 128
SEEDS, PEER_SEEDS = (0, 1, 2), (0,)  # of ours, of the searches that draw at random
MEMORY = 4 << 30  # bytes of hidden states: a whole step of greedy on 24 blocks
FIRST_ORDER = "T/2 H0 - diag(g)"
OURS, LONGER = 1.0, 1.25  # of greedy's forwards: what ours gets, and how far the other searches go on


def depths_of(n: int) -> dict[str, int]:
    """The M of the study, by share of N."""
    return {"N/5": round(n / 5), "N/4": round(n / 4), "N/3": round(n / 3), "N/2": n // 2}


@dataclass(frozen=True)
class Subject:
    """A model of the study and where its files are."""

    name: str
    work: Path

    @property
    def folder(self) -> Path:
        """Where everything of it lies."""
        return self.work / self.name

    @property
    def trained_here(self) -> bool:
        """Whether it is trained for the study, and not bundled."""
        return self.name != "demo"

    @property
    def texts(self) -> str:
        """Their source."""
        return str(self.folder / "texts.jsonl") if self.trained_here else BUNDLED_NAME

    @property
    def tasks(self) -> str:
        """Its items as a task, by name or as a task file."""
        return str(self.folder / "tasks.yaml") if self.trained_here else BUNDLED_NAME

    @cached_property
    def loaded(self) -> LoadedModel:
        """The model, loaded once."""
        return load_model(str(self.folder / "model") if self.trained_here else "demo")

    @cached_property
    def run(self) -> Run:
        """Its calibration."""
        return load_run(self.folder / "run" if self.trained_here else DEMO_RUN)

    @property
    def blocks(self) -> int:
        """N."""
        return len(self.loaded.blocks)

    def sequences(self, split: str, count: int) -> Sequences:
        """`count` sequences of a split of its texts."""
        return pack(read_texts(self.texts), self.loaded.tokenizer, split, LENGTH, count)

    def forwards(self, count: int = CHOOSE) -> Forwards:
        """A meter over the choosing sequences, whose count starts at 0."""
        return open_forwards(self.loaded, stratified(self.sequences("choose", count)), memory=MEMORY)

    @cached_property
    def unseen(self) -> Forwards:
        """Over the report split: nothing that it measures was chosen on."""
        return open_forwards(self.loaded, stratified(self.sequences("report", REPORT)))

    def report(self, state) -> tuple[float, float]:
        """(loss increase, standard error) on the report split, nats."""
        increase = self.unseen.whole(tuple(state)) - self.unseen.whole(())
        self.unseen.save()
        return float(increase.mean()), float(increase.std(ddof=1) / np.sqrt(len(increase)))

    def part(self, name: str, make: Callable[[], object]):
        """What a part has found: made once, then read."""
        return kept_part(self.folder / f"{name}.json", make)


def kept_part(file: Path, make: Callable[[], object]):
    """What is in a file of JSON, made and written where it is not there."""
    if not file.exists():
        LOG.info("%s: %s", file.parent.name, file.stem)
        file.parent.mkdir(parents=True, exist_ok=True)
        content = json.dumps(make())
        staging = file.with_suffix(f".{os.getpid()}.part")  # others may be making the same
        staging.write_text(content, encoding="utf-8")
        os.replace(staging, file)
    return json.loads(file.read_text(encoding="utf-8"))


def prepare(subject: Subject) -> None:
    """Train and calibrate what is not there."""
    folder = subject.folder
    if not subject.trained_here:
        return
    if not (folder / "training.json").exists():
        LOG.info("training %s", subject.name)
        command = [
            sys.executable,
            "-m",
            "assets.build.train",
            "--preset",
            subject.name,
            "--work",
            str(folder / "build"),
            "--out",
            str(folder),
        ]
        subprocess.run(command, cwd=ROOT, check=True)
    of_demo = (ASSETS / "tasks" / "bundled.yaml").read_text(encoding="utf-8")
    own = of_demo.replace("../demo/tasks.jsonl", "tasks.jsonl").replace(
        "task: bundled", f"task: {subject.name}"
    )
    Path(subject.tasks).write_text(own, encoding="utf-8")
    if not (folder / "run").exists():
        run = calibrate(subject.loaded, subject.sequences("calibrate", ROWS), sampled=True)
        assert run is not None  # of one process
        save_run(run, folder / "run")


def walk(subject: Subject, m: int) -> tuple[np.ndarray, np.ndarray]:
    """(x bool [K, N], losses float32 [K, WALK]): every state of M on the first choosing sequences."""
    last = [-1]

    def report(done: int, total: int, message: str) -> None:
        if 100 * done // total > last[0]:
            last[0] = 100 * done // total
            LOG.info("%s: %s, %d %%", subject.name, message, last[0])

    return prefix_walk(
        subject.loaded, subject.sequences("choose", WALK), m, subject.folder / "walk" / str(m), report
    )


def walked(subject: Subject, m: int) -> Forwards:
    """A meter over the walk's sequences that knows every state of M."""
    x, losses = walk(subject, m)
    index = subject.sequences("choose", WALK).index.tolist()
    meter = subject.forwards(WALK)
    assert meter.known is not None  # open_forwards keeps losses
    for state, own in zip(removed_blocks(x), losses):
        meter.known.values[state] = dict(zip(index, zip(own.astype(float).tolist())))
    return meter


def greedy_curve(subject: Subject, count: int = CHOOSE, most: int | None = None) -> dict:
    """{M: {removed, forwards, loss}} of greedy on `count` choosing sequences."""

    def make() -> dict:
        meter = subject.forwards(count)
        found = other_methods.greedy(meter, most or subject.blocks // 2)
        meter.save()
        return {m: vars(choice) for m, choice in found.items()}

    return subject.part(f"greedy-{count}", make)


def learned_curve(subject: Subject, m: int, budget: float, seed: int, meter: Callable[[], Forwards]) -> dict:
    """The learned landscape's curve [[forwards, loss, removed]], and its couplings."""
    own = meter()
    known = known_of(subject.run, own.sequences, budget)
    first = influence(subject.loaded, subject.sequences("choose", own.sequences), own, m)
    found = learn(known, own, m, budget, proposals=first, seed=seed)
    return {
        "budget": budget,
        "curve": found.curve,
        "original": found.original,
        "looked at": len(found.measured),
        "couplings": found.posterior.couplings.tolist(),
        "spread": found.posterior.spread.tolist(),
    }


def searches(subject: Subject, m: int) -> dict[str, list]:
    """{method: one curve [[forwards, loss, removed]] a seed}, on CHOOSE sequences."""
    greedy = greedy_curve(subject)[str(m)]
    budget = greedy["forwards"]

    def learned(seed: int) -> dict:
        return learned_curve(subject, m, OURS * budget, seed, subject.forwards)

    def peer(name: str, seed: int) -> list:
        meter = subject.forwards()
        curve = other_methods.SEARCHES[name].search(meter, m, LONGER * budget, seed, other_methods.silent)
        meter.save()
        return [[c.forwards, c.loss, c.removed] for c in curve]

    found = {other_methods.GREEDY: [[[budget, greedy["loss"], greedy["removed"]]]]}
    found["learned"] = [
        subject.part(f"learned-{m}-{seed}", partial(learned, seed))["curve"] for seed in SEEDS
    ]
    for name, search in other_methods.SEARCHES.items():
        if name != other_methods.GREEDY and BLOCK in search.by:
            found[name] = [
                subject.part(f"{name}-{m}-{seed}", partial(peer, name, seed)) for seed in PEER_SEEDS
            ]
    return found


def reported(subject: Subject, m: int) -> dict[str, list]:
    """`searches` with [forwards, loss, removed, increase on the report split, its standard error]."""
    found = searches(subject, m)
    return subject.part(
        f"reported-{m}",
        lambda: {
            name: [[[*point, *subject.report(point[2])] for point in curve] for curve in curves]
            for name, curves in found.items()
        },
    )


def one_shot(subject: Subject) -> dict:
    """{rule: {M: [removed, forwards, increase on the report split, standard error]}} of rules that measure no
    states of M.
    """

    def make() -> dict:
        depths = sorted(set(depths_of(subject.blocks).values()))
        look = other_methods.Look(
            subject.loaded, subject.sequences("choose", CHOOSE), subject.forwards, depths
        )
        return {
            other_methods.RULES[name].label: {
                m: [c[m].removed, c[m].forwards, *subject.report(c[m].removed)] for m in depths
            }
            for name, c in other_methods.chosen_at_once(look)
        }

    return subject.part("one-shot", make)


def agreement(energy: np.ndarray, loss: np.ndarray, x: np.ndarray) -> list[float]:
    """[Spearman over all states, over those that keep block 0, recall of the 20 lowest losses in the 20
    lowest energies].
    """
    kept = ~x[:, 0]
    best, lowest = (set(np.argsort(v)[:20].tolist()) for v in (loss, energy))
    return [spearman(energy, loss), spearman(energy[kept], loss[kept]), len(best & lowest) / 20]


def measured_states(subject: Subject, m: int, every: bool) -> tuple[np.ndarray, np.ndarray]:
    """(x bool [K, N], mean losses float64 [K]) of all states of M, or of SAMPLE random ones on texts not used
    to choose.
    """
    if every:
        x, losses = walk(subject, m)
        return x, losses.mean(axis=1, dtype=float)
    rng = np.random.default_rng(m)
    states: dict = {}
    while len(states) < SAMPLE:
        states[tuple(sorted(rng.choice(subject.blocks, m, replace=False).tolist()))] = None
    meter = open_forwards(subject.loaded, stratified(subject.sequences("report", SAMPLE_SEQUENCES)))
    losses = np.array([meter.whole(s).mean() for s in states])
    meter.save()
    return indicator(list(states), subject.blocks), losses


def ranking(subject: Subject, m: int, every: bool) -> dict:
    """{estimator: `agreement`}, and the number of states."""

    def make() -> dict:
        x, loss = measured_states(subject, m, every)
        single = singles_of(subject.forwards(), [0])
        matrices = {
            "paper H0": couplings(subject.run, "h0"),
            "H1": couplings(subject.run, "h1"),
            FIRST_ORDER: couplings(subject.run, "h0g"),
            "hybrid (prior)": prior_from(
                single.increase, single.se, (subject.run.sampled or subject.run.rows).A[:PRIOR_ROWS]
            ).mean,
        }
        searches(subject, m)
        learned = [subject.part(f"learned-{m}-{seed}", dict) for seed in SEEDS]
        for seed, found in zip(SEEDS, learned):
            matrices[f"learned, seed {seed}"] = np.array(found["couplings"])
        share = (
            float(np.mean([found["budget"] for found in learned])) / greedy_curve(subject)[str(m)]["forwards"]
        )
        return {"states": len(x), "all of them": every, "learned from": share} | {
            name: agreement(energies(H, x), loss, x) for name, H in matrices.items()
        }

    return subject.part(f"ranking-{m}", make)


def best_of_all(subject: Subject, m: int) -> dict:
    """When the learned landscape has found the best of all states of M, against greedy, on the walk's
    sequences.
    """
    limit = 0.8 if m == 3 else 0.5

    def make() -> dict:
        x, losses = walk(subject, m)
        mean = losses.mean(axis=1, dtype=float)
        order = np.argsort(mean)
        rank = {s: r for r, s in enumerate(removed_blocks(x[order]))}
        greedy = greedy_curve(subject, WALK, 5)[str(m)]
        runs = []
        for seed in range(5):
            found = learned_curve(subject, m, limit * greedy["forwards"], seed, lambda: walked(subject, m))
            runs.append([[spent, rank[tuple(removed)]] for spent, _, removed in found["curve"]])
        return {
            "states": len(x),
            "best": removed_blocks(x[order[:1]])[0],
            "loss": float(mean.min()),
            "limit": limit,
            "greedy": {**greedy, "rank": rank[tuple(greedy["removed"])]},
            "learned": runs,
        }

    return subject.part(f"best-{m}", make)
