"""Matrices of one's own and lists of states, uploaded and deleted."""

import tempfile
from pathlib import Path

import streamlit as st

from core.compare import other_tools
from core.energy.sources import delete_matrix, list_sources, store_matrix, stored_matrices
from core.errors import InputError
from core.ising.matrix_files import SUFFIXES, parse_matrix
from pages.shared.link import LABEL_LIMIT, MARK_LIMIT
from pages.shared.view import open_at_first, plain, source_of

state = st.session_state


def on_matrix() -> None:
    """Keep an uploaded matrix and open it."""
    if state.upload is None:
        return
    try:
        told: list[str] = []
        H = parse_matrix(state.upload, state.upload.name, told.append)
        state.source = store_matrix(H, state.upload.name).key
        state.read_as = {state.source: " ".join(told)}
        open_at_first(source_of(state.source))
    except InputError as error:
        state.problems.append(str(error))


def show_reading() -> None:
    """How the open matrix was read where it was not as it stands, as long as it is open."""
    place = st.empty()  # also where nothing is told: what is below keeps its place, and stays open
    if sentence := state.get("read_as", {}).get(state.source):
        place.info(plain(sentence))


def on_states() -> None:
    """A list from elsewhere becomes marks; where it holds scores, Compare can import those too."""
    if state.listed is None:
        return
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / Path(state.listed.name).name
            path.write_bytes(state.listed.getvalue())
            units = source_of(state.source).units
            read = other_tools.read_listed(path, units)
        named = {
            units.state(one.removed): (one.label or path.stem)[:LABEL_LIMIT] for one in read[:MARK_LIMIT]
        }
        add_marks({s: label for s, label in named.items() if s is not None})
        if len(read) > MARK_LIMIT:
            state.problems.append(
                f"{state.listed.name!r} lists {len(read)} states; the first {MARK_LIMIT} are marked."
            )
    except InputError as error:
        state.problems.append(str(error))


def on_delete(key: str) -> None:
    """Remove a stored matrix; the view goes to the first source."""
    delete_matrix(key)
    source_of.clear(key)
    if state.source == key:
        open_at_first(source_of(next(iter(list_sources()))))


def show_upload() -> None:
    """The uploads at the foot of the page, and the stored matrices."""
    left, right = st.columns(2)
    with left.expander("Explore a matrix of your own"):
        st.file_uploader(
            "A symmetric coupling matrix, or the triangle of a QUBO: .npy, .npz (key H, or scipy's sparse), "
            ".csv or .tsv",
            type=[suffix.removeprefix(".") for suffix in SUFFIXES],
            key="upload",
            on_change=on_matrix,
        )
        for key, name in stored_matrices().items():
            with st.container(horizontal=True, vertical_alignment="center"):
                st.markdown(plain(name[:60]), width="stretch")
                st.button(
                    "Delete",
                    key=f"delete-{key}",
                    on_click=on_delete,
                    args=(key,),
                    type="tertiary",
                    help=f"Delete the matrix {key[:8]} from the store.",
                )
    with right.expander("Mark states from elsewhere"):
        st.file_uploader(
            'A list of removed blocks: .json ([{"removed": [3, 7], "label": "theirs"}]) or .csv (column '
            'removed, as "3,7-9"); by branch also their parts, as "12a"',
            type=["json", "csv"],
            key="listed",
            on_change=on_states,
        )
        st.button(
            "Take my marks away", on_click=state.update, args=({"marks": {}},), disabled=not state.marks
        )


def add_marks(labels: dict[tuple[int, ...], str]) -> None:
    """States with their labels, marked on every panel."""
    state.marks = dict(list({**state.marks, **labels}.items())[-MARK_LIMIT:])
