"""What the shape of the energy says of the measured loss: `python -m core study --shape --work DIR`.

    docs/landscape.md, .json      what was found, and all figures of it
    docs/beds/<name>-all.npz      the loss of every state, where every one was measured: for each M
                                  float32 [2, K], on two halves of the sequences, in the order of `walk_order`
    DIR/<name>/shape-<part>.json  every part, made once: the same command goes on where it was stopped

Losses of single states are kept in DIR/home.
"""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from core.choose import bed_study, shape_figures, shape_rules
from core.choose.bed_parts import Parts, machine_of, written
from core.choose.shape_page import FITTED, page
from core.choose.shape_rules import Judge
from core.choose.shape_words import ESTIMATORS
from core.choose.study_parts import LENGTH, Subject, prepare
from core.energy.sources import Source, open_source
from core.errors import InputError
from core.ising.states import removed_blocks
from core.measure.prefix_walk import prefix_walk
from core.measure.state_losses import Forwards, State, open_forwards, stratified
from core.model.load import LoadedModel, load_model
from core.shape.depths import depths
from core.shape.moves import MOVES
from core.shape.null_models import FIGURES, structure
from core.store.runs import save_run
from core.texts.documents import read_texts
from core.texts.packing import pack
from core.texts.sequences import Sequences, part_of

LOG = logging.getLogger(__name__)
NAMES = ("demo", "study-a", "smollm2")
# split, and for each M of which every state is measured how many sequences
EVERY = {
    "demo": ("report", {2: 32, 3: 32}),
    "study-a": ("choose", {3: 64, 5: 32}),
    "study-b": ("choose", {3: 64, 5: 32}),
}
RULES_AT = {"demo": (6, 8, 12), "smollm2": (6, 10)}
JUDGED_OF = {"smollm2": ("h0", "pairs")}  # couplings whose candidates are measured; else all there are
CHOOSING = {"demo": 32, "smollm2": 16}  # sequences that candidates are compared on; as many others judge
SHARES = {"N/5": 5, "N/4": 4, "N/3": 3}
MEMORY = 2 << 30  # bytes of hidden states


@dataclass(frozen=True)
class Studied:
    """A model whose landscapes are studied. judge: texts that smollm2 is measured on, a source."""

    name: str
    work: Path
    docs: Path
    judge: str | None = None

    @property
    def parts(self) -> Parts:
        """Where its parts lie."""
        return Parts(self.work / self.name)

    @cached_property
    def subject(self) -> Subject:
        """As a subject of the study."""
        return Subject(self.name, self.work)

    @cached_property
    def loaded(self) -> LoadedModel:
        """The model."""
        return self.subject.loaded if self.name in EVERY else load_model(self.name)

    @cached_property
    def source(self) -> Source:
        """The run whose energies are judged: the bundled one, that of its bed, or one that is made here."""
        if self.name == "demo":
            return open_source("demo")
        folder = self.docs / "beds" / self.name / "run"
        if not (folder / "run.json").exists():
            folder = self.subject.folder / "shape-run"
        if not (folder / "run.json").exists():
            count = lambda split, number: self.subject.sequences(split, number)  # noqa: E731
            save_run(bed_study.calibrated(self.loaded, count), folder)
        return open_source(folder)

    @cached_property
    def shipped(self) -> Source:
        """The run that Explore opens, where there is one."""
        return open_source(self.name) if self.name not in EVERY else self.source

    def estimators(self, source: Source) -> list[str]:
        """Those of the study that a run has data for."""
        return [name for name in ESTIMATORS if name in source.given]

    def every(self, m: int) -> tuple[np.ndarray, np.ndarray]:
        """(x bool [K, N], losses float32 [K, S]) of all states of M."""
        split, counts = EVERY[self.name]
        last = [-1]

        def report(done: int, total: int, message: str) -> None:
            if 10 * done // total > last[0]:
                last[0] = 10 * done // total
                LOG.info("%s: %s, %d %%", self.name, message, 10 * last[0])

        folder = self.subject.folder / "shape-walk" / str(m)
        return prefix_walk(self.loaded, self.subject.sequences(split, counts[m]), m, folder, report)

    def judges(self, m: int) -> list[Judge]:
        """Who chooses among candidates and who judges the choice: other sequences."""
        if m not in RULES_AT.get(self.name, ()):
            return _halves(*self.every(m))
        return [Judge(_increase(self._meter(True)), _increase(self._meter(False)))]

    def _meter(self, choosing: bool) -> Forwards:
        count = CHOOSING[self.name]
        if self.name == "demo":
            own = stratified(self.subject.sequences("choose" if choosing else "report", count))
        else:
            if self.judge is None:
                raise InputError(f"{self.name} is measured on texts of its own; name them with --judge.")
            own = _judging(self.judge, self.loaded, count, choosing)
        return open_forwards(self.loaded, own, memory=MEMORY)


def _halves(x: np.ndarray, losses: np.ndarray) -> list[Judge]:
    """One half of the sequences of losses [K, S] chooses and the other judges, both ways; nats above the
    state of lowest loss.
    """
    above = losses.astype(np.float64) - losses[losses.mean(axis=1, dtype=float).argmin()]
    known = dict(zip(removed_blocks(x), above))
    parts = slice(0, None, 2), slice(1, None, 2)
    return [Judge(partial(_part, known, a), partial(_part, known, b)) for a, b in (parts, parts[::-1])]


def _part(known: dict, part: slice, state: State) -> np.ndarray:
    return known[state][part]


def _judging(judge: str, loaded: LoadedModel, count: int, choosing: bool) -> Sequences:
    """The sequences that the bed was measured on, or as many after them."""
    both = pack(read_texts(judge), loaded.tokenizer, "report", LENGTH, count if choosing else 2 * count)
    return both if choosing else part_of(both, np.arange(count, 2 * count))


