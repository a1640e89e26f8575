"""The page of a model's study, docs/study-<model>.md: every figure is computed from its run, its bed and its
chapters (core.choose.bed_study, core.choose.bed_chapters), without the model.
"""

import json
import os
import platform
from pathlib import Path

import numpy as np
import torch

from core.choose import bed_searches, bed_searches_page, bed_units, bed_units_page
from core.choose.bed import Bed, depths_of, read_bed
from core.choose.bed_page_claims import claims
from core.choose.bed_page_domains import domains, variance
from core.choose.bed_page_rows import borne, rows_and_noise
from core.choose.bed_page_states import lowest, tale, tasks
from core.choose.bed_searches import Searches, read_searches
from core.choose.bed_study import LENGTH, ROWS, RULES, Candidate, candidates_of
from core.choose.bed_tables import groups_of, table
from core.compare.agreement import agreement, spearman
from core.energy.couplings import couplings, own_costs_of
from core.energy.learned import Posterior, Prior
from core.energy.secants import SHARE, bounded, secant_pairs
from core.ising.energies import energies
from core.measure.state_losses import KL
from core.store.runs import Run, Secants, load_run

DIVISIONS = 20  # of the judging sequences
CHAPTERS = {"domains": domains, "variance": variance, "lowest": lowest, "tasks": tasks}


