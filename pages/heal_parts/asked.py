"""What is to be healed, and how."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import streamlit as st

from core import jobs
from core.energy.sources import Source
from core.errors import InputError
from core.heal.parts import Parts, check_names, in_parts, share_of
from core.heal.settings import KL, LONGEST, METHODS, MINUTES, REPLACED, TRAINED, Settings
from core.ising.units import BLOCK, BRANCH, Name, Units, written
from core.store import folders
from core.store.named_models import is_demo
from core.store.runs import Run
from core.texts.readers import check_file
from core.texts.text_source import OWN, parse_source
from pages.shared.exports import shortened
from pages.shared.view import plain, state_in_view

HELD, REPORT = 32, 128  # sequences
MOST = 12  # states at once
PLAIN = "plain removal"
TEXTS, OWN_TEXTS, ANSWERS = (
    "the run's texts",
    "what the original writes",
    "what the original answers to prompts",
)
WRITTEN = 256  # sequences that the original writes
# per cent of SmolLM2's loss on WikiText-2 that 18k tokens won back: a test holds them to docs/healing.json
WON = {TEXTS: 77, OWN_TEXTS: 34, ANSWERS: 27}
Names = tuple[Name, ...]
state = st.session_state


@dataclass(frozen=True)
class How:
    """Method and budget, and in how many rounds blocks go."""

    settings: Settings
    rounds: int = 1
    learn: Mapping[str, str] = field(default_factory=dict)  # of a request, where it is not the run's texts

    def parts(self, source: Source, removed: Names) -> Parts:
        """What each round removes, by the order of energies of the couplings in view. Errors: InputError."""
        check_names(removed, self.settings, self.rounds)
        share_of(self.settings, self.rounds, 0)
        blocks = source.seen(BLOCK)
        estimator = state.estimator if state.estimator in blocks.estimators else blocks.default
        mix = state.mix if blocks.mixes(estimator) else None
        return in_parts(
            [b for b in removed if isinstance(b, int)], self.rounds, blocks.couplings(estimator, mix)
        )


def begin_with_usual() -> None:
    """The controls as they are at first, where they are not as somebody has left them."""
    usual = Settings(KL, minutes=MINUTES)
    asked = {name: getattr(usual, name) for name in ("method", "minutes", "rate", "batch", "seed")}
    for name, value in {**asked, "replace": PLAIN, "rounds": 1, "learn": TEXTS, "prompts": ""}.items():
        state.setdefault(f"heal_{name}", value)


def asked_states(source: Source) -> list[Names]:
    """The states that the page is about, of the tray, the selected one, or typed; none where they cannot be,
    which is then told.
    """
    run = source.run
    units = run.units
    listed = [state_in_view(source), state.prune_state, *state.tray]
    known = [written(units.stored(s)) for s in dict.fromkeys(map(tuple, filter(None, listed)))]
    if state.get("heal_about") != [run.key, *known[:1]]:  # at first, and when another one is selected
        state.update(heal_about=[run.key, *known[:1]], heal_states=known[:1])
    chosen = st.multiselect(
        "States, by the blocks that go",
        known,
        key="heal_states",
        max_selections=MOST,
        accept_new_options=True,
        placeholder="pick one or more, or type blocks: 3,7-9",
        help="The selected state and those of the tray, from Explore, or any that you type. Several are "
        "healed one after the other with the same settings, and compared.",
    )
    if not chosen:
        st.info("Pick a state, or type the blocks to remove; Explore's tray brings its states here.")
    try:
        return list(dict.fromkeys(_named(run, text) for text in chosen))
    except InputError as error:
        st.error(plain(str(error)))
        return []


def _named(run: Run, text: str) -> Names:
    """A state's names, of blocks and, where the run knows them, of branches. Errors: InputError."""
    units = finest(run)
    removed = units.parse(text)
    units.check_left(removed)
    return units.stored(removed)


def finest(run: Run) -> Units:
    """The units of a run by branch, where it knows them."""
    return run.seen(BRANCH).units if BRANCH in run.views else run.units


