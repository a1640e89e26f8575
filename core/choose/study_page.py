"""The page of the study, docs/study.md, from what its parts have found (core.choose.study)."""

import os
import platform
from collections.abc import Iterator

import numpy as np
import torch

from core.choose.other_methods import SEARCHES
from core.choose.study_parts import CHOOSE, FIRST_ORDER, LENGTH, LONGER, REPORT, WALK, depths_of


def at(curve: list, budget: float):
    """The last point of a curve within a budget; None before the first."""
    return next((point for point in reversed(curve) if point[0] <= budget), None)


def _mean(values: list) -> str:
    values = [v for v in values if v is not None]
    return f"{np.mean(values):.4f}" if values else "-"


def page(results: dict) -> str:
    """docs/study.md from {subject: what `collect` gives}."""
    lines = [
        "# The learned landscape, measured",
        "",
        f"Written by `python -m core study --work DIR` on {platform.machine()}, {os.cpu_count()} cores, "
        f"torch {torch.__version__} (CPU, float32). "
        "Demo: 24 blocks. study-a, study-b: 16 blocks, 3.3 M tokens, trained from other seeds and corpora "
        "(`python -m assets.build.train --preset study-a`); nothing was tuned on study-b.",
        "",
        f"One forward is all blocks over the {CHOOSE} choosing sequences of {LENGTH} tokens; what is "
        "executed counts, block by block; kept prefixes are shared by every method alike, "
        "and gradient rows (2.3 forwards each over its sequence) and single removals are counted in. "
        "Increases are nats on "
        f"{REPORT} sequences of the report split, which no choice has seen.",
    ]
    missing = []
    for part in (_ranking_table, _search_tables, _best_table, _reach_table, _one_shot_table):
        section = part(results)
        if sum(line.startswith("|") for line in section) <= 2:  # no more than the head of a table
            missing.append(section[0].removeprefix("## "))
        else:
            lines += ["", *section]
    if missing:
        lines += ["", f"Not measured yet: {'; '.join(missing)}."]
    return "\n".join(lines) + "\n"


def _cells(results: dict, part: str) -> Iterator[tuple[str, str, int, dict]]:
    """(subject, label of M, M, what the part found) of all that is finished."""
    for name, found in results.items():
        for label, m in depths_of(found["blocks"]).items():
            if str(m) in found.get(part, {}):
                yield name, label, m, found[part][str(m)]


