"""Model & calibration: a model and its blocks, texts, what it will take, and the rows as they arrive."""

import html

import streamlit as st

from core import jobs, store
from core.checkpoint import rows_so_far
from core.costs import calibration_cost
from core.errors import InputError
from core.figures import rows_figure
from core.runs import load_run
from core.sources import list_sources
from pages.parts import block_strip, block_table, size, watch
from pages.view import open_run, plain, source_of, through_app

BATCH, SEED = 16, 0
BUNDLED, FILE, PASTED = "Bundled", "File", "Pasted"
DEFAULTS = {
    "cal_model": "demo", "cal_texts": BUNDLED, "cal_path": "", "cal_paste": "", "cal_samples": 256, "cal_length": 128, "cal_sampled": True,
    "cal_singles": 64,
}  # fmt: skip
state = st.session_state


def known_models() -> list[str]:
    """The demo and every model that a run at hand was made from."""
    runs = [source_of(key).run for key in list_sources()]
    return list(dict.fromkeys(["demo", *(run.meta["model"]["source"] for run in runs if run)]))


def first_values() -> dict:
    """The form of a calibration that is at work (a reload, a second browser, the command line), or the defaults."""
    for job in jobs.running():
        asked = job.request
        if job.kind == "calibrate" and (asked["batch"], asked["seed"], asked.get("checkpointed", False)) == (BATCH, SEED, False):
            fields = {f"cal_{name}": asked[name] for name in ("model", "samples", "length", "sampled", "singles")}
            return {**DEFAULTS, **fields, "cal_texts": FILE if asked["texts"] else BUNDLED, "cal_path": asked["texts"] or ""}
    return DEFAULTS


def on_upload() -> None:
    if state.cal_upload is not None:
        suffix = ".jsonl" if state.cal_upload.name.lower().endswith(".jsonl") else ".txt"
        state.cal_path = str(store.keep("texts", state.cal_upload.getvalue(), suffix))


def texts_chosen() -> str | None:
    """The text file of the form; None: bundled. Errors: InputError when there is none yet."""
    if state.cal_texts == FILE:
        if not state.cal_path.strip():
            raise InputError("No text file yet: give a path on this machine, or upload one.")
        return state.cal_path.strip()
    if state.cal_texts == PASTED:
        if not state.cal_paste.strip():
            raise InputError("No text yet: paste documents, separated by blank lines.")
        return str(store.keep("texts", state.cal_paste.encode("utf-8", "replace"), ".txt"))
    return None


def form() -> None:
    with st.container(key="form"):
        model, texts, samples, length, singles = st.columns([3, 2.4, 1, 1, 1.2], vertical_alignment="top")
    model.selectbox(
        "Model",
        list(dict.fromkeys([*known_models(), state.cal_model])),
        key="cal_model",
        accept_new_options=True,
        help="demo, a folder on this machine with config.json and .safetensors, or a hub id such as owner/name (fetched when asked for). Type a new one and press Enter.",
    )
    texts.segmented_control("Texts", [BUNDLED, FILE, PASTED], key="cal_texts", required=True)
    samples.number_input("Samples", 1, 100_000, key="cal_samples", help="Sequences of the calibrate split: rows of A.")
    length.number_input("Length", 2, 131_072, key="cal_length", help="Tokens a sequence.")
    singles.number_input(
        "Singles",
        0,
        10_000,
        key="cal_singles",
        help="Also measure each single removal, on so many sequences of the choose split: the guard against blocks whose gradient misleads, and what the hybrid couplings need. 0: off.",
    )
    if state.cal_texts == FILE:
        left, right = st.columns(2)
        left.text_input("Path on this machine", key="cal_path", placeholder="/data/texts.jsonl")
        right.file_uploader("or upload one", type=["txt", "jsonl"], key="cal_upload", on_change=on_upload)
    elif state.cal_texts == PASTED:
        st.text_area("Documents, separated by blank lines", key="cal_paste", height=160)
    st.checkbox(
        "Rows with labels sampled from the model as well (couplings H₁ and hybrid)",
        key="cal_sampled",
        help="Another backward pass from the same forward pass.",
    )


