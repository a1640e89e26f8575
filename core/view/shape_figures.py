"""Figures of the shape of a landscape: paths, the ensemble, the density of states, every M, overlaps,
walks.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from core.ising.states import indicator
from core.ising.units import BLOCK, Units
from core.shape.depths import Depth
from core.shape.paths import Path
from core.shape.ruggedness import Ruggedness
from core.thermal.density import Density
from core.thermal.ensemble import Ensemble
from core.thermal.overlap import Overlap
from core.view.palette import BEST, GREEDY, LEARNED, MARGIN, NODE, REMOVED, ZERO
from core.view.unit_axes import depth_ticks

_BARCODE = [[0, ZERO], [1, REMOVED]]


def probability_figure(found: Ensemble, ground: Sequence[int], units: Units) -> go.Figure:
    """How likely the ensemble is to remove each unit; what the ground state removes is outlined."""
    gone = np.isin(np.arange(len(units)), list(ground))
    error = found.error if found.how != "exact" else 0.0
    figure = go.Figure(
        go.Bar(
            x=np.arange(len(units)),
            y=found.removed,
            customdata=[(name, " (in the ground state)" * bool(g)) for name, g in zip(units.names, gone)],
            error_y={"array": np.full(len(units), error), "color": NODE, "thickness": 1} if error else None,
            marker={"color": REMOVED, "line": {"color": NODE, "width": np.where(gone, 2, 0)}},
            hovertemplate=("block " if units.by == BLOCK else "")
            + "%{customdata[0]}%{customdata[1]}<br>removed with probability %{y:.3f}<extra></extra>",
        )
    )
    figure.update_layout(margin=MARGIN, height=260, showlegend=False)
    figure.update_xaxes(title_text="block", **depth_ticks(units))
    figure.update_yaxes(title_text="probability of removal", range=[0, 1.02])
    return figure


def _add_barcode(
    figure: go.Figure, x: np.ndarray, at: Sequence[int] | np.ndarray, units: Units, title: str, row: int
) -> None:
    """States x bool [K, N] as columns at places [K], units from top to bottom."""
    figure.add_heatmap(
        z=x.T.astype(int),
        x=at,
        y=np.arange(len(units)),
        colorscale=_BARCODE,
        zmin=0,
        zmax=1,
        showscale=False,
        xgap=1,
        ygap=1,
        hoverinfo="skip",
        row=row,
        col=1,
    )
    every = max(1, math.ceil(len(units) / 16))
    figure.update_yaxes(
        tickvals=np.arange(0, len(units), every),
        ticktext=units.names[::every],
        autorange="reversed",
        title_text=title,
        row=row,
        col=1,
    )


def path_figure(
    path: Path, units: Units, losses: Sequence[tuple[float, float] | None] | None = None
) -> go.Figure:
    """The energy along a path, what each of its states removes, and measured increases (nats, standard error)
    if any.
    """
    steps = np.arange(len(path.energies))
    above = path.energies - path.energies.min()
    figure = make_subplots(
        rows=2,
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.06,
        row_heights=[0.45, 0.55],
        specs=[[{"secondary_y": True}], [{}]],
    )
    names = [units.said(state) for state in path.removed]
    line = {"color": GREEDY, "width": 1.5}
    marker = {"size": [11 if k == path.top else 7 for k in steps], "color": GREEDY}
    figure.add_scatter(
        x=steps,
        y=above,
        text=names,
        mode="lines+markers",
        line=line,
        marker=marker,
        name="energy",
        hovertemplate="step %{x}<br>ΔE %{y:.4g} above the lower end<br>removes %{text}<extra></extra>",
        row=1,
        col=1,
    )
    if losses is not None and any(v is not None for v in losses):
        figure.add_scatter(
            x=steps,
            y=[one and one[0] for one in losses],
            error_y={"array": [one and one[1] for one in losses], "thickness": 1, "width": 0},
            mode="lines+markers",
            name="measured, nats",
            secondary_y=True,
            line={"color": BEST, "width": 1.5, "dash": "dot"},
            marker={"symbol": "diamond", "size": 7},
            hovertemplate="step %{x}<br>%{y:+.3f} nats above the original<extra></extra>",
            row=1,
            col=1,
        )
        figure.update_yaxes(title_text="nats", secondary_y=True, showgrid=False, row=1, col=1)
    x = indicator(list(path.removed), len(units))
    _add_barcode(figure, x, steps, units, units.word, row=2)
    figure.update_yaxes(
        title_text="ΔE", exponentformat="power", rangemode="tozero", row=1, col=1, secondary_y=False
    )
    figure.update_xaxes(title_text="step", dtick=max(1, len(steps) // 16), row=2, col=1)
    figure.update_layout(
        margin={**MARGIN, "l": 60},
        height=300 + min(300, 10 * len(units)),
        legend={"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom"},
    )
    return figure


def density_figure(found: Density, marks: Mapping[str, np.ndarray], ground: float) -> go.Figure:
    """States by energy above the ground state, on a logarithmic scale, and where some energies lie."""
    middle = (found.edges[:-1] + found.edges[1:]) / 2 - ground
    states = np.where(found.states > 0, found.states, np.nan)
    word = "of all states" if np.isnan(found.total) else "states"
    figure = go.Figure(
        go.Bar(
            x=middle,
            y=states,
            width=np.diff(found.edges),
            marker={"color": NODE, "line": {"width": 0}},
            name="states",
            hovertemplate=f"ΔE about %{{x:.3g}}<br>%{{y:.4g}} {word}<extra></extra>",
            showlegend=False,
        )
    )
    colours = (REMOVED, GREEDY, BEST, LEARNED)
    symbols = ("star", "circle", "diamond", "triangle-up")
    low = float(np.nanmin(states)) if np.isfinite(states).any() else 1.0
    for k, (name, energies) in enumerate(marks.items()):
        if len(energies):
            figure.add_scatter(
                x=energies - ground,
                y=np.full(len(energies), low * 0.5 ** (k + 1)),
                mode="markers",
                marker={"color": colours[k % 4], "symbol": symbols[k % 4], "size": 8},
                name=name,
                hovertemplate=f"{name}<br>ΔE %{{x:.4g}}<extra></extra>",
            )
    figure.update_layout(
        margin={**MARGIN, "l": 60},
        height=340,
        bargap=0,
        legend={"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom"},
    )
    figure.update_xaxes(title_text="ΔE", exponentformat="power")
    figure.update_yaxes(
        title_text="share of states" if np.isnan(found.total) else "states",
        type="log",
        exponentformat="power",
    )
    return figure


def depths_figure(depths: Sequence[Depth], removed: int | None, units: Units) -> go.Figure:
    """Ground state, its energy and gap, number of minima and the ground state's basin, for every M."""
    m = [d.step.removed for d in depths]
    figure = make_subplots(
        rows=4, cols=1, shared_xaxes=True, vertical_spacing=0.04, row_heights=[0.2, 0.2, 0.2, 0.4]
    )
    open_ = ["circle" if d.exact else "circle-open" for d in depths]
    proved = ["circle" if d.step.spectrum.exact else "circle-open" for d in depths]
    rows: list[tuple[str, list, str, list, str]] = [
        ("gap", [d.step.gap for d in depths], LEARNED, proved, "gap %{y:.4g}"),
        ("minima", [d.minima for d in depths], GREEDY, open_, "%{y:.0f} minima"),
        ("basin", [d.basin for d in depths], BEST, open_, "%{y:.1%} of all states drain to the ground state"),
    ]
    for row, (name, values, colour, shown, says) in enumerate(rows, 1):
        figure.add_scatter(
            x=m,
            y=values,
            mode="lines+markers",
            line={"color": colour, "width": 1.2},
            marker={"color": colour, "symbol": shown, "size": 6},
            showlegend=False,
            hovertemplate=f"M = %{{x}}<br>{says}<extra></extra>",
            row=row,
            col=1,
        )
        figure.update_yaxes(title_text=name, exponentformat="power", row=row, col=1)
    figure.update_yaxes(type="log", row=1, col=1, dtick=1)
    figure.update_yaxes(rangemode="tozero", row=2, col=1)
    figure.update_yaxes(tickformat=".0%", range=[0, 1.05], row=3, col=1)
    grounds = indicator([d.step.ground for d in depths], len(units))
    _add_barcode(figure, grounds, m, units, "ground state", row=4)
    if removed is not None:
        figure.add_vline(x=removed, line={"color": NODE, "dash": "dot", "width": 1})
    figure.update_xaxes(title_text=f"M, removed {units.word}s", row=4, col=1)
    figure.update_layout(margin={**MARGIN, "l": 70}, height=560 + min(240, 6 * len(units)))
    return figure


