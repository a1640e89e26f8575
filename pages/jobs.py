"""Jobs: everything that worker processes did or are doing, with their logs."""

import json
import time

import streamlit as st

from core import jobs
from core.jobs.costs import counted
from pages.shared.parts import left_of, show_progress, start_job
from pages.shared.view import plain

SHOWN = 50
MARKS = {"running": "▶", "queued": "…", "done": "✓", "failed": "✗", "cancelled": "■", "interrupted": "!"}


def ago(moment: float) -> str:
    """How long since a moment, in words."""
    seconds = max(0, time.time() - moment)
    return (
        f"{seconds:.0f} s ago"
        if seconds < 90
        else f"{seconds / 60:.0f} min ago"
        if seconds < 5400
        else f"{seconds / 3600:.0f} h ago"
    )


def show(job: jobs.Job) -> None:
    """One job with its progress or end, its result and its log."""
    far = f"{counted(job.done, job.total)} {left_of(job)}".strip()
    when = far if job.active else ago(job.changed)
    name, about = jobs.kind_of(job.kind).name, jobs.about(job.kind, job.request)
    label = f"{MARKS[job.status]} {name} · {about} · {job.status} · {when}"
    with st.expander(plain(label), expanded=job.active):
        show_progress(job)
        if not job.active and job.status != "done":
            st.button("Start again", key=f"again-{job.id}", on_click=start_job, args=(job.kind, job.request))
        if job.result:
            st.caption("Result")
            # plain: the highlighter's colours have too little contrast on a light page
            st.code(json.dumps(job.result, indent=1)[:3000], language=None)
        st.caption("Request")
        asked = {name: value for name, value in job.request.items() if name != "inputs"}
        st.code(json.dumps(asked, indent=1)[:3000], language=None)
        st.caption(f"Log of job {job.id}")
        st.code(jobs.log_tail(job) or "The worker printed nothing.", language=None)


def listing() -> None:
    """The latest jobs."""
    found = jobs.list_jobs()
    if not found:
        st.info("No job yet: calibrations, benchmarks and prunings are listed here, with their logs.")
    for job in found[:SHOWN]:
        show(job)
    if len(found) > SHOWN:
        st.caption(f"The latest {SHOWN} of {len(found)} jobs.")


st.title("Jobs")
st.caption(
    "Each job works in a process of its own: it goes on when the page is closed or the server restarts. "
    "Equal requests are one job."
)
st.fragment(listing, run_every=1 if jobs.running() else None)()
