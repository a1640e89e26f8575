"""Figures of what was measured, from plain arrays: energy against loss, forwards against loss, ranks."""

import numpy as np
import plotly.graph_objects as go
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots

from core.compare.agreement import clustered, fitted, regret, scaled
from core.store.results import KL, LOSS
from core.view.palette import (
    BEST,
    EVOLUTIONARY,
    GREEDY,
    LEARNED,
    MARGIN,
    NEGATIVE,
    NODE,
    POSITIVE,
    REMOVED,
    ZERO,
)

CURVES = {
    "learned": ("learned landscape", LEARNED, "solid"),
    "greedy": ("greedy", GREEDY, "solid"),
    "evolutionary": ("evolutionary", EVOLUTIONARY, "solid"),
    "evolutionary by kind": ("evolutionary by kind", EVOLUTIONARY, "dash"),
    "random": ("random", NODE, "dot"),
}
_SYMBOLS = ("circle", "square", "diamond", "cross", "x", "triangle-up", "triangle-down", "star")
FLAT = 0.05  # of the loss increase: what is closer together is drawn as close together
TALL = 12  # times the best loss increase: what is worse is off the scale


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
    along = np.log(energy) if _scale(energy) else energy
    places = (along - along.min()) / max(float(np.ptp(along)), np.finfo(float).tiny)
    for k, label, color, above in (
        (lowest, "lowest energy", REMOVED, "top"),
        (best, "best measured", BEST, "bottom"),
    ):
        side = "right" if places[k] < 0.5 else "left"  # inside the figure
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
    figure.update_layout(margin={**MARGIN, "l": 60}, height=330)
    figure.update_xaxes(title_text="energy", **_scale(energy), exponentformat="power")
    figure.update_yaxes(title_text="loss increase, nats", **_scale(increase))
    return figure


def to_be_measured(states: list[str], energy: np.ndarray) -> go.Figure:
    """States that nobody has measured on the axes of `energy_against_loss`: where each stands by energy, and
    a line along which measuring will lift it. The lowest is named.

    energy: float [n], n >= 1.
    """
    figure = go.Figure()
    for x in energy:
        figure.add_shape(type="line", x0=x, x1=x, y0=0, y1=1, line={"dash": "dot", "color": NODE, "width": 1})
    figure.add_scatter(
        x=energy,
        y=np.zeros(len(energy)),
        mode="markers",
        text=states,
        showlegend=False,
        cliponaxis=False,
        marker={"size": 11, "symbol": "circle-open", "color": NODE, "line": {"width": 2}},
        hovertemplate="without %{text}<br>energy %{x:.4g}<br>loss not measured yet<extra></extra>",
    )
    figure.add_annotation(
        x=float(energy.min()), y=1, text="lowest energy", showarrow=False, xanchor="left", yanchor="top"
    )
    figure.update_layout(margin={**MARGIN, "l": 60}, height=240)
    figure.update_xaxes(title_text="energy", exponentformat="power", nticks=6)
    figure.update_yaxes(title_text="loss increase", range=[0, 1], showticklabels=False, showgrid=False)
    return figure


def _scale(values: np.ndarray) -> dict:
    return {"type": "log"} if len(values) and values.min() > 0 and values.max() > 30 * values.min() else {}


def forwards_spent(
    curves: dict[str, list[tuple[float, float]]], original: float | None, ruler: str = LOSS
) -> go.Figure:
    """The best loss increase (nats) each method had found against the forwards it had spent; or KL, where the
    searches went by it.

    curves: {search: [(forwards, loss)]}; original: its loss, 0 in KL, or None where it is not known.
    """
    figure = go.Figure()
    base = original or 0.0
    last = max((curve[-1][0] for curve in curves.values() if curve), default=1.0)
    for name, curve in curves.items():
        if not curve:
            continue
        label, color, dash = CURVES.get(name, (name, NODE, "dash"))
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
        figure.update_yaxes(type="log", range=np.log10([0.85 * every.min(), TALL * every.min()]).tolist())
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
        margin={**MARGIN, "l": 60}, height=330, legend={"orientation": "h", "y": 1.08, "x": 0}
    )
    figure.update_xaxes(title_text="forwards spent", rangemode="tozero")
    title = (
        "KL while choosing, nats a token"
        if ruler == KL
        else "loss, nats"
        if original is None
        else "loss increase while choosing, nats"
    )
    figure.update_yaxes(title_text=title, **({} if original is None else _scale(every)))
    return figure


def kl_against_prediction(
    states: list[str], m: np.ndarray, predicted: np.ndarray, measured: np.ndarray, se: np.ndarray
) -> go.Figure:
    """Measured KL of states against what the couplings predict, nats a token, on logarithmic axes; a colour
    for each M, and the line on which both are the same.

    m: int [n]; all values > 0.
    """
    figure = go.Figure()
    every = sorted(set(m.tolist()))
    shades = sample_colorscale("Plasma", np.linspace(0.2, 0.85, max(2, len(every))).tolist())
    for k, depth in enumerate(every):
        own = m == depth
        bars = {"array": 2 * se[own], "thickness": 0.6, "width": 0, "color": NODE} if len(m) <= 60 else None
        figure.add_scatter(
            x=predicted[own],
            y=measured[own],
            mode="markers",
            name=f"M = {depth}",
            text=[state for state, mine in zip(states, own) if mine],
            customdata=measured[own] / predicted[own],
            error_y=bars,
            marker={
                "size": 9,
                "color": shades[k],
                "symbol": _SYMBOLS[k % len(_SYMBOLS)],
                "line": {"width": 1, "color": NODE},  # the ends of the scale are as dark and light as pages
            },
            hovertemplate="without %{text}<br>predicted %{x:.3g}<br>measured %{y:.3g} nats a token, "
            "%{customdata:.2g} times<extra></extra>",
        )
    ends = np.array([predicted.min() / 1.5, predicted.max() * 1.5])
    figure.add_scatter(
        x=ends,
        y=ends,
        mode="lines",
        name="measured = predicted",
        line={"color": NODE, "width": 1.5, "dash": "dash"},
        hoverinfo="skip",
    )
    figure.update_layout(
        margin={**MARGIN, "l": 60}, height=420, legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"}
    )
    height = [min(ends[0], measured.min() / 1.5), max(ends[1], measured.max() * 1.5)]
    figure.update_xaxes(title_text="predicted KL, nats a token: T/2 xᵀH₁x", **_decades(ends))
    figure.update_yaxes(title_text="measured KL, nats a token", **_decades(np.array(height)))
    return figure


def _decades(ends: np.ndarray) -> dict:
    """A logarithmic axis from the first to the last."""
    span = np.log10(ends).tolist()
    return {
        "type": "log",
        "range": span,
        "exponentformat": "power",
        "dtick": 1 if span[1] - span[0] > 2 else "D2",
    }


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
    figure.update_layout(margin={**MARGIN, "l": 50}, height=380)
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
    figure.update_layout(margin={**MARGIN, "l": 60}, height=380)
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
    figure.update_layout(margin={**MARGIN, "l": 60}, height=380)
    figure.update_xaxes(title_text=f"predicted increase, nats<br>(fitted: {a:.3g} · energy {b:+.3g})")
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
    figure.update_layout(margin=MARGIN, height=380)
    figure.update_xaxes(showticklabels=False)
    figure.update_yaxes(showticklabels=False)
    figure.update_yaxes(autorange="reversed", row=1, col=1)
    return figure
