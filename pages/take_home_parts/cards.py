"""The cards of Take home that are not a form of their own: commands, the recipe, the hub."""

import os
from pathlib import Path

import streamlit as st

from core import jobs
from core.export.hub import TOKEN
from pages.shared.parts import redo_job, show_progress
from pages.shared.view import plain


def hub_card(folder: Path) -> None:
    """Send an export: the token is the environment's."""
    st.caption(
        f"All files in one commit. The token is {TOKEN} of the environment in which Blockscape was started; "
        "it is never written down. Tested against a stand-in of the hub, not against the hub itself."
    )
    repo = st.text_input("Repository", key=f"hub-{folder.name}", placeholder="owner/name").strip()
    public = st.checkbox(
        "Public", key=f"hub-public-{folder.name}", help="A new repository is private otherwise."
    )
    ready = bool(os.environ.get(TOKEN)) and bool(repo)
    request = {"folder": str(folder), "repo": repo, "private": not public}
    job = jobs.find("push", request) if repo else None
    if job is not None:
        st.fragment(_sent, run_every=1 if job.active else None)(request, job.active)
    if job is None or not job.active:
        st.button(
            "Send",
            key=f"hub-send-{folder.name}",
            disabled=not ready,
            on_click=redo_job,
            args=("push", request),
            help=None if ready else f"Needs a name, and {TOKEN} in the environment.",
        )


def _sent(request: dict, polled: bool) -> None:
    job = jobs.find("push", request)
    if polled and (job is None or not job.active):
        st.rerun()
    if job is None:
        return
    if job.status == "done":
        st.success(plain(f"Sent: {job.result['url']}"))
    else:
        show_progress(job)
