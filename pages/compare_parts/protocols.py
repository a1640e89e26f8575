"""Behaviour, lm-evaluation-harness, and results of other tools."""

import csv
import io
import tempfile
from pathlib import Path

import streamlit as st

from core import jobs
from core.compare import other_tools
from core.compare.comparison import model_key
from core.errors import InputError
from core.ising.units import BRANCH
from core.store.runs import Run
from core.tasks import short_prompts
from core.tasks.presets import PRESETS, Preset, asked
from core.tasks.scores import best_first, called, title, todays, told
from core.tasks.task_files import listed_tasks
from pages.compare_parts.searches import add_to_tray
from pages.shared.parts import html_table, start_job, watch
from pages.shared.view import plain

state = st.session_state
OTHER = "other tasks"  # beside the presets
AS_ASKED = "as picked"


def with_original(states: list[tuple[int, ...]]) -> str:
    """In words: the original, and how many states."""
    return "the original" + (f" and {len(states)} state{'s' if len(states) > 1 else ''}" if states else "")


def show_behaviour(run: Run, states: list[tuple[int, ...]]) -> None:
    """Short prompts, answered by all: what is broken although the loss looks good."""
    request = jobs.request_for(
        run, states=[[], *map(run.units.listed, states[:20])], tokens=short_prompts.TOKENS
    )
    job = jobs.find("behaviour", request)
    if job is None or not (job.active or job.status == "done"):
        st.button(
            f"Ask {with_original(states[:20])} {len(short_prompts.PROMPTS)} short prompts",
            on_click=start_job,
            args=("behaviour", request),
        )
    if job:
        st.fragment(watch, run_every=1 if job.active else None)(job.id, job.active)
    if not job or job.status != "done":
        st.caption(
            "Does it end by itself, go round in circles, keep the language, close its brackets, keep digits, "
            "say anything at all?"
        )
        return
    checks = list(job.result["states"][0]["checks"])
    rows = []
    for found in job.result["states"]:
        changes = found["checks"]
        cells = [
            f"{c['pruned']:.2f}"
            + (
                f" ({c['worse']} worse, {c['better']} better)"
                if found["removed"] and (c["worse"] or c["better"])
                else ""
            )
            for c in map(changes.get, checks)
            if c
        ]
        verdict = (
            ""
            if not found["removed"]
            else f"broken: {', '.join(found['broken'])}"
            if found["broken"]
            else "as the original"
        )
        rows.append([", ".join(map(str, found["removed"])) or "original", verdict, *cells])
    st.html(
        html_table(
            ["removed", "verdict", *(f"{c} ({job.result['states'][0]['checks'][c]['n']})" for c in checks)],
            rows,
            "behaviour",
        )
    )
    st.caption(
        "Share of prompts that are fine; broken: more of the prompts that changed got worse than chance "
        "allows (one-sided sign test, .05)."
    )
    with st.expander("Every answer"):
        names = [", ".join(map(str, f["removed"])) or "original" for f in job.result["states"]]
        answers = [
            [prompt, *(f["answers"][k]["text"] for f in job.result["states"])]
            for k, prompt in enumerate(job.result["prompts"])
        ]
        st.html(html_table(["prompt", *names], answers, "answers"))


def show_harness(run: Run, states: list[tuple[int, ...]]) -> None:
    """A protocol of lm-evaluation-harness on the same states."""
    try:
        protocol, reads, limit = _protocol()
    except InputError as error:
        st.info(plain(str(error)))
        return
    request = jobs.request_for(
        run,
        reads,
        states=[[], *map(run.units.listed, states[:20])],
        preset=protocol.to_json(),
        limit=limit,
        batch=16,
    )
    job = jobs.find("harness", request)
    if job is None or not (job.active or job.status == "done"):
        st.button(
            f"Measure {with_original(states[:20])}",
            on_click=start_job,
            args=("harness", request),
            key="start-harness",
        )
    if job:
        st.fragment(watch, run_every=1 if job.active else None)(job.id, job.active)
    drawn = f"{protocol.items} items each, drawn with seed {protocol.seed}; " if protocol.items else ""
    st.caption(
        f"{drawn}{protocol.dataset or 'data as the task files say'}; "
        f"{'shots of the task' if protocol.shots is None else f'{protocol.shots} shots'}; "
        f"BOS: {protocol.bos}; template: {protocol.template}; lm-evaluation-harness {protocol.harness}."
    )
    if job and job.status == "done":
        show_scores(job.result)


