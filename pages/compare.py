"""Compare: measure the picked states, see them against the original, take one home."""

import html
import math

import streamlit as st

from core import jobs
from core.comparison import Row, compare, model_key
from core.jobs import Job
from core.results import Results
from core.sources import Source
from core.states import indicator, short_hashes
from core.tasks import BUNDLED, chance_levels, read_tasks
from pages.parts import show_progress
from pages.view import opened_source, plain, through_app

PROMPTS = {"demo": "Emil met Rosa in Marsh. She carried the spoon. The spoon belongs to"}
DEFAULT_PROMPT = "Once upon a time"
state = st.session_state


def name_of(removed: tuple[int, ...], blocks: int) -> str:
    return "original" if not removed else short_hashes(indicator([removed], blocks))[0]


def inputs_of(source: str) -> dict:
    return {"model": source, "inputs": jobs.fingerprint(source, str(BUNDLED))}


def start_benchmark(source: str, states: list[tuple[int, ...]]) -> None:
    request = {
        **inputs_of(source), "texts": None, "states": [[], *map(list, states)], "sequences": state.sequences, "length": state.length,
        "tasks": state.tasks, "prompt": state.prompt,
    }  # fmt: skip
    state.benchmark = jobs.start("benchmark", request).id


def start_prune(source: str, key: str, removed: tuple[int, ...], name: str) -> None:
    request = {**inputs_of(source), "blocks": list(removed), "name": name, "provenance": {"run": key}}
    state.prune = jobs.start("prune", request).id


def latest(kind: str) -> Job | None:
    """This session's job of a kind, or the one that is running."""
    if state.get(kind):
        return jobs.read(state[kind])
    return next((job for job in jobs.list_jobs() if job.kind == kind and job.active), None)


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
        body.append("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")
    header = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    return f'<div class="wide" tabindex="0"><table class="measured"><thead><tr>{header}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'


def show_measured(source: Source, states: list[tuple[int, ...]], job_id: str | None) -> None:
    """The benchmark's progress and what the store holds so far, row by row as it arrives."""
    if job_id:
        show_progress_of(job_id)
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


def show_prune(source: str, key: str, states: list[tuple[int, ...]], blocks: int) -> None:
    st.subheader("Take one home")
    chosen = st.selectbox("State", states, format_func=lambda s: f"{name_of(s, blocks)}: {', '.join(map(str, s))}", key="prune_state")
    name = f"{model_name(source)}-without-{'-'.join(map(str, chosen))}"[:120]
    st.button("Prune and verify", on_click=start_prune, args=(source, key, chosen, name))
    job = latest("prune")
    if job is None:
        return
    st.fragment(show_progress_of, run_every=1 if job.active else None)(job.id)
    if job.status == "done":
        done = job.result
        before, after = done["parameters"]
        st.success(
            f"Removed {', '.join(map(str, done['removed']))}: {before:,} → {after:,} parameters, {done['bytes'][0] / 1e6:.2f} → {done['bytes'][1] / 1e6:.2f} MB. "
            "Verified in a fresh process: the gated model's logits, and the same tokens with and without cache."
        )
        st.code(
            f"from transformers import AutoModelForCausalLM\n\nmodel = AutoModelForCausalLM.from_pretrained({done['out']!r})",
            language="python",
        )


def model_name(source: str) -> str:
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in source.rstrip("/").rsplit("/", 1)[-1])


def show_progress_of(job_id: str) -> None:
    job = jobs.read(job_id)
    show_progress(job)
    if not job.active and state.get("watched") == job_id:
        state.watched = None
        st.rerun()
    if job.active:
        state.watched = job_id


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
    model, blocks = source.run.meta["model"]["source"], source.blocks
    options = st.columns([1, 1, 1, 3])
    options[0].selectbox("Sequences", [64, 128, 256], index=1, key="sequences", help="Of the report split, which no choice has used.")
    options[1].number_input("Length", 16, 4096, source.run.meta["texts"]["length"], key="length", help="Tokens a sequence.")
    options[2].checkbox("Bundled tasks", value=True, key="tasks")
    options[3].text_input("Prompt", PROMPTS.get(source.run.meta["model"]["name"], DEFAULT_PROMPT), key="prompt")
    label = f"Measure the original and {len(states)} picked state{'s' if len(states) != 1 else ''}" if states else "Measure the original"
    st.button(label, type="primary", on_click=start_benchmark, args=(model, states))
    job = latest("benchmark")
    st.fragment(show_measured, run_every=1 if job and job.active else None)(source, states, job and job.id)
    if states:
        show_prune(model, source.key, states, blocks)


through_app()
page()
