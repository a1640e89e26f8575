"""What several pages share: the job chip, the progress of a job, the block strip, tables."""

import html
from collections.abc import Callable
from pathlib import Path

import plotly.graph_objects as go
import streamlit as st

from core import jobs
from core.compare.comparison import model_key
from core.energy.sources import Source
from core.errors import InputError
from core.ising.states import indicator, short_hashes
from core.ising.units import BRANCH, Units, units_of
from core.jobs.costs import counted, forward_seconds
from core.spectrum.memory_budget import size
from core.store.named_models import missing
from core.store.results import Results
from core.store.runs import Run
from core.view.palette import themed
from pages.shared.link import opened_source
from pages.shared.view import plain

state = st.session_state


def clock(seconds: float | None) -> str:
    """Seconds left as minutes and seconds; nothing where that is not known."""
    return "" if seconds is None else f"{int(seconds) // 60}:{int(seconds) % 60:02d} left"


def left_of(job: jobs.Job) -> str:
    """As `clock`, of a job at work: of what is told now, where that is one part of several."""
    told = clock(job.seconds_left)
    return f"{told} of this part" if told and jobs.kind_of(job.kind).in_parts else told


def name_of(removed: tuple[int, ...], blocks: int) -> str:
    """A state's short hash, or original."""
    return "original" if not removed else short_hashes(indicator([removed], blocks))[0]


def job_chip() -> None:
    """The latest running job at the top right of every page, a link to the list; reruns the page when it
    ends.
    """
    state.chip_running = bool(jobs.running())
    st.fragment(_chip, run_every=1 if state.chip_running else None)()


def _chip() -> None:
    running = jobs.running()
    with st.container(key="chip"):
        if running:
            job = running[0]
            parts = [jobs.kind_of(job.kind).doing, counted(job.done, job.total), left_of(job)]
            more = f" (+{len(running) - 1})" if len(running) > 1 else ""
            st.page_link("pages/jobs.py", label=" · ".join(filter(None, parts)) + more)
    if state.chip_running and not running:
        state.chip_running = False
        st.rerun()


def start_job(kind: str, request: dict) -> None:
    """Of a button: the page reads the job when it is drawn again."""
    jobs.start(kind, request)


def healings(run: Run) -> list[jobs.Job]:
    """The healings of the run's model, the latest first; not those that are done whose checkpoint is gone."""
    source = run.meta["model"]["source"]
    of_model = (j for j in jobs.list_jobs() if j.kind == "heal" and j.request["model"] == source)
    return [job for job in of_model if jobs.find("heal", job.request)]


def redo_job(kind: str, request: dict) -> None:
    """Of a button: what is done is done anew."""
    jobs.redo(kind, request)


def cancel_job(job_id: str) -> None:
    """Of a button."""
    jobs.cancel(job_id)


def show_progress(job: jobs.Job) -> None:
    """A running job's bar with its rate and a cancel button, or how it ended when it did not end well."""
    if job.active:
        rate = f"{job.rate:,.0f}/s" if 1 <= job.rate < 1e5 else ""
        far = counted(job.done, job.total)
        text = " · ".join(filter(None, [job.message or "waiting", far, rate, left_of(job)]))
        st.progress(min(1.0, job.done / job.total) if job.total else 0.0, text=text)
        st.button("Cancel", key=f"cancel-{job.id}", on_click=cancel_job, args=(job.id,))
    elif job.status == "failed":
        st.error(plain(job.error))
    elif job.status == "interrupted":
        st.warning(f"The worker of this job was killed. {_kept(job)}")
    elif job.status == "cancelled":
        st.info(f"Cancelled. {_kept(job)}")


def _kept(job: jobs.Job) -> str:
    if not jobs.kind_of(job.kind).resumes:
        return "A search starts anew."
    return "What was done is kept: start it again to resume."


def watch(job_id: str, polled: bool) -> jobs.Job:
    """`show_progress` inside a fragment; one that is polled reruns the whole page when the job has ended."""
    try:
        job = jobs.read(job_id)
    except InputError:  # its folder was removed meanwhile
        st.rerun()
    if polled and not job.active:
        st.rerun()
    show_progress(job)
    return job


def chart(place, figure: go.Figure, **options):
    """The figure in the colours of the page's theme, drawn in `place`."""
    return place.plotly_chart(themed(figure, st.context.theme.type == "dark"), **options)


def block_strip(blocks: list[dict], removed: tuple[int, ...] = ()) -> str:
    """HTML: the blocks from first to last, as tall as their parameters, with kind, parameters and bytes to
    hover.
    """
    gone = {str(b["index"]) for b in blocks if b["index"] in removed}
    return _strip(blocks, lambda b: f"<i{_height(b, blocks)}></i>", lambda b: str(b["index"]) in gone)


def branch_strip(blocks: list[dict], units: Units, removed: tuple[int, ...] = ()) -> str:
    """HTML: as `block_strip`, every block made of its branches, attention above FFN; units: by branch."""

    def bars(b: dict) -> str:
        mark = lambda u: ' class="gone"' if u in removed else ""  # noqa: E731
        own = zip(units.of_block[b["index"]], b["branches"])
        return "".join(f"<i{mark(u)}{_height(part, blocks)}></i>" for u, part in own)

    return _strip(blocks, bars, lambda b: False)


def _height(part: dict, blocks: list[dict]) -> str:
    most = max(b["parameters"] for b in blocks)
    return f' style="height:{max(8, round(100 * part["parameters"] / most))}%"'


