"""The study of one real model on a measured bed: `python -m core study --model smollm2 --texts A --judge B`.

    docs/beds/<model>/run        rows, sampled rows, single removals and secants, on texts A
    docs/beds/<model>/bed.npz    losses and distances of many states, sequence by sequence, on texts B
    docs/study-<model>.md        what they say: this module computes every figure of it from these two alone

Losses are kept in DIR/home as they are measured: the same command goes on where it was stopped.
"""

import logging
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from core.calibration.calibrate import calibrate
from core.calibration.pairs import forwards_of, with_pairs
from core.calibration.secants import with_secants
from core.choose import bed_searches_page, other_methods
from core.choose.bed import COUNT, Bed, around, depths_of, drawn, read_bed, walk
from core.choose.bed_searches import FILE, Searches, read_searches
from core.compare.agreement import agreement, spearman
from core.energy.couplings import couplings, own_costs_of
from core.energy.learned import Posterior, Prior
from core.energy.secants import SHARE, bounded, secant_pairs
from core.ising.energies import energies
from core.measure.state_losses import KL, open_forwards
from core.model.load import load_model
from core.spectrum.lowest import lowest_states
from core.store.runs import Run, Secants, load_run, save_run
from core.texts.documents import read_texts
from core.texts.packing import pack

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


