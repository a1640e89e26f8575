"""What is to be taken home: a state in view or typed, or a healed checkpoint."""

import streamlit as st

from core import jobs
from core.energy.sources import Source
from core.errors import InputError
from core.ising.units import BRANCH, name_text, read_names
from core.store.runs import Run
from pages.shared.parts import healings
from pages.shared.view import plain, state_in_view

TYPED = "typed"
state = st.session_state


def asked(source: Source) -> tuple[Run, tuple[int, ...]] | jobs.Job | None:
    """A state, and the run as it is seen to say it, or the job that healed one; None where there is none,
    which is then told.
    """
    run = source.run
    units = run.units
    listed = [state_in_view(source), state.prune_state, *state.tray]
    texts = {name_text(units.stored(s)): s for s in dict.fromkeys(map(tuple, filter(None, listed)))}
    done = {job.id: job for job in healings(run) if (job.result or {}).get("out")}
    names = {
        **{text: f"removes {units.said(s)}" for text, s in texts.items()},
        **{job_id: _called(job) for job_id, job in done.items()},
        TYPED: "another, typed",
    }
    about = [run.key, *list(texts)[:1]]
    if state.get("home_about") != about or state.get("home_state") not in names:  # as on Heal
        state.update(home_about=about, home_state=next(iter(names)))
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
        found = run.units.parse(name_text(removed))
        run.units.check_left(found)
        return run, found
    except InputError as error:
        st.error(plain(str(error)))
        return None


def _called(job: jobs.Job) -> str:
    won = job.result.get("won")
    back = (
        ""
        if won is None
        else ", worse than before"
        if won <= -0.005
        else f", {100 * max(won, 0.0):.0f} % won back"
    )
    return f"healed: {jobs.about(job.kind, job.request)}{back}"
