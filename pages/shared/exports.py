"""A state as files: what it saves, a card for each form, its progress, its proof, and the way home."""

import hashlib

import streamlit as st

from core import jobs
from core.compare.comparison import compare, model_key
from core.forms.card import snippet
from core.forms.names import LOGITS, NATIVE, PROOFS, form_of
from core.forms.offers import Offer, bytes_after, free_bytes, left_out, offers
from core.jobs.costs import in_words, prune_seconds
from core.spectrum.memory_budget import size
from core.store import folders
from core.store.named_models import place_of
from core.store.results import Results
from core.store.runs import Run
from pages.shared.parts import (
    Safe,
    block_strip,
    branch_strip,
    html_table,
    lacks_weights,
    offer_zip,
    show_job,
    start_job,
)
from pages.shared.view import plain, source_of

State = tuple[int, ...]
state = st.session_state


def offers_of(run: Run, removed: State) -> list[Offer]:
    """The forms that a state of a run can be written in, the usual one first."""
    model = run.meta["model"]
    return offers(model, place_of(model["source"]), run.units.stored(removed))


def export_request(run: Run, removed: State, form: str) -> dict:
    """What a prune job is asked for a state of a run, in a form; its card tells the landscape in view."""
    model, names = run.meta["model"], run.units.stored(removed)
    label = "".join(c if c.isalnum() or c in "._-" else "-" for c in model["name"])
    name = shortened(f"{label[:60]}-{model_key(run)[:6]}-without-{'-'.join(map(str, names))}", 120)
    name += f"-{form}" if form != form_of(names) else ""
    return jobs.request_for(
        run,
        blocks=list(names),
        out=str(folders.home() / "exports" / name),
        zip=True,
        provenance={"run": run.key, "model": {key: model[key] for key in ("config", "weights")}},
        written=None if form == NATIVE else form,
        landscape=_landscape(run),
    )


def shortened(name: str, most: int) -> str:
    """A folder's name of at most so many characters: of a longer one the beginning and a digest of all of it,
    so that states which differ behind it have folders of their own.
    """
    if len(name) <= most:
        return name
    return f"{name[: most - 9].rstrip('-.')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _landscape(run: Run) -> dict | None:
    """The landscape in view, where it is of this run."""
    if state.get("source") != run.view_key:
        return None
    mix = {"mix": state.mix} if state.get("mix") else {}
    return {"run": str(folders.find_run(run.key)), "by": run.by, "estimator": state.estimator, **mix}


def prune_panel(run: Run, removed: State) -> None:
    """A state as a file in one form: what it saves, the button, its progress, and the way home."""
    if lacks_weights(run):
        return
    found = {offer.form: offer for offer in offers_of(run, removed)}
    form = next(iter(found))
    if run.whole is not None and any(isinstance(name, str) for name in run.units.stored(removed)):
        key = f"form-{'-'.join(map(str, run.units.stored(removed)))}"
        form = st.selectbox("Form", list(found), format_func=lambda f: found[f].name.title, key=key)
    show_saving(run, removed, form)
    export_card(run, removed, found[form])


def home_link() -> None:
    """To the page that has every form."""
    st.page_link("pages/take_home.py", label="Take home: every form, and the files that people run")


def show_saving(run: Run, removed: State, form: str) -> None:
    """Strip and table of a state: before and after, told beforehand."""
    model, blocks = run.meta["model"], run.meta["model"]["blocks"]
    out = run.units.state(left_out(run.units.stored(removed), form)) or ()
    gone = [blocks[i] for i in out]
    kv = sum(b.get("kv_bytes", 0) for b in blocks)
    rows: list[list] = [
        _row(f"{run.units.word}s", len(blocks), len(blocks) - len(removed)),
        _row("parameters", model["parameters"], model["parameters"] - sum(b["parameters"] for b in gone)),
        _row("bytes of weights", model["bytes"], _bytes_after(run, removed, form)),
        _row("KV bytes a token", kv, kv - sum(b.get("kv_bytes", 0) for b in gone)),
        *_speeds(run, removed),
    ]
    st.html(
        f'<div class="model">removes <b>{run.units.said(removed)}</b></div>'
        + _strip_without(run, removed)
        + html_table(["", "before", "after", ""], rows)
    )