def asked_how() -> How | None:
    """Method and budget of the controls; None where they cannot be, which is then told."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        method = st.selectbox(
            "Method", list(METHODS), format_func=lambda m: METHODS[m].title, key="heal_method", width=260
        )
        if method not in TRAINED:
            st.caption(METHODS[method].about)
            return How(Settings(method))
        replace = st.selectbox(
            "Begins with",
            [PLAIN, *REPLACED],
            format_func=lambda r: METHODS[r].title if r in METHODS else r,
            key="heal_replace",
            width=180,
        )
        minutes = st.number_input("Minutes", 0.1, LONGEST, key="heal_minutes", width=120)
        rounds = st.number_input(
            "Rounds",
            1,
            64,
            key="heal_rounds",
            width=110,
            help="Blocks go in so many parts, with a part of the minutes of training after each: first those "
            "that are lowest in energy together.",
        )
        batch = st.number_input("Sequences a step", 1, 1024, key="heal_batch", width=140)
        seed = st.number_input("Seed", 0, 999_999, key="heal_seed", width=100)
        rate = st.number_input(
            "Highest rate",
            0.0,
            1.0,
            None,
            format="%.1e",
            key="heal_rate",
            placeholder="usual",
            width=140,
            help="Empty: the method's usual one; with all weights a third of it for 10 M parameters or more.",
        )
    st.caption(METHODS[method].about)
    learn = _asked_texts()
    if learn is None:
        return None
    try:
        replaced = None if replace == PLAIN else replace
        settings = Settings(method, replaced, minutes=minutes, rate=rate, batch=int(batch), seed=int(seed))
    except InputError as error:
        st.error(plain(str(error)))
        return None
    return How(settings, int(rounds), learn)


def _asked_texts() -> Mapping[str, str] | None:
    """What it learns from, as a request has it; None where that is still to be named, which is told."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        kind = st.selectbox(
            "Learns from",
            [TEXTS, OWN_TEXTS, ANSWERS],
            key="heal_learn",
            width=340,
            help="Losses are told on the run's texts, whatever it learns from.",
        )
        prompts = _asked_prompts() if kind == ANSWERS else ""
    if kind == TEXTS:
        return {}
    st.caption(
        f"Measured: of what six blocks cost SmolLM2 on WikiText-2, 18k tokens won back {WON[TEXTS]} % as "
        f"texts of that kind, {WON[OWN_TEXTS]} % as what it writes, {WON[ANSWERS]} % as its answers to "
        "questions; of choices among options (arc_easy, piqa) the answers won back most (docs/healing.md)."
    )
    if kind == OWN_TEXTS:
        return {"learn": OWN}
    if not prompts:
        st.info("Name a file with prompts: the original answers them, and the pruned model learns from that.")
        return None
    try:
        parse_source(prompts)
    except InputError as error:
        st.error(plain(str(error)))
        return None
    return {"answers": prompts}


def _asked_prompts() -> str:
    """The source of prompts that is typed."""
    return st.text_input(
        "Prompts",
        key="heal_prompts",
        placeholder="prompts.jsonl, or rows.jsonl::column=question",
        help="Of rows the prompt, instruction or chat, up to where the model is to answer; or the column "
        "that is named.",
    ).strip()


def requests_of(source: Source, states: list[Names], how: How, prompt: str) -> list[dict]:
    """What the job of each state is asked, on the run's own texts; none where one cannot be, which is then
    told.
    """
    try:
        found = [_request_of(source, removed, how, prompt) for removed in states]
        for prompts in {request["answers"] for request in found if "answers" in request}:
            if (asked := parse_source(prompts)).is_file:
                check_file(asked)
        return found
    except InputError as error:
        st.error(plain(str(error)))
        return []


def _request_of(source: Source, removed: Names, how: How, prompt: str) -> dict:
    run = source.run
    model, told = run.meta["model"], how.settings.to_json()
    check_names(removed, how.settings, how.rounds)
    parts = {"parts": how.parts(source, removed)} if how.rounds > 1 else {}
    label = "".join(c if c.isalnum() or c in "._-" else "-" for c in model["name"])[:60]
    # a batch by its name: the number alone could be a seed
    said = [f"batch-{value}" if name == "batch" else str(value) for name, value in told.items()]
    way = "-".join([*said, *(["rounds", str(how.rounds)] if parts else [])])
    # by run and parts: other texts, or another order of rounds, make another model
    about = [run.key, parts, *([how.learn] if how.learn else [])]
    key = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:6]
    name = f"{label}-{key}-without-{'-'.join(map(str, removed))}-healed-{way}"
    return jobs.request_for(
        run,
        with_texts=True,
        blocks=list(removed),
        **parts,
        **how.learn,
        settings=told,
        sequences=None,
        held=HELD,
        report=REPORT,
        length=run.meta["texts"]["length"],
        seed=0,
        tasks=is_demo(model["source"]),
        prompt=prompt or None,
        out=str(folders.home() / "exports" / shortened(name, 180)),
        zip=True,
        provenance={"run": run.key, "model": {key: model[key] for key in ("config", "weights")}},
    )
