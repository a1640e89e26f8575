"""The Heal page: states, a method and a budget; the curve while it learns, and what came back."""

import streamlit as st

from core import jobs
from pages.heal_parts.asked import asked_how, asked_states, begin_with_usual, costs, requests_of
from pages.heal_parts.compared import show_states
from pages.heal_parts.shown import show
from pages.shared.parts import run_at_hand, start_job


def start_all(requests: list[dict]) -> None:
    """Of a button: healings take turns by themselves."""
    for request in requests:
        start_job("heal", request)


def page() -> None:
    """The whole page."""
    st.title("Heal")
    st.caption(
        "A pruned model learns from the original what it lost, or a neighbour takes over what was removed. "
        "It trains on the run's texts, or on what the original writes, and is judged on parts of the run's texts "
        "that it never sees."
    )
    at_hand = run_at_hand("A bare matrix has no model to heal; choose a run in Explore.")
    if at_hand is None:
        return
    source, run = at_hand
    begin_with_usual()
    states, how = asked_states(run), asked_how()
    prompt = st.text_input("Ask all three", key="heal_prompt", placeholder="a prompt, or nothing")
    if not states or how is None:
        return
    requests = requests_of(source, states, how, prompt.strip())
    if not requests:
        return
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


page()
