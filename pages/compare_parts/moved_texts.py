"""Where the texts of a run lie, when their files are no longer where they were."""

import streamlit as st

from core import jobs
from core.errors import InputError
from core.store import folders
from core.store.runs import Run
from core.texts.places import missing, sources_in
from pages.shared.view import plain

state = st.session_state


def ask_for_texts(run: Run) -> None:
    """Where text files of the run are missing: a field for their new place, which the run then remembers."""
    gone = missing(run)
    if not gone:
        return
    many = sum(s.is_file for s in sources_in(run))
    st.warning(
        plain(
            f"The texts of this run are not where they were: {', '.join(gone)}. What is measured already "
            "stays; to measure more, say where they lie now."
        )
    )
    st.text_input(
        "The run's texts now" if many == 1 else f"The run's {many} text files now, one behind the other",
        key="texts_now",
        placeholder="/data/texts.jsonl" if many == 1 else "/data/one.jsonl | /data/two.jsonl",
        on_change=_point,
        args=(run,),
        help="The same content, wherever it lies; another one is refused. "
        + ("" if many == 1 else "Divided by |, in the order in which the run names them."),
    )
    if state.get("texts_problem"):
        st.error(plain(state.texts_problem))


def _point(run: Run) -> None:
    places = [place.strip() for place in state.texts_now.split("|") if place.strip()]
    state.texts_problem = None
    try:
        if places:
            jobs.point_at(run, folders.find_run(run.key), places)
    except InputError as error:
        state.texts_problem = str(error)
