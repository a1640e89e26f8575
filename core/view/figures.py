"""Plotly figures from plain arrays; nothing here knows a page.

x = 1 removed: H_ij > 0 raises the energy of removing both.
"""

from collections.abc import Sequence

import networkx as nx
import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from core.compare.agreement import clustered, fitted, regret, scaled
from core.ising.energies import to_spins
from core.spectrum.sweep import Step

REMOVED, BEST, LEARNED, EVOLUTIONARY, GREEDY = "#d97706", "#15803d", "#0f8a5f", "#7c5cbf", "#1f6feb"
POSITIVE, ZERO, NEGATIVE, NODE = "#762a83", "#f7f7f9", "#1b7837", "#7d8795"
DARK = {  # the same on a dark page
    POSITIVE: "#c9a0dc",
    ZERO: "#1c232d",
    NEGATIVE: "#7fd39a",
    BEST: "#4cc274",
    LEARNED: "#35bd8b",
    EVOLUTIONARY: "#ab90ea",
    GREEDY: "#6cb0ff",
}
_MARGIN = {"l": 40, "r": 10, "t": 10, "b": 40}


def themed(figure: go.Figure, dark: bool) -> go.Figure:
    """The figure for a dark page, where `dark`: the diverging colours start from its ground instead of from
    white.
    """
    return go.Figure(_recoloured(figure.to_dict())) if dark else figure


def _recoloured(part):
    if isinstance(part, dict):
        return {key: _recoloured(value) for key, value in part.items()}
    if isinstance(part, (list, tuple)):
        return [_recoloured(value) for value in part]
    if isinstance(part, np.ndarray) and part.dtype.kind in "UO":
        return [DARK.get(value, value) for value in part.tolist()]
    return DARK.get(part, part) if isinstance(part, str) else part


def signed_log(values: np.ndarray, below: float) -> np.ndarray:
    """sign(v) log(1 + |v| / below): linear near zero, logarithmic above `below`."""
    return np.sign(values) * np.log1p(np.abs(values) / below)


