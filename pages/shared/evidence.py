"""What is measured of the couplings in view, and the measurements that would tell more of them."""

from pathlib import Path

import numpy as np
import streamlit as st

from core import jobs
from core.compare import other_tools
from core.compare.audit import Audit, audit, audit_states
from core.compare.comparison import Row, measured_increases, measured_rows, model_key, pair_losses
from core.compare.health import SEQUENCES
from core.energy.sources import Source
from core.jobs.costs import in_words, measure_seconds
from core.store import folders
from core.store.results import Results
from core.store.runs import Run
from core.tasks.items import BUNDLED
from core.view.state_files import Increases
from pages.shared.link import LABEL_LIMIT
from pages.shared.parts import seconds_of_forward, show_progress
from pages.shared.view import AS_WRITTEN, source_of


@st.cache_resource(max_entries=4, show_spinner=False)
def measured_so_far(key: str, home: str, stamp: tuple) -> Increases:
    """The loss increases that are known of a source, read once for every state of the store."""
    run = source_of(key).run
    return measured_increases(run, Results()) if run else {}


@st.cache_resource(max_entries=16, show_spinner=False)
def rows_of_m(key: str, removed: int, home: str, stamp: tuple) -> list[Row]:
    """All measured losses at M, read once for every state of the store."""
    return measured_rows(source_of(key).run, Results(), removed)


@st.cache_resource(max_entries=8, show_spinner=False)
def pairs_of(key: str, home: str, stamp: tuple) -> dict:
    """What `pair_losses` finds, read once for every state of the store."""
    return pair_losses(source_of(key).run, Results())


@st.cache_resource(max_entries=48, show_spinner=False, hash_funcs=AS_WRITTEN)
def _audit(key: str, estimator: str, mix: dict | None, home: str, stamp: tuple) -> Audit | None:
    return audit(source_of(key).couplings(estimator, mix), pairs_of(key, home, stamp))


def audit_of(source: Source, estimator: str, mix: dict | None = None) -> Audit | None:
    """The audit of couplings of a run from what the store holds, made once for every state of the store: it
    bootstraps.
    """
    return _audit(source.key, estimator, mix, str(folders.home()), Results().stamp)


def choices_of_others(run: Run, removed: int) -> dict[tuple[int, ...], str]:
    """{state: who chose it} of other methods and of the learned landscape at this M, and of lists that were
    imported.
    """
    found: dict[tuple[int, ...], list[str]] = {}
    for job in jobs.on_run(folders.find_run(run.key), removed, run.by):
        if job.kind in ("peers", "learn") and job.status == "done":
            named = job.result["methods"] if job.kind == "peers" else {"learned": job.result["best"]}
            for name, choice in named.items():
                found.setdefault(run.units.state(choice["removed"]) or (), []).append(name)
    for row in other_tools.kept(model_key(run)):
        listed = run.units.state(row.removed)
        if listed is not None and len(listed) == removed:
            found.setdefault(listed, []).append(Path(row.source).stem[:LABEL_LIMIT])
    return {s: ", ".join(dict.fromkeys(names)) for s, names in found.items()}


def audit_request(run: Run) -> dict:
    """A measurement of some pairs and their blocks; of cheap ones, where single removals were measured."""
    increase = np.zeros(run.blocks) if run.singles is None else run.singles.increase
    return measuring(run, audit_states(run.blocks, increase))


def measuring(run: Run, states: list[tuple[int, ...]]) -> dict:
    """The losses of some states on a few sequences of the run's own texts."""
    return jobs.request_for(
        run,
        (str(BUNDLED),),
        with_texts=True,
        states=[run.units.listed(s) for s in states],
        sequences=SEQUENCES,
        length=run.meta["texts"]["length"],
        tasks=False,
        prompt="",
        speed=False,
    )


def time_of(run: Run, request: dict) -> str:
    """What such a measurement takes here, in words."""
    forward = seconds_of_forward(run, SEQUENCES, run.meta["texts"]["length"])
    return in_words(measure_seconds(forward, len(request["states"]) - 1))  # at most: some may be known


def start_measuring(request: dict) -> None:
    """Of a button."""
    jobs.start("benchmark", request)


def follow(request: dict) -> None:
    """Progress of such a measurement, or how it ended; the page is drawn anew when it ends."""
    job = jobs.find("benchmark", request)
    if job is not None and job.status != "done":
        st.fragment(_progress, run_every=1 if job.active else None)(job.id, job.active)


def _progress(job_id: str, polled: bool) -> None:
    job = jobs.read(job_id)
    if polled and not job.active:
        st.rerun()
    show_progress(job)
