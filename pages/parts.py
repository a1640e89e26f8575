"""What several pages share: the job chip, the progress of a job."""

import html

import streamlit as st

from core import jobs
from core.jobs import Job
from pages.view import plain

VERBS = {"calibrate": "calibrating", "benchmark": "benchmarking", "prune": "pruning"}
state = st.session_state


def clock(seconds: float | None) -> str:
    return "" if seconds is None else f"{int(seconds) // 60}:{int(seconds) % 60:02d} left"


def job_chip() -> None:
    """The latest running job at the top right of every page; reruns the page when it ends."""
    running = [job for job in jobs.list_jobs() if job.active]
    st.fragment(_chip, run_every=1 if running else None)()


def _chip() -> None:
    running = [job for job in jobs.list_jobs() if job.active]
    with st.container(key="chip"):
        if running:
            job = running[0]
            parts = [VERBS.get(job.kind, job.kind), f"{job.done} of {job.total}", clock(job.seconds_left)]
            more = f" (+{len(running) - 1})" if len(running) > 1 else ""
            st.html(f'<div class="chip" role="status">{html.escape(" · ".join(filter(None, parts)) + more)}</div>')
    if state.get("chip_running") and not running:
        state.chip_running = False
        st.rerun()
    state.chip_running = bool(running)


def show_progress(job: Job) -> None:
    """A running job's bar with its rate and a cancel button, or how it ended when it did not end well."""
    if job.active:
        rate = f"{job.rate:.0f}/s" if job.rate >= 1 else ""
        text = " · ".join(filter(None, [job.message or "waiting", f"{job.done} of {job.total}", rate, clock(job.seconds_left)]))
        st.progress(min(1.0, job.done / job.total) if job.total else 0.0, text=text)
        st.button("Cancel", key=f"cancel-{job.id}", on_click=jobs.cancel, args=(job.id,))
    elif job.status == "failed":
        st.error(plain(job.error))
    elif job.status == "interrupted":
        st.warning("The worker of this job was killed. What it had done is kept: start it again to resume.")
    elif job.status == "cancelled":
        st.info("Cancelled. What was done is kept: start it again to resume.")