def _row(name: str, before: float, after: float) -> list:
    share = f"{100 * (after - before) / before:+.0f} %".replace("-", "−") if before else ""
    return [name, f"{before:,.0f}", f"{after:,.0f}", share]


def _speeds(run: Run, removed: State) -> list[list]:
    """Tokens a second, where both models were timed."""
    before, after = _timed(run.view_key, removed, str(folders.home()), Results().stamp)
    return [_row("tokens a second, measured", before, after)] if before and after else []


@st.cache_data(max_entries=64, show_spinner=False)
def _timed(key: str, removed: State, home: str, stamp: tuple) -> tuple[float | None, float | None]:
    before, after = compare(source_of(key).run, [removed], Results())
    return before.tokens_per_second, after.tokens_per_second


def _strip_without(run: Run, removed: State) -> str:
    if run.whole is None:
        return block_strip(run.meta["model"]["blocks"], removed)
    return branch_strip(run.whole.meta["model"]["blocks"], run.units, removed)


def export_card(run: Run, removed: State, offer: Offer, primary: bool = True) -> None:
    """One form: what it is for, the button with time and room, its progress, its proof, and the way home;
    primary: of several the one to take first.
    """
    st.caption(plain(offer.name.about))
    if offer.why_not:
        st.info(plain(offer.why_not))
        return
    key = f"prune-{offer.form}-{'-'.join(map(str, removed))}"
    write_card(export_request(run, removed, offer.form), key, _takes(run, removed, offer.form), primary)


def write_card(request: dict, key: str, takes: str, primary: bool = False) -> None:
    """The button of a prune job with what it takes, its progress, and what it made."""
    job = show_job("prune", request, show_written)
    if job is None or not (job.active or job.status == "done"):
        label = "Resume" if job and job.status in ("interrupted", "cancelled") else "Write and verify"
        st.button(
            label,
            key=key,
            type="primary" if primary else "secondary",
            on_click=start_job,
            args=("prune", request),
        )
        st.caption(takes)


def _takes(run: Run, removed: State, form: str) -> str:
    """Time and room in a sentence."""
    weights = _bytes_after(run, removed, form)
    wider = (
        " The original's file holds rounded weights; the checkpoint holds the numbers that they stand for, "
        "in a wider type."
        if weights > run.meta["model"]["bytes"]
        else ""
    )
    return takes(weights) + wider


def _bytes_after(run: Run, removed: State, form: str) -> int:
    model, names = run.meta["model"], run.units.stored(removed)
    gone = [model["blocks"][i] for i in run.units.state(left_out(names, form)) or ()]
    return bytes_after(model, place_of(model["source"]), form, names, gone)


def takes(weights: int) -> str:
    """Time and room that an export of so many bytes takes, in a sentence."""
    free = free_bytes(folders.home() / "exports")
    return (
        f"About {in_words(prune_seconds(weights))} and {size(weights)}, of {size(free)} that are free; tried "
        "in a process of its own before it gets its name."
    )


def show_written(done: dict) -> None:
    """What was written: its proof, sizes of the files, the code that loads it, and one file of it."""
    form = done.get("form", NATIVE)
    proof = PROOFS[done.get("proof", LOGITS)]
    if "won" in done:  # of a healing, whose student no gates can say
        proof = proof.replace("the gated model's", "the healed model's own")
    said = f" llama.cpp {done['llama_cpp']}." if done.get("llama_cpp") else ""
    before, after = done["bytes"]
    st.success(plain(f"Ready: {proof}.{said} {size(after)} on disk, {size(before)} before."))
    code, language = snippet(form, done["out"])
    st.code(code, language=language, wrap_lines=True)
    offer_zip(done)
    if not done.get("zip"):
        st.caption("There is no .zip of it to send through the browser: copy the folder.")


def changes_table(changes: list) -> str:
    """HTML: entries of a config, before and after."""
    text = lambda value: Safe("–") if value is None else _short(value)  # noqa: E731
    return html_table(
        ["entry", "before", "after"], [[name, text(old), text(new)] for name, old, new in changes], "changes"
    )


def _short(value) -> str:
    """A long list by its runs of equal entries."""
    if not isinstance(value, list):
        return str(value)
    runs: list[list] = []
    for entry in value:
        if runs and runs[-1][0] == entry:
            runs[-1][1] += 1
        else:
            runs.append([entry, 1])
    return ", ".join(str(entry) if n == 1 else f"{entry} × {n}" for entry, n in runs)