def overlap_figure(found: Mapping[str, Overlap]) -> go.Figure:
    """P(q) of several sets of states over one another."""
    figure = go.Figure()
    for (name, overlap), colour, dash in zip(found.items(), (GREEDY, REMOVED), ("solid", "dot")):
        figure.add_scatter(
            x=overlap.q,
            y=overlap.probability,
            mode="lines+markers",
            name=f"{name} ({overlap.how})",
            line={"color": colour, "shape": "hvh", "dash": dash},
            marker={"size": 5},
            hovertemplate="%{x:.0%} of the removed in common<br>probability %{y:.3f}<extra></extra>",
        )
    figure.update_layout(
        margin=MARGIN, height=300, legend={"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom"}
    )
    figure.update_xaxes(title_text="overlap q", range=[-0.02, 1.02], tickformat=".0%")
    figure.update_yaxes(title_text="P(q)", rangemode="tozero")
    return figure


def walk_figure(found: Ruggedness, steps: int = 30) -> go.Figure:
    """How far a random walk of swaps remembers the energy it began with."""
    k = np.arange(steps + 1)
    figure = go.Figure(
        go.Scatter(
            x=k,
            y=found.after(k),
            mode="lines+markers",
            line={"color": GREEDY},
            marker={"size": 5},
            hovertemplate="after %{x} swaps<br>correlation %{y:.3f}<extra></extra>",
        )
    )
    figure.update_layout(margin=MARGIN, height=260, showlegend=False)
    figure.update_xaxes(title_text="random swaps")
    figure.update_yaxes(title_text="correlation of energies")
    return figure