def _protocol() -> tuple[Preset, tuple[str, ...], int | None]:
    """(the protocol, the files it reads, items a task) that the controls ask for. Errors: InputError."""
    columns = st.columns([1.1, 1.5, 1.7, 0.8], vertical_alignment="bottom")
    name = columns[0].selectbox(
        "Protocol",
        [*PRESETS, OTHER],
        key="preset",
        help="Data set, shots, metric, BOS and template as one: numbers of different protocols are not "
        "compared.",
    )
    tasks = columns[1].text_input(
        "Tasks", key="tasks_named", placeholder="hellaswag, or a task file", disabled=name != OTHER
    )
    data = columns[2].text_input(
        "Folder of the rows",
        key="tasks_data",
        placeholder="empty: from the hub",
        help="A file for each task that is called as it is, for example arc_easy.jsonl, with rows in the "
        "shape that lm-evaluation-harness reads.",
    )
    drawn = None if name == OTHER else PRESETS[name].items
    limit = columns[3].number_input(
        "Items a task",
        1,
        100_000,
        drawn or 100,
        key="limit_drawn" if drawn else "limit",
        disabled=drawn is not None,
    )
    named = listed_tasks(tasks) if name == OTHER else []
    if name == OTHER and not named:
        raise InputError("No task is named yet: give one of lm-evaluation-harness, or a task file.")
    protocol, reads = asked(named, None if name == OTHER else name, None, data.strip() or None)
    return protocol, reads, None if drawn else int(limit)


def show_scores(result: dict) -> None:
    """The table of a finished job, in an order that is asked for, and its CSV."""
    states = [
        {**s, "tasks": {name: todays(row) for name, row in s["tasks"].items()}} for s in result["states"]
    ]
    first = states[0]["tasks"]
    if len(states) > 2:
        order = st.columns([1, 3])[0].selectbox(
            "Order", [AS_ASKED, *first], key="harness_order", format_func=_order_label
        )
        if order != AS_ASKED:
            states = best_first(states, order)
    st.html(harness_table(states))
    st.caption("In brackets: the 95 % interval of each score by itself.")
    st.download_button(
        "CSV", harness_csv({**result, "states": states}), "benchmarks.csv", "text/csv", on_click="ignore"
    )


def _order_label(name: str) -> str:
    return name if name == AS_ASKED else f"best in {name} first"


def harness_table(states: list[dict]) -> str:
    """HTML: a row a state; a column a task, with the name of its metric."""
    first = states[0]["tasks"]
    rows = [
        [", ".join(map(str, found["removed"])) or "original", *(told(found["tasks"][name]) for name in first)]
        for found in states
    ]
    return html_table(["removed", *(title(name, row) for name, row in first.items())], rows, "harness")


def harness_csv(result: dict) -> str:
    """A line for each metric of each task of each state; error and interval of the one that is quoted."""
    out = io.StringIO()
    about = ("se", "low", "high", "higher_is_better")
    writer = csv.writer(out)
    writer.writerow(["removed", "task", "metric", "value", *about, "n", "shots", "protocol", "harness"])
    for found in result["states"]:
        removed = ",".join(map(str, found["removed"]))
        for task, row in found["tasks"].items():
            for metric, value in row["metrics"].items():
                own = [row[name] for name in about] if metric == row["metric"] else [""] * len(about)
                writer.writerow(
                    [removed, task, called(metric), value, *own, row["n"], row["shots"]]
                    + [result["preset"]["name"], result["harness"]]
                )
    return out.getvalue()


def show_imported(run: Run) -> None:
    """Numbers of other tools, marked as such."""
    left, right = st.columns([2, 1])
    file = left.file_uploader(
        "Results of another tool",
        type=["json", "csv"],
        help="A results file of lm-evaluation-harness, or a list of removed blocks with scores.",
    )
    removed = right.text_input(
        "Blocks removed there",
        key="imported_removed",
        placeholder="none: the original",
        help="Of the model that a harness file is about, which does not say: for example 3,7-9.",
    )
    # not by itself: what is kept stays, and the blocks are said after the file
    if right.button("Keep its scores", key="keep-imported", disabled=file is None) and file is not None:
        try:
            _import(run, file.name, file.getvalue(), removed)
        except InputError as error:
            st.error(plain(str(error)))
    kept = other_tools.kept(model_key(run))
    rows = [
        [
            ", ".join(map(str, r.removed)) or "original",
            r.task,
            r.metric,
            f"{r.value:.4g}",
            r.n or "",
            r.tool,
            r.source,
        ]
        for r in kept
    ]
    if rows:
        st.html(
            html_table(["removed", "task", "metric", "imported value", "n", "tool", "file"], rows, "imported")
        )
        found = (run.units.state(r.removed) for r in kept)
        states = list(dict.fromkeys(s for s in found if s))
        st.button("Add these states to the tray", on_click=add_to_tray, args=(states,), key="tray-imported")


def _import(run: Run, name: str, content: bytes, removed: str) -> None:
    """Keep the scores of an uploaded file. Errors: InputError."""
    units = run.units_by(BRANCH)
    gone = units.stored(units.parse(removed)) if removed.strip() else ()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{Path(name).stem}{Path(name).suffix.lower()}"
        path.write_bytes(content)
        other_tools.keep(model_key(run), path, other_tools.read_results(path, gone, units))