def requests() -> tuple[dict, dict]:
    """(what to describe, what to calibrate), as the form stands. Errors: InputError."""
    texts = texts_chosen()
    common = {"length": state.cal_length, "batch": BATCH, "sampled": state.cal_sampled}
    model = (state.cal_model or "demo").strip()
    return (
        jobs.request_of(model, texts, **common),
        jobs.request_of(model, texts, **common, samples=state.cal_samples, seed=SEED, singles=state.cal_singles),
    )


def show_model(known: dict) -> None:
    model, blocks = known["model"], known["blocks"]
    kinds = ", ".join(sorted({b["kind"] for b in blocks}))
    facts = [
        f"{len(blocks)} blocks ({kinds})", f"{size(model['parameters'], '')} parameters", size(model["bytes"]),
        f"{size(sum(b['kv_bytes'] for b in blocks))} of keys and values a token", f"gate: {known['gate']}",
    ]  # fmt: skip
    st.html(
        f'<div class="model"><b>{html.escape(model["name"])}</b> <span>{html.escape(model["type"])} · {html.escape(" · ".join(facts))}</span></div>'
        + block_strip(blocks)
    )
    with st.expander("Every block"):
        st.html(block_table(blocks))


def show_estimate(known: dict) -> None:
    seconds, memory = calibration_cost(known, state.cal_samples, state.cal_singles)
    time = f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
    have = known["available"]
    st.markdown(
        f"About **{time}** and **{size(memory)}** of memory, from one batch of {known['batch']} timed here with {known['threads']} thread{'s' if known['threads'] > 1 else ''}. "
        f"The texts give {have['calibrate']:,} sequences to calibrate on, {have['choose']:,} to choose by and {have['report']:,} to report on."
    )
    for split, asked, label in (("calibrate", state.cal_samples, "samples"), ("choose", state.cal_singles, "sequences for singles")):
        if asked > have[split]:
            st.warning(
                f"{asked:,} {label} are asked for and the texts have {have[split]:,} of {state.cal_length} tokens: ask for fewer or shorter ones, or give more text."
            )


def show_calibration(job_id: str, polled: bool) -> None:
    """Progress, and the rows that are there: re-read while the job runs, from its run when it is done."""
    job = watch(job_id, polled)
    if job.status == "done":
        rows = load_run(store.home() / "runs" / job.result["key"]).rows.A
    else:
        rows = rows_so_far(job.folder / "work")
    if rows is not None:
        st.plotly_chart(rows_figure(rows, job.request["samples"]), key="rows", config={"displaylogo": False})


def page() -> None:
    st.title("Model & calibration")
    if "cal_samples" not in state:
        for name, value in first_values().items():
            state.setdefault(name, value)
    form()
    try:
        describing, calibrating = requests()
    except InputError as error:
        st.info(plain(str(error)))
        return
    about = jobs.find("describe", describing) or jobs.start("describe", describing)
    if about.status != "done":
        st.fragment(watch, run_every=0.5 if about.active else None)(about.id, about.active)
        if not about.active:
            st.button("Look again", on_click=jobs.start, args=("describe", describing))
        return
    show_model(about.result)
    show_estimate(about.result)
    job = jobs.find("calibrate", calibrating)
    resumes = job and job.status in ("interrupted", "cancelled")
    if not (job and (job.active or job.status == "done")):
        st.button("Resume" if resumes else "Calibrate", type="primary", on_click=jobs.start, args=("calibrate", calibrating))
    if job is None:
        return
    if job.status == "done":
        done = job.result
        dropped = f" {done['dropped']} rows were not finite and were dropped." if done["dropped"] else ""
        if done.get("set_aside"):
            st.warning(plain(f"The stored run was damaged: it is set aside in {done['set_aside']} and was computed again."))
        st.success(f"{done['rows']} rows of {done['blocks']} blocks in {done['seconds']:.1f} s, kept as run {done['key'][:8]}.{dropped}")
        if st.button("Open in Explore", type="primary", on_click=open_run, args=(done["key"],)):
            st.switch_page("pages/explore.py")
    st.fragment(show_calibration, run_every=1 if job.active else None)(job.id, job.active)


through_app()
page()
