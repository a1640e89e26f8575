"""The curve of a healing."""

import plotly.graph_objects as go

from core.view.palette import GREEDY, MARGIN, NODE

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
