"""Compare: measure the picked states, see them against the original, take one home."""

import math

import streamlit as st

from core import jobs
from core.comparison import Row, compare, model_key
from core.errors import InputError
from core.jobs import Job
from core.results import Results
from core.runs import Run
from core.sources import Source
from core.tasks import BUNDLED, chance_levels, read_tasks
from pages.parts import html_table, name_of, prune_panel, watch
from pages.view import opened_source, plain, through_app

PROMPTS = {"demo": "Emil met Rosa in Marsh. She carried the spoon. The spoon belongs to"}
DEFAULT_PROMPT = "Once upon a time"
state = st.session_state


def start_benchmark(run: Run, states: list[tuple[int, ...]]) -> None:
    """On the run's own texts, made into sequences as they were for the run."""
    asked = run.meta["request"]
    request = jobs.request_of(
        run.meta["model"]["source"], asked.get("texts"), (str(BUNDLED),), asked.get("form"), states=[[], *map(list, states)], sequences=state.sequences, length=state.length, tasks=state.tasks,
        prompt=state.prompt,
    )  # fmt: skip
    state.benchmark = jobs.start("benchmark", request).id


def latest() -> Job | None:
    """This session's benchmark, or the one that is running."""
    if state.get("benchmark"):
        try:
            return jobs.read(state.benchmark)
        except InputError:  # its folder was removed
            state.benchmark = None
    return next((job for job in jobs.running() if job.kind == "benchmark"), None)


def table(rows: list[Row], blocks: int) -> str:
    """The measured rows as HTML; every text is escaped."""
    tasks = sorted({name for row in rows for name in row.tasks})
    chance = chance_levels(read_tasks())
    head = ["state", "removed", "loss, nats", "increase", "perplexity", *(f"{t} ({chance[t]:.2f})" if t in chance else t for t in tasks)]
    head += ["tokens/s", "parameters", "MB"]
    body = []
    for row in rows:
        increase = "" if row.increase is None else f"{row.increase[0]:+.4f} ± {row.increase[1]:.4f}" + (" tie" if row.tied else "")
        scores = [f"{s.accuracy:.2f} [{s.low:.2f} {s.high:.2f}]" if (s := row.tasks.get(name)) else "–" for name in tasks]
        cells = [
            name_of(row.removed, blocks), ", ".join(map(str, row.removed)) or "none", f"{row.loss.mean:.4f} ± {row.loss.se:.4f}" if row.loss else "–", increase or "–",
            f"{math.exp(row.loss.mean):.3f}" if row.loss else "–", *scores, f"{row.tokens_per_second:,.0f}" if row.tokens_per_second else "–",
            f"{row.parameters:,}", f"{row.bytes / 1e6:.2f}",
        ]  # fmt: skip
        body.append(cells)
    return html_table(head, body, "states")


def show_measured(source: Source, states: list[tuple[int, ...]], job: Job | None) -> None:
    """The benchmark's progress and what the store holds so far, row by row as it arrives."""
    if job:
        watch(job.id, job.active)
    rows = compare(source.run, states, Results())
    st.html(table(rows, source.blocks))
    st.caption(
        "Loss on sequences that no choice has seen, ± standard error; increase: paired on the same sequences, a tie is within two standard errors. "
        "Tasks: accuracy with its 95 % interval, chance in brackets after the name. Tokens per second: a forward pass of the really pruned model. "
        "Texts and tasks: bundled."
    )
    show_answers(model_key(source.run), rows, source.blocks)


def show_answers(model: str, rows: list[Row], blocks: int) -> None:
    answers = {removed: text for (removed, prompt), text in Results().answers(model).items() if prompt == state.prompt}
    known = [row.removed for row in rows if row.removed in answers]
    if known:
        st.subheader("The same prompt")
        for column, removed in zip(st.columns(len(known)), known):
            column.text(f"{name_of(removed, blocks)}\n{state.prompt}{answers[removed]}")


def show_prune(run: Run, states: list[tuple[int, ...]]) -> None:
    st.subheader("Take one home")
    name = lambda s: f"{name_of(s, run.blocks)}: {', '.join(map(str, s))}"  # noqa: E731
    chosen = st.selectbox("State", states, format_func=name, key="compare_state")
    prune_panel(run, chosen)


def page() -> None:
    st.title("Compare")
    source = opened_source()
    if source is None:
        return
    if source.run is None:
        st.info(f"{plain(source.name)} is a bare matrix: there is no model to measure. Choose a run in Explore.")
        return
    states = state.tray
    if not states:
        st.info("Pick states in Explore (key A): they are measured here against the original.")
    options = st.columns([1, 1, 1, 3])
    options[0].selectbox(
        "Sequences", [64, 128, 256], index=1, key="sequences", help="Of the run's own texts: their report split, which no choice has used."
    )
    options[1].number_input("Length", 2, 131_072, source.run.meta["texts"]["length"], key="length", help="Tokens a sequence.")
    options[2].checkbox("Bundled tasks", value=True, key="tasks")
    options[3].text_input("Prompt", PROMPTS.get(source.run.meta["model"]["name"], DEFAULT_PROMPT), key="prompt")
    label = f"Measure the original and {len(states)} picked state{'s' if len(states) != 1 else ''}" if states else "Measure the original"
    st.button(label, type="primary", on_click=start_benchmark, args=(source.run, states))
    job = latest()
    st.fragment(show_measured, run_every=1 if job and job.active else None)(source, states, job)
    if states:
        show_prune(source.run, states)


through_app()
page()
