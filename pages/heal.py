"""Heal: a state, a method and a budget; the curve while it learns, and what came back."""

import streamlit as st

from core import jobs
from pages.heal_parts.asked import asked_settings, asked_state, costs, request_of
from pages.heal_parts.shown import show
from pages.shared.link import opened_source
from pages.shared.parts import lacks_weights, start_job


def page() -> None:
    """The whole page."""
    st.title("Heal")
    st.caption(
        "A pruned model learns from the original what it lost, or a neighbour takes over what was removed. "
        "It trains on the run's texts and is judged on parts of them that it never sees."
    )
    source = opened_source()
    if source is None:
        return
    if source.run is None:
        st.info("A bare matrix has no model to heal; choose a run in Explore.")
        return
    if lacks_weights(source.run):
        return
    blocks, settings = asked_state(source.run), asked_settings()
    prompt = st.text_input("Ask all three", key="heal_prompt", placeholder="a prompt, or nothing")
    if blocks is None or settings is None:
        return
    request = request_of(source.run, blocks, settings, prompt.strip())
    job = jobs.find("heal", request)
    if job is None or not (job.active or job.status == "done"):
        label = "Resume" if job and job.status in ("interrupted", "cancelled") else "Heal"
        st.button(label, type="primary", on_click=start_job, args=("heal", request), key="heal_start")
        st.caption(costs(source.run, blocks, settings))
    if job is not None:
        show(job)


page()
