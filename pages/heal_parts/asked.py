"""What is to be healed, how, and what that takes."""

import json

import streamlit as st

from core import jobs
from core.compare.comparison import model_key
from core.errors import InputError
from core.heal.needs import Needs, Sizes, needs, seams
from core.heal.settings import METHODS, REPLACED, TRAINED, Settings
from core.ising.units import name_text, read_names
from core.jobs.costs import in_words, measure_seconds, prune_seconds
from core.spectrum.memory_budget import size
from core.store import folders
from core.store.named_models import is_demo, place_of
from core.store.runs import Run
from pages.shared.parts import seconds_of_forward
from pages.shared.view import plain

HELD, REPORT = 32, 128  # sequences
TYPED = "typed"
PLAIN = "plain removal"
state = st.session_state


def asked_state(run: Run) -> list[int] | None:
    """The blocks that the page is about: a state of the tray, the selected one, or typed; None where they
    are none, which is then told.
    """
    units = run.units
    listed = [state.cursor, state.prune_state, *state.tray]
    named = [units.stored(s) for s in dict.fromkeys(map(tuple, filter(None, listed)))]
    texts = [name_text(names) for names in named if all(isinstance(name, int) for name in names)]
    chosen = st.selectbox(
        "State",
        [*texts, TYPED],
        format_func=lambda text: "another, typed" if text == TYPED else f"removes {text}",
        key="heal_state",
        help="The selected state and those of the tray, from Explore.",
    )
    if chosen == TYPED:
        chosen = st.text_input("Blocks to remove", key="heal_typed", placeholder="for example 3,7-9")
    if not chosen.strip():
        st.info("Pick a state in Explore, or type the blocks to remove.")
        return None
    try:
        names = run.units.stored(run.units.parse(name_text(read_names(chosen))))
    except InputError as error:
        st.error(plain(str(error)))
        return None
    if parts := [name for name in names if isinstance(name, str)]:
        st.error(f"Healing takes whole blocks, and {parts[0]} is a part of one.")
        return None
    return [name for name in names if isinstance(name, int)]


def asked_settings() -> Settings | None:
    """Method and budget of the controls; None where they cannot be, which is then told."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        method = st.selectbox(
            "Method", list(METHODS), format_func=lambda m: METHODS[m].title, key="heal_method", width=260
        )
        if method not in TRAINED:
            st.caption(METHODS[method].about)
            return Settings(method)
        replace = st.selectbox(
            "Begins with",
            [PLAIN, *REPLACED],
            format_func=lambda r: METHODS[r].title if r in METHODS else r,
            key="heal_replace",
            width=180,
        )
        minutes = st.number_input("Minutes", 0.1, 10_000.0, 5.0, key="heal_minutes", width=120)
        batch = st.number_input("Sequences a step", 1, 1024, 8, key="heal_batch", width=140)
        seed = st.number_input("Seed", 0, 999_999, 0, key="heal_seed", width=100)
    st.caption(METHODS[method].about)
    try:
        return Settings(
            method, None if replace == PLAIN else replace, minutes=minutes, batch=int(batch), seed=int(seed)
        )
    except InputError as error:
        st.error(plain(str(error)))
        return None


def request_of(run: Run, blocks: list[int], settings: Settings, prompt: str) -> dict:
    """What the job is asked for a state of a run, on the run's own texts."""
    model, told = run.meta["model"], settings.to_json()
    label = "".join(c if c.isalnum() or c in "._-" else "-" for c in model["name"])[:60]
    how = "-".join(str(value) for value in told.values())
    name = f"{label}-{model_key(run)[:6]}-without-{'-'.join(map(str, blocks))}-healed-{how}"
    return jobs.request_for(
        run,
        with_texts=True,
        blocks=blocks,
        settings=told,
        sequences=None,
        held=HELD,
        report=REPORT,
        length=run.meta["texts"]["length"],
        seed=0,
        tasks=is_demo(model["source"]),
        prompt=prompt or None,
        out=str(folders.home() / "exports" / name[:180]),
        zip=True,
        provenance={"run": run.key, "model": {key: model[key] for key in ("config", "weights")}},
    )


def costs(run: Run, blocks: list[int], settings: Settings) -> str:
    """Time, memory and disk in a sentence."""
    model, length = run.meta["model"], run.meta["texts"]["length"]
    judging = measure_seconds(seconds_of_forward(run, REPORT, length), 2)
    after = model["bytes"] * (1 - sum(model["blocks"][b]["parameters"] for b in blocks) / model["parameters"])
    seconds = 60 * (settings.minutes or 0.0) + judging + prune_seconds(int(after))
    found = _needs(run, blocks, settings, int(after))
    room = f", {size(found.memory)} of memory and up to {size(found.disk)} of disk" if found else ""
    return (
        f"About {in_words(seconds)}, with losses of the three models and a verified checkpoint at the end"
        f"{room}."
    )


def _needs(run: Run, blocks: list[int], settings: Settings, exported: int) -> Needs | None:
    """As the job will see it; None where the model's config is not on this machine."""
    try:
        text = (place_of(run.meta["model"]["source"]) / "config.json").read_text(encoding="utf-8")
        config = json.loads(text)
        config = config.get("text_config", config)
        hidden = next(config[n] for n in ("hidden_size", "n_embd", "d_model") if n in config)
        vocabulary = config["vocab_size"]
    except (OSError, ValueError, KeyError, StopIteration):
        return None
    model, length = run.meta["model"], run.meta["texts"]["length"]
    own = [block["parameters"] for block in model["blocks"]]
    kept = tuple(p for b, p in enumerate(own) if b not in blocks)
    sizes = Sizes(model["parameters"], kept, model["parameters"] - sum(own), hidden, vocabulary)
    most = run.meta["texts"]["available"]
    return needs(sizes, settings, seams(blocks, len(own)), length, min(4096, most), exported)
