"""The lens: levels, barcode, couplings, arcs, state card and tray in one linked component.

Streamlit components v2, inline JS and canvas, no build step. Hover, arrow keys
and the card live in the browser; Python hears of a committed cursor or tray as
the trigger `commit`: {"seq", "cursor": [blocks], "tray": [[blocks], ...]}, and of a
state to prune as the trigger `prune`: {"removed": [blocks]}.
"""

from collections.abc import Callable
from pathlib import Path

import streamlit as st

_HERE = Path(__file__).parent
_component = st.components.v2.component(
    "blockscape_lens",
    js=(_HERE / "lens.js").read_text(encoding="utf-8"),
    css=(_HERE / "lens.css").read_text(encoding="utf-8"),
    html='<div class="lens"></div>\n',
)


def lens(data: dict, key: str, on_commit: Callable[[], None], on_prune: Callable[[], None]) -> None:
    """Draw the lens; the callbacks find their message in `st.session_state[key]["commit"]` and `["prune"]`."""
    _component(data=data, key=key, on_commit_change=on_commit, on_prune_change=on_prune)
