"""The landscape and the tray on one self-contained page, to attach to an issue or a mail: no script, no
request, light and dark.
"""

import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

import core
from core.energy.mix import mix_label
from core.errors import InputError
from core.ising.units import BLOCK, Units
from core.landscape.landscape import Landscape
from core.landscape.wording import exponent, proof, significant, with_power
from core.spectrum.memory_budget import budget_text
from core.view.lens import tray_data
from core.view.messages import PickData
from core.view.snippets import View, cli_line, python_snippet
from core.view.state_files import Increases, provenance

ROWS = 80  # of the barcode
_BINS = 12  # of the strength of a coupling
_STYLE = (Path(__file__).parent / "report.css").read_text(encoding="utf-8")


def report_html(
    view: View,
    found: Landscape,
    tray: Sequence[tuple[int, ...]] = (),
    *,
    measured: Increases | None = None,
    reasons: Mapping[tuple[int, ...], str] | None = None,
) -> str:
    """The page. tray: picked states, listed or not; measured: {state: (loss increase in nats, standard error,
    sequences)}; reasons: {state: why it was picked}, as core.landscape.candidates says."""
    s, source = found.spectrum, view.source
    power = exponent(s.energies)
    picked = tray_data(found, list(tray))
    title = f"Removing {view.asked}: {source.name}"
    sections = [
        f"<h1>{escape(title)}</h1>",
        f"<p>Each line below is one way to choose the {source.units.word}s; lower energy is predicted "
        "better. E(x) = xᵀHx = Σ H<sub>ii</sub> + 2 Σ<sub>i&lt;j</sub> H<sub>ij</sub> over the removed "
        f"{source.units.word}s.</p>",
        _facts(view, found, power),
        f'<p class="proof">{"✓ exact: " if s.exact else ""}{escape(proof(s, power))}.</p>',
        f"<h2>Picked states</h2>{_table(found, source.units, picked, power, measured or {}, reasons or {})}",
        f"<h2>Levels</h2>{_levels(found, source.units, picked, power)}",
        f"<h2>Barcode</h2>{_barcode(found, source.units, picked)}",
        f"<h2>Couplings</h2>{_heatmap(found.H, source.units)}",
        f"<h2>The same again</h2>{_again(view)}",
    ]
    data = {"provenance": provenance(view, found), "picked": picked}
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>
{chr(10).join(sections)}
</main><footer class="muted"><p>Blockscape {core.__version__}, after arXiv 2602.00161.
Where all of this comes from is in this file as JSON, under the id provenance.</p></footer>
<script type="application/json" id="provenance">{_json(data)}</script>
</body></html>
"""


def _json(data: dict) -> str:
    """JSON that may stand in HTML: nothing in it can end the element."""
    return (
        json.dumps(data, ensure_ascii=False, allow_nan=False, indent=1)
        .replace("<", "\\u003c")
        .replace(">", "\\u003e")
        .replace("&", "\\u0026")
    )


def _facts(view: View, found: Landscape, power: int) -> str:
    s, source, c = found.spectrum, view.source, view.constraints
    about = source.about(view.estimator)
    facts = {
        "Run" if source.run else "Matrix": f"{source.name} ({source.key[:16]})",
        "Couplings": f"{about.label}, in {about.unit}: {about.about}" if source.run else about.about,
    }
    if source.domains:
        facts["Domain mix"] = "as sampled" if view.mix is None else mix_label(view.mix, 9)
    write, ends = source.units.write, {"keep": c.keep, "remove": c.remove}
    rules = [f"{name} {write(own)}" for name, own in ends.items() if own]
    rules += [f"{count} of {write(members)}" for members, count in c.groups] + (
        [f"at most {c.max_run} in a row"] if c.max_run else []
    )
    rules += [f"fits {budget_text(view.budget)}"] if view.budget else []
    facts["Rules"] = "; ".join(rules) or "none"
    facts["Energy"] = f"E₀ {with_power(s.energies[0], power)}, gap {with_power(s.gap, power)}"
    facts["Ground state" if s.exact else "Lowest state found"] = f"removes {write(found.ground)}" + (
        f"; {s.degeneracy} states share its energy" if s.degeneracy > 1 else ""
    )
    facts["Minima"] = (
        f"{int(found.minimum.sum())} of the listed states are lowered by no swap of one {source.units.word}"
    )
    return (
        "<dl>"
        + "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
        + "</dl>"
    )


def _table(
    found: Landscape,
    units: Units,
    picked: list[PickData],
    power: int,
    measured: Increases,
    reasons: Mapping[tuple[int, ...], str],
) -> str:
    if not picked:
        return '<p class="muted">None was picked.</p>'
    heads = ["", "removes", "state", "rank", "E", "ΔE", "Pearson", "diversity", "loss increase, nats"] + (
        ["why"] if reasons else []
    )
    rows = []
    for k, p in enumerate(picked, 1):
        state = tuple(p["removed"])
        cells = [
            str(k),
            units.write(state),
            p["hash"],
            "not listed" if p["rank"] is None else str(p["rank"]),
            with_power(p["energy"], power),
            "–" if p["delta"] is None else "0" if p["delta"] == 0 else with_power(p["delta"], power),
            _two(p["pearson"]),
            _two(p["diversity"]),
            _increase(measured.get(state)),
        ]
        row = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        rows.append(row + (f'<td class="long">{escape(reasons.get(state, ""))}</td>' if reasons else ""))
    note = (
        "Pearson: coefficient with the ground state; diversity: 1 − the largest coefficient with another "
        "picked state."
    )
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div><p '
        f'class="muted">{note}</p>'
    )


def _two(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _increase(value: tuple[float, float, int] | None) -> str:
    if value is None:
        return "not measured"
    mean, se, n = value
    return f"{mean:+.4f}" + (f" ± {se:.4f}" if math.isfinite(se) else "") + f" ({n} sequences)"


def _levels(found: Landscape, units: Units, picked: list[PickData], power: int) -> str:
    """Energy above the ground state by blocks changed; a line a state, those on one level side by side."""
    s = found.spectrum
    above, removed = s.energies - s.energies[0], s.removed
    top, most = float(above.max()) or 1.0, int(found.changed.max())
    width, height, left, bottom = 1000, 380, 92, 30
    column = (width - left) / (most + 1)
    y = lambda delta: 12 + (height - bottom - 20) * (1 - delta / top)  # noqa: E731
    marks = {p["rank"]: k for k, p in enumerate(picked, 1) if p["rank"] is not None}
    parts = []
    for k in range(5):
        delta = top * k / 4
        parts.append(f'<line class="axis" x1="{left}" x2="{width}" y1="{y(delta):.1f}" y2="{y(delta):.1f}"/>')
        parts.append(
            f'<text x="{left - 8}" y="{y(delta) + 4:.1f}" '
            f'text-anchor="end">{escape(with_power(delta, power) if k else "0")}</text>'
        )
    parts += [
        f'<text x="{left + column * (c + 0.5):.1f}" y="{height - 8}" text-anchor="middle">{c}</text>'
        for c in range(most + 1)
    ]
    seen: dict[tuple[int, int], int] = {}
    named: list[tuple[float, float]] = []  # where numbers stand: none on another
    for k in range(len(above)):
        place = (int(found.changed[k]), round(y(above[k])))
        shift = seen[place] = seen.get(place, -1) + 1
        x = left + column * place[0] + 6 + (shift * 26) % max(1.0, column - 34)
        kind = "picked" if k in marks else "level"
        words = f"rank {k}, removes {units.write(removed[k])}, ΔE {with_power(above[k], power)}"
        parts.append(
            f'<line class="{kind}" x1="{x:.1f}" x2="{x + 22:.1f}" y1="{y(above[k]):.1f}" '
            f'y2="{y(above[k]):.1f}"><title>{escape(words)}</title></line>'
        )
        if k in marks:
            at, line = x + 24, y(above[k]) + 4
            while any(abs(at - a) < 14 and abs(line - b) < 11 for a, b in named):
                at += 14
            named.append((at, line))
            parts.append(f'<text class="picked" x="{at:.1f}" y="{line:.1f}">{marks[k]}</text>')
    label = (
        f"Energy above the ground state of {len(above)} states, by the number of {units.word}s changed "
        "against the ground state"
    )
    caption = (
        f"ΔE, upwards, by {units.word}s changed against the ground state, to the right. Numbers: "
        "picked states."
    )
    return _figure(width, height, label, parts, caption)


def _barcode(found: Landscape, units: Units, picked: list[PickData]) -> str:
    """Which units the lowest states remove: a row a state, lowest on top; by branch a block's column has a
    lane for each of its units.
    """
    x = found.spectrum.x[:ROWS]
    lanes = max(map(len, units.of_block))
    n, row, left, top = len(units.of_block), 10 if lanes == 1 else 8 * lanes, 40, 18
    column = 950 / n
    marks = {p["rank"]: k for k, p in enumerate(picked, 1) if p["rank"] is not None}
    cells = []
    for k, u in zip(*map(np.ndarray.tolist, np.nonzero(x))):
        b = units.block[u]
        own = units.of_block[b]
        each = (row - 1) / len(own)
        at = top + row * k + own.index(u) * each
        cells.append(f"M{left + column * b:.1f} {at:g}h{column - 1:.1f}v{each:g}h{1 - column:.1f}z")
    height = top + row * len(x) + 4
    parts = [
        f'<rect class="back" x="{left}" y="{top}" width="950" height="{row * len(x)}"/>',
        f'<path class="gone" d="{"".join(cells)}"/>',
    ]
    every = 1 if n <= 40 else 10
    parts += [
        f'<text x="{left + column * (b + 0.5):.1f}" y="12" text-anchor="middle">{b}</text>'
        for b in range(0, n, every)
    ]
    parts += [
        (
            f'<text class="picked" x="{left - 6}" y="{top + row * k + row / 2 + 4:.1f}" '
            f'text-anchor="end">{name}</text>'
        )
        for k, name in marks.items()
        if k < len(x)
    ]
    shown = (
        f"the {len(x)} lowest of {len(found.spectrum.x)} listed states"
        if len(x) < len(found.spectrum.x)
        else f"all {len(x)} listed states"
    )
    return _figure(
        1000,
        height,
        f"{units.word.capitalize()}s removed by {shown}",
        parts,
        f"A column a block{_lanes_of(units)}, a row a state, lowest on top: {shown}.",
    )


def _lanes_of(units: Units) -> str:
    """What the lanes of a block's column are, as a part of a sentence; nothing by block."""
    if units.by == BLOCK:
        return ""
    return f" ({' above '.join(dict.fromkeys(units.kinds))})"


