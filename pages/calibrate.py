"""Model & calibration: a model and its blocks, texts, what it will take, and the rows as they arrive."""

import html
import re
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import streamlit as st

from core import jobs
from core.energy.sources import list_sources
from core.errors import InputError
from core.ising.units import BLOCK, BRANCH, units_of
from core.jobs.costs import calibration_cost, in_words, lacking
from core.spectrum.memory_budget import size
from core.store import folders
from core.store.checkpoint import rows_so_far
from core.store.named_models import NAMED, first
from core.store.runs import load_run
from core.texts import text_source
from core.texts.form import BOS, FORM, MODES, TEMPLATES
from core.texts.readers import FILE_FORMATS
from core.texts.text_source import PACKINGS
from core.view.run_figures import rows_figure
from pages.shared.parts import block_strip, block_table, branch_strip, chart, redo_job, start_job, watch
from pages.shared.view import open_run, plain, source_of

BUNDLED, OWN, FILES, PASTED = "The demo's world", "Own samples", "Files and data sets", "Pasted"
FIXED = {text_source.BUNDLED_NAME: BUNDLED, text_source.OWN: OWN}
DEFAULTS = {
    "files": [],
    "paste": "",
    "samples": 256,
    "length": 128,
    "sampled": True,
    "singles": 64,
    "secants": 12,
    "pairs": 8,
    **FORM,
    "batch": 16,
    "checkpointed": False,
    "seed": 0,
    "remote_code": False,
}
SHARE = "cal_share "  # and the source: the key of its share
TYPES = [suffix.removeprefix(".") for suffix in (*FILE_FORMATS, *PACKINGS)]
state = st.session_state


def known_models() -> list[str]:
    """The models that have a name, and every one that a run at hand was made from."""
    runs = [source_of(key).run for key in list_sources()]
    return list(dict.fromkeys([*NAMED, *(run.meta["model"]["source"] for run in runs if run)]))


def defaults() -> dict:
    """What the form says to somebody who has named nothing."""
    model = first()
    return {"model": model, "texts": [FIXED[jobs.default_texts(model)]], **DEFAULTS}


def on_model() -> None:
    """Another model's own texts, unless some were chosen."""
    if any(state.cal_texts == [kind] for kind in FIXED.values()) or not state.cal_texts:
        state.cal_texts = [FIXED[jobs.default_texts((state.cal_model or "").strip())]]


def first_values() -> dict:
    """The form of a calibration that is at work (a reload, a second browser, the command line), or the
    defaults.
    """
    job = next((job for job in jobs.running() if job.kind == "calibrate"), None)
    if job is None:
        return {f"cal_{name}": value for name, value in defaults().items()}
    asked = {**defaults(), "secants": 0, "pairs": 0, **job.request, **job.request.get("form", {})}
    sources = text_source.sources_of(asked["texts"])
    bare = [str(replace(source, weight=None)) for source in sources]
    asked["files"] = [text for text in bare if text not in FIXED]
    asked["texts"] = [*(FIXED[text] for text in bare if text in FIXED), *([FILES] if asked["files"] else [])]
    asked["batch"] = asked["batch"] or 0
    shares = {SHARE + text: source.weight for text, source in zip(bare, sources)}
    return {f"cal_{name}": asked[name] for name in defaults()} | shares


def on_upload() -> None:
    """Keep an uploaded text and name it as a source."""
    for file in state.upload:
        name, packing = Path(file.name), ""
        if name.suffix.lower() in PACKINGS:
            name, packing = name.with_suffix(""), name.suffix.lower()
        stem = re.sub(r"[^\w-]+", "-", name.stem)[:60]  # documents without a domain are called by it
        path = str(folders.keep("texts", file.getvalue(), name.suffix.lower() + packing, stem))
        state.cal_files = list(dict.fromkeys([*state.cal_files, path]))


def sources_chosen() -> list[str]:
    """The sources of the form, with their shares, in the order in which they are offered.

    Errors: InputError when there is none yet.
    """
    found = []
    for kind in state.cal_texts:
        if kind == FILES and not state.cal_files:
            raise InputError(
                "No file or data set yet: give a path on this machine or hub:OWNER/NAME, or upload a file."
            )
        if kind == PASTED and not state.cal_paste.strip():
            raise InputError("No text yet: paste some.")
    if BUNDLED in state.cal_texts:
        found.append(text_source.BUNDLED_NAME)
    if FILES in state.cal_texts:
        found += state.cal_files
    if PASTED in state.cal_texts:
        found.append(str(folders.keep("texts", state.cal_paste.encode("utf-8", "replace"), ".txt", "pasted")))
    if OWN in state.cal_texts:
        found.append(text_source.OWN)
    if not found:
        raise InputError("No texts yet: choose the model's own samples, files, or paste some.")
    return found


