"""What docs/study-<model>.md says of finer cuts (core.choose.bed_units), and docs/study-units.md of those of
all models that were studied: computed from their files and runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from core.choose.bed_tables import table
from core.choose.bed_units import ATTENTION, ESTIMATORS, UNITS, WHOLE, best_choices, state_of, targets_of
from core.compare.agreement import agreement
from core.compare.comparison import wilson
from core.energy.couplings import couplings
from core.ising.energies import energies
from core.ising.states import indicator
from core.ising.units import BRANCH, Name
from core.store.runs import Run

Z = 1.96  # standard errors: a 95 % interval
PAYS, COSTS, EVEN = "pays", "costs more", "no difference"


@dataclass(frozen=True)
class Found:
    """What was found of finer cuts on one model. content: of units.json; whole: the run, by block; times: of
    times.json, where a token was timed.
    """

    content: dict
    whole: Run
    times: dict | None = None

    @cached_property
    def run(self) -> Run:
        """By branch."""
        return self.whole.seen(BRANCH)

    @cached_property
    def best(self) -> dict[str, dict[str, dict]]:
        """{target: {kind of choice: the choice that lost least on the choosing sequences}}."""
        found: dict[str, dict[str, dict]] = {c["target"]: {} for c in self.content["choices"]}
        for c in best_choices(self.content["choices"]):
            found[c["target"]][c["space"]] = c
        return found

    def right(self, removed: list[Name]) -> np.ndarray | None:
        """float64 [items of all tasks]: 1 where a choice is right; None where no task was asked."""
        name = self.run.units.write(state_of(removed, self.run.units))
        tasks = [t["right"] for t in self.content["tasks"].values()]
        if not tasks or any(name not in right for right in tasks):
            return None
        return np.concatenate([np.array(list(right[name]), dtype=float) for right in tasks])


def section(found: Found) -> list[str]:
    """The chapter of a model's page."""
    meta, units = found.content["meta"], found.run.units
    spent = meta["budget"] * meta["choosing"] / 256
    timed = f" Tokens were timed on {found.times['machine']}." if found.times else ""
    return [
        "## Attention and FFN on their own",
        "",
        f"The same calibration by branch: {len(units)} units. Judged on {meta['judged']} sequences of "
        f"{meta['judge']} that no choice has seen, on {meta['machine']}. Learned: {meta['budget']:g} "
        f"forwards of {meta['choosing']} sequences of {meta['length']} tokens beyond the calibration, "
        f"{spent:.1f} of 256, {meta['seeds']} times on different ones; all other choices take none. Of each "
        f"kind of choice the best is the one that loses least on all {meta['choosing'] * meta['seeds']} "
        f"choosing sequences; intervals are over the judging sequences.{timed}",
        "",
        "### Where do finer cuts pay?",
        "",
        *answer({"": found}),
        "",
        *_overshot(found),
        *_by_target(found),
        *_on_tasks(found),
        *_orders(found),
        *_missing(found),
    ][:-1]


def _missing(found: Found) -> list[str]:
    """What is still to be measured of finer cuts."""
    there = {(c["target"], c["space"]) for c in found.content["choices"]}
    wanted = [(t.name, space) for t in targets_of(found.run, found.times) for space in t.spaces]
    lacking = [f"{space} at {target}" for target, space in wanted if (target, space) not in there]
    lacking += [word for word in ("random", "tasks") if not found.content[word]]
    if not lacking:
        return []
    return [f"Still to be measured: {', '.join(lacking).replace('random', 'random states')}.", ""]


def overview(models: Mapping[str, Found]) -> list[str]:
    """The lines of docs/study-units.md; models by name."""
    links = ", ".join(f"[{name}](study-{name}.md#attention-and-ffn-on-their-own)" for name in models)
    return [
        "# Finer cuts: where do they pay?",
        "",
        "Attention and FFN on their own against whole blocks, at the same keys and values, the same weights "
        "and the same milliseconds a token, written by `python -m core study --model MODEL --units` from the "
        f"files in [beds](beds). All choices, and how they were measured: {links}.",
        "",
        *answer(models),
    ]


