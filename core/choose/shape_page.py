"""docs/landscape.md: what the shape of the energy says of the measured loss (core.choose.shape_study), every
figure and every verdict computed from docs/landscape.json.
"""

from collections.abc import Iterator

import numpy as np

from core.choose.bed_tables import table
from core.choose.shape_page_noise import noise_chapter, over_m, say_noise, say_over_m
from core.choose.shape_page_rules import rules_chapter, say_rules
from core.choose.shape_words import SURE, number, percent, with_error

FITTED = "fitted"
CALLED = {FITTED: "fitted to all losses"}
CHANCE = 0.05  # p


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
    for chapter in (_minima, _barriers, rules_chapter, noise_chapter, over_m):
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


def _picture(v: dict) -> str:
    """Mean overlap of the minima, and what their distribution looks like."""
    return "too few" if "too few" in v["picture"] else f"{v['overlap']:.2f}, {v['picture'].partition(',')[0]}"


def _called(estimator: str) -> str:
    return CALLED.get(estimator, estimator)


def _answers(results: dict) -> list[str]:
    """One line for each chapter, from its figures."""
    return [
        line
        for chapter in (_say_minima, _say_barriers, say_rules, say_noise, say_over_m)
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
            again = "; ".join(f"{percent(v['of them of the other'])} at M = {m}" for m, v in own.items())
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
        f"{name} at M = {m}: blocks {percent(v['blocks explain'])}, with pairs {percent(v['pairs explain'])}"
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
                        f"{v['minima of a half']:.1f}, {percent(v['of them of the other'])}",
                        f"{rank[0]:.0f} ({rank[1]:.0f})",
                        number(v["half against half"], 3),
                        f"{v['step']:.3f} ({v['step without noise']:.3f})" if moves == "swap" else "",
                        f"{percent(v['blocks explain'])}, {percent(v['pairs explain'])}",
                        number(v["distance"]),
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
                    f"{percent(v['valleys agree'])} ({percent(v['by chance agree'])})",
                    number(v["spearman"]),
                    with_error(v["ground"]),
                    with_error(v["best minimum"]),
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
            percent(v["pairs share"]),
            f"{v['distance']:.2f}, {v['loss by distance']:.2f}",
            percent(v["basin"]),
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
        f"- **Barriers.** Of {pairs} pairs of minima of the energies {percent(there / pairs)} have a "
        f"barrier in the loss at all, {percent(others / pairs)} of pairs of states as low that are no "
        f"minima; {order}. Along the way that the energy calls easiest the loss climbs above both ends for "
        f"{percent(climbs)} of the pairs."
    ]


def _barriers(results: dict) -> list[str]:
    rows = []
    for name, m, estimator, v in _barrier_cells(results):
        span = f" [{v['interval'][0]:.2f}, {v['interval'][1]:.2f}]" if v["interval"] else ""
        rows.append(
            [
                *(name, str(m), _called(estimator), f"{v['minima']}, {v['pairs']}"),
                f"{percent(v['in the loss'])}, {percent(v['both halves'])}",
                f"{percent(v['of others'])} [{percent(v['others range'][0])}, "
                f"{percent(v['others range'][1])}]",
                f"{v['height']:.4f} ({v['spread']:.3f})",
                number(v["spearman"]) + span,
                number(v["half against half"]),
                f"{percent(v['climbs'])}, {v['climb']:.3f}",
                number(v["climb spearman"]),
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