def _increase(meter: Forwards) -> Callable[[State], np.ndarray]:
    def measured(state: State) -> np.ndarray:
        base = meter.whole(())
        found = meter.whole(state) - base
        meter.save()
        return found

    return measured


def _same(s: Studied, m: int) -> dict:
    """The first two chapters at one M."""
    x, losses = s.every(m)
    n, loss = x.shape[1], losses.mean(axis=1, dtype=float)
    moves = {name: shape_figures.moves_at(n, m, name) for name in MOVES}
    energy = {name: s.source.couplings(name) for name in s.estimators(s.source)}
    if m > 2:  # else pairs explain every state
        energy[FITTED] = shape_figures.fitted(x, loss)
    return {
        "sequences": losses.shape[1],
        "loss": {name: shape_figures.of_loss(x, losses, own) for name, own in moves.items()},
        "energy": {
            e: {name: shape_figures.of_energy(x, losses, H, own) for name, own in moves.items()}
            for e, H in energy.items()
        },
        "barriers": {e: shape_figures.barriers(x, losses, H, moves["swap"]) for e, H in energy.items()},
    }


def _noise(s: Studied, estimator: str, m: int) -> dict:
    """What noise would show as well, at one M."""
    run = s.shipped.run
    assert run is not None  # a studied model has a run
    found = structure(s.shipped.couplings(estimator), m, run.rows.A if estimator == "h0" else None)
    return {
        "real": dict(found.real),
        "about": {name: null.about for name, null in found.nulls.items()},
        "range": {name: {f: null.range(f) for f in FIGURES} for name, null in found.nulls.items()},
    }


def _depths(s: Studied, estimator: str) -> list[dict]:
    """Over every M."""
    rows = []
    for d in depths(s.shipped.couplings(estimator)):
        rows.append(
            {
                "m": d.step.removed,
                "minima": d.minima,
                "exact": d.exact,
                "basin": d.basin,
                "gap": d.step.gap,
                "left": len(d.step.left),
            }
        )
    return rows


def parts_of(s: Studied) -> Iterator[tuple[str, partial]]:
    """(name, what makes it) of every part of a model, the cheap ones first."""
    n = s.shipped.blocks
    for estimator in ("h0", "pairs"):
        if estimator in s.shipped.given:
            for label, share in SHARES.items():
                yield (
                    f"noise-{estimator}-{label.replace('/', '')}",
                    partial(_noise, s, estimator, round(n / share)),
                )
            yield f"depths-{estimator}", partial(_depths, s, estimator)
    every = tuple(EVERY[s.name][1]) if s.name in EVERY else ()
    for m in every:
        yield f"same-{m}", partial(_same, s, m)
    for m in RULES_AT.get(s.name, every):
        for estimator in JUDGED_OF.get(s.name, s.estimators(s.source)):
            yield f"rules-{m}-{estimator}", partial(_rules, s, m, estimator)


def _rules(s: Studied, m: int, estimator: str) -> dict:
    resamples = 0 if m in RULES_AT.get(s.name, ()) else shape_rules.RESAMPLES
    return shape_rules.compared(s.source, estimator, m, s.judges(m), resamples)


def collect(s: Studied) -> dict:
    """What the finished parts of a model have found."""
    return {name.removeprefix("shape-"): content for name, content in s.parts.read("shape").items()}


def _measure(s: Studied, only: Sequence[str]) -> None:
    if s.name in EVERY and s.subject.trained_here and not (s.subject.folder / "training.json").exists():
        prepare(s.subject)
    for name, make in parts_of(s):
        if name.partition("-")[0] in only:
            s.parts.one(f"shape-{name}", make)
    s.parts.one("shape-machine", lambda: machine_of(s.loaded))
    if "same" in only:
        _keep_losses(s)


def _keep_losses(s: Studied) -> None:
    """The losses of all states, on two halves of the sequences."""
    if s.name in EVERY:
        found = {m: s.every(m)[1] for m in EVERY[s.name][1]}
        parts = {str(m): np.stack([v[:, k::2].mean(axis=1) for k in (0, 1)]) for m, v in found.items()}
        np.savez_compressed(s.docs / "beds" / f"{s.name}-all.npz", allow_pickle=False, **parts)


KINDS = ("noise", "depths", "same", "rules")


def write(studied: Sequence[Studied], docs: Path) -> Path:
    """docs/landscape.md and .json from the parts that are finished, and those of models studied before."""
    file, text = docs / "landscape.json", docs / "landscape.md"
    results = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    for s in studied:
        results[s.name] = {**results.get(s.name, {}), **collect(s)}
    written(file, _rounded(results))
    text.write_text(page(json.loads(file.read_text(encoding="utf-8"))), encoding="utf-8")
    return text


def _rounded(found):
    """Five digits of every number are told."""
    if isinstance(found, dict):
        return {key: _rounded(value) for key, value in found.items()}
    if isinstance(found, list | tuple):
        return [_rounded(value) for value in found]
    return float(f"{found:.5g}") if isinstance(found, float) else found


def run(
    names: Sequence[str] | None,
    work: Path,
    docs: Path,
    judge: str | None,
    kinds: Sequence[str],
    measure: bool,
) -> Path:
    """Measure what is not there yet, and write the page. Errors: InputError for a name or a kind of part that
    is not known.
    """
    for given, known in ((names or NAMES, (*EVERY, "smollm2")), (kinds, KINDS)):
        for name in given:
            if name not in known:
                raise InputError(f"--shape knows {', '.join(known)}, not {name[:40]!r}.")
    studied = [Studied(name, work.resolve(), docs, judge) for name in names or NAMES]
    for s in studied if measure else ():
        _measure(s, kinds)
    return write(studied, docs)
