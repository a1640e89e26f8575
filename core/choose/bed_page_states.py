"""The chapters of a model's page on single states: the lowest ones, what is chosen on five tasks, and TALE
(core.choose.bed_chapters measures them).
"""

from dataclasses import dataclass

import numpy as np

from core.choose.bed_chapters import TALE_ITEMS, TALE_MOST, TALE_TASK
from core.choose.bed_tables import increases, table, with_error
from core.compare.agreement import agreement
from core.compare.comparison import wilson
from core.energy.couplings import couplings
from core.ising.energies import energies
from core.ising.states import block_list, indicator
from core.measure.state_losses import State
from core.store.runs import Run


@dataclass(frozen=True)
class BestOf:
    """A list of lowest states, measured."""

    values: np.ndarray  # float64 [K, S], nats: increases, the ground state's first
    gain: (
        np.ndarray
    )  # float64 [S], nats: over the ground state, of the best on the other half of the sequences
    better: int  # states that are below the ground state by two paired standard errors

    @property
    def mean(self) -> np.ndarray:
        """float64 [K], nats."""
        return self.values.mean(axis=1)


def best_of(part: dict, name: str) -> BestOf:
    """Of the list of one kind of couplings: the best is chosen on one half and judged on the other, both
    ways.
    """
    loss = increases(part)
    values = np.array([loss[tuple(s)] for s in part["lists"][name]])
    half = values.shape[1] // 2
    gain = []
    for choosing, judging in ((slice(half, None), slice(half)), (slice(half), slice(half, None))):
        best = int(values[:, choosing].mean(axis=1).argmin())
        gain.append(values[best, judging] - values[0, judging])
    gap = values[1:] - values[0]
    se = gap.std(axis=1, ddof=1) / np.sqrt(gap.shape[1])
    return BestOf(values, np.concatenate(gain), int((gap.mean(axis=1) < -2 * se).sum()))


def lowest(run: Run, chapters: dict) -> list[str]:
    """Does an excited state win?"""
    part = chapters["lowest"]
    count = max(map(len, part["lists"].values()))
    lines = [
        f"## The {count} lowest states at M = {part['m']}: does an excited one win?",
        "",
        f"Increases on {len(part['increase'][0])} sequences, in nats. Better: below the ground state by two "
        "paired standard errors. The best of a list is best partly by luck; chosen on half of the sequences "
        "and judged on the other half, both ways, the luck is gone.",
        "",
        *table(
            (
                "couplings",
                "energies",
                "ground state",
                "Spearman of energy and loss",
                "better",
                "best of all, with luck",
                "chosen on half, judged on the other",
            ),
            [_by_loss(run, part, name) for name in part["lists"]],
        ),
    ]
    asked = {k.partition("-")[2]: v for k, v in chapters.items() if k.startswith("lowest-")}
    if not asked:
        return lines
    items = len(next(iter(asked.values()))["values"][0])
    return [
        *lines,
        "",
        f"The same by task, {items} items each: share of right ones. Chosen on every second item and judged "
        "on the others, both ways.",
        "",
        *table(
            (
                "couplings",
                "task",
                "original",
                "ground state",
                "mean of the list",
                "best of all, with luck",
                "chosen on half, judged on the other",
                "Spearman of loss and score",
            ),
            [
                [name, task, *_by_items(part, name, found)]
                for name in part["lists"]
                for task, found in asked.items()
            ],
        ),
    ]


def _by_loss(run: Run, part: dict, name: str) -> list[str]:
    states, found = [tuple(s) for s in part["lists"][name]], best_of(part, name)
    energy = energies(couplings(run, name), indicator(states, run.blocks))
    rank, best = agreement(energy, found.mean), int(found.mean.argmin())
    return [
        name,
        f"{energy[0]:.3g} to {energy[-1]:.3g}",
        with_error(found.values[0]),
        f"{rank.spearman:.2f} [{rank.low:.2f}, {rank.high:.2f}]" if rank else "-",
        f"{found.better} of {len(states) - 1}",
        f"{found.mean[best] - found.mean[0]:+.2f} (number {best + 1})",
        with_error(found.gain),
    ]


def gained_items(part: dict, name: str, asked: dict) -> np.ndarray:
    """float64 [items]: what the best of a list gains over its ground state, chosen on every second item and
    judged on the others, both ways.
    """
    values, _ = _listed(part, name, asked)
    gain = []
    for first in (0, 1):
        best = int(values[:, first::2].mean(axis=1).argmax())
        gain.append(values[best, 1 - first :: 2] - values[0, 1 - first :: 2])
    return np.concatenate(gain)


def _listed(part: dict, name: str, asked: dict) -> tuple[np.ndarray, np.ndarray]:
    """float64 [K, items] of a list of lowest states, the ground state first; [items] of the original."""
    every = _values(asked)
    return np.array([every[tuple(s)] for s in part["lists"][name]]), every[()]


