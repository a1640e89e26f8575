"""The lens: landscape, barcode, couplings, arcs, state card and tray in one linked component.

Streamlit components v2, inline JS and canvas, no build step: the parts of the script are put behind one
another. Hover, arrow keys and the card live in the browser; Python hears of a committed selection or tray as
the trigger `commit`: {"seq", "cursor": [blocks] or null where nothing was selected since Python last said
what is, "tray": [[blocks], ...], ...}, with what is asked for besides as "ask".
"""

from collections.abc import Callable
from pathlib import Path

import streamlit as st

_HERE = Path(__file__).parent
_PARTS = ("base", "landscape", "panels", "lens")
_component = st.components.v2.component(
    "blockscape_lens",
    js="\n".join((_HERE / f"{part}.js").read_text(encoding="utf-8") for part in _PARTS),
    css=(_HERE / "lens.css").read_text(encoding="utf-8"),
    html='<div class="lens"></div>\n',
)


def lens(data: dict, key: str, on_commit: Callable[[], None]) -> None:
    """Draw the lens; the callback finds its message in `st.session_state[key]["commit"]`."""
    _component(data=data, key=key, on_commit_change=on_commit)