def measure(model: str, texts: str, judge: str, folder: Path, count: int = COUNT) -> tuple[Run, Bed]:
    """The run and the bed of a model, from what is there on."""
    loaded = load_model(model)
    tokens = lambda source, split, number: pack(  # noqa: E731
        read_texts(source), loaded.tokenizer, split, LENGTH, number
    )
    if not (folder / "run").exists():
        LOG.info("calibrating %s", model)
        checkpoint = Path(os.environ["BLOCKSCAPE_HOME"]) / "calibration"
        run = calibrate(
            loaded,
            tokens(texts, "calibrate", ROWS),
            sampled=True,
            singles=tokens(texts, "choose", SINGLES),
            checkpoint=checkpoint,
        )
        assert run is not None  # of one process
        added = with_secants(run, loaded, tokens(texts, "choose", SECANTS), checkpoint=checkpoint)
        assert added is not None
        added = with_pairs(added, loaded, tokens(texts, "choose", PAIRS), checkpoint=checkpoint)
        save_run(replace(added, meta=_without_places(added.meta)), folder / "run")
    run = load_run(folder / "run")
    assert run.singles is not None
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
            LOG.info("%s: %d of %d %s", model, done, total, message)

    meta = {"model": loaded.name, "texts": Path(judge).name, "length": LENGTH, "split": "report"}
    bed = walk(meter, groups, report, meta)
    bed.write(folder / "bed.npz")
    best = {m: _best(bed, m) for m in depths}
    groups |= {f"swaps-{m}": around(state, run.blocks, count // 4) for m, state in best.items()}
    bed = walk(meter, groups, report, meta)
    bed.write(folder / "bed.npz")
    return run, bed


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


# the page


def write(model: str, docs: Path) -> Path:
    """docs/study-<model>.md from the run and the bed that lie in docs/beds/<model>."""
    folder = docs / "beds" / model
    run, bed = load_run(folder / "run"), read_bed(folder / "bed.npz")
    target = docs / f"study-{model}.md"
    searches = read_searches(folder / FILE) if (folder / FILE).exists() else None
    target.write_text(page(model, run, bed, searches), encoding="utf-8")
    return target


def page(model: str, run: Run, bed: Bed, searches: Searches | None = None) -> str:
    """All sections, computed from these alone."""
    assert run.singles is not None and run.secants is not None and run.pairs is not None
    depths = [m for m in depths_of(bed.blocks) if f"random-{m}" in bed.groups]
    found = candidates_of(run)
    lines = [
        f"# {bed.meta['model']} on a measured bed",
        "",
        f"Written by `python -m core study --model {model} --texts {_name(run)} --judge {bed.meta['texts']} "
        f"--work DIR` on {platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__} (CPU, "
        "float32). "
        f"{bed.blocks} blocks. Calibrated on {_name(run)}: {len(run.rows.A)} rows of {LENGTH} tokens, single "
        f"removals on {run.singles.sequences} sequences, secants on {len(run.secants.A[0])}, pairs on "
        f"{run.pairs.part.shape[1]}. Judged on "
        f"{bed.values.shape[2]} sequences of {bed.meta['texts']} that no choice has seen: the original's "
        "loss is "
        f"{bed.values[0][bed.at[()]].mean():.3f} nats. [beds/{model}](beds/{model}) holds both, so every "
        "figure "
        "here is computed again in seconds, without the model: `python -m core study --model "
        f"{model} --work DIR --write-only`.",
    ]
    for section in (
        _what_there_is(bed, depths),
        _order(bed, found, depths),
        _grounds(bed, found, depths),
        _pairs(bed, found, run),
        _samples(bed, run, depths),
        _corrected(bed, run, depths),
        _ruler(bed, depths),
    ):
        lines += ["", *section]
    if searches is not None:
        lines += ["", *bed_searches_page.section(searches, run)]
    return "\n".join(lines) + "\n"


def _name(run: Run) -> str:
    return Path(str(run.meta["texts"]["source"])).name


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]


def _groups(bed: Bed, depths: list[int], kinds: tuple[str, ...] = ("random", "cheapest")) -> Iterator[tuple]:
    """(name in words, rows) of the groups that are judged."""
    for kind in kinds:
        for m in depths:
            rows = bed.groups.get(f"{kind}-{m}", np.zeros(0, int))
            if len(rows) >= 8:
                yield f"{kind}, M = {m}", rows


def _what_there_is(bed: Bed, depths: list[int]) -> list[str]:
    increase = bed.increase().mean(axis=1)
    halves = [bed.increase(bed.half(judging)).mean(axis=1) for judging in (False, True)]
    rows = [
        [
            name,
            str(len(own)),
            *(f"{f(increase[own]):+.2f}" for f in (np.min, np.median, np.max)),
            f"{spearman(halves[0][own], halves[1][own]):.2f}",
        ]
        for name, own in _groups(bed, depths)
    ]
    return [
        "## The bed",
        "",
        f"{len(bed.removed)} states. Random: any sets of M blocks. Cheapest: random sets of the 2 M (at "
        "most three "
        "quarters) blocks that are cheapest to remove alone, where choices are made. One kind alone "
        "misleads: "
        "random states ask who sees the fatal blocks, cheap ones ask for more. Increases in nats; the last "
        "column "
        "says how one half of the sequences orders the states as the other does: more cannot be asked for.",
        "",
        *_table(["states", "number", "least", "median", "most", "half against half"], rows),
    ]


def _order(bed: Bed, found: dict[str, Candidate], depths: list[int]) -> list[str]:
    increase = bed.increase().mean(axis=1)
    groups = list(_groups(bed, depths))
    rows = []
    for name, candidate in found.items():
        energy = energies(candidate.H, bed.x)
        cells = []
        for _, own in groups:
            rank = agreement(energy[own], increase[own])
            cells.append(f"{rank.spearman:.2f} [{rank.low:.2f}, {rank.high:.2f}]" if rank else "-")
        rows.append([name, f"{candidate.forwards:.1f}", *cells])
    return [
        "## Who orders the states?",
        "",
        "Spearman of energy and measured increase, with its 95 % bootstrap interval over states. Forwards: "
        "what the "
        f"couplings cost, in forwards of {ROWS} sequences.",
        "",
        *_table(["couplings", "forwards", *(name for name, _ in groups)], rows),
        "",
        *(f"- **{name}**: {candidate.about}." for name, candidate in found.items()),
    ]


def _grounds(bed: Bed, found: dict[str, Candidate], depths: list[int]) -> list[str]:
    """The state that each would choose, judged."""
    increase, rows = bed.increase(), []
    columns = [*(f"lowest:{name}" for name in found), *RULES]

    def cell(m: int, states: list[tuple[int, ...]], base: np.ndarray | None) -> str:
        if not states or states[0] not in bed.at:
            return "-"
        own = increase[bed.at[states[0]]]
        if base is None:
            return f"{own.mean():+.2f}"
        gap = own - base
        return f"{own.mean():+.2f} ({gap.mean():+.2f} ± {gap.std(ddof=1) / np.sqrt(len(gap)):.2f})"

    def states_of(name: str, m: int) -> list[tuple[int, ...]]:
        return [bed.removed[k] for k in bed.groups.get(f"{name}-{m}", ())]

    bases = {}
    for m in depths:
        first = states_of("lowest:singles", m)
        bases[m] = increase[bed.at[first[0]]] if first else None
    for name in columns:
        label = name.removeprefix("lowest:")
        rows.append([label, *(cell(m, states_of(name, m), bases[m]) for m in depths)])
    best = []
    windows = []
    chosen_on = bed.increase(bed.half(False)).mean(axis=1)
    for m in depths:
        own = [k for k, s in enumerate(bed.removed) if len(s) == m]
        best.append(cell(m, [bed.removed[own[int(chosen_on[own].argmin())]]], bases[m]))
        some = bed.groups.get(f"windows-{m}", ())
        windows.append(
            cell(m, [bed.removed[some[int(chosen_on[some].argmin())]]], bases[m]) if len(some) else "-"
        )
    rows += [
        ["best window, measured on the choosing half", *windows],
        ["best of the bed on that half", *best],
    ]
    return [
        "## What would each choose?",
        "",
        "Increase of the state of lowest energy, in brackets against that of single removals in order, ± "
        "paired "
        "standard error.",
        "",
        *_table(["choice", *(f"M = {m}" for m in depths)], rows),
    ]


def _pairs(bed: Bed, found: dict[str, Candidate], run: Run) -> list[str]:
    """Measured two-body parts against what couplings say of them."""
    if "pairs" not in bed.groups:
        return ["## Two bodies", "", "Not measured."]
    increase, n = bed.increase(), bed.blocks
    states = [bed.removed[k] for k in bed.groups["pairs"]]
    parts = np.array(
        [increase[bed.at[s]] - increase[bed.at[(s[0],)]] - increase[bed.at[(s[1],)]] for s in states]
    )
    part, (i, j) = parts.mean(axis=1), np.array(states).T
    order = np.argsort(own_costs_of(run))[: round(0.75 * n)]
    light = np.isin(i, order) & np.isin(j, order)
    noise = (parts.var(axis=1, ddof=1) / parts.shape[1])[light].mean()
    rows = []
    for name, candidate in found.items():
        predicted = 2 * candidate.H[i, j]
        cells = []
        for some in (np.ones(len(i), bool), light):
            rank = agreement(predicted[some], part[some])
            cells.append(f"{rank.spearman:.2f} [{rank.low:.2f}, {rank.high:.2f}]" if rank else "-")
        if cells[0] != "-":
            rows.append([name, *cells])
    distances = [(1, 1), (2, 2), (3, 5), (6, n)]
    by_distance = ", ".join(
        f"{part[light & (j - i >= a) & (j - i <= b)].mean():+.3f} "
        + (f"at distance {a}" if a == b else f"at {a} to {b if b < n else 'any more'}")
        for a, b in distances
    )
    return [
        "## Two bodies",
        "",
        f"L(ij) − L(i) − L(j) + L() of {len(states)} pairs, {light.sum()} of them light (both of the "
        "cheaper three "
        f"quarters): mean {part[light].mean():+.3f}, spread {part[light].std():.3f} nats, of whose square "
        f"{100 * noise / part[light].var():.0f} % is noise of measuring. Light pairs, mean by distance: "
        f"{by_distance}. "
        "Spearman of 2 H with them:",
        "",
        *_table(["couplings", "all pairs", "light pairs"], rows),
    ]


def _samples(bed: Bed, run: Run, depths: list[int]) -> list[str]:
    """Secants of fewer sequences."""
    increase, own = bed.increase().mean(axis=1), own_costs_of(run)
    groups, rows = list(_groups(bed, depths)), []
    assert run.secants is not None
    total = len(run.secants.A[0])
    for count in [k for k in (2, 4, 8, 12, 16) if k < total] + [total]:
        found = []
        for seed in range(1 if count == total else 20):
            some = np.random.default_rng(seed).permutation(total)[:count]
            pairs = secant_pairs(Secants(run.secants.A[:, some], run.secants.loss[:, some]))
            energy = energies(bounded(own, SHARE * pairs.shrunk), bed.x)
            found.append([spearman(energy[g], increase[g]) for _, g in groups])
        mean, sd = np.mean(found, axis=0), np.std(found, axis=0)
        rows.append([str(count), *(f"{a:.2f} ± {b:.2f}" for a, b in zip(mean, sd))])
    return [
        "## How many sequences do secants need?",
        "",
        "Spearman with secants of a random part of their sequences, mean ± spread of 20 draws.",
        "",
        *_table(["sequences", *(name for name, _ in groups)], rows),
    ]


def _corrected(bed: Bed, run: Run, depths: list[int]) -> list[str]:
    """Replay: couplings that some states of the bed correct, judged on the others."""
    own = own_costs_of(run)
    choosing, judging = (bed.increase(bed.half(judging)) for judging in (False, True))
    priors = {"secant": couplings(run, "secant"), "hybrid": couplings(run, "hybrid"), "singles": np.diag(own)}
    product = np.sqrt(np.outer(own, own))
    spread = 0.5 * product
    np.fill_diagonal(spread, 0.3 * own)
    names: list[str] = []
    rows: dict[tuple[str, int], list[float]] = {(name, k): [] for name in priors for k in (0, 20, 50)}
    groups = [(name, g) for name, g in _groups(bed, depths) if len(g) >= 80]
    for name, g in groups:
        names.append(name)
        test = g[len(g) // 2 :]
        for prior, H in priors.items():
            for count in (0, 20, 50):
                train = g[: min(count, len(g) // 2)]
                level = choosing[train].mean(axis=1)
                noise = choosing[train].std(axis=1, ddof=1) / np.sqrt(choosing.shape[1])
                deviation = 0.1 * np.maximum(level, 0.05 * np.median(np.abs(level))) if len(train) else level
                learned = Posterior(Prior(H, spread), bed.x[train], level, deviation, noise)
                energy, _ = learned.energies(bed.x[test])
                rows[prior, count].append(spearman(energy, judging[test].mean(axis=1)))
    if not names:
        return ["## What do measured states add?", "", "Too few states."]
    return [
        "## What do measured states add?",
        "",
        "Replay: so many states of the group, measured on the choosing half, correct the couplings "
        "(core.energy.learned); Spearman over the other half of the group, on the judging sequences.",
        "",
        *_table(
            ["prior", "states measured", *names],
            [[prior, str(count), *(f"{v:.2f}" for v in own)] for (prior, count), own in rows.items()],
        ),
    ]


def _ruler(bed: Bed, depths: list[int]) -> list[str]:
    """KL against loss as the ruler on few sequences."""
    if bed.values.shape[0] < 2:
        return ["## The ruler", "", "Not measured."]
    choose, judged = bed.half(False), bed.increase(bed.half(True)).mean(axis=1)
    kl, loss = bed.values[1].astype(np.float64)[:, choose], bed.increase(choose)
    groups = list(_groups(bed, depths, ("cheapest",)))
    rows = []
    for count in (1, 2, 4, loss.shape[1]):
        for name, values in (("loss", loss), (KL.upper(), kl)):
            cells = []
            for _, own in groups:
                found = [
                    spearman(values[own][:, start : start + count].mean(axis=1), judged[own])
                    for start in range(0, loss.shape[1], count)
                ]
                cells.append(f"{np.mean(found):.2f}")
            rows.append([str(count), name, *cells])
    return [
        "## The ruler",
        "",
        "Choosing by the loss, or by KL(original || pruned) on the same tokens: Spearman of so many choosing "
        "sequences with the loss on the judging half, mean over the parts that there are.",
        "",
        *_table(["sequences", "ruler", *(name for name, _ in groups)], rows),
    ]