def _by_items(part: dict, name: str, asked: dict) -> list[str]:
    values, original = _listed(part, name, asked)
    score = values.mean(axis=1)
    rank = agreement(best_of(part, name).mean, score)
    return [
        *(f"{v:.2f}" for v in (original.mean(), score[0], score.mean(), score.max())),
        with_error(gained_items(part, name, asked)),
        f"{rank.spearman:.2f} [{rank.low:.2f}, {rank.high:.2f}]" if rank else "-",
    ]


def _values(part: dict) -> dict[State, np.ndarray]:
    """{state: float64 [items]} of a part that asked a task."""
    return {tuple(s): np.array(v, dtype=float) for s, v in zip(part["states"], part["values"])}


def tasks(run: Run, chapters: dict) -> list[str]:
    """Accuracies of the states that would be chosen."""
    parts = {k.partition("-")[2]: v for k, v in chapters.items() if k.startswith("tasks-")}
    found = {name: _values(part) for name, part in parts.items()}
    if not found:
        return ["## Tasks", "", "Not measured."]
    metrics = ", ".join(f"{name} by {part['metric'].partition(',')[0]}" for name, part in parts.items())
    rows = [["", "original", *_scores(found, ())]]
    for m, chosen in chapters["tasks"]["chosen"].items():
        base = tuple(chosen["singles"])
        rows += [[m, name, *_scores(found, tuple(state), base)] for name, state in chosen.items()]
    return [
        "## Tasks",
        "",
        f"Share of right items, with 95 % intervals: {len(next(iter(found.values()))[()])} items of each of "
        f"{len(found)} tasks (lm-evaluation-harness, no examples in the prompt; {metrics}). All: over all "
        "items; in brackets the paired difference to single removals in order ± standard error.",
        "",
        *table(["M", "state", *found, "all"], rows),
    ]


def _scores(found: dict[str, dict[State, np.ndarray]], state: State, base: State | None = None) -> list[str]:
    cells = []
    for values in found.values():
        own = values[state]
        low, high = wilson(own.sum(), len(own))
        cells.append(f"{own.mean():.2f} [{low:.2f}, {high:.2f}]")
    all_of = lambda s: np.concatenate([values[s] for values in found.values()])  # noqa: E731
    gap = "" if base is None else f" ({with_error(all_of(state) - all_of(base))})"
    return [*cells, f"{all_of(state).mean():.3f}{gap}"]


def tale(run: Run, chapters: dict) -> list[str]:
    """Greedy by accuracy, and what it is worth on other items; what it costs where it was not run."""
    title = "## Greedy by accuracy (TALE, arXiv 2510.22767)"
    if "tale" not in chapters:
        n, m = run.blocks, TALE_MOST
        states = sum(n - k for k in range(m))
        return [
            title,
            "",
            f"Not run. To choose {m} blocks it asks a task of {states} states, to choose {n // 3} of "
            f"{sum(n - k for k in range(n // 3))}: with {TALE_ITEMS} items of {TALE_TASK} "
            f"{states * TALE_ITEMS:,} items up to the former, more than all other chapters on tasks "
            "together, and so few items can hardly tell blocks apart. The study's "
            "command does it: `--chapters tale`.",
        ]
    part = chapters["tale"]
    loss, score = increases(part["losses"]), _values(part)
    base, rows = tuple(part["others"]["singles"]), [["original", "", f"{score[()].mean():.2f}", ""]]
    chosen = [("TALE", tuple(s)) for s in part["tale"]]
    chosen += [(name, tuple(s)) for name, s in part["others"].items()]
    for name, state in chosen:
        gap = with_error(score[state] - score[base]) if len(state) == len(base) else ""
        label = f"{name}: {block_list(state)}"
        rows.append([label, with_error(loss[state]), f"{score[state].mean():.2f}", gap])
    asked = [np.array(chapters[f"tale-{m}"]["values"]) for m in range(1, len(part["tale"]) + 1)]
    best = [v.mean(axis=1).max() for v in asked]
    ties = [int((v.mean(axis=1) == b).sum()) for v, b in zip(asked, best)]
    return [
        title,
        "",
        f"Again and again the block without which most of {asked[0].shape[1]} items of {TALE_TASK} are "
        f"right, of equals the cheapest to remove alone: {sum(map(len, asked))} states up to M = "
        f"{len(asked)}. By the items it chooses on it has {', '.join(f'{b:.2f}' for b in best)} right, with "
        f"{', '.join(map(str, ties))} states equal at the top. Judged on {len(score[()])} other items, in "
        "the last column against single removals in order:",
        "",
        *table(["state", "loss increase, nats", "right", "difference"], rows),
    ]