def heatmap(
    H: np.ndarray,
    scale: str = "signed log",
    spread: np.ndarray | None = None,
    order: np.ndarray | None = None,
    clip: float = 1.0,
    name: str = "H",
) -> go.Figure:
    """The couplings off the diagonal, on a diverging scale that is symmetric around 0; the diagonal (own
    costs) is left blank.

    spread: float64 [N, N], their posterior standard deviations, to hover. order: blocks from first to last
    row. clip: share of the pairs that the colours tell apart, the strongest others have the end's colour. A
    click on a cell selects a point of the second trace, whose customdata is [i, j], and hovers show its text:
    heatmaps themselves report no clicks.
    """
    order = np.arange(len(H)) if order is None else order
    off = H.astype(np.float64).copy()
    np.fill_diagonal(off, np.nan)
    sizes = np.abs(off[~np.isnan(off)])
    below = float(np.median(sizes)) or float(sizes.max()) or 1.0
    end = float(np.quantile(sizes, clip)) or float(sizes.max()) or 1.0
    cut = np.clip(off, -end, end)
    shown = (signed_log(cut, below) if scale == "signed log" else cut)[np.ix_(order, order)]
    top = float(np.nanmax(np.abs(shown))) or 1.0
    ticks = np.linspace(-top, top, 5)
    values = np.sign(ticks) * np.expm1(np.abs(ticks)) * below if scale == "signed log" else ticks
    places, labels = np.arange(len(H)), [str(b) for b in order]
    figure = go.Figure(
        go.Heatmap(
            z=shown,
            x=places,
            y=places,
            customdata=H[np.ix_(order, order)],
            zmin=-top,
            zmax=top,
            colorscale=[[0, NEGATIVE], [0.5, ZERO], [1, POSITIVE]],
            xgap=1,
            ygap=1,
            colorbar={
                "tickvals": ticks.tolist(),
                "ticktext": [f"{v:.2g}" for v in values],
                "title": scale,
                "thickness": 12,
                "len": 0.6,
            },
            hoverinfo="skip",
        )
    )
    i, j = np.meshgrid(places, places, indexing="ij")
    told = [
        f"{H[a, b]:.4g}" + ("" if spread is None else f" ± {spread[a, b]:.2g} nats")
        for a in order
        for b in order
    ]
    markers = {"symbol": "square", "size": max(4, 380 // len(H)), "opacity": 0.0, "color": NODE}
    figure.add_trace(
        (go.Scatter if len(H) <= 32 else go.Scattergl)(
            x=j.ravel(),
            y=i.ravel(),
            customdata=np.stack([order[i.ravel()], order[j.ravel()]], axis=1),
            mode="markers",
            marker=markers,
            selected={"marker": {"opacity": 0.0}},
            unselected={"marker": {"opacity": 0.0}},
            showlegend=False,
            text=told,
            hovertemplate=f"blocks %{{customdata[0]}} and %{{customdata[1]}}<br>{name} = "
            "%{text}<extra></extra>",
        )
    )
    every = max(1, len(H) // 16)
    axis = {"tickvals": places[::every], "ticktext": labels[::every]}
    figure.update_layout(margin=_MARGIN, height=480, xaxis_title="block", yaxis_title="block")
    figure.update_yaxes(range=[len(H) - 0.5, -0.5], scaleanchor="x", constrain="domain", **axis)
    figure.update_xaxes(range=[-0.5, len(H) - 0.5], constrain="domain", **axis)
    return figure


def how_many(steps: Sequence[Step], removed: int) -> go.Figure:
    """Ground energy and gap of every M (log scale where all are above 0); hollow: not proved.

    Hover says which blocks enter and leave.
    """
    m = [step.removed for step in steps]
    shown = ["circle" if step.spectrum.exact else "circle-open" for step in steps]
    listed = lambda blocks: ", ".join(map(str, blocks)) or "none"  # noqa: E731
    about = [f"enter {listed(step.entered)}<br>leave {listed(step.left)}" for step in steps]
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.6, 0.4], vertical_spacing=0.08)
    curves = (("E₀", [step.energy for step in steps], GREEDY), ("gap", [step.gap for step in steps], LEARNED))
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
        figure.update_yaxes(
            title_text=name,
            exponentformat="power",
            row=row,
            col=1,
            **({"type": "log", "dtick": 1} if known and min(known) > 0 else {}),
        )
    figure.add_vline(x=removed, line={"color": NODE, "dash": "dot", "width": 1})
    figure.update_xaxes(title_text="M, removed blocks", row=2, col=1)
    figure.update_layout(
        margin={**_MARGIN, "l": 60}, height=300, width=460, clickmode="event+select", dragmode=False
    )
    return figure


ROWS_SHOWN = 256


def rows_figure(A: np.ndarray, total: int) -> go.Figure:
    """Gradient rows as they arrive (the last ROWS_SHOWN of `total`), and below them each block's own cost
    H0_ii with its standard error.
    """
    own = A.astype(np.float64) ** 2
    cost, error = own.mean(axis=0), own.std(axis=0) / np.sqrt(len(A))
    first = max(0, len(A) - ROWS_SHOWN)
    shown = A[first:].astype(np.float64)
    below = float(np.median(np.abs(shown))) or 1.0
    z = signed_log(shown, below)
    top = float(np.abs(z).max()) or 1.0
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.6, 0.4], vertical_spacing=0.06)
    figure.add_heatmap(
        z=z,
        y=np.arange(first, len(A)),
        customdata=shown,
        zmin=-top,
        zmax=top,
        colorscale=[[0, NEGATIVE], [0.5, ZERO], [1, POSITIVE]],
        showscale=False,
        hovertemplate="sample %{y}, block %{x}<br>∂loss/∂α = %{customdata:.4g}<extra></extra>",
        row=1,
        col=1,
    )
    figure.add_bar(
        x=np.arange(len(cost)),
        y=cost,
        error_y={"array": error, "thickness": 1, "width": 2},
        marker_color=NODE,
        hovertemplate="block %{x}<br>own cost %{y:.4g}<extra></extra>",
        showlegend=False,
        row=2,
        col=1,
    )
    figure.update_layout(margin={**_MARGIN, "l": 60}, height=420, showlegend=False)
    figure.update_xaxes(title_text="block", row=2, col=1)
    figure.update_yaxes(
        title_text="sample", range=[min(total, first + ROWS_SHOWN) - 0.5, first - 0.5], row=1, col=1
    )
    figure.update_yaxes(title_text="own cost H₀ᵢᵢ", exponentformat="power", rangemode="tozero", row=2, col=1)
    return figure


