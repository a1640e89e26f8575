"""Plotly figures from plain arrays; nothing here knows a page. x = 1 removed: H_ij > 0 raises the energy of removing both."""

import networkx as nx
import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from core.lens import strongest_edges

POSITIVE, ZERO, NEGATIVE, NODE = "#762a83", "#f7f7f9", "#1b7837", "#5b6472"
_MARGIN = {"l": 40, "r": 10, "t": 10, "b": 40}


def signed_log(values: np.ndarray, below: float) -> np.ndarray:
    """sign(v) log(1 + |v| / below): linear near zero, logarithmic above `below`."""
    return np.sign(values) * np.log1p(np.abs(values) / below)


def heatmap(H: np.ndarray, scale: str = "signed log") -> go.Figure:
    """The couplings off the diagonal, on a diverging scale that is symmetric around 0; the diagonal (own costs) is left blank."""
    off = H.astype(np.float64).copy()
    np.fill_diagonal(off, np.nan)
    sizes = np.abs(off[~np.isnan(off)])
    below = float(np.median(sizes)) or float(sizes.max()) or 1.0
    shown = signed_log(off, below) if scale == "signed log" else off
    top = float(np.nanmax(np.abs(shown))) or 1.0
    ticks = np.linspace(-top, top, 5)
    values = np.sign(ticks) * np.expm1(np.abs(ticks)) * below if scale == "signed log" else ticks
    figure = go.Figure(
        go.Heatmap(
            z=shown, customdata=H, zmin=-top, zmax=top, colorscale=[[0, NEGATIVE], [0.5, ZERO], [1, POSITIVE]], xgap=1, ygap=1,
            colorbar={"tickvals": ticks.tolist(), "ticktext": [f"{v:.2g}" for v in values], "title": scale, "thickness": 12, "len": 0.6},
            hovertemplate="blocks %{y} and %{x}<br>H = %{customdata:.4g}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_layout(margin=_MARGIN, height=480, xaxis_title="block", yaxis_title="block")
    figure.update_yaxes(autorange="reversed", scaleanchor="x", constrain="domain")
    figure.update_xaxes(range=[-0.5, len(H) - 0.5], constrain="domain")
    return figure


ROWS_SHOWN = 256


def rows_figure(A: np.ndarray, total: int) -> go.Figure:
    """Gradient rows as they arrive (the last ROWS_SHOWN of `total`), and below them each block's own cost H0_ii with its standard error."""
    own = A.astype(np.float64) ** 2
    cost, error = own.mean(axis=0), own.std(axis=0) / np.sqrt(len(A))
    first = max(0, len(A) - ROWS_SHOWN)
    shown = A[first:].astype(np.float64)
    below = float(np.median(np.abs(shown))) or 1.0
    z = signed_log(shown, below)
    top = float(np.abs(z).max()) or 1.0
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.6, 0.4], vertical_spacing=0.06)
    figure.add_heatmap(
        z=z, y=np.arange(first, len(A)), customdata=shown, zmin=-top, zmax=top, colorscale=[[0, NEGATIVE], [0.5, ZERO], [1, POSITIVE]],
        showscale=False, hovertemplate="sample %{y}, block %{x}<br>∂loss/∂α = %{customdata:.4g}<extra></extra>", row=1, col=1,
    )  # fmt: skip
    figure.add_bar(
        x=np.arange(len(cost)), y=cost, error_y={"array": error, "thickness": 1, "width": 2}, marker_color=NODE,
        hovertemplate="block %{x}<br>own cost %{y:.4g}<extra></extra>", showlegend=False, row=2, col=1,
    )  # fmt: skip
    figure.update_layout(margin={**_MARGIN, "l": 60}, height=420, showlegend=False)
    figure.update_xaxes(title_text="block", row=2, col=1)
    figure.update_yaxes(title_text="sample", range=[min(total, first + ROWS_SHOWN) - 0.5, first - 0.5], row=1, col=1)
    figure.update_yaxes(title_text="own cost H₀ᵢᵢ", exponentformat="power", rangemode="tozero", row=2, col=1)
    return figure


def gradient_figure(g: np.ndarray, se: np.ndarray) -> go.Figure:
    """The mean gradient of each block [N], nats, as bars with two standard errors each way."""
    far = np.abs(g) > 2 * se
    figure = go.Figure(
        go.Bar(
            x=np.arange(len(g)), y=g, customdata=np.stack([se, far], axis=1), marker={"color": NODE, "opacity": np.where(far, 1.0, 0.45)},
            error_y={"array": 2 * se, "thickness": 1, "width": 2, "color": NODE},
            hovertemplate="block %{x}<br>mean ∂loss/∂α = %{y:.3g} ± %{customdata[0]:.2g}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_layout(margin={**_MARGIN, "l": 60}, height=260, showlegend=False)
    figure.update_xaxes(title_text="block")
    figure.update_yaxes(title_text="mean ∂loss/∂α, nats", exponentformat="power")
    return figure


def interaction_graph(H: np.ndarray, layout: str = "depth", per_block: int = 3) -> go.Figure:
    """The strongest couplings of every block: arcs along the depth, or a force or spectral layout of |H_ij|.

    Purple: H_ij > 0 (above the axis in the depth layout), green: H_ij < 0 (below); width by rank.
    """
    edges = strongest_edges(H, per_block)
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
        x=[places[b][0] for b in range(n)], y=[places[b][1] for b in range(n)], mode="markers+text", text=[str(b) for b in range(n)],
        textposition="bottom center", customdata=np.stack([np.diag(H), strength], axis=1), showlegend=False,
        marker={"size": 6 + 14 * strength / (strength.max() or 1.0), "color": NODE},
        hovertemplate="block %{text}<br>own cost %{customdata[0]:.4g}<br>sum of |H| %{customdata[1]:.4g}<extra></extra>",
    )  # fmt: skip
    figure.update_layout(margin=_MARGIN, height=460)
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return figure
