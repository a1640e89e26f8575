"""What docs/landscape.md says of rules for candidates (core.choose.shape_rules)."""

import numpy as np

from core.choose.bed_tables import table
from core.choose.shape_words import ESTIMATORS, SURE, with_error

RUINED = 5.0  # nats: where the best choice of every rule lost as much, there is nothing to choose between


def _rule_cells(results: dict) -> list[tuple[str, int, str, dict]]:
    found = []
    for name, parts in results.items():
        for key, part in parts.items():
            if key.startswith("rules-"):
                _, m, estimator = key.split("-")
                found.append((name, int(m), estimator, part))
    return sorted(found, key=lambda c: (list(results).index(c[0]), c[1], ESTIMATORS.index(c[2])))


def _pooled(cells: list, count: str, rule: str) -> tuple[float, float, int, int]:
    """(mean gap, its standard error, cells that are better and worse beyond two standard errors) of a rule
    over cells of one model. Cells on as many sequences share them, so these are averaged first; errors of
    others are added as if they did.
    """
    gaps = [np.array(part["counts"][count][rule]["gap"]) for *_, part in cells]
    each = np.array([(g.mean(), _error(g)) for g in gaps])
    mean, error = 0.0, 0.0
    for length in {len(g) for g in gaps}:
        own = np.array([g for g in gaps if len(g) == length])
        mean += float(own.sum() / length / len(gaps))
        error += len(own) / len(gaps) * _error(own.mean(axis=0))
    better, worse = (int(((s * each[:, 0] > SURE * each[:, 1]) & (each[:, 0] != 0)).sum()) for s in (-1, 1))
    return mean, error, better, worse


def _error(gap: np.ndarray) -> float:
    """Standard error of the mean."""
    return float(gap.std(ddof=1) / np.sqrt(len(gap)))


def _by_model(results: dict, ruined: bool = False) -> dict[str, list]:
    """{model: cells}; ruined: also those in which nothing is left to choose between."""
    found: dict[str, list] = {}
    for cell in _rule_cells(results):
        if ruined or not _ruined(cell[3]):
            found.setdefault(cell[0], []).append(cell)
    return found


def _ruined(part: dict) -> bool:
    return all(v["loss"] > RUINED for rules in part["counts"].values() for v in rules.values())


def say_rules(results: dict) -> list[str]:
    """One line: who is better and worse."""
    models = _by_model(results)
    if not models:
        return []
    counts = list(next(iter(models.values()))[0][3]["counts"])
    names = list(next(iter(models.values()))[0][3]["counts"][counts[0]])
    said = []
    for rule in names[1:]:
        won, lost, total = 0, 0, 0
        better: list[str] = []
        worse: list[str] = []
        for model, cells in models.items():
            for count in counts:
                mean, se, plus, minus = _pooled(cells, count, rule)
                won, lost, total = won + plus, lost + minus, total + len(cells)
                if abs(mean) > SURE * se:
                    (better if mean < 0 else worse).append(f"{model} at {count}")
        said.append(
            f"{rule} better in {won} and worse in {lost} of {total} cells (on average better for "
            f"{', '.join(better) or 'none'}, worse for {', '.join(worse) or 'none'})"
        )
    return [
        f"- **Candidates**, against {names[0]}, beyond two standard errors ({total / 44:.1f} cells on either "
        f"side by chance): {'; '.join(said)}."
    ]


def rules_chapter(results: dict) -> list[str]:
    """The chapter."""
    lines = [
        "## Which rule finds the best loss?",
        "",
        "Every rule proposes 5, 10 or 20 states of the 1000 lowest; the one that the choosing sequences like "
        "best is judged on others. Table: loss of that state above that of the lowest energies' choice, mean "
        "over the cells (M and couplings) of a model ± standard error, in brackets the cells in which it is "
        "better and worse beyond two standard errors. study-a: both halves of the sequences choose in turn, "
        "and couplings from rows drawn anew are averaged in. Where the list has fewer minima than "
        "candidates, the lowest states fill *one per basin* up.",
        "",
        "Measured when the standard errors of `secant` and `pairs` did not yet count how far secants and "
        "pairs scatter: the window of equally low states, from which all but *one per basin* choose, is "
        "wider for them since, and their cells were not measured again.",
        "",
    ]
    models = _by_model(results)
    rows = []
    for model, cells in models.items():
        for count, found in cells[0][3]["counts"].items():
            pooled = {rule: _pooled(cells, count, rule) for rule in list(found)[1:]}
            rows.append(
                [model, count, str(len(cells))]
                + [f"{with_error(v[:2], 4)} ({v[2]}, {v[3]})" for v in pooled.values()]
            )
    if not rows:
        return [*lines, "Not measured yet."]
    names = list(next(iter(models.values()))[0][3]["counts"]["5"])
    lost = [f"{name}, M = {m}, {e}" for name, m, e, part in _rule_cells(results) if _ruined(part)]
    if lost:
        lines[2] += (
            f" Left out, as every choice of every rule loses more than {RUINED:g} nats there: "
            f"{'; '.join(lost)}."
        )
    lines += table(["model", "candidates", "cells", *names[1:]], rows)
    lines += [
        "",
        "Cell by cell, the loss of each rule's choice above the original's; of study-a above the lowest of "
        "all states:",
        "",
    ]
    return [*lines, *_cell_table(_by_model(results, ruined=True), names)]


def _cell_table(models: dict[str, list], names: list[str]) -> list[str]:
    rows = []
    for model, cells in models.items():
        for _, m, estimator, part in cells:
            for count, found in part["counts"].items():
                low = min(v["loss"] for v in found.values())
                values = (f"{v['loss']:.4f}" for v in found.values())
                told = [f"**{t}**" if v["loss"] == low else t for t, v in zip(values, found.values())]
                rows.append([model, str(m), estimator, f"{part['minima']:.0f}", count, *told])
    return table(["model", "M", "couplings", "minima listed", "candidates", *names], rows)
