"""Figures of the couplings, from plain arrays: the matrix, the network, fields, eigenvalues, every M.

x = 1 removed: H_ij > 0 raises the energy of removing both.
"""

import math
from collections.abc import Sequence

import networkx as nx
import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from core.compare.audit import Audit
from core.ising.energies import to_spins
from core.ising.units import BLOCK, Units, whole
from core.spectrum.sweep import Step
from core.view.palette import GREEDY, LEARNED, MARGIN, NEGATIVE, NODE, POSITIVE, ZERO, signed_log
from core.view.unit_axes import TICKS, by_kind, depth_ticks, symbols

# communities, repeated from the ninth on
GROUPS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2", "#e45756", "#72b7b2", "#9d755d", "#bab0ac")


def heatmap(
    H: np.ndarray,
    scale: str = "signed log",
    spread: np.ndarray | None = None,
    order: np.ndarray | None = None,
    clip: float = 1.0,
    name: str = "H",
    units: Units | None = None,
) -> go.Figure:
    """The couplings off the diagonal, on a diverging scale that is symmetric around 0; the diagonal (own
    costs) is left blank.

    spread: float64 [N, N], their posterior standard deviations, to hover. order: units from first to last
    row. units: of H, None: whole blocks. clip: share of the pairs that the colours tell apart, the strongest
    others have the end's colour. A click on a cell selects a point of the second trace, whose customdata is
    [i, j], and hovers show its text: heatmaps themselves report no clicks.
    """
    order = np.arange(len(H)) if order is None else order
    units = units or whole(len(H))
    off = H.astype(np.float64).copy()
    np.fill_diagonal(off, np.nan)
    sizes = np.abs(off[~np.isnan(off)])
    below = float(np.median(sizes)) or float(np.median(sizes[sizes > 0])) if sizes.any() else 1.0
    end = float(np.quantile(sizes, clip)) or float(sizes.max()) or 1.0
    cut = np.clip(off, -end, end)
    shown = (signed_log(cut, below) if scale == "signed log" else cut)[np.ix_(order, order)]
    top = float(np.nanmax(np.abs(shown))) or 1.0
    ticks = np.linspace(-top, top, 5)
    values = np.sign(ticks) * np.expm1(np.abs(ticks)) * below if scale == "signed log" else ticks
    places = np.arange(len(H))
    gap = 1 if len(H) <= 32 else 0.5
    kinds = units.by != BLOCK and bool((order == by_kind(units)[0]).all())
    figure = go.Figure(
        go.Heatmap(
            z=shown,
            x=places,
            y=places,
            customdata=H[np.ix_(order, order)],
            zmin=-top,
            zmax=top,
            colorscale=[[0, NEGATIVE], [0.5, ZERO], [1, POSITIVE]],
            xgap=gap,
            ygap=gap,
            colorbar={  # above, so that a narrow page has all its width for the matrix
                "tickvals": ticks.tolist(),
                "ticktext": [f"{v:.2g}" for v in values],
                "title": {"text": scale, "side": "top"},
                "orientation": "h",
                "thickness": 10,
                "len": 0.8,
                "y": 1.0,
                "yanchor": "bottom",
                "ypad": 20 if kinds else 4,
            },
            hoverinfo="skip",
        )
    )
    figure.add_trace(_click_targets(H, spread, order, name, units))
    every = -(-len(H) // 12)  # names such as 12a are wide
    axis = {"tickvals": places[::every], "ticktext": [units.names[u] for u in order[::every]]}
    if (order == places).all():
        axis |= depth_ticks(units)
    if kinds:
        _rule_quarters(figure, units)
    figure.update_layout(margin={**MARGIN, "b": 24}, height=500)
    square: dict = {"constrain": "domain", "tickangle": 0, **axis}
    figure.update_yaxes(range=[len(H) - 0.5, -0.5], scaleanchor="x", constraintoward="top", **square)
    figure.update_xaxes(range=[-0.5, len(H) - 0.5], **square)
    return figure


def _rule_quarters(figure: go.Figure, units: Units) -> None:
    """Lines between the kinds of a matrix in order of kind, whose names stand at the top."""
    at = -0.5
    for kind, count in by_kind(units)[1]:
        if at > 0:
            figure.add_hline(at, line={"color": NODE, "width": 1.5})
            figure.add_vline(at, line={"color": NODE, "width": 1.5})
        middle = at + count / 2
        figure.add_annotation(x=middle, y=-0.5, text=kind, yanchor="bottom", showarrow=False)
        at += count


def _click_targets(H: np.ndarray, spread: np.ndarray | None, order: np.ndarray, name: str, units: Units):
    """Invisible points over the cells, which report clicks and show the value on hover."""
    places = np.arange(len(H))
    i, j = np.meshgrid(places, places, indexing="ij")
    title = "blocks " * (units.by == BLOCK)
    told = [
        f"{title}{units.names[a]} and {units.names[b]}<br>{name} = {H[a, b]:.4g}"
        + ("" if spread is None else f" ± {spread[a, b]:.2g} nats")
        for a in order
        for b in order
    ]
    markers = {"symbol": "square", "size": max(4, 380 // len(H)), "opacity": 0.0, "color": NODE}
    return (go.Scatter if len(H) <= 32 else go.Scattergl)(
        x=j.ravel(),
        y=i.ravel(),
        customdata=np.stack([order[i.ravel()], order[j.ravel()]], axis=1),
        mode="markers",
        marker=markers,
        selected={"marker": {"opacity": 0.0}},
        unselected={"marker": {"opacity": 0.0}},
        showlegend=False,
        text=told,
        hovertemplate="%{text}<extra></extra>",
    )


def interaction_graph(
    H: np.ndarray,
    edges: list[tuple[int, int, float]],
    community: list[int],
    layout: str = "depth",
    units: Units | None = None,
) -> go.Figure:
    """Couplings of units (i, j, H_ij), strongest first: arcs along the depth, or a force or spectral layout
    of |H_ij|.

    Purple: H_ij > 0 (above the axis in the depth layout), green: H_ij < 0 (below); width by rank. Nodes: size
    by the sum of |H_ij| over all others, colour by community, by branch shape by kind. units: None: whole
    blocks.
    """
    n, units = len(H), units or whole(len(H))
    graph = nx.Graph()
    graph.add_nodes_from(range(n))
    top = max((abs(v) for _, _, v in edges), default=0.0) or 1.0
    graph.add_weighted_edges_from((i, j, abs(v) / top) for i, j, v in edges)
    if layout == "depth":
        places = {b: (float(b), 0.0) for b in range(n)}
    elif layout == "force":
        places = nx.spring_layout(graph, seed=1, weight="weight", iterations=200)
    else:
        places = nx.spectral_layout(graph, weight="weight")
    figure = go.Figure()
    for rank, (i, j, value) in enumerate(edges):
        (x0, y0), (x1, y1) = places[i], places[j]
        t = np.linspace(0, np.pi, 24)
        if layout == "depth":
            x, y = (x0 + x1) / 2 - (x1 - x0) / 2 * np.cos(t), np.sign(value) * np.sqrt(j - i) * np.sin(t)
        else:
            x, y = np.array([x0, x1]), np.array([y0, y1])
        line = {"color": POSITIVE if value > 0 else NEGATIVE, "width": 0.6 + 3 * (1 - rank / len(edges))}
        figure.add_scatter(x=x, y=y, mode="lines", line=line, opacity=0.7, hoverinfo="skip", showlegend=False)
    strength = np.abs(H).sum(axis=1) - np.abs(np.diag(H))
    figure.add_scatter(
        x=[places[b][0] for b in range(n)],
        y=[places[b][1] for b in range(n)],
        mode="markers+text",
        text=_node_names(units, layout),
        textposition="bottom center",
        hovertext=[f"block {u}" if units.by == BLOCK else name for u, name in enumerate(units.names)],
        customdata=np.stack([np.diag(H), strength, community], axis=1),
        showlegend=False,
        marker={
            "symbol": symbols(units),
            "size": 6 + 14 * strength / (strength.max() or 1.0),
            "color": [GROUPS[c % len(GROUPS)] for c in community],
        },
        hovertemplate="%{hovertext}<br>own cost %{customdata[0]:.4g}<br>sum of |H| "
        "%{customdata[1]:.4g}<br>community %{customdata[2]:.0f}<extra></extra>",
    )
    if units.by != BLOCK:
        _legend_of_kinds(figure, units)
    figure.update_layout(margin=MARGIN, height=460)
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return figure


def _node_names(units: Units, layout: str) -> list[str]:
    """What stands below each node; along the depth there is room for TICKS numbers of blocks."""
    if layout != "depth":
        return list(units.names)
    first = {own[len(own) // 2] for own in units.of_block[:: -(-len(units.of_block) // TICKS)] if own}
    return [str(b) if u in first else "" for u, b in enumerate(units.block)]


def _legend_of_kinds(figure: go.Figure, units: Units) -> None:
    for kind, symbol in dict(zip(units.kinds, symbols(units))).items():
        marker = {"symbol": symbol, "color": NODE, "size": 9}
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker, name=kind, hoverinfo="skip")
    figure.update_layout(legend={"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom"})


def fields_figure(H: np.ndarray, units: Units | None = None) -> go.Figure:
    """Own costs H_ii, and the fields h_i of the spin form, a bar each; units: None: whole blocks."""
    units = units or whole(len(H))
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.1)
    for row, (label, values) in enumerate(
        (("own cost Hᵢᵢ", np.diag(H)), ("field hᵢ = ½ Σⱼ Hᵢⱼ", to_spins(H).h)), 1
    ):
        figure.add_bar(
            x=np.arange(len(H)),
            y=values,
            marker_color=np.where(values > 0, POSITIVE, NEGATIVE),
            showlegend=False,
            customdata=units.names,
            hovertemplate=("block " if units.by == BLOCK else "")
            + "%{customdata}<br>%{y:.4g}<extra></extra>",
            row=row,
            col=1,
        )
        figure.update_yaxes(title_text=label, exponentformat="power", row=row, col=1)
    figure.update_layout(margin={**MARGIN, "l": 70}, height=340)
    figure.update_xaxes(**depth_ticks(units))
    figure.update_xaxes(title_text="block", row=2, col=1)
    return figure


def eigenvalues_figure(H: np.ndarray) -> go.Figure:
    """The eigenvalues from largest to smallest; negative ones are green."""
    values = np.linalg.eigvalsh(H)[::-1]
    figure = go.Figure(
        go.Bar(
            x=np.arange(1, len(H) + 1),
            y=values,
            marker_color=np.where(values > 0, NODE, NEGATIVE),
            customdata=100 * np.cumsum(values.clip(min=0)) / (values.clip(min=0).sum() or 1.0),
            hovertemplate="number %{x}<br>%{y:.4g}<br>with those before %{customdata:.0f} % of the "
            "trace<extra></extra>",
        )
    )
    figure.update_layout(margin={**MARGIN, "l": 70}, height=340, showlegend=False)
    figure.update_xaxes(title_text="eigenvalue")
    figure.update_yaxes(title_text="of H", exponentformat="power")
    return figure


def how_many(steps: Sequence[Step], removed: int | None, units: Units | None = None) -> go.Figure:
    """Ground energy and gap of every M (log scale where all are above 0); hollow: not proved.

    removed: the M in view; None: it is left free. Hover says which units enter and leave; units: None: whole
    blocks.
    """
    m = [step.removed for step in steps]
    shown = ["circle" if step.spectrum.exact else "circle-open" for step in steps]
    listed = lambda own: ", ".join(units.names[u] if units else str(u) for u in own) or "none"  # noqa: E731
    about = [f"enter {listed(step.entered)}<br>leave {listed(step.left)}" for step in steps]
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.6, 0.4], vertical_spacing=0.08)
    curves: list[tuple[str, list[float | None], str]] = [
        ("E₀", [step.energy for step in steps], GREEDY),
        ("gap", [step.gap for step in steps], LEARNED),
    ]
    for row, (name, values, colour) in enumerate(curves, 1):
        figure.add_scatter(
            x=m,
            y=values,
            customdata=about,
            mode="lines+markers",
            marker={"color": colour, "symbol": shown, "size": 6},
            row=row,
            col=1,
            showlegend=False,
            line={"color": colour, "width": 1.2},
            hovertemplate=f"M = %{{x}}<br>{name} %{{y:.4g}}<br>%{{customdata}}<extra></extra>",
        )
        known = [v for v in values if v is not None]
        logarithmic: dict = {}
        if known and min(known) > 0:  # a handful of powers of ten
            logarithmic = {"type": "log", "dtick": math.ceil(math.log10(max(known) / min(known)) / 5) or 1}
        figure.update_yaxes(title_text=name, exponentformat="power", row=row, col=1, **logarithmic)
    if removed is not None:
        figure.add_vline(x=removed, line={"color": NODE, "dash": "dot", "width": 1})
    figure.update_xaxes(title_text=f"M, removed {units.word if units else 'block'}s", row=2, col=1)
    figure.update_layout(
        margin={**MARGIN, "l": 60}, height=300, width=460, clickmode="event+select", dragmode=False
    )
    return figure


def audit_figure(found: Audit, units: Units) -> go.Figure:
    """Measured two-body parts (nats) of pairs against what the couplings say of them."""
    title = "blocks " * (units.by == BLOCK)
    figure = go.Figure()
    figure.add_scatter(
        x=found.predicted,
        y=found.measured,
        mode="markers",
        text=[f"{title}{units.names[i]}, {units.names[j]}" for i, j in found.pairs],
        customdata=found.se,
        error_y={"array": 2 * found.se, "thickness": 0.6, "width": 0, "color": NODE},
        marker={"size": 8, "color": NODE, "opacity": 0.8},
        hovertemplate="%{text}<br>2H %{x:.4g}<br>measured %{y:+.4f} ± %{customdata:.4f} nats<extra></extra>",
        showlegend=False,
    )
    figure.add_hline(y=0, line={"color": NODE, "width": 1})
    figure.update_layout(
        height=300,
        margin={**MARGIN, "l": 60, "b": 45},
        xaxis_title="2 H<sub>ij</sub>, what the couplings say",
        yaxis_title="measured beyond the sum, nats",
    )
    return figure
