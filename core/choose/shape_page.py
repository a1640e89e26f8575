"""docs/landscape.md: what the shape of the energy says of the measured loss (core.choose.shape_study), every
figure and every verdict computed from docs/landscape.json.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from core.choose.bed_tables import table
from core.shape.null_models import FIGURES

ESTIMATORS = ("h0", "hybrid", "secant", "pairs")
FITTED = "fitted"
CALLED = {FITTED: "fitted to all losses"}
SURE, CHANCE = 2.0, 0.05  # standard errors; p
RUINED = 5.0  # nats: where the best choice of every rule lost as much, there is nothing to choose between
SHORT = {"minima": "minima", "basin": "basin", "depth": "depth", "likeness": "likeness", "pairs": "pairs"}


def page(results: dict) -> str:
    """The page of {model: {part: what it has found}}."""
    lines = [
        "# Does the shape of the energy say anything of the loss?",
        "",
        "Minima, basins and barriers are those of an energy, and an energy is a model of the loss. Where the "
        "loss of every state was measured, its own minima, basins and barriers are known, and the two can be "
        "laid side by side. Written by `python -m core study --shape --work DIR` (again from what was "
        "measured: `--write-only`); all figures are in [landscape.json](landscape.json), the losses of all "
        "states in [beds](beds). Losses in nats; ± is one standard error over sequences. Minima are taken "
        "under swaps (one removed block comes back, another goes) where nothing else is said; *shift* allows "
        "only the next block in depth.",
        "",
        *_measured_on(results),
        "",
        "## In short",
        "",
        *_answers(results),
    ]
    for chapter in (_minima, _barriers, _rules, _noise, _over_m):
        lines += ["", *chapter(results)]
    return "\n".join(lines) + "\n"


def _measured_on(results: dict) -> list[str]:
    found = []
    for name, parts in results.items():
        walks = [
            f"all {p['loss']['swap']['states']} states of M = {m} on {p['sequences']} sequences"
            for m, p in _same(parts)
        ]
        if walks:
            found.append(f"{name}, {', '.join(walks)}")
    machines = sorted({parts["machine"] for parts in results.values() if "machine" in parts})
    return [
        f"Known in full are of {'; of '.join(found)}, 128 tokens each. Measured on {'; '.join(machines)}."
    ]


def _same(parts: dict) -> list[tuple[int, dict]]:
    """(M, part) where every state was measured."""
    return sorted((int(k.partition("-")[2]), v) for k, v in parts.items() if k.startswith("same-"))


def _cells(results: dict, moves: str = "swap") -> Iterator[tuple[str, int, str, dict, dict]]:
    """(model, M, estimator, of the energy, of the loss) of all that is known in full."""
    for name, parts in results.items():
        for m, part in _same(parts):
            for estimator, own in part["energy"].items():
                yield name, m, estimator, own[moves], part["loss"][moves]


def _pm(value: Sequence[float], digits: int = 3) -> str:
    return f"{value[0]:+.{digits}f} ± {value[1]:.{digits}f}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.1 or share == 0 else f"{100 * share:.1f} %"


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _picture(v: dict) -> str:
    """Mean overlap of the minima, and what their distribution looks like."""
    return "too few" if "too few" in v["picture"] else f"{v['overlap']:.2f}, {v['picture'].partition(',')[0]}"


def _called(estimator: str) -> str:
    return CALLED.get(estimator, estimator)


def _answers(results: dict) -> list[str]:
    """One line for each chapter, from its figures."""
    return [
        line
        for chapter in (_say_minima, _say_barriers, _say_rules, _say_noise, _say_over_m)
        for line in chapter(results)
    ]


def _say_minima(results: dict) -> list[str]:
    lines = []
    for moves, called in (("swap", "swaps"), ("shift", "shifts in depth")):
        every = [c for c in _cells(results, moves) if c[2] != FITTED]
        for model in dict.fromkeys(c[0] for c in every):
            cells = [c for c in every if c[0] == model]
            told = [_has([c for c in cells if c[2] == e]) for e in dict.fromkeys(c[2] for c in cells)]
            own = {c[1]: c[4] for c in cells}
            again = "; ".join(f"{_percent(v['of them of the other'])} at M = {m}" for m, v in own.items())
            total = sum(v["minima"] for v in own.values())
            lines.append(
                f"- **Minima, {model}, {called}.** Of the {total} minima of the loss so many are minima of "
                f"the energy, too: {', '.join(told)}. Of what one half of the sequences says are minima of "
                f"the loss, so many are on the other: {again}."
            )
    return lines + _say_ground(results)


def _has(cells: list) -> str:
    """What the minima of one kind of couplings share with those of the loss, over all M."""
    shared, expected = (sum(c[3][key] for c in cells) for key in ("shared", "expected"))
    sure = sum(c[3]["by chance"] < CHANCE for c in cells)
    beyond = f", beyond it at {sure} of {len(cells)} M" if shared else ""
    return f"{cells[0][2]} {shared} (chance {expected:.2g}{beyond})"


def _say_ground(results: dict) -> list[str]:
    cells = [c for c in _cells(results) if c[2] != FITTED]
    if not cells:
        return []
    ground, best = (np.array([c[3][key] for c in cells]) for key in ("ground", "best minimum"))
    worse, better = ([int((s * v[:, 0] > SURE * v[:, 1]).sum()) for v in (ground, best)] for s in (1, -1))
    gain = ground[:, 0] - best[:, 0]
    return [
        "- **The ground state** against the state that is best on one half of the sequences, judged on the "
        f"other: worse beyond two standard errors in {worse[0]} of {len(cells)} cells, better in "
        f"{better[0]}; the best of the energy's minima worse in {worse[1]}, better in {better[1]}. Measuring "
        f"all minima of the energy and not its lowest state alone gains {np.median(gain):.3f} nats (median; "
        f"{min(gain):+.3f} to {max(gain):+.3f}).",
        *_say_explained(results),
    ]


def _say_explained(results: dict) -> list[str]:
    told = [
        f"{name} at M = {m}: blocks {_percent(v['blocks explain'])}, with pairs "
        f"{_percent(v['pairs explain'])}"
        for name, parts in results.items()
        for m, part in _same(parts)
        if m > 2
        for v in (part["loss"]["swap"],)
    ]
    fit = [c for c in _cells(results) if c[2] == FITTED]
    text = "- **What any energy could do.** Of the variance of the loss explain at most, "
    text += "; ".join(told)
    text += ". That is the dear states: couplings fitted to all losses by least squares have only "
    shared, own = sum(c[3]["shared"] for c in fit), sum(c[3]["loss minima"] for c in fit)
    return [f"{text}{shared} of {own} minima of the loss under swaps."] if fit else []


def _minima(results: dict) -> list[str]:
    return [
        "## Does the energy have the minima of the loss?",
        "",
        "The loss first. *Of a half*: minima on one half of the sequences, and how many of them are minima "
        "on the other, over random halves; *step*: correlation of two states one swap apart, in brackets "
        "without the noise of the sequences; *blocks, pairs explain*: the share of the variance of the loss "
        "that any energy without, and with pairs can explain; *distance*: Spearman of the loss and blocks "
        "changed against the best state; *overlap*: of two minima, in brackets of two random states.",
        "",
        *_loss_table(results),
        "",
        "The energies beside it. *By chance*: what as many random states would share, and how likely chance "
        "shares as many. *Valleys agree*: states whose descents end in the same minimum by energy and by "
        "loss, in brackets by chance. *Above the best*: loss of the ground state, and of the minimum that "
        "one half of the sequences likes best, above that of the state that this half likes best, judged on "
        "the other half. *Best state's rank*: by energy.",
        "",
        *_energy_table(results),
        "",
        "How rugged both are. *Step* as above, exact for the energy; *pairs*: share of the energy's variance "
        "that only pairs explain; *distance*: Spearman of the energy and blocks changed against the ground "
        "state, and of the loss and the same; *basin*: share of all states that drain into the ground state.",
        "",
        *_rugged_table(results),
    ]


def _loss_table(results: dict) -> list[str]:
    rows = []
    for name, parts in results.items():
        for m, part in _same(parts):
            for moves, v in part["loss"].items():
                rank = v["rank of a half's best"]
                rows.append(
                    [
                        *(name, str(m), moves, str(v["states"]), str(v["minima"])),
                        f"{v['minima of a half']:.1f}, {_percent(v['of them of the other'])}",
                        f"{rank[0]:.0f} ({rank[1]:.0f})",
                        _number(v["half against half"], 3),
                        f"{v['step']:.3f} ({v['step without noise']:.3f})" if moves == "swap" else "",
                        f"{_percent(v['blocks explain'])}, {_percent(v['pairs explain'])}",
                        _number(v["distance"]),
                        f"{_picture(v)} (random {v['of random']:.2f})",
                    ]
                )
    head = ["model", "M", "moves", "states", "minima", "of a half, of the other too"]
    head += ["a half's best: rank on the other (90 %)", "half against half", "step"]
    return table([*head, "blocks, pairs explain", "distance", "overlap"], rows)


def _energy_table(results: dict) -> list[str]:
    rows = []
    for moves in ("swap", "shift"):
        for name, m, estimator, v, _ in _cells(results, moves):
            rows.append(
                [
                    *(name, str(m), moves, _called(estimator), str(v["minima"]), str(v["loss minima"])),
                    f"**{v['shared']}**" if v["by chance"] < 0.05 else str(v["shared"]),
                    f"{v['expected']:.2f}, p = {v['by chance']:.2g}",
                    f"{_percent(v['valleys agree'])} ({_percent(v['by chance agree'])})",
                    _number(v["spearman"]),
                    _pm(v["ground"]),
                    _pm(v["best minimum"]),
                    str(v["rank of the best"]),
                    str(v["loss rank of the ground"]),
                ]
            )
    head = ["model", "M", "moves", "couplings", "minima", "of the loss", "shared", "by chance"]
    head += ["valleys agree", "Spearman", "ground state above the best", "best minimum above it"]
    return table([*head, "best state's rank", "ground's rank by loss"], rows)


def _rugged_table(results: dict) -> list[str]:
    rows = [
        [
            *(name, str(m), _called(estimator), f"{v['step']:.3f}", f"{own['step without noise']:.3f}"),
            _percent(v["pairs share"]),
            f"{v['distance']:.2f}, {v['loss by distance']:.2f}",
            _percent(v["basin"]),
            _picture(v),
        ]
        for name, m, estimator, v, own in _cells(results)
    ]
    head = ["model", "M", "couplings", "step of the energy", "of the loss", "pairs", "distance"]
    return table([*head, "basin", "overlap of minima"], rows)


def _barrier_cells(results: dict) -> list[tuple[str, int, str, dict]]:
    return [
        (name, m, estimator, v)
        for name, parts in results.items()
        for m, part in _same(parts)
        for estimator, v in part["barriers"].items()
        if v["pairs"]
    ]


def _say_barriers(results: dict) -> list[str]:
    cells = [c for c in _barrier_cells(results) if c[2] != FITTED]
    if not cells:
        return []
    pairs = sum(v["pairs"] for *_, v in cells)
    there = sum(v["in the loss"] * v["pairs"] for *_, v in cells)
    others = sum(v["of others"] * v["pairs"] for *_, v in cells)
    climbs = sum(v["climbs"] * v["paths"] for *_, v in cells) / sum(v["paths"] for *_, v in cells)
    told = [v["interval"] for *_, v in cells if v["interval"]]
    order = "too few minima to say whether higher barriers are higher in the loss"
    if told:
        up, down = sum(low > 0 for low, _ in told), sum(high < 0 for _, high in told)
        order = (
            "height in the energy against height in the loss: the interval of the Spearman coefficient lies "
            f"above 0 in {up} of {len(told)} cells that have one, below in {down}"
        )
    return [
        f"- **Barriers.** Of {pairs} pairs of minima of the energies {_percent(there / pairs)} have a "
        f"barrier in the loss at all, {_percent(others / pairs)} of pairs of states as low that are no "
        f"minima; {order}. Along the way that the energy calls easiest the loss climbs above both ends for "
        f"{_percent(climbs)} of the pairs."
    ]


def _barriers(results: dict) -> list[str]:
    rows = []
    for name, m, estimator, v in _barrier_cells(results):
        span = f" [{v['interval'][0]:.2f}, {v['interval'][1]:.2f}]" if v["interval"] else ""
        rows.append(
            [
                *(name, str(m), _called(estimator), f"{v['minima']}, {v['pairs']}"),
                f"{_percent(v['in the loss'])}, {_percent(v['both halves'])}",
                f"{_percent(v['of others'])} [{_percent(v['others range'][0])}, "
                f"{_percent(v['others range'][1])}]",
                f"{v['height']:.4f} ({v['spread']:.3f})",
                _number(v["spearman"]) + span,
                _number(v["half against half"]),
                f"{_percent(v['climbs'])}, {v['climb']:.3f}",
                _number(v["climb spearman"]),
            ]
        )
    head = ["model", "M", "couplings", "minima, pairs", "barrier in the loss, on both halves"]
    head += ["of states that are no minima", "mean height (spread of all losses)", "Spearman of the heights"]
    head += ["half against half", "along the energy's way: climbs, mean", "Spearman"]
    return [
        "## Barriers",
        "",
        "Between every two minima of the energy: the highest energy on the lowest way, above the higher of "
        "the two, and the same in the loss over the complete graph of states, each by its own lowest way. "
        "*Of states that are no minima*: the same asked of states of about the same energy, with the range "
        "of ten draws. Intervals: 95 %, minima drawn with replacement. *Along the energy's way*: the loss "
        "along the path that the energy calls easiest, of up to 60 pairs: how many climb above both "
        "ends, and how far.",
        "",
        *table(head, rows),
    ]


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


def _say_rules(results: dict) -> list[str]:
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


def _rules(results: dict) -> list[str]:
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
    ]
    models = _by_model(results)
    rows = []
    for model, cells in models.items():
        for count, found in cells[0][3]["counts"].items():
            pooled = {rule: _pooled(cells, count, rule) for rule in list(found)[1:]}
            rows.append(
                [model, count, str(len(cells))]
                + [f"{_pm(v[:2], 4)} ({v[2]}, {v[3]})" for v in pooled.values()]
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


def _noise_cells(results: dict) -> list[tuple[str, str, str, dict]]:
    found = []
    for name, parts in results.items():
        for key, part in parts.items():
            if key.startswith("noise-"):
                _, estimator, label = key.split("-")
                found.append((name, estimator, label.replace("N", "N/"), part))
    order = {"N/5": 0, "N/4": 1, "N/3": 2}
    return sorted(found, key=lambda c: (list(results).index(c[0]), c[1], order[c[2]]))


def _side(part: dict, null: str, figure: str) -> int:
    """-1 below the range of a null model, 1 above it, 0 inside."""
    low, high = part["range"][null][figure]
    real = part["real"][figure]
    return -1 if real < low else 1 if real > high else 0


def _say_noise(results: dict) -> list[str]:
    lines = []
    for estimator in dict.fromkeys(c[1] for c in _noise_cells(results)):
        cells = [part for _, name, _, part in _noise_cells(results) if name == estimator]
        said = []
        for null in cells[0]["range"]:
            sides = [_side(part, null, "minima") for part in cells]
            said.append(f"{cells[0]['about'][null]}: more in {sides.count(1)}, fewer in {sides.count(-1)}")
        lines.append(
            f"- **Structure or noise, {estimator}.** Minima against 95 % of draws, in {len(cells)} cells: "
            f"{'; '.join(said)}."
        )
    return lines


def _noise(results: dict) -> list[str]:
    rows = []
    for name, estimator, label, part in _noise_cells(results):
        row = [name, label, estimator]
        for figure in FIGURES:
            ranges = (
                f"{null[0]} {_short(low)}-{_short(high)}{('', '↑', '↓')[_side(part, null, figure)]}"
                for null, (low, high) in ((k, v[figure]) for k, v in part["range"].items())
            )
            row.append(f"**{_short(part['real'][figure])}** ({', '.join(ranges)})")
        rows.append(row)
    told = "; ".join(f"*{SHORT[k]}*: {v}" for k, v in FIGURES.items())
    verdicts = [
        f"- {name}, {label}, {estimator}: {_verdict(part)}."
        for name, estimator, label, part in _noise_cells(results)
    ]
    return [
        "## Structure or noise?",
        "",
        "The same figures for couplings that are noise in part, the middle 95 % of 20 draws each: s, the "
        "same diagonal with its pairs shuffled; w, a Wishart matrix of the same rank and diagonal; p, rows "
        "with each column permuted on its own (H0 only). Arrows: the real figure lies above, below. "
        f"{told}.",
        "",
        *table(["model", "M", "couplings", *(SHORT[f] for f in FIGURES)], rows),
        "",
        *verdicts,
    ]


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def _verdict(part: dict) -> str:
    words = []
    for null, ranges in part["range"].items():
        above = [SHORT[f] for f in ranges if _side(part, null, f) > 0]
        below = [SHORT[f] for f in ranges if _side(part, null, f) < 0]
        told = [f"larger {', '.join(above)}"] if above else []
        told += [f"smaller {', '.join(below)}"] if below else []
        words.append(f"{' and '.join(told) or 'nothing that is not in its range'} ({part['about'][null]})")
    return "; ".join(words)


def _depth_cells(results: dict) -> list[tuple[str, str, list]]:
    return [
        (name, key.partition("-")[2], rows)
        for name, parts in results.items()
        for key, rows in parts.items()
        if key.startswith("depths-")
    ]


def _say_over_m(results: dict) -> list[str]:
    said = []
    for name, estimator, rows in _depth_cells(results):
        most = max(rows, key=lambda r: r["minima"])
        steps = rows[1:]
        nested = sum(r["left"] == 0 for r in steps)
        count = f"at most {most['minima']:.0f} minima (M = {most['m']})"
        said.append(
            f"{name}, {estimator}: {count if most['minima'] > 1 else 'one minimum at every M'}, {nested} of "
            f"{len(steps)} steps nested"
        )
    return [f"- **Over M.** {'; '.join(said)}."] if said else []


def _over_m(results: dict) -> list[str]:
    cells = _depth_cells(results)
    most = max((r["m"] for *_, rows in cells for r in rows), default=0)
    lines = [
        "## Over M",
        "",
        "Minima (counted where all states can be listed, else estimated from 500 descents, marked ≥), the "
        "share of all states that drains into the ground state, and whether its ground state is that of the "
        "M before and one block more, as greedy removal assumes (n), or how many blocks come back.",
        "",
    ]
    head = ["M", *(f"{name}, {estimator}" for name, estimator, _ in cells)]
    rows = []
    for m in range(1, most + 1):
        row = [str(m)]
        for *_, own in cells:
            r = next((r for r in own if r["m"] == m), None)
            row.append("" if r is None else _depth(r, first=m == own[0]["m"]))
        rows.append(row)
    return [*lines, *table(head, rows)] if rows else [*lines, "Not measured yet."]


def _depth(r: dict, first: bool) -> str:
    step = "" if first else ", n" if r["left"] == 0 else f", {r['left']} back"
    return f"{'' if r['exact'] else '≥ '}{r['minima']:.0f}, {_percent(r['basin'])}{step}"