def gradient_figure(g: np.ndarray, se: np.ndarray) -> go.Figure:
    """The mean gradient of each block [N], nats, as bars with two standard errors each way."""
    far = np.abs(g) > 2 * se
    figure = go.Figure(
        go.Bar(
            x=np.arange(len(g)),
            y=g,
            customdata=np.stack([se, far], axis=1),
            marker={"color": NODE, "opacity": np.where(far, 1.0, 0.45)},
            error_y={"array": 2 * se, "thickness": 1, "width": 2, "color": NODE},
            hovertemplate="block %{x}<br>mean ∂loss/∂α = %{y:.3g} ± %{customdata[0]:.2g}<extra></extra>",
        )
    )
    figure.update_layout(margin={**_MARGIN, "l": 60}, height=260, showlegend=False)
    figure.update_xaxes(title_text="block")
    figure.update_yaxes(title_text="mean ∂loss/∂α, nats", exponentformat="power")
    return figure


# communities, repeated from the ninth on
GROUPS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2", "#e45756", "#72b7b2", "#9d755d", "#bab0ac")


def interaction_graph(
    H: np.ndarray, edges: list[tuple[int, int, float]], community: list[int], layout: str = "depth"
) -> go.Figure:
    """Couplings of blocks (i, j, H_ij), strongest first: arcs along the depth, or a force or spectral layout
    of |H_ij|.

    Purple: H_ij > 0 (above the axis in the depth layout), green: H_ij < 0 (below); width by rank. Nodes: size
    by the sum of |H_ij| over all others, colour by community.
    """
    n = len(H)
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
        text=[str(b) for b in range(n)],
        textposition="bottom center",
        customdata=np.stack([np.diag(H), strength, community], axis=1),
        showlegend=False,
        marker={
            "size": 6 + 14 * strength / (strength.max() or 1.0),
            "color": [GROUPS[c % len(GROUPS)] for c in community],
        },
        hovertemplate="block %{text}<br>own cost %{customdata[0]:.4g}<br>sum of |H| "
        "%{customdata[1]:.4g}<br>community %{customdata[2]:.0f}<extra></extra>",
    )
    figure.update_layout(margin=_MARGIN, height=460)
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return figure


def fields_figure(H: np.ndarray) -> go.Figure:
    """Own costs H_ii, and the fields h_i of the spin form, a bar each."""
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.1)
    for row, (label, values) in enumerate(
        (("own cost Hᵢᵢ", np.diag(H)), ("field hᵢ = ½ Σⱼ Hᵢⱼ", to_spins(H).h)), 1
    ):
        figure.add_bar(
            x=np.arange(len(H)),
            y=values,
            marker_color=np.where(values > 0, POSITIVE, NEGATIVE),
            showlegend=False,
            hovertemplate="block %{x}<br>%{y:.4g}<extra></extra>",
            row=row,
            col=1,
        )
        figure.update_yaxes(title_text=label, exponentformat="power", row=row, col=1)
    figure.update_layout(margin={**_MARGIN, "l": 70}, height=340)
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
    figure.update_layout(margin={**_MARGIN, "l": 70}, height=340, showlegend=False)
    figure.update_xaxes(title_text="eigenvalue")
    figure.update_yaxes(title_text="of H", exponentformat="power")
    return figure


def energy_against_loss(
    states: list[str],
    energy: np.ndarray,
    increase: np.ndarray,
    se: np.ndarray,
    lowest: int,
    best: int,
    spread: np.ndarray | None = None,
) -> go.Figure:
    """Measured loss increase (nats) of states against their energy; the lowest in energy and the best
    measured are named.

    spread: posterior standard deviations of energies that have one. Axes are logarithmic where values span a
    factor of 30.
    """
    figure = go.Figure()
    bars = {"array": 2 * se, "thickness": 0.6, "width": 0, "color": NODE} if len(states) <= 60 else None
    sideways = (
        {"array": 2 * spread, "thickness": 0.6, "width": 0, "color": NODE}
        if spread is not None and len(states) <= 60
        else None
    )
    figure.add_scatter(
        x=energy,
        y=increase,
        mode="markers",
        text=states,
        customdata=se,
        error_y=bars,
        error_x=sideways,
        showlegend=False,
        marker={
            "size": 6 if len(states) > 60 else 8,
            "color": NODE,
            "opacity": 0.35 if len(states) > 200 else 0.75,
        },
        hovertemplate="without %{text}<br>energy %{x:.4g}<br>+%{y:.4f} ± %{customdata:.4f} "
        "nats<extra></extra>",
    )
    for k, label, color, above in (
        (lowest, "lowest energy", REMOVED, "top"),
        (best, "best measured", BEST, "bottom"),
    ):
        side = "right" if energy[k] < np.median(energy) else "left"  # inside the figure
        figure.add_scatter(
            x=[energy[k]],
            y=[increase[k]],
            mode="markers+text",
            text=[f"{label} {increase[k]:.4f}"],
            textposition=f"{above} {side}",
            showlegend=False,
            marker={"size": 13, "color": "rgba(0,0,0,0)", "line": {"width": 2.5, "color": color}},
            textfont={"color": color},
            hoverinfo="skip",
        )
    figure.update_layout(margin={**_MARGIN, "l": 60}, height=330)
    figure.update_xaxes(title_text="energy", **_scale(energy), exponentformat="power")
    figure.update_yaxes(title_text="loss increase, nats", **_scale(increase))
    return figure


