"""The cards of Take home that are not a form of their own: commands, the recipe, the hub."""

import os
from collections.abc import Mapping
from pathlib import Path

import streamlit as st

from core import jobs
from core.errors import InputError
from core.forms.commands import Command, mergekit_command
from core.forms.hub import TOKEN
from core.forms.recipe import recipe, recipe_of
from pages.shared.parts import redo_job, show_job
from pages.shared.view import plain


def recipe_card(model: dict, place: Path, blocks: int, removed: list[int]) -> None:
    """The same model by mergekit, where it reads the original."""
    st.caption(
        "For mergekit: slices of the original, passed through. It reads Hugging Face folders and hub ids."
    )
    try:
        if place.exists():
            text, _ = recipe_of(place, model["source"], removed)
        else:  # of the hub
            text = recipe(model["source"], removed, blocks, "float32")
    except InputError as error:  # an adapter, or a config that does not say how many blocks there are
        st.info(plain(str(error)))
        return
    st.code(text, language="yaml", wrap_lines=True)
    st.download_button("recipe.yml", text, "recipe.yml", "text/yaml", on_click="ignore")
    commands_card({"mergekit": mergekit_command(Path("recipe.yml"), Path("pruned"), model["type"])})


def commands_card(given: Mapping[str, Command]) -> None:
    """Commands of other tools, {what for: command}, each with whether it was run."""
    for name, command in given.items():
        st.caption(f"**{name}**")
        st.code(command.command, language="bash", wrap_lines=True)
        st.caption(plain(f"{'Tested' if command.tested else 'Untested'}: {command.why}."))


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
    request = jobs.push_request(folder, repo, public)
    job = show_job("push", request, _sent) if repo else None
    if job is None or not job.active:
        st.button(
            "Send",
            key=f"hub-send-{folder.name}",
            disabled=not ready,
            on_click=redo_job,
            args=("push", request),
            help=None if ready else f"Needs a name, and {TOKEN} in the environment.",
        )


def _sent(done: dict) -> None:
    st.success(plain(f"Sent: {done['url']}"))
