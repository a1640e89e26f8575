"""What docs/landscape.md says of null models, and of every M."""

from core.choose.bed_tables import table
from core.choose.shape_words import percent
from core.shape.null_models import FIGURES

SHORT = {"minima": "minima", "basin": "basin", "depth": "depth", "likeness": "likeness", "pairs": "pairs"}


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


def say_noise(results: dict) -> list[str]:
    """One line for each kind of couplings."""
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


def noise_chapter(results: dict) -> list[str]:
    """The chapter."""
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


def say_over_m(results: dict) -> list[str]:
    """One line."""
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


def over_m(results: dict) -> list[str]:
    """The chapter."""
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
    return f"{'' if r['exact'] else '≥ '}{r['minima']:.0f}, {percent(r['basin'])}{step}"
