"""The minima and barriers of a landscape as files: JSON, CSV, SVG, GraphML."""

import csv
import io
import math
from collections.abc import Callable
from xml.sax.saxutils import escape

import networkx as nx
import numpy as np

from core.ising.units import Name, Units, written
from core.landscape.wording import exponent, significant, superscript
from core.shape.tree import BarrierTree, columns

LEAVES = 30  # that are drawn
_WIDTH, _HEIGHT, _MARGIN = 960, 540, 56


def tree_table(tree: BarrierTree, units: Units, count: int | None = None) -> dict:
    """{"minima": [{"removed", "energy", "rank", "basin", "states"}], "barriers": [[i, j, E]], "listed",
    "exact", "top"}: the `count` lowest minima (None: all), ascending, and the merges of their tree.

    i, j: positions in minima of the lowest minima of the two parts that meet at energy E. basin: listed
    states that drain there; states: of the minimum, more than one where it is a plateau. top: the energy up
    to which every state is listed; None: there are no others.
    """
    v = tree.valleys
    kept = len(v.minimum) if count is None else min(count, len(v.minimum))
    minima = [
        {
            "removed": units.listed(state),
            "energy": float(e),
            "rank": int(k),
            "basin": int(b),
            "states": int(p),
        }
        for state, e, k, b, p in zip(v.removed, v.energies, v.minimum, v.basin, v.plateau)
    ][:kept]
    merges = zip(tree.survivor.tolist(), tree.dying.tolist(), tree.energy.tolist())
    return {
        "minima": minima,
        "barriers": [[i, j, e] for i, j, e in merges if max(i, j) < kept],
        "listed": len(v.spectrum.x),
        "exact": tree.exact,
        "top": None if math.isinf(tree.top) else tree.top,
    }


def tree_csv(table: dict) -> str:
    """A row a minimum: removed, energy, rank, basin, states, and its barrier to a lower one, empty where it
    is not connected below the top.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["removed", "energy", "rank", "basin", "states", "barrier", "joins"])
    joins = {j: (i, e) for i, j, e in table["barriers"]}
    for k, m in enumerate(table["minima"]):
        to, barrier = joins.get(k, ("", ""))
        writer.writerow([_names(m["removed"]), m["energy"], m["rank"], m["basin"], m["states"], barrier, to])
    return out.getvalue()


def tree_graphml(table: dict) -> str:
    """Minima as nodes, merges as edges with their barrier: for networkx, Gephi, yEd."""
    graph = nx.Graph(listed=table["listed"], exact=table["exact"])
    for k, m in enumerate(table["minima"]):
        graph.add_node(k, removed=_names(m["removed"]), energy=m["energy"], rank=m["rank"], basin=m["basin"])
    for i, j, e in table["barriers"]:
        graph.add_edge(i, j, barrier=e)
    return "\n".join(nx.generate_graphml(graph)) + "\n"


def tree_svg(tree: BarrierTree, units: Units, count: int = LEAVES) -> str:
    """The disconnectivity graph of the `count` most persistent minima."""
    v, kept = tree.valleys, tree.lasting(count)
    ground, power = float(v.spectrum.energies[0]), exponent(v.spectrum.energies)
    top = float(v.spectrum.energies[-1]) if math.isinf(tree.top) else tree.top
    reach = (top - ground) or 1.0
    across = columns(tree, kept)
    x = {int(i): _MARGIN + 24 + a * (_WIDTH - 2 * _MARGIN - 24) for i, a in zip(kept, across)}

    def y(energy: float) -> float:
        return _HEIGHT - _MARGIN - (energy - ground) / reach * (_HEIGHT - 2 * _MARGIN)

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="system-ui, sans-serif" font-size="11" fill="#444">',
        f"<title>{escape(_title(tree, kept))}</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        f'<text x="{_MARGIN}" y="20" fill="#111">{escape(_title(tree, kept))}</text>',
        *_axis(y, ground, reach, power),
    ]
    if not math.isinf(tree.top):
        lines.append(
            f'<line x1="{_MARGIN}" x2="{_WIDTH - 8}" y1="{y(top):.1f}" y2="{y(top):.1f}" stroke="#999" '
            'stroke-dasharray="2 3"/>'
        )
    lines += _branches(tree, kept, x, y, top)
    removed = v.removed
    for i in map(int, kept):
        below = y(float(v.energies[i]))
        lines.append(f'<circle cx="{x[i]:.1f}" cy="{below:.1f}" r="3" fill="#1f4e9c"/>')
        lines.append(
            f'<text x="{x[i]:.1f}" y="{below + 14:.1f}" text-anchor="middle"><title>'
            f"{escape(units.said(removed[i]))}</title>#{int(v.minimum[i])}</text>"
        )
    return "\n".join([*lines, "</svg>\n"])


def _branches(
    tree: BarrierTree, kept: np.ndarray, x: dict[int, float], y: Callable[[float], float], top: float
) -> list[str]:
    """Stems and joins."""
    end = {int(i): top for i in kept}
    joins = []
    for b in tree.merges(kept):
        one, other, energy = int(tree.survivor[b]), int(tree.dying[b]), float(tree.energy[b])
        end[other] = energy
        joins.append(f"M{x[other]:.1f} {y(energy):.1f}H{x[one]:.1f}")
    stems = [f"M{x[i]:.1f} {y(float(tree.valleys.energies[i])):.1f}V{y(e):.1f}" for i, e in end.items()]
    return [f'<path d="{"".join([*stems, *joins])}" fill="none" stroke="#777"/>']


def _axis(y: Callable[[float], float], ground: float, reach: float, power: int) -> list[str]:
    unit = f"ΔE / 10{superscript(power)}" if power else "ΔE"
    step = 10 ** math.floor(math.log10(reach / 2))
    step *= next((f for f in (1, 2, 5) if reach / (f * step) <= 6), 5)
    lines = [f'<text x="8" y="{_MARGIN - 12}">{unit}</text>']
    for k in range(int(reach / step) + 1):
        at = y(ground + k * step)
        text = significant(k * step / 10.0**power).rstrip("0").rstrip(".") if k else "0"
        lines.append(f'<line x1="{_MARGIN}" x2="{_WIDTH - 8}" y1="{at:.1f}" y2="{at:.1f}" stroke="#eee"/>')
        lines.append(f'<text x="{_MARGIN - 6}" y="{at + 4:.1f}" text-anchor="end">{text}</text>')
    return lines


def _title(tree: BarrierTree, kept: np.ndarray) -> str:
    minima, listed = len(tree.valleys.minimum), len(tree.valleys.spectrum.x)
    of = f"the {len(kept)} most persistent of {minima} minima" if len(kept) < minima else f"{minima} minima"
    sure = "barriers are exact" if tree.exact else "barriers are upper bounds"
    apart = len(tree.roots) - 1
    parts = f"; {apart} not connected to the ground state's below the dotted line" if apart else ""
    return f"Barrier tree of the {listed} lowest states: {of}; {sure}{parts}"


def _names(removed: list[Name]) -> str:
    return written(removed)