def _scale(values: np.ndarray) -> dict:
    return {"type": "log"} if len(values) and values.min() > 0 and values.max() > 30 * values.min() else {}


FLAT = 0.05  # of the loss increase: what is closer together is drawn as close together
TALL = 12  # times the best loss increase: what is worse is off the scale
CURVES = {
    "learned": ("learned landscape", LEARNED, "solid"),
    "greedy": ("greedy", GREEDY, "solid"),
    "evolutionary": ("evolutionary", EVOLUTIONARY, "solid"),
    "random": ("random", NODE, "dot"),
}


def forwards_spent(curves: dict[str, list[tuple[float, float]]], original: float | None) -> go.Figure:
    """The best loss increase (nats) each method had found against the forwards it had spent.

    curves: {name of CURVES: [(forwards, loss)]}.
    """
    figure = go.Figure()
    base = original or 0.0
    last = max((curve[-1][0] for curve in curves.values() if curve), default=1.0)
    for name, curve in curves.items():
        if not curve:
            continue
        label, color, dash = CURVES[name]
        x, y = [f for f, _ in curve], [loss - base for _, loss in curve]
        single = len(curve) == 1 and name == "greedy"
        figure.add_scatter(
            x=x if single else [*x, last * 1.05],
            y=y if single else [*y, y[-1]],
            mode="markers" if single else "lines+markers",
            name=label,
            line={"color": color, "shape": "hv", "dash": dash, "width": 2.5},
            marker={"color": color, "size": 9 if single else 5},
            hovertemplate=f"{label}<br>%{{x:.1f}} forwards<br>+%{{y:.4f}} nats<extra></extra>",
        )
    every = np.array([loss - base for curve in curves.values() for _, loss in curve])
    # no axis that makes a mountain of what is noise
    if len(every) and np.ptp(every) < FLAT * abs(every.mean()):
        figure.update_yaxes(range=(every.mean() + np.array([-1, 1]) * FLAT * abs(every.mean())).tolist())
        every = every[:0]
    elif (
        len(every) and 0 < TALL * every.min() < every.max()
    ):  # where a random start is hundreds of times the best, nothing else could be seen
        figure.update_yaxes(range=np.log10([0.85 * every.min(), TALL * every.min()]).tolist())
        above = int((every > TALL * every.min()).sum())
        text = f"{above} point{'s' * (above > 1)} above the scale, up to {every.max():.3g} nats"
        figure.add_annotation(
            text=text,
            x=1,
            y=1,
            xref="paper",
            yref="paper",
            showarrow=False,
            xanchor="right",
            font={"size": 11, "color": NODE},
        )
    figure.update_layout(
        margin={**_MARGIN, "l": 60}, height=330, legend={"orientation": "h", "y": 1.08, "x": 0}
    )
    figure.update_xaxes(title_text="forwards spent", rangemode="tozero")
    figure.update_yaxes(
        title_text="loss increase while choosing, nats" if original else "loss, nats",
        **(_scale(every) if original else {}),
    )
    return figure


