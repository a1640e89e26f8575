"""The Heal page: states, a method and a budget; the curve while it learns, and what came back."""

import streamlit as st

from core import jobs
from core.energy.sources import Source
from core.store.runs import Run
from pages.heal_parts.asked import asked_how, asked_states, begin_with_usual, requests_of
from pages.heal_parts.compared import show_states
from pages.heal_parts.costs import costs
from pages.heal_parts.shown import show
from pages.shared.parts import healings, run_at_hand, start_job

state = st.session_state


def start_all(requests: list[dict]) -> None:
    """Of a button: healings take turns by themselves."""
    for request in requests:
        start_job("heal", request)


def page() -> None:
    """The whole page."""
    st.title("Heal")
    st.caption(
        "A pruned model learns from the original what it lost, or a neighbour takes over what was removed. "
        "It trains on the run's texts, or on what the original writes, and is judged on parts of the run's "
        "texts that it never sees."
    )
    at_hand = run_at_hand("A bare matrix has no model to heal; choose a run in Explore.")
    if at_hand is None:
        return
    source, run = at_hand
    _earlier(run, _asked(source, run))


def _asked(source: Source, run: Run) -> set[str]:
    """What is asked, and what came of it; the numbers of the jobs that are shown so."""
    begin_with_usual()
    states, how = asked_states(source), asked_how()
    prompt = st.text_input("Ask all three", key="heal_prompt", placeholder="a prompt, or nothing")
    if not states or how is None:
        return set()
    requests = requests_of(source, states, how, prompt.strip())
    if not requests:
        return set()
    found = [jobs.find("heal", request) for request in requests]
    open_ = [k for k, job in enumerate(found) if job is None or not (job.active or job.status == "done")]
    if open_:
        resumed = any(job and job.status in ("interrupted", "cancelled") for job in found)
        label = "Resume" if resumed else "Heal"
        label += f" {len(open_)} states" if len(open_) > 1 else ""
        wanted = [requests[k] for k in open_]
        st.button(label, type="primary", on_click=start_all, args=(wanted,), key="start_heal")
        st.caption(costs(run, [states[k] for k in open_], how))
    if len(states) > 1:
        show_states(source, states, found)
    elif found[0] is not None:
        show(found[0])
    return {job.id for job in found if job}


def _earlier(run: Run, shown: set[str]) -> None:
    """The healings of this model that were asked otherwise, or before the page was loaded anew."""
    others = {job.id: job for job in healings(run) if job.id not in shown}
    if not others:
        return
    if state.get("earlier_healing") not in others:  # one that is at work is shown by itself
        state.earlier_healing = next((key for key, job in others.items() if job.active), None)
    chosen = st.selectbox(
        "Other healings of this model",
        list(others),
        index=None,
        format_func=lambda key: f"{jobs.about('heal', others[key].request)} · {others[key].status}",
        key="earlier_healing",
        placeholder="none is shown",
    )
    if not chosen:
        return
    job = others[chosen]
    show(job)
    if not job.active and job.status != "done":
        st.button("Start again", key=f"again-{job.id}", on_click=start_job, args=("heal", job.request))


page()