def write(model: str, docs: Path) -> Path:
    """docs/study-<model>.md from the run and the bed that lie in docs/beds/<model>."""
    folder = docs / "beds" / model
    target = docs / f"study-{model}.md"
    target.write_text(page(model, *read(folder), *read_more(folder)), encoding="utf-8")
    if models := finer_cuts(docs):
        lines = bed_units_page.overview(models)
        (docs / "study-units.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return target


def finer_cuts(docs: Path) -> dict[str, bed_units_page.Found]:
    """{model: what was found of finer cuts} of all models in docs/beds, the one with most blocks first."""
    folders = (file.parent for file in (docs / "beds").glob(f"*/{bed_units.FILE}"))
    found = {folder.name: own for folder in sorted(folders) if (own := read_more(folder)[1])}
    return dict(sorted(found.items(), key=lambda item: -item[1].whole.blocks))


def read_more(folder: Path) -> tuple[Searches | None, bed_units_page.Found | None]:
    """What the searches found, and what was found of finer cuts; None where that is not measured."""
    searches, units, times = (folder / name for name in (bed_searches.FILE, bed_units.FILE, bed_units.TIMES))
    read = lambda file: json.loads(file.read_text(encoding="utf-8"))  # noqa: E731
    found = None
    if units.exists():
        timed = read(times) if times.exists() else None
        found = bed_units_page.Found(read(units), load_run(folder / "run"), timed)
    return read_searches(searches) if searches.exists() else None, found


def read(folder: Path) -> tuple[Run, Bed, dict]:
    """The run, the bed and the chapters ({} where none is measured) of docs/beds/<model>."""
    file = folder / "chapters.json"
    chapters = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return load_run(folder / "run"), read_bed(folder / "bed.npz"), chapters


def page(
    model: str,
    run: Run,
    bed: Bed,
    chapters: dict,
    searches: Searches | None = None,
    units: bed_units_page.Found | None = None,
) -> str:
    """All sections, computed from these alone."""
    assert run.singles is not None and run.secants is not None and run.pairs is not None
    depths = [m for m in depths_of(bed.blocks) if f"random-{m}" in bed.groups]
    found, held = candidates_of(run), borne(run, bed, depths)
    lines = [
        f"# {bed.meta['model']} on a measured bed",
        "",
        f"Written by `python -m core study --model {model} --texts {_name(run)} --judge {bed.meta['texts']} "
        f"--work DIR` (the chapters beyond the bed with --domains and --tasks) on {platform.machine()}, "
        f"{os.cpu_count()} cores, torch {torch.__version__}.",
        "",
        f"{bed.blocks} blocks. Calibrated on {_name(run)} ({run.meta['machine']}): {len(run.rows.A)} rows "
        f"of {LENGTH} tokens, single removals on {run.singles.sequences} sequences, secants on "
        f"{len(run.secants.A[0])}, pairs on {run.pairs.part.shape[1]}. Judged on {bed.values.shape[2]} "
        f"sequences of {bed.meta['texts']} that no choice has seen{_elsewhere(bed)}: the original's loss is "
        f"{bed.values[0][bed.at[()]].mean():.3f} nats. "
        f"[beds/{model}](beds/{model}) holds all that was measured, so every figure here is computed again "
        f"in seconds, without the model: `python -m core study --model {model} --work DIR --write-only`.",
    ]
    for section in (
        claims(run, bed, found, held, chapters, depths),
        _what_there_is(bed, depths),
        _order(bed, found, depths),
        _grounds(bed, found, depths),
        _pairs(bed, found, run),
        rows_and_noise(held),
        _samples(bed, run, depths),
        *(section(run, chapters) for name, section in CHAPTERS.items() if name in chapters),
        *([tale(run, chapters), *_missing(model, chapters)] if chapters else []),
        _corrected(bed, run, depths),
        _ruler(bed, depths),
    ):
        lines += ["", *section]
    if searches is not None:
        lines += ["", *bed_searches_page.section(searches, run)]
    if units is not None:
        lines += ["", *bed_units_page.section(units)]
    return "\n".join(lines) + "\n"


def _missing(model: str, chapters: dict) -> list[list[str]]:
    """The chapters that are still to be measured."""
    names = [name for name in CHAPTERS if not any(part.partition("-")[0] == name for part in chapters)]
    told = f"Still to be measured: {', '.join(names)} (`--model {model} --chapters {' '.join(names)}`)."
    return [["## What is missing", "", told]] if names else []


def _elsewhere(bed: Bed) -> str:
    """Where the bed and the chapters were measured, if that is known."""
    machine = bed.meta.get("machine")
    return f" (bed and chapters on {machine})" if machine else ""


def _name(run: Run) -> str:
    return Path(str(run.meta["texts"]["source"])).name


def _what_there_is(bed: Bed, depths: list[int]) -> list[str]:
    every = bed.increase()
    increase = every.mean(axis=1)
    rows = [
        [
            name,
            str(len(own)),
            *(f"{f(increase[own]):+.2f}" for f in (np.min, np.median, np.max)),
            f"{_halves(every[own]):.2f}",
        ]
        for name, own in groups_of(bed, depths)
    ]
    return [
        "## The bed",
        "",
        f"{len(bed.removed)} states. Random: any sets of M blocks. Cheapest: random sets of the 2 M (at "
        "most three quarters) blocks that are cheapest to remove alone, where choices are made. One kind "
        "alone misleads: random states ask who sees the fatal blocks, cheap ones ask for more. Increases in "
        "nats; the last column says how one half of the sequences orders the states as the other does, mean "
        f"of {DIVISIONS} random divisions: the lower it is, the less can be asked of couplings.",
        "",
        *table(["states", "number", "least", "median", "most", "half against half"], rows),
    ]


def _halves(increase: np.ndarray) -> float:
    """How one half of the sequences orders states as the other does; float64 [states, sequences]."""
    found, count = [], increase.shape[1]
    for seed in range(DIVISIONS):
        order = np.random.default_rng(seed).permutation(count)
        one, other = (increase[:, half].mean(axis=1) for half in (order[: count // 2], order[count // 2 :]))
        found.append(spearman(one, other))
    return float(np.mean(found))


def _order(bed: Bed, found: dict[str, Candidate], depths: list[int]) -> list[str]:
    increase = bed.increase().mean(axis=1)
    groups = list(groups_of(bed, depths))
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
        f"what the couplings cost, in forwards of {ROWS} sequences.",
        "",
        *table(["couplings", "forwards", *(name for name, _ in groups)], rows),
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
        "paired standard error.",
        "",
        *table(["choice", *(f"M = {m}" for m in depths)], rows),
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
        f"{part[some].mean():+.3f} "
        + (f"at distance {a}" if a == b else f"at {a} to {b if b < n else 'any more'}")
        for a, b in distances
        if (some := light & (j - i >= a) & (j - i <= b)).any()
    )
    return [
        "## Two bodies",
        "",
        f"L(ij) − L(i) − L(j) + L() of {len(states)} pairs, {light.sum()} of them light (both of the "
        f"cheaper three quarters): mean {part[light].mean():+.3f}, spread {part[light].std():.3f} nats, of "
        f"whose square {100 * noise / part[light].var():.0f} % is noise of measuring. Light pairs, mean by "
        f"distance: {by_distance}. Spearman of 2 H with them:",
        "",
        *table(["couplings", "all pairs", "light pairs"], rows),
    ]


def _samples(bed: Bed, run: Run, depths: list[int]) -> list[str]:
    """Secants of fewer sequences."""
    increase, own = bed.increase().mean(axis=1), own_costs_of(run)
    groups, rows = list(groups_of(bed, depths)), []
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
        *table(["sequences", *(name for name, _ in groups)], rows),
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
    groups = [(name, g) for name, g in groups_of(bed, depths) if len(g) >= 80]
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
        *table(
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
    groups = list(groups_of(bed, depths, ("cheapest",)))
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
        "Choosing by the loss, or by KL(original || pruned) on the same tokens: Spearman of so many "
        "choosing sequences with the loss on the judging half, mean over the parts that there are.",
        "",
        *table(["sequences", "ruler", *(name for name, _ in groups)], rows),
    ]