def answer(models: Mapping[str, Found]) -> list[str]:
    """The answer in words, and the table that it is read from; models by name, one without a name is not
    named.
    """
    told, rows = [], []
    for model, found in models.items():
        lines = [*(_sentence(found, space) for space in (UNITS, ATTENTION)), _same(found), _tasks_told(found)]
        if model and _missing(found):
            lines.append(f"not all is measured yet: see [its page](study-{model}.md).")
        told += [
            f"- {model}: {line}" if model else f"- {line[0].upper()}{line[1:]}" for line in lines if line
        ]
        for target, best in found.best.items():
            row = [model, target] if model else [target]
            row += [_loss(best.get(space)) for space in (WHOLE, UNITS, ATTENTION)]
            row += [_against(best, space) for space in (UNITS, ATTENTION)]
            rows.append([*row, *_tasks(found, best)])
    asked = any(found.content["tasks"] for found in models.values())
    head = ["model"] if "" not in models else []
    head += ["what is left or goes", WHOLE, UNITS, ATTENTION, "units - blocks", "attention - blocks"]
    head += ["tasks: blocks", "units", "attention"] if asked else []
    return [
        *told,
        "",
        "Increase of the loss in nats, of each kind the choice that lost least on the choosing sequences; "
        "differences are paired over the judging sequences, with 95 % intervals."
        + (
            " Tasks: share of all items that is right, and in brackets its change against the whole blocks."
            * asked
        ),
        "",
        *table(head, rows if asked else [row[: len(head)] for row in rows]),
    ]


def _compared(found: Found, space: str) -> dict[str, np.ndarray]:
    """{target: what the best of a kind loses over the best whole blocks}, where there are both."""
    return {
        target: _gap(best, space) for target, best in found.best.items() if WHOLE in best and space in best
    }


def _sentence(found: Found, space: str) -> str:
    """Where a kind of choice loses less than whole blocks, where more, where it cannot be told."""
    words = {PAYS: "lose less than whole blocks", EVEN: "cannot be told from them", COSTS: "lose more"}
    gaps = sorted(_compared(found, space).items(), key=lambda item: float(item[1].mean()))
    told = [
        f"{words[verdict]} at {', '.join(own)}"
        for verdict in words
        if (own := [f"{target} ({gap.mean():+.2f})" for target, gap in gaps if _verdict(gap) == verdict])
    ]
    subject = "units" if space == UNITS else "the best attentions alone"
    return f"{subject} {'; '.join(told)}." if told else ""


def _same(found: Found) -> str:
    """Where the best units are attentions alone."""
    parts, units = found.run.meta["model"]["blocks"], found.run.units
    same = [
        target
        for target, best in found.best.items()
        if UNITS in best and all(parts[u]["kv_bytes"] for u in state_of(best[UNITS]["removed"], units))
    ]
    return f"the best units are attentions alone at {', '.join(same)}." if same else ""


def _tasks_told(found: Found) -> str:
    """Which differences of tasks are beyond their intervals."""
    gaps: list[tuple[str, np.ndarray]] = []
    for target, best in found.best.items():
        base = found.right(best[WHOLE]["removed"]) if WHOLE in best else None
        others = {tuple(best[space]["removed"]): space for space in (ATTENTION, UNITS) if space in best}
        for removed, space in others.items():  # the same state once
            own = found.right(list(removed))
            if base is not None and own is not None:
                gaps.append((f"{space} at {target} ({(own - base).mean():+.3f})", own - base))
    if not gaps:
        return ""
    clear = [label for label, gap in gaps if _verdict(gap) != EVEN]
    items = len(gaps[0][1])
    return (
        f"on {items} items of tasks {len(clear) or 'none'} of {len(gaps)} differences to whole blocks "
        f"{'is' if len(clear) == 1 else 'are'} beyond the 95 % interval"
        + (f": {', '.join(clear)}." if clear else ".")
    )


def _overshot(found: Found) -> list[str]:
    """What removes far more than was asked: a floor is all that binds it."""
    units, size = found.run.units, [float(p["bytes"]) for p in found.run.meta["model"]["blocks"]]
    told: dict[int, list[str]] = {}
    for c in found.content["choices"]:
        state = state_of(c["removed"], units)
        if c["space"] == UNITS and c["method"] == "h0" and sum(size[u] for u in state) > sum(size) / 2:
            told.setdefault(len(state), []).append(c["target"])
    if not told:
        return []
    words = "; ".join(f"{count} of {len(units)} units at {', '.join(at)}" for count, at in told.items())
    return [
        f"H0 answers a floor with far more than it asks ({words}): to it a model without nearly all of its "
        "units costs nearly nothing. Where their number is fixed it cannot do that.",
        "",
    ]


def _gap(best: dict[str, dict], space: str) -> np.ndarray:
    """float64 [S], nats: what it loses over the best whole blocks."""
    return np.array(best[space]["increase"]) - np.array(best[WHOLE]["increase"])


def _interval(values: np.ndarray) -> float:
    """Half of its 95 % interval."""
    return Z * float(values.std(ddof=1)) / np.sqrt(len(values))


def _verdict(gap: np.ndarray) -> str:
    half = _interval(gap)
    return PAYS if gap.mean() < -half else COSTS if gap.mean() > half else EVEN


