"""What is to be taken home: a state in view or typed, or a healed checkpoint."""

import streamlit as st

from core import jobs
from core.errors import InputError
from core.ising.units import BRANCH, name_text, read_names
from core.store.runs import Run
from pages.shared.view import plain

TYPED = "typed"
state = st.session_state


def asked(run: Run) -> tuple[Run, tuple[int, ...]] | jobs.Job | None:
    """A state, and the run as it is seen to say it, or the job that healed one; None where there is none,
    which is then told.
    """
    units = run.units
    listed = [state.cursor, state.prune_state, *state.tray]
    texts = {name_text(units.stored(s)): s for s in dict.fromkeys(map(tuple, filter(None, listed)))}
    done = {job.id: job for job in _healed(run)}
    names = {
        **{text: f"removes {units.said(s)}" for text, s in texts.items()},
        **{job_id: _called(job) for job_id, job in done.items()},
        TYPED: "another, typed",
    }
    chosen = st.selectbox(
        "State",
        list(names),
        format_func=names.__getitem__,
        key="home_state",
        help="The selected state and those of the tray, from Explore, and what was healed of this model.",
    )
    if chosen in done:
        return done[chosen]
    if chosen != TYPED:
        return run, texts[chosen]
    text = st.text_input("To remove", key="home_typed", placeholder="for example 3,7-9 or 3,12a,13f")
    if not text.strip():
        st.info("Pick a state in Explore, or type what to remove.")
        return None
    try:
        removed = read_names(text)
        if BRANCH in run.views and any(isinstance(name, str) for name in removed):
            run = run.seen(BRANCH)
        return run, run.units.parse(name_text(removed))
    except InputError as error:
        st.error(plain(str(error)))
        return None


def _healed(run: Run) -> list[jobs.Job]:
    """Healings of the run's model whose checkpoint is there, the newest first."""
    source = run.meta["model"]["source"]
    return [
        job
        for job in jobs.list_jobs()
        if job.kind == "heal"
        and job.status == "done"
        and job.request["model"] == source
        and (job.result or {}).get("out")
        and jobs.find("heal", job.request)
    ]


def _called(job: jobs.Job) -> str:
    won = job.result.get("won")
    back = "" if won is None else ", worse than before" if won < 0 else f", {100 * won:.0f} % won back"
    return f"healed: {jobs.about(job.kind, job.request)}{back}"
