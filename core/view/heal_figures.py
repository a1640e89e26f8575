"""The curve of a healing, and several of them before and after."""

from collections.abc import Sequence

import plotly.graph_objects as go

from core.compare.healed import Healed
from core.ising.units import written
from core.view.palette import GREEDY, MARGIN, NODE, REMOVED

LINES = {"kl": ("held-out KL to the original", GREEDY, "solid"), "loss": ("training loss", NODE, "dot")}


def healing(curves: dict[str, list[tuple[float, float]]]) -> go.Figure:
    """Training loss and held-out KL (nats a token) against the tokens that were read.

    curves: {kl or loss: [(tokens, nats)]}.
    """
    figure = go.Figure()
    for name, (label, color, dash) in LINES.items():
        points = curves.get(name, [])
        figure.add_scatter(
            x=[tokens for tokens, _ in points],
            y=[nats for _, nats in points],
            mode="lines+markers" if name == "kl" else "lines",
            name=label,
            line={"color": color, "dash": dash, "width": 2.5 if name == "kl" else 1.5},
            hovertemplate=f"{label}<br>%{{x:,.0f}} tokens<br>%{{y:.4f}} nats<extra></extra>",
        )
    legend = {"orientation": "h", "y": 1.12, "x": 0}
    figure.update_layout(margin={**MARGIN, "l": 60, "t": 30}, height=300, legend=legend)
    figure.update_xaxes(title_text="tokens read", rangemode="tozero")
    figure.update_yaxes(title_text="nats a token", rangemode="tozero")
    return figure


def before_and_after(states: Sequence[Healed]) -> go.Figure:
    """A line a state from its loss pruned to its loss healed (nats a token), numbered from 1 on as they come,
    above the original's; the best healed one stands out.
    """
    figure = go.Figure()
    best = min(range(len(states)), key=lambda k: states[k].after)
    for k, own in enumerate(states):
        color = GREEDY if k == best else NODE
        figure.add_scatter(
            x=["pruned", "healed"],
            y=[own.before, own.after],
            mode="lines+markers+text",
            text=[str(k + 1)] * 2,
            textposition=["middle left", "middle right"],
            line={"color": color, "width": 3 if k == best else 1.5},
            name=str(k + 1),
            hovertemplate=f"removes {written(own.removed)}<br>%{{x}}: %{{y:.4f}} nats<extra></extra>",
            cliponaxis=False,
        )
    figure.add_hline(
        y=states[0].original,
        line={"color": REMOVED, "dash": "dash", "width": 1.5},
        annotation={"text": "the original", "font": {"color": REMOVED}},
    )
    figure.update_layout(margin={**MARGIN, "l": 60}, height=320, showlegend=False)
    figure.update_xaxes(range=[-0.35, 1.35])
    figure.update_yaxes(title_text="nats a token")
    return figure
