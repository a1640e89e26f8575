"""Behaviour, lm-evaluation-harness, and results of other tools."""

import streamlit as st

from core import jobs
from core.compare import other_tools
from core.compare.comparison import model_key
from core.errors import InputError
from core.store import folders
from core.store.runs import Run
from core.tasks import short_prompts
from core.tasks.presets import PRESETS, asked
from pages.compare_parts.searches import add_to_tray
from pages.shared.parts import html_table, start_job, watch
from pages.shared.view import plain

state = st.session_state


def with_original(states: list[tuple[int, ...]]) -> str:
    """In words: the original, and how many states."""
    return "the original" + (f" and {len(states)} state{'s' if len(states) > 1 else ''}" if states else "")


def show_behaviour(run: Run, states: list[tuple[int, ...]]) -> None:
    """Short prompts, answered by all: what is broken although the loss looks good."""
    request = jobs.request_for(run, states=[[], *map(list, states[:20])], tokens=short_prompts.TOKENS)
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
    left, middle, right = st.columns([1.2, 2, 1], vertical_alignment="bottom")
    name = left.selectbox(
        "Protocol",
        [*PRESETS, "other tasks"],
        key="preset",
        help="Data set, shots, metric, BOS and template as one: numbers of different protocols are not "
        "compared.",
    )
    tasks = middle.text_input(
        "Tasks", key="tasks_named", placeholder="hellaswag, or a task file", disabled=name != "other tasks"
    )
    limit = right.number_input("Items a task", 1, 100_000, 100, key="limit")
    try:
        protocol, reads = asked(
            [t.strip() for t in tasks.split(",") if t.strip()] if name == "other tasks" else (),
            name if name != "other tasks" else None,
            None,
        )
        if not protocol.tasks:
            raise InputError("No task is named yet: give one of lm-evaluation-harness, or a task file.")
    except InputError as error:
        st.info(plain(str(error)))
        return
    request = jobs.request_for(
        run,
        reads,
        states=[[], *map(list, states[:20])],
        preset=protocol.to_json(),
        limit=int(limit),
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
    st.caption(
        f"{protocol.dataset or 'as the task files say'}; "
        f"{'shots of the task' if protocol.shots is None else f'{protocol.shots} shots'}; "
        f"BOS: {protocol.bos}; template: {protocol.template}; lm-evaluation-harness {protocol.harness}."
    )
    if job and job.status == "done":
        st.html(harness_table(job.result["states"]))


def harness_table(states: list[dict]) -> str:
    """HTML: a row a state, the original first; a column a task."""
    first = states[0]["tasks"]
    head = ["removed"]
    for name, task in first.items():
        chance = "" if task["chance"] is None else f", chance {task['chance']:.2f}"
        head.append(f"{name} ({task['metric']}, n = {task['n']}{chance})")
    rows = []
    for found in states:
        cells = []
        for task in map(found["tasks"].get, first):
            error = "" if task["se"] is None else f" ± {task['se']:.3f}"
            cells.append(f"{task['accuracy']:.3f}{error}")
        rows.append([", ".join(map(str, found["removed"])) or "original", *cells])
    return html_table(head, rows, "harness")


def show_imported(run: Run) -> None:
    """Numbers of other tools, marked as such."""
    file = st.file_uploader(
        "Results of another tool",
        type=["json", "csv"],
        help="A results file of lm-evaluation-harness, or a list of removed blocks with scores.",
    )
    if file is not None:
        suffix = f".{file.name.rsplit('.', 1)[-1].lower()}"
        path = folders.keep(
            "imports",
            file.getvalue(),
            suffix,
            "".join(c if c.isalnum() or c in "-_" else "-" for c in file.name.rsplit(".", 1)[0])[:60],
        )
        try:
            other_tools.keep(model_key(run), path, other_tools.read_results(path, blocks=run.blocks))
        except InputError as error:
            st.error(plain(str(error)))
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
        for r in other_tools.kept(model_key(run))
    ]
    if rows:
        st.html(
            html_table(["removed", "task", "metric", "imported value", "n", "tool", "file"], rows, "imported")
        )
        states = list(dict.fromkeys(r.removed for r in other_tools.kept(model_key(run)) if r.removed))
        st.button("Add these states to the tray", on_click=add_to_tray, args=(states,), key="tray-imported")