def _strip(blocks: list[dict], bars: Callable[[dict], str], gone: Callable[[dict], bool]) -> str:
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100) if len(blocks) / s <= 32)
    cells = []
    for b in blocks:
        label = b["index"] if b["index"] % step == 0 else ""
        mark = ' class="gone"' if gone(b) else ""
        cells.append(f'<div title="{html.escape(_held(b))}"{mark}>{bars(b)}<span>{label}</span></div>')
    kinds = sorted({b["kind"] for b in blocks})
    dense = " dense" * (len(blocks) / step > 16)
    return (
        f'<div class="strip{dense}" role="img" aria-label="{len(blocks)} blocks: '
        f'{html.escape(", ".join(kinds))}">{"".join(cells)}</div>'
    )


def _held(block: dict) -> str:
    """What a block holds, and where that is known each of its branches."""
    told = lambda part: (  # noqa: E731
        f"{part['kind']}, {part['parameters']:,} parameters, {size(part['bytes'])}, "
        f"{size(part.get('kv_bytes', 0))} of keys and values a token"
    )
    return "\n".join([f"block {block['index']}: {told(block)}", *map(told, _parts(block))])


def _parts(block: dict) -> list[dict]:
    """The branches of a block of several, where what they hold is known: runs of before know their kinds."""
    parts = block.get("branches", ())
    return list(parts) if len(parts) > 1 and all("parameters" in part for part in parts) else []


def block_table(blocks: list[dict]) -> str:
    """HTML: every block, and below it its branches, with kind, parameters, bytes and KV bytes a token."""
    names = units_of([[part["kind"] for part in _parts(b)] or [b["kind"]] for b in blocks], BRANCH)
    head = ["block", "kind", "parameters", "bytes", "KV bytes a token"]
    rows = []
    for b in blocks:
        parts = _parts(b)
        own = [names.names[u] for u in names.of_block[b["index"]]] if parts else []
        for name, part in [(b["index"], b), *zip(own, parts)]:
            numbers = (part["parameters"], part["bytes"], part.get("kv_bytes", 0))
            rows.append([name, part["kind"], *(f"{n:,}" for n in numbers)])
    return html_table(head, rows)


def run_at_hand(bare: str) -> tuple[Source, Run] | None:
    """The source in view and its run, where the weights of its model are here too; else what is lacking is
    told. bare: what is said of a matrix.
    """
    source = opened_source()
    if source is None:
        return None
    if source.run is None:
        st.info(bare)
        return None
    return None if lacks_weights(source.run) else (source, source.run)


def show_job(kind: str, request: dict, done: Callable[[dict], None]) -> jobs.Job | None:
    """The job of a request, if there is one: its progress, or what `done` draws of its result."""
    job = jobs.find(kind, request)
    if job is not None:
        st.fragment(_job, run_every=1 if job.active else None)(kind, request, done, job.active)
    return job


def _job(kind: str, request: dict, done: Callable[[dict], None], polled: bool) -> None:
    job = jobs.find(kind, request)
    if polled and (job is None or not job.active):
        st.rerun()
    if job is not None and job.status == "done":
        done(job.result)
    elif job is not None:
        show_progress(job)


def sparkline(values: list[float], about: str) -> str:
    """HTML: a small line from first to last value, lowest at the foot; about: what it shows, in words."""
    low, high = min(values), max(values)
    step, reach = 120 / max(1, len(values) - 1), (high - low) or 1.0
    points = " ".join(f"{k * step:.1f},{26 - 24 * (v - low) / reach:.1f}" for k, v in enumerate(values))
    return (
        f'<svg class="spark" viewBox="0 0 120 28" width="120" height="28" role="img" '
        f'aria-label="{html.escape(about)}"><polyline points="{points}" fill="none" '
        'stroke="currentColor" stroke-width="1.5"/></svg>'
    )


class Safe(str):
    """HTML of our own making, which a table takes as it is."""


def html_table(head: list, rows: list[list], name: str = "") -> str:
    """A table that scrolls sideways by itself; every text but what is Safe is escaped."""
    text = lambda cell: cell if isinstance(cell, Safe) else html.escape(str(cell))  # noqa: E731
    cells = lambda row, tag: "".join(f"<{tag}>{text(cell)}</{tag}>" for cell in row)  # noqa: E731
    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return (
        '<div class="wide" tabindex="0"><table class="measured '
        f'{name}"><thead><tr>{cells(head, "th")}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def seconds_of_forward(run: Run, sequences: int, length: int) -> float:
    """Of the run's original model over so many sequences, as fast as it was when it was measured."""
    per_token = _per_token(model_key(run), Results().stamp)
    return forward_seconds(run.meta["model"]["parameters"], sequences * length, per_token)


@st.cache_data(max_entries=50, show_spinner=False)
def _per_token(model: str, stamp: tuple) -> float | None:
    return Results().seconds_per_token(model)


def lacks_weights(run: Run) -> bool:
    """Whether the run's model is not on this machine, which is then told: its landscape needs no weights."""
    lacking = missing(run.meta["model"]["source"])
    if lacking:
        st.info(plain(f"{lacking} Its landscape is here; measuring, pruning and learning need the weights."))
    return lacking is not None


def offer_zip(done: dict) -> None:
    """The checkpoint that a job wrote as one file, where that is small enough and still there."""
    archive = done.get("zip") and Path(done["zip"])
    if archive and archive.is_file():
        st.download_button(
            f"Download as .zip ({size(archive.stat().st_size)})",
            archive.read_bytes,
            archive.name,
            "application/zip",
            on_click="ignore",
        )