def form() -> None:
    """What is calibrated on what."""
    with st.container(key="form"):
        widths = [2, 2.7, 1, 1, 1, 1, 1]
        model, texts, samples, length, singles, secants, pairs = st.columns(widths, vertical_alignment="top")
    model.selectbox(
        "Model",
        list(dict.fromkeys([*known_models(), state.cal_model])),
        key="cal_model",
        accept_new_options=True,
        on_change=on_model,
        help="smollm2 (a real language model), demo (small: every button in seconds), a folder on this "
        "machine with config.json and .safetensors, a .gguf file, a LoRA adapter's folder, or a hub id such "
        "as owner/name (fetched when asked for). Type a new one and press Enter.",
    )
    texts.pills(
        "Texts",
        [BUNDLED, FILES, PASTED, OWN],
        key="cal_texts",
        selection_mode="multi",
        help="Several may be taken together. Own samples: what the model itself writes, calibration without "
        "any data. The demo's world: short texts that the bundled demo was trained on, and no other model.",
    )
    samples.number_input(
        "Samples", 1, 100_000, key="cal_samples", help="Sequences of the calibrate split: rows of A."
    )
    length.number_input("Length", 2, 131_072, key="cal_length", help="Tokens a sequence.")
    singles.number_input(
        "Singles",
        0,
        10_000,
        key="cal_singles",
        help="Also measure each single removal, on so many sequences of the choose split: the guard against "
        "blocks whose gradient misleads, and what the hybrid couplings need. 0: off.",
    )
    secants.number_input(
        "Secants",
        0,
        10_000,
        key="cal_secants",
        help="Also take rows with each block removed, on so many sequences of the choose split: what the "
        "secant couplings are made of. They cost a backward pass for each block, and need singles. 0: off.",
    )
    pairs.number_input(
        "Pairs",
        0,
        10_000,
        key="cal_pairs",
        help="Also measure the pairs of the blocks that are cheapest alone, on so many sequences of the "
        "choose split: with secants, the couplings that order states best. They need singles. 0: off.",
    )
    if FILES in state.cal_texts:
        left, right = st.columns(2)
        left.multiselect(
            "Files on this machine, or hub:OWNER/NAME",
            state.cal_files,
            key="cal_files",
            accept_new_options=True,
            placeholder="/data/texts.jsonl",
            help="Type one and press Enter. .txt: running text; .jsonl, .json, .csv, .tsv, .parquet: rows "
            "with a column text, chats, or instructions; also with .gz or .zst behind it. "
            "Options behind it: FILE::column=story,domain=tales,limit=1000; of a hub data set also config, "
            "split and revision.",
        )
        right.file_uploader(
            "or upload some", type=TYPES, key="upload", on_change=on_upload, accept_multiple_files=True
        )
    if PASTED in state.cal_texts:
        st.text_area("Running text, as it stands", key="cal_paste", height=160)


def details() -> None:
    """Labels sampled from the model, and the fold of what is seldom changed."""
    st.checkbox(
        "Rows with labels sampled from the model as well (couplings H₁ and hybrid)",
        key="cal_sampled",
        help="Another backward pass from the same forward pass.",
    )
    with st.expander("How texts become sequences, and what fits in memory"):
        how()


