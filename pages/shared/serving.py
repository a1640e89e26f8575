"""How the app is served: what `st.App` is given beside the script."""

import webbrowser
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import streamlit as st
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route
from streamlit.file_util import get_static_dir
from streamlit.runtime.pages_manager import PagesManager

PAGES = Path(__file__).resolve().parents[1]
# without it Streamlit's script looks for its server below the page's path first: two requests end in 404
_SERVER = "<script>window.__streamlit = {BACKEND_BASE_URL: location.origin}</script>\n    "


def own_addresses() -> list[Route]:
    """/compare and the like: what Streamlit serves there, told where its server is."""
    return [Route(f"/{page.stem}", _streamlit) for page in PAGES.glob("*.py")]


def _streamlit(request: Request) -> HTMLResponse:
    text = (Path(get_static_dir()) / "index.html").read_text(encoding="utf-8")
    return HTMLResponse(
        text.replace("<script", f"{_SERVER}<script", 1), headers={"Cache-Control": "no-cache"}
    )


@asynccontextmanager
async def serving(app: st.App) -> AsyncIterator[None]:
    """Around the server's life; `streamlit run` opens no browser for an `st.App` by itself."""
    # the navigation is app.py's, for the first visit too: not one that Streamlit makes of the folder pages/
    PagesManager.uses_pages_directory = False
    if not st.get_option("server.headless"):
        address, port = st.get_option("browser.serverAddress"), st.get_option("server.port")
        webbrowser.open(f"http://{address}:{port}")
    yield