def _loss(choice: dict | None) -> str:
    if choice is None:
        return "-"
    increase = np.array(choice["increase"])
    return f"{increase.mean():+.2f} ± {_interval(increase):.2f}"


def _against(best: dict[str, dict], space: str) -> str:
    if WHOLE not in best or space not in best:
        return "-"
    gap = _gap(best, space)
    return f"{gap.mean():+.3f} ± {_interval(gap):.3f}"


def _tasks(found: Found, best: dict[str, dict]) -> list[str]:
    """Of the best whole blocks, units, attention alone."""
    right = {space: found.right(c["removed"]) for space, c in best.items()}
    base, cells = right.get(WHOLE), []
    for space in (WHOLE, UNITS, ATTENTION):
        own = right.get(space)
        if own is None:
            cells.append("-")
        elif space == WHOLE or base is None:
            cells.append(f"{own.mean():.3f}")
        else:
            cells.append(f"{own.mean():.3f} ({(own - base).mean():+.3f} ± {_interval(own - base):.3f})")
    return cells


def _by_target(found: Found) -> list[str]:
    """A table a target, the best choice first."""
    lines: list[str] = []
    units, parts = found.run.units, found.run.meta["model"]["blocks"]
    kv, size = (np.array([float(p[name]) for p in parts]) for name in ("kv_bytes", "bytes"))
    total = float(found.run.meta["model"]["bytes"])
    for target, best in found.best.items():
        own = [c for c in found.content["choices"] if c["target"] == target]
        own.sort(key=lambda c: float(np.mean(c["increase"])))
        rows = []
        for c in own:
            state = list(state_of(c["removed"], units))
            gap = ""
            if WHOLE in best:
                difference = np.array(c["increase"]) - np.array(best[WHOLE]["increase"])
                gap = f" ({difference.mean():+.2f} ± {_interval(difference):.2f})"
            marked = "**" if c in best.values() else ""
            rows.append(
                [
                    f"{marked}{c['space']}, {c['method']}{marked}",
                    f"{np.mean(c['increase']):+.2f}{gap}",
                    f"{100 - 100 * kv[state].sum() / kv.sum():.0f} %",
                    f"{100 - 100 * size[state].sum() / total:.0f} %",
                    units.said(state),
                ]
            )
        lines += [
            f"**{target}**: {own[0]['about']}. In brackets: against the best whole blocks, with a 95 % "
            "interval; bold: best on the choosing sequences.",
            "",
            *table(["choice", "increase, nats", "KV left", "weights left", "removed"], rows),
            "",
        ]
    return lines


def _on_tasks(found: Found) -> list[str]:
    """Task by task."""
    tasks = found.content["tasks"]
    if not tasks:
        return []
    states = {"original": ((), "")}
    for target, best in found.best.items():
        for space, c in best.items():
            states[f"{target}: {space}"] = (tuple(c["removed"]), c["method"])
    rows = []
    for label, (removed, method) in states.items():
        name = found.run.units.write(state_of(list(removed), found.run.units))
        cells = []
        for task in tasks.values():
            own = np.array(list(task["right"].get(name, "")), dtype=float)
            low, high = wilson(own.sum(), len(own)) if len(own) else (0.0, 0.0)
            cells.append(f"{own.mean():.2f} [{low:.2f}, {high:.2f}]" if len(own) else "-")
        rows.append([f"{label}, {method}" if method else label, *cells])
    items = len(next(iter(tasks.values()))["right"][""])
    return [
        "### Tasks",
        "",
        f"Share of {items} items of each task that is right, with 95 % intervals (lm-evaluation-harness, no "
        "examples in the prompt): "
        + ", ".join(f"{name} by {task['metric'].partition(',')[0]}" for name, task in tasks.items())
        + ".",
        "",
        *table(["choice", *tasks], rows),
        "",
    ]


def _orders(found: Found) -> list[str]:
    groups, run = found.content["random"], found.run
    if not groups:
        return []
    rows = []
    x = {
        name: indicator([run.units.parse(s) for s in states], len(run.units))
        for name, states in groups.items()
    }
    for name in (*ESTIMATORS, "h0 own"):
        H = np.diag(np.diag(couplings(run, "h0"))) if name == "h0 own" else couplings(run, name)
        cells = []
        for group, states in groups.items():
            rank = agreement(energies(H, x[group]), np.array(list(states.values())))
            cells.append(f"{rank.spearman:.2f} [{rank.low:.2f}, {rank.high:.2f}]" if rank else "-")
        rows.append([name, *cells])
    return [
        "### Who orders states of units?",
        "",
        "Spearman of energy and measured increase over random states, the blocks at both ends left in, with "
        "its 95 % interval.",
        "",
        *table(["couplings", *(f"{len(states)} x {name}" for name, states in groups.items())], rows),
        "",
    ]