def how() -> None:
    """How sequences are made of the texts, and how they are computed."""
    mode, template, bos, batch, seed = st.columns([1.3, 1.1, 1.4, 1, 1])
    mode.segmented_control(
        "Sequences",
        list(MODES),
        key="cal_mode",
        required=True,
        help="; ".join(f"{name}: {what}" for name, what in MODES.items()),
    )
    template.segmented_control(
        "Template",
        TEMPLATES,
        key="cal_template",
        required=True,
        help="chat: prompts and chats are written by the tokenizer's chat template, and only what the "
        "assistant says is scored.",
    )
    bos.segmented_control(
        "BOS first",
        BOS,
        key="cal_bos",
        required=True,
        help="auto: one BOS first where the tokenizer itself writes one.",
    )
    batch.number_input(
        "Batch",
        0,
        4096,
        key="cal_batch",
        help="Sequences at once. 0: measured before the first row. Where memory runs out it is halved.",
    )
    seed.number_input(
        "Seed", 0, 10**9, key="cal_seed", help="Which sequences are drawn, and the labels that are sampled."
    )
    st.checkbox(
        "Checkpoint blocks: compute activations again in the backward pass",
        key="cal_checkpointed",
        help="Less memory for more time, for models that do not fit otherwise.",
    )
    st.checkbox(
        "Run the model's own code",
        key="cal_remote_code",
        help="Some models come with Python files of their own. Only for models you trust: the files can do "
        "whatever you can.",
    )


def with_shares(sources: list[str]) -> list[str]:
    """The sources with the shares that the form gives them; a source alone has none."""
    if len(sources) < 2:
        return sources
    parsed = [text_source.parse_source(text) for text in sources]
    bare = [str(replace(source, weight=None)) for source in parsed]
    for column, text, source in zip(st.columns(min(len(bare), 6)) * len(bare), bare, parsed):
        state.setdefault(SHARE + text, source.weight)
        column.number_input(
            f"Share of {source.domain or source.stem}",
            0.0,
            key=SHARE + text,
            placeholder="as it comes",
            help="Its weight among the sources that the samples are drawn from. Empty everywhere: texts as "
            "many as there are, "
            "own samples one part in as many as there are sources.",
        )
    return [str(replace(source, weight=state[SHARE + text])) for text, source in zip(bare, parsed)]


def requests(texts: list[str]) -> tuple[dict, dict]:
    """(what to describe, what to calibrate), as the form stands. Errors: InputError."""
    common = {
        "length": state.cal_length,
        "batch": state.cal_batch or None,
        "sampled": state.cal_sampled,
        "remote_code": state.cal_remote_code,
    }
    if state.cal_checkpointed:
        common["checkpointed"] = True
    how = {name: state[f"cal_{name}"] for name in FORM}
    asked = partial(jobs.request_of, (state.cal_model or first()).strip(), texts, form=how, **common)
    more = {name: state[f"cal_{name}"] for name in ("secants", "pairs") if state[f"cal_{name}"]}
    if not state.cal_singles:
        more.pop("pairs", None)
    return asked(), asked(samples=state.cal_samples, seed=state.cal_seed, singles=state.cal_singles, **more)


def drop_unless(job_id: str) -> None:
    """Stop looking at what the form said before: each look loads a model. Not waited for."""
    before, state.described = state.get("described"), job_id
    if before not in (None, job_id):
        threading.Thread(target=jobs.cancel, args=(before,), daemon=True).start()


def show_model(known: dict) -> None:
    """The model and its blocks, as the describe job found them."""
    model, blocks = known["model"], known["blocks"]
    kinds = ", ".join(sorted({b["kind"] for b in blocks}))
    facts = [
        f"{len(blocks)} blocks ({kinds})",
        f"{size(model['parameters'], '')} parameters",
        size(model["bytes"]),
        f"{size(sum(b['kv_bytes'] for b in blocks))} of keys and values a token",
        f"gate: {known['gate']}",
    ]
    st.html(
        (
            f'<div class="model"><b>{html.escape(model["name"])}</b> <span>{html.escape(model["type"])} · '
            f"{html.escape(' · '.join(facts))}</span></div>"
        )
        + _strip_of(blocks)
    )
    with st.expander("Every block"):
        st.html(block_table(blocks))


def _strip_of(blocks: list[dict]) -> str:
    """The strip of a described model, by branch where its blocks have several."""
    units = units_of([[part["kind"] for part in b["branches"]] for b in blocks], BRANCH)
    return block_strip(blocks) if units.by == BLOCK else branch_strip(blocks, units)