def _heatmap(H: np.ndarray, units: Units) -> str:
    """Off-diagonal couplings, stronger ones more opaque; the diagonal, the own costs, is left blank."""
    n = len(H)
    off = ~np.eye(n, dtype=bool)
    sizes = np.abs(H)
    typical = float(np.median(sizes[off])) or float(sizes[off].max()) or 1.0
    strength = np.log1p(sizes / typical)
    shade = np.ceil(_BINS * strength / (float(strength[off].max()) or 1.0)).astype(int).clip(0, _BINS)
    cell, left, top = 560 / n, 30, 18
    parts = [f'<rect class="back" x="{left}" y="{top}" width="560" height="560"/>']
    for name, sign in (("pos", H > 0), ("neg", H < 0)):
        for k in range(1, _BINS + 1):
            at = zip(*map(np.ndarray.tolist, np.nonzero(sign & off & (shade == k))))
            path = "".join(
                f"M{left + cell * j:.2f} {top + cell * i:.2f}h{cell:.2f}v{cell:.2f}h-{cell:.2f}z"
                for i, j in at
            )
            parts += [f'<path class="{name}" fill-opacity="{k / _BINS:.2f}" d="{path}"/>'] if path else []
    every = 1 if n <= 40 else 10 if units.by == BLOCK else 2
    for b, own in enumerate(units.of_block):
        if b % every:
            continue
        middle = cell * (sum(own) / len(own) + 0.5)
        parts.append(f'<text x="{left + middle:.1f}" y="12" text-anchor="middle">{b}</text>')
        parts.append(f'<text x="{left - 5}" y="{top + middle + 4:.1f}" text-anchor="end">{b}</text>')
    i, j = np.unravel_index(np.where(off, sizes, -1).argmax(), H.shape)
    pair = " and ".join(units.names[u] for u in sorted((i, j)))
    strongest = f"strongest pair: {pair}, H = {significant(float(H[i, j]))}"
    caption = (
        "Purple: H<sub>ij</sub> &gt; 0, removing both costs more than each alone; green: less. Opacity: "
        "log(1 + |H| / median), "
        f"own costs left blank; {escape(strongest)}."
    )
    return _figure(
        left + 564, top + 564, f"Couplings of {n} {units.word}s, {strongest}", parts, caption, escaped=True
    )


def _figure(
    width: float, height: float, label: str, parts: list[str], caption: str, escaped: bool = False
) -> str:
    inside = "".join(parts)
    return (
        f'<figure><svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" role="img" '
        f'aria-label="{escape(label)}">{inside}</svg>'
        f"<figcaption>{caption if escaped else escape(caption)}</figcaption></figure>"
    )


def _again(view: View) -> str:
    try:
        code, line = python_snippet(view), cli_line(view)
    except InputError as error:
        return f'<p class="muted">{escape(str(error))}</p>'
    return (
        f"<p>In Blockscape's folder, as Python:</p><pre>{escape(code)}</pre><p>or on the command "
        f"line:</p><pre>{escape(line)}</pre>"
    )
