"""The lens: landscape, barcode, couplings, arcs, state card and tray in one linked component.

Streamlit components v2, inline JS and canvas, no build step: the modules of the script are put behind one
another. Hover, arrow keys and the card live in the browser; Python hears of a committed selection or tray as
the trigger `commit`. What goes to the component and what comes back is typed in core.view.messages, and for
the script in messages.js.
"""

import re
from collections.abc import Callable
from pathlib import Path

import streamlit as st

from core.view.messages import LensData

_HERE = Path(__file__).parent
# each after those it imports; messages.js holds types only and is not sent
_MODULES = (
    *("palette", "dom", "wording", "glossary", "shape", "model", "recorder", "panel"),
    *("tree", "landscape", "thermometer", "barcode", "matrix", "arcs"),
    *("help", "hints", "finder", "sentences", "exports", "card", "tray", "keys", "lens"),
)


def _script() -> str:
    """All modules as one: Streamlit takes one string, in which they need no import of each other."""
    text = "\n".join((_HERE / f"{name}.js").read_text(encoding="utf-8") for name in _MODULES)
    text = re.sub(r'^import \{[^}]*\} from "\./\w+\.js";\n', "", text, flags=re.MULTILINE)
    return re.sub(r"^export (?!default)", "", text, flags=re.MULTILINE)


_component = st.components.v2.component(
    "blockscape_lens",
    js=_script(),
    css=(_HERE / "lens.css").read_text(encoding="utf-8"),
    html='<div class="lens"></div>\n',
)


def lens(data: LensData, key: str, on_commit: Callable[[], None]) -> None:
    """Draw the lens; the callback finds its message in `st.session_state[key]["commit"]`."""
    _component(data=data, key=key, on_commit_change=on_commit)