def show_estimate(known: dict) -> None:
    """What the calibration will take, and the button that starts it."""
    seconds, memory = calibration_cost(
        known, state.cal_samples, state.cal_singles, state.cal_secants, state.cal_pairs
    )
    st.markdown(
        (
            f"About **{in_words(seconds)}** and **{size(memory)}** of memory, from one batch of "
            f"{known['batch']} timed here "
            f"with {known['threads']} thread{'s' if known['threads'] > 1 else ''}. "
        )
        + plain(what_there_is(known["domains"]))
    )
    show_start(known)
    for split, asked, label in (
        ("calibrate", state.cal_samples, "samples"),
        ("choose", state.cal_singles, "sequences for singles"),
    ):
        for part, wanted, there in lacking(known, split, asked):
            of_part = "" if part == "texts" else f", {wanted:,} of them from {part}"
            st.warning(
                plain(
                    f"{asked:,} {label} are asked for{of_part}, and the texts have {there:,} of "
                    f"{state.cal_length} tokens: "
                    "ask for fewer or shorter ones, or give more text."
                )
            )


def show_start(known: dict) -> None:
    """The start of a sequence as the model reads it, and what was left out; a job of before does not know."""
    if "start" not in known:
        return
    st.caption(plain(f"So a sequence begins, special tokens visible ({known['words']}):"))
    st.code(known["start"] + " …", language=None, wrap_lines=True)
    if known["empty"]:
        rows = "1 row is" if known["empty"] == 1 else f"{known['empty']:,} rows are"
        st.caption(f"{rows} null or blank and left out.")


def what_there_is(domains: dict[str, dict[str, int]]) -> str:
    """The sequences of each split, in a sentence; those of each domain where there are several."""
    calibrate, choose, report = (sum(domains[split].values()) for split in ("calibrate", "choose", "report"))
    if not domains["calibrate"]:
        return "The model writes as many sequences as are asked for."
    named = [f"{name} {count:,}" for name, count in domains["calibrate"].items()]
    detail = f" ({', '.join(named[:12])}{', …' if len(named) > 12 else ''})" if len(named) > 1 else ""
    return (
        f"The texts give {calibrate:,} sequences to calibrate on{detail}, {choose:,} to choose by and "
        f"{report:,} to report on."
    )


def show_calibration(job_id: str, polled: bool) -> None:
    """Progress, and the rows that are there: re-read while the job runs, from its run when it is done."""
    job = watch(job_id, polled)
    if job.status == "done":
        rows = load_run(folders.find_run(job.result["key"])).rows.A
    else:
        rows = rows_so_far(job.folder / "work")
    if rows is not None:
        chart(st, rows_figure(rows, job.request["samples"]), key="rows", config={"displaylogo": False})


def page() -> None:
    """The whole page."""
    st.title("Model & calibration")
    if "cal_samples" not in state:
        for name, value in first_values().items():
            state.setdefault(name, value)
    form()
    shares = st.container()
    details()  # whatever is missing above: a widget that is not drawn forgets its value
    try:
        with shares:
            texts = with_shares(sources_chosen())
        describing, calibrating = requests(texts)
    except InputError as error:
        st.info(plain(str(error)))
        return
    about = jobs.find("describe", describing)
    if about is None or about.status == "cancelled":  # cancelled when the form had gone on
        about = jobs.start("describe", describing)
    drop_unless(about.id)
    if about.status != "done":
        st.fragment(watch, run_every=0.5 if about.active else None)(about.id, about.active)
        if not about.active:
            st.button("Look again", on_click=start_job, args=("describe", describing))
        return
    show_model(about.result)
    show_estimate(about.result)
    st.button(
        "Time it again",
        type="tertiary",
        on_click=redo_job,
        args=("describe", describing),
        help="What was timed is kept, and the machine may have been busy then.",
    )
    job = jobs.find("calibrate", calibrating)
    resumes = job and job.status in ("interrupted", "cancelled")
    if not (job and (job.active or job.status == "done")):
        st.button(
            "Resume" if resumes else "Calibrate",
            type="primary",
            on_click=start_job,
            args=("calibrate", calibrating),
        )
    if job is None:
        return
    if job.status == "done":
        done = job.result
        dropped = f" {done['dropped']} rows were not finite and were dropped." if done["dropped"] else ""
        if done.get("set_aside"):
            st.warning(
                plain(
                    f"The stored run was damaged: it is set aside in {done['set_aside']} and was computed "
                    "again."
                )
            )
        st.success(
            f"{done['rows']} rows of {done['blocks']} blocks in {done['seconds']:.1f} s, kept as run "
            f"{done['key'][:8]}.{dropped}"
        )
        if st.button("Open in Explore", type="primary", on_click=open_run, args=(done["key"],)):
            st.switch_page("pages/explore.py")
    st.fragment(show_calibration, run_every=1 if job.active else None)(job.id, job.active)


page()