def _ranking_table(results) -> list[str]:
    lines = [
        "## (a) Does the energy rank the states?",
        "",
        "Spearman over all states / with block 0 kept / recall of the true best 20. Learned: mean of three "
        "seeds; in brackets the forwards as a share of greedy's. "
        "Targets over all: 0.90 up to N/3, 0.80 at N/2.",
        "",
        "| model | M | states | paper H0 | H1 | first order on | hybrid (the prior) | learned | target |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, label, m, found in _cells(results, "ranking"):
        cells = [
            " / ".join(f"{v:.2f}" for v in found.get(key, ())) or "-"
            for key in ("paper H0", "H1", FIRST_ORDER, "hybrid (prior)")
        ]
        target = 0.8 if label == "N/2" else 0.9
        mean = np.mean([v for key, v in found.items() if key.startswith("learned, seed")], axis=0)
        cells.append(
            " / ".join(f"{v:.2f}" for v in mean)
            + (f" ({found['learned from']:.2f})" if "learned from" in found else "")
        )
        met = "met" if mean[0] >= target else "not met"
        which = (
            f"all {found['states']}" if found["all of them"] else f"{found['states']} random, report split"
        )
        lines.append(f"| {name} | {m} ({label}) | {which} | {' | '.join(cells)} | {target:.2f}: {met} |")
    return lines


def _search_tables(results) -> list[str]:
    lines = [
        "## (b) What a forward buys",
        "",
        "Loss increase on the report split of the best state at hand, mean of the seeds, by forwards as a "
        "share of greedy's; in brackets on the choosing sequences. Behind ours: what each seed could spend "
        "at most, as a share of greedy's. "
        "The verdict compares at every point from greedy's end on, seeds averaged; a tie is a difference "
        "within two standard errors of a state's report loss.",
        "",
        "| model | M | method | 1/3 | 1/2 | 1 | 1.25 | verdict for ours |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for subject, label, m, found in _cells(results, "searches"):
        end, base = found["greedy"][0][0][0], results[subject]["original"]

        def means(name: str, budget: float, column: int, found=found) -> float | None:
            points = [at(curve, budget) for curve in found[name]]
            return None if None in points else float(np.mean([p[column] for p in points]))

        for name in (name for name in ("learned", *SEARCHES) if name in found):
            cells = []
            for share in (1 / 3, 1 / 2, 1, LONGER):
                unseen, chosen = means(name, share * end, 3), means(name, share * end, 1)
                cells.append("-" if unseen is None else f"{unseen:.4f} ({chosen - base:.4f})")
            verdict = "" if name == "learned" else _verdict(found, name, end, means)
            title = f"{name}, {end:.1f} forwards" if name == "greedy" else name
            if name == "learned" and (given := results[subject].get("budgets", {}).get(str(m))):
                title += f", at most {', '.join(f'{b / end:.2f}' for b in given)}"
            lines.append(f"| {subject} | {m} ({label}) | {title} | {' | '.join(cells)} | {verdict} |")
    return lines


def _verdict(found: dict, name: str, end: float, means) -> str:
    """Whether the learned curve lies on or under another from greedy's end on, on the report split and on the
    choosing sequences.
    """
    budgets = sorted(
        {end, *(p[0] for curve in (*found[name], *found["learned"]) for p in curve if p[0] >= end)}
    )
    words = []
    for column, where in ((3, "unseen"), (1, "choosing")):
        gaps = [
            means("learned", b, column) - means(name, b, column)
            for b in budgets
            if means(name, b, column) is not None
        ]
        worst = max(gaps)
        error = float(np.mean([p[-1][4] for p in found["learned"]]))
        word = "on or under" if worst <= 1e-9 else "a tie" if column == 3 and worst <= 2 * error else "above"
        words.append(f"{where}: {word} ({worst:+.4f})")
    return ", ".join(words)


def _best_table(results) -> list[str]:
    lines = [
        "## (c) The best of all states",
        "",
        f"Every state of M was measured on {WALK} choosing sequences (docs/study.npz); forwards here are "
        "over those. "
        "Learned: forwards at which it first held the best of all, five seeds (in brackets the rank of what "
        "it held where it did not).",
        "",
        "| model | M | states | greedy: forwards, rank | limit | learned, by seed | within |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, all_found in results.items():
        for m, found in all_found.get("best", {}).items():
            limit = found["limit"] * found["greedy"]["forwards"]
            when = [next((spent for spent, rank in run if rank == 0), None) for run in found["learned"]]
            cells = [
                f"{w:.1f}" if w is not None else f"({run[-1][1] if run else '-'})"
                for w, run in zip(when, found["learned"])
            ]
            inside = sum(w is not None for w in when)
            lines.append(
                f"| {name} | {m} | {found['states']} | {found['greedy']['forwards']:.1f}, "
                f"{found['greedy']['rank']} | {limit:.1f} | {', '.join(cells)} | {inside} of {len(when)} |"
            )
    return lines


def _reach_table(results) -> list[str]:
    lines = [
        "## (d) Greedy's loss on unseen texts, reached with",
        "",
        "Forwards after which the learned landscape's choice, at the sequence of its choices, is and stays "
        "no worse than greedy's on the report split.",
        "",
        "| model | M | greedy: forwards, increase | learned: forwards by seed (share) | limit |",
        "|---|---|---|---|---|",
    ]
    for name, label, m, found in _cells(results, "searches"):
        end, _, _, goal, _ = found["greedy"][0][0]
        cells = []
        for curve in found["learned"]:
            last_worse = max((k for k, p in enumerate(curve) if p[3] > goal + 1e-9), default=-1)
            spent = curve[last_worse + 1][0] if last_worse + 1 < len(curve) else None
            cells.append("never" if spent is None else f"{spent:.1f} ({spent / end:.2f})")
        limit = {"N/4": "1/3", "N/2": "1/2"}.get(label, "")
        lines.append(f"| {name} | {m} ({label}) | {end:.1f}, {goal:.4f} | {', '.join(cells)} | {limit} |")
    return lines


def _one_shot_table(results) -> list[str]:
    lines = [
        "## Rules that rank blocks once",
        "",
        "Increase on the report split, nats, ± standard error; forwards to choose.",
        "",
    ]
    for subject, all_found in results.items():
        found = all_found.get("one-shot")
        if not found:
            continue
        depths = sorted(set(depths_of(all_found["blocks"]).values()))
        lines += [
            f"| {subject} | " + " | ".join(f"M = {m}" for m in depths) + " | forwards |",
            "|---|" + "---|" * (len(depths) + 1),
        ]
        for name, rows in found.items():
            cells = [f"{rows[str(m)][2]:.4f} ± {rows[str(m)][3]:.4f}" for m in depths]
            lines.append(f"| {name} | {' | '.join(cells)} | {max(rows[str(m)][1] for m in depths):.1f} |")
        for name in ("greedy", "learned"):
            rows = [all_found.get("searches", {}).get(str(m)) for m in depths]
            cells = [_mean([curve[-1][3] for curve in row[name]] if row else []) for row in rows]
            lines.append(f"| {name} | {' | '.join(cells)} | see (b) |")
        lines.append("")
    return lines[:-1]
