"""The study of one real model on a measured bed: `python -m core study --model smollm2 --texts A --judge B`.

    docs/beds/<model>/run              rows, sampled rows, single removals and secants, on texts A
    docs/beds/<model>/bed.npz          losses and distances of many states, sequence by sequence, on texts B
    docs/beds/<model>/chapters.json    what was measured beyond them (core.choose.bed_chapters)
    docs/study-<model>.md              what they say (core.choose.bed_page)

Losses are kept in DIR/home as they are measured: the same command goes on where it was stopped.
"""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from core.calibration.calibrate import calibrate
from core.calibration.pairs import forwards_of, with_pairs
from core.calibration.secants import with_secants
from core.choose import other_methods
from core.choose.bed import COUNT, Bed, around, depths_of, drawn, read_bed, walk
from core.choose.bed_parts import machine_of
from core.energy.couplings import couplings, own_costs_of
from core.energy.secants import SHARE, bounded, secant_pairs
from core.measure.state_losses import open_forwards
from core.model.load import LoadedModel
from core.spectrum.lowest import lowest_states
from core.store.runs import Run, load_run, save_run
from core.texts.documents import read_texts
from core.texts.packing import pack
from core.texts.sequences import Sequences

LOG = logging.getLogger(__name__)
LENGTH, ROWS, SINGLES, SECANTS, PAIRS, JUDGED = 128, 256, 64, 12, 8, 16  # tokens; sequences
LISTED = {"pairs": 12, "singles": 12, "h0": 6}  # lowest states that are measured, of others FEW
FEW = 3
RULES = ("block influence", "angular window")
MEMORY = 2 << 30  # bytes of hidden states


@dataclass(frozen=True)
class Candidate:
    """Couplings that are judged, and what they cost to have, in forwards of ROWS sequences."""

    H: np.ndarray
    forwards: float
    about: str


def candidates_of(run: Run) -> dict[str, Candidate]:
    """Every estimator, and the forms that were tried beside them."""
    assert run.singles is not None and run.sampled is not None
    assert run.secants is not None and run.pairs is not None
    own, n = own_costs_of(run), run.blocks
    rows = 2.3 * len(run.rows.A) / ROWS
    sampled, singles = rows + 1.3 * len(run.rows.A) / ROWS, (n + 1) / 2 * run.singles.sequences / ROWS
    corners = 2.3 * (n + 1) * len(run.secants.A[0]) / ROWS + singles
    A, H1 = run.rows.A.astype(np.float64), couplings(run, "h1")
    root = np.sqrt(np.diag(H1))
    correlated = H1 / np.outer(root, root) * np.sqrt(np.outer(own, own))
    later = secant_pairs(run.secants)
    bodies = corners + forwards_of(run.pairs.blocks, n) * run.pairs.part.shape[1] / ROWS
    measured = np.zeros((n, n))
    i, j = run.pairs.blocks.astype(int).T
    measured[i, j] = measured[j, i] = run.pairs.part.mean(axis=1)
    earlier = secant_pairs(run.secants, later=False).K
    diagonal = lambda d: np.diag(np.asarray(d, dtype=np.float64))  # noqa: E731
    with_own = lambda pairs: pairs - np.diag(np.diag(pairs)) + np.diag(own)  # noqa: E731
    found = {
        "h0": Candidate(couplings(run, "h0"), rows, "H0 = AᵀA/m, the paper"),
        "h0 own": Candidate(diagonal(np.diag(couplings(run, "h0"))), rows, "its diagonal alone"),
        "cov": Candidate(np.cov(A.T), rows, "covariance of the rows: the mean gradient subtracted"),
        "h0g": Candidate(couplings(run, "h0g"), rows, "T/2 H0 − diag(g)"),
        "h1": Candidate(H1, sampled, "rows of sampled labels"),
        "singles": Candidate(diagonal(own), singles, "single removals S alone"),
        "root": Candidate(diagonal(np.sqrt(own)), singles, "√S: own costs that saturate"),
        "hybrid": Candidate(with_own(correlated), sampled + singles, "S^½ corr(H1) S^½"),
        "hybrid/4": Candidate(
            bounded(own, correlated / 2),
            sampled + singles,
            "its pairs to a quarter, no pair below its dearer block",
        ),
        "neighbours": Candidate(
            with_own(-0.015 * (np.eye(n, k=1) + np.eye(n, k=-1))), singles, "S, .03 nats less for neighbours"
        ),
        "pairs": Candidate(
            couplings(run, "pairs"),
            bodies,
            "S, of light pairs two thirds of the mean of secant and measurement, of others half the secant: "
            "the default",
        ),
        "measured pairs": Candidate(
            bounded(own, measured / 2), bodies - corners + singles, "S and half of the measured pairs alone"
        ),
        "secant": Candidate(couplings(run, "secant"), corners, "S and half of the secants, bounded"),
        "secant whole": Candidate(bounded(own, later.shrunk), corners, "all of the secants, bounded"),
        "secant/4": Candidate(bounded(own, later.shrunk / 4), corners, "a quarter of them, bounded"),
        "secant free": Candidate(with_own(SHARE * later.shrunk / 2), corners, "half, not bounded"),
        "both edges": Candidate(
            bounded(own, SHARE * (later.K + earlier) / 2), corners, "half of the mean of both edges, bounded"
        ),
        "earlier edge": Candidate(bounded(own, SHARE * earlier), corners, "half of the other edge, bounded"),
    }
    return found