def rank_changes(states: list[str], energy: np.ndarray, increase: np.ndarray) -> go.Figure:
    """The states' ranks by energy (left) and by measured loss (right), a line each; those that fall far are
    drawn dark.
    """
    ranks = [np.argsort(np.argsort(values, kind="stable"), kind="stable") for values in (energy, increase)]
    figure, moved = go.Figure(), np.abs(ranks[0] - ranks[1])
    for k in np.argsort(moved, kind="stable"):
        best = ranks[1][k] == 0
        color = BEST if best else REMOVED if ranks[0][k] == 0 else NODE
        figure.add_scatter(
            x=["by energy", "by loss"],
            y=[ranks[0][k], ranks[1][k]],
            mode="lines+markers",
            showlegend=False,
            line={"color": color, "width": 2.5 if color != NODE else 1},
            opacity=1.0 if color != NODE else 0.25 + 0.5 * moved[k] / max(1, moved.max()),
            text=[states[k]] * 2,
            hovertemplate="without %{text}<br>rank %{y}<extra></extra>",
        )
    figure.update_layout(margin={**_MARGIN, "l": 50}, height=380)
    figure.update_yaxes(autorange="reversed", title_text="rank")
    return figure


def trust(energy: np.ndarray, increase: np.ndarray) -> go.Figure:
    """Regret: what the best of the first m states by energy loses against the best of all that are measured,
    nats.
    """
    missed = regret(energy, increase)
    figure = go.Figure(
        go.Scatter(
            x=np.arange(1, len(missed) + 1),
            y=missed,
            mode="lines+markers",
            line={"shape": "hv", "color": GREEDY},
            showlegend=False,
            hovertemplate="best of the first %{x}<br>%{y:.4f} nats above the best<extra></extra>",
        )
    )
    figure.update_layout(margin={**_MARGIN, "l": 60}, height=380)
    figure.update_xaxes(title_text="states measured, lowest energy first")
    figure.update_yaxes(title_text="regret, nats", rangemode="tozero")
    return figure


def unexplained(states: list[str], energy: np.ndarray, increase: np.ndarray, se: np.ndarray) -> go.Figure:
    """Measured minus predicted (nats), the prediction on a fitted scale: loss = a energy + b by least
    squares.
    """
    a, b = fitted(energy, increase)
    predicted = a * energy + b
    figure = go.Figure(
        go.Scatter(
            x=predicted,
            y=increase - predicted,
            mode="markers",
            text=states,
            showlegend=False,
            marker={"color": NODE, "size": 7, "opacity": 0.7},
            error_y={"array": 2 * se, "thickness": 0.6, "width": 0, "color": NODE}
            if len(states) <= 60
            else None,
            hovertemplate="without %{text}<br>predicted %{x:.4f}<br>measured minus predicted "
            "%{y:+.4f}<extra></extra>",
        )
    )
    figure.add_hline(y=0, line_width=1, line_color=NODE)
    figure.update_layout(margin={**_MARGIN, "l": 60}, height=380)
    figure.update_xaxes(title_text=f"predicted increase, nats (fitted: {a:.3g} · energy {b:+.3g})")
    figure.update_yaxes(title_text="measured − predicted, nats")
    return figure


def alike(states: list[str], pearson: np.ndarray, increase: np.ndarray) -> go.Figure:
    """Pearson coefficients [n, n] of the states in clustered order, and a map of them by multidimensional
    scaling of their distances.
    """
    order = clustered(pearson)
    names = [states[k] for k in order]
    figure = make_subplots(rows=1, cols=2, column_widths=[0.5, 0.5], horizontal_spacing=0.12)
    figure.add_heatmap(
        z=pearson[np.ix_(order, order)],
        zmin=-1,
        zmax=1,
        colorscale=[[0, NEGATIVE], [0.5, ZERO], [1, POSITIVE]],
        xgap=1,
        ygap=1,
        customdata=[[[a, b] for b in names] for a in names],
        colorbar={"title": "r", "thickness": 12, "len": 0.6, "x": 0.44},
        hovertemplate="%{customdata[0]}<br>%{customdata[1]}<br>r = %{z:.2f}<extra></extra>",
        row=1,
        col=1,
    )
    place = scaled(np.sqrt(np.maximum(2 - 2 * pearson, 0.0)))
    figure.add_scatter(
        x=place[:, 0],
        y=place[:, 1],
        mode="markers",
        text=states,
        customdata=increase,
        showlegend=False,
        marker={
            "size": 11,
            "color": increase,
            "colorscale": "Cividis",
            "reversescale": True,
            "colorbar": {"title": "nats", "thickness": 12, "len": 0.6},
        },
        hovertemplate="without %{text}<br>+%{customdata:.4f} nats<extra></extra>",
        row=1,
        col=2,
    )
    figure.update_layout(margin=_MARGIN, height=380)
    figure.update_xaxes(showticklabels=False)
    figure.update_yaxes(showticklabels=False)
    figure.update_yaxes(autorange="reversed", row=1, col=1)
    return figure
