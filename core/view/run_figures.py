"""Figures of a calibration: gradient rows as they arrive, and their mean."""

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from core.ising.units import BLOCK, Units, whole
from core.view.palette import MARGIN, NEGATIVE, NODE, POSITIVE, ZERO, signed_log
from core.view.unit_axes import depth_ticks

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
    figure.update_layout(margin={**MARGIN, "l": 60}, height=420, showlegend=False)
    figure.update_xaxes(title_text="block", row=2, col=1)
    figure.update_yaxes(
        title_text="sample", range=[min(total, first + ROWS_SHOWN) - 0.5, first - 0.5], row=1, col=1
    )
    figure.update_yaxes(title_text="own cost H₀ᵢᵢ", exponentformat="power", rangemode="tozero", row=2, col=1)
    return figure


def gradient_figure(g: np.ndarray, se: np.ndarray, units: Units | None = None) -> go.Figure:
    """The mean gradient of each unit [N], nats, as bars with two standard errors each way; units: None: whole
    blocks.
    """
    units = units or whole(len(g))
    far = np.abs(g) > 2 * se
    figure = go.Figure(
        go.Bar(
            x=np.arange(len(g)),
            y=g,
            customdata=np.stack([se, far], axis=1),
            text=["block " * (units.by == BLOCK) + name for name in units.names],
            textposition="none",
            marker={"color": NODE, "opacity": np.where(far, 1.0, 0.45)},
            error_y={"array": 2 * se, "thickness": 1, "width": 2, "color": NODE},
            hovertemplate="%{text}<br>mean ∂loss/∂α = %{y:.3g} ± %{customdata[0]:.2g}<extra></extra>",
        )
    )
    figure.update_layout(margin={**MARGIN, "l": 60}, height=260, showlegend=False)
    figure.update_xaxes(title_text="block", **depth_ticks(units))
    figure.update_yaxes(title_text="mean ∂loss/∂α, nats", exponentformat="power")
    return figure