def chosen(
    run: Run, depths: tuple[int, ...], rules: dict[str, dict[int, tuple[int, ...]]]
) -> dict[str, list]:
    """{group: states} that somebody would choose: the lowest of every candidate, windows, other rules."""
    groups: dict[str, list] = {}
    for m in depths:
        for name, candidate in candidates_of(run).items():
            count = LISTED.get(name, FEW)
            groups[f"lowest:{name}-{m}"] = lowest_states(candidate.H, m, count).removed[:count]
        groups[f"windows-{m}"] = [tuple(range(a, a + m)) for a in range(run.blocks - m + 1)]
        for name, states in rules.items():
            groups[f"{name}-{m}"] = [states[m]]
    return groups


def measure(
    loaded: LoadedModel, texts: str, judge: str, folder: Path, count: int = COUNT, name: str = ""
) -> tuple[Run, Bed]:
    """The run and the bed of a model, from what is there on. texts, judge: sources;
    count: states of a group, at least; name: what the model is called, where that is not `loaded.name`.
    """
    tokens = lambda source, split, number: pack(  # noqa: E731
        read_texts(source), loaded.tokenizer, split, LENGTH, number
    )
    if not (folder / "run").exists():
        run = calibrated(loaded, partial(tokens, texts))
        save_run(replace(run, meta=_without_places(run.meta)), folder / "run")
    run, file = load_run(folder / "run"), folder / "bed.npz"
    assert run.singles is not None
    if file.exists() and _states_of_a_group(there := read_bed(file)) >= count:
        return run, there
    depths = depths_of(run.blocks)
    look = tokens(texts, "choose", SINGLES)
    rules = {
        "block influence": other_methods.block_influence(loaded, look, max(depths)),
        "angular window": other_methods.angular_window(loaded, look, max(depths)),
    }
    fixed = {name: {m: c.removed for m, c in rule.items()} for name, rule in rules.items()}
    groups = drawn(run.blocks, run.singles.increase, depths, count) | chosen(run, depths, fixed)
    meter = open_forwards(loaded, tokens(judge, "report", JUDGED), distances=True, memory=MEMORY)

    def report(done: int, total: int, message: str) -> None:
        if done % 50 == 0:
            LOG.info("%s: %d of %d %s", loaded.name, done, total, message)

    meta = {
        **{"model": name or loaded.name, "texts": Path(judge).name, "length": LENGTH},
        **{"split": "report", "machine": machine_of(loaded), "count": count},
    }
    first = walk(meter, groups, report, meta)
    best = {m: _best(first, m) for m in depths}
    groups |= {f"swaps-{m}": around(state, run.blocks, count // 4) for m, state in best.items()}
    bed = walk(meter, groups, report, meta)
    bed.write(file)
    return run, bed


def _states_of_a_group(bed: Bed) -> int:
    """What a bed was asked for."""
    most = max((g for g in bed.groups if g.startswith("random-")), key=lambda g: len(bed.groups[g]))
    return bed.meta.get("count", len(bed.groups[most]))


def calibrated(loaded: LoadedModel, tokens: Callable[[str, int], Sequences]) -> Run:
    """A run with all that a bed asks of one; tokens: of a split, so many."""
    LOG.info("calibrating %s", loaded.name)
    checkpoint = Path(os.environ["BLOCKSCAPE_HOME"]) / "calibration"
    run = calibrate(
        loaded,
        tokens("calibrate", ROWS),
        sampled=True,
        singles=tokens("choose", SINGLES),
        checkpoint=checkpoint,
    )
    assert run is not None  # of one process
    added = with_secants(run, loaded, tokens("choose", SECANTS), checkpoint=checkpoint)
    assert added is not None
    return with_pairs(added, loaded, tokens("choose", PAIRS), checkpoint=checkpoint)


def _without_places(meta: dict) -> dict:
    """What run.json says, with names of files in place of where they lay on the machine that made it."""
    texts = meta["texts"]
    sources = [{**source, "path": Path(source["path"]).name} for source in texts["sources"]]
    named = {**texts, "source": Path(str(texts["source"])).name, "sources": sources}
    return {**meta, "texts": named}


def _best(bed: Bed, m: int) -> tuple[int, ...]:
    """The state of M that is best on the choosing half."""
    rows = [k for k, s in enumerate(bed.removed) if len(s) == m]
    return bed.removed[rows[int(bed.increase(bed.half(False))[rows].mean(axis=1).argmin())]]
