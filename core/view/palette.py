"""The colours of figures, on a light page and on a dark one."""

import numpy as np
import plotly.graph_objects as go

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
MARGIN = {"l": 40, "r": 10, "t": 10, "b": 40}


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
