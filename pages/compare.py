"""Compare: what the energies are worth.

States measured against the original, what a forward buys, other methods' choices.
"""

import html

import streamlit as st

from core import jobs
from core.compare.comparison import finding
from core.energy.sources import Source
from core.errors import InputError
from core.jobs.costs import in_words, measure_seconds
from core.spectrum.lowest import lowest_states
from core.store import folders
from core.store.named_models import is_demo, missing
from core.store.runs import Run
from core.tasks.items import BUNDLED
from pages.compare_parts.energies import known_points, show_energies, show_order
from pages.compare_parts.moved_texts import ask_for_texts
from pages.compare_parts.preview import LOWEST, TRAY, offer
from pages.compare_parts.protocols import show_behaviour, show_harness, show_imported
from pages.compare_parts.race import offer_race, show_race
from pages.compare_parts.searches import (
    comparable,
    improve,
    latest,
    of_ruler,
    show_curves,
    show_search_results,
)
from pages.compare_parts.table import show_table
from pages.shared.chat import DEMO_PROMPT, chat_panel
from pages.shared.exports import home_link, prune_panel
from pages.shared.link import opened_source
from pages.shared.parts import lacks_weights, name_of, seconds_of_forward
from pages.shared.view import WAIT, constraints_in_view, m_in_view, plain, removed_in_view

PROMPTS = {"demo": DEMO_PROMPT, "smollm2": "The capital of France is"}
DEFAULT_PROMPT = "Once upon a time"
state = st.session_state


# what is asked for


def states_asked(source: Source) -> list[tuple[int, ...]]:
    """The states that the page is about: the tray's, or the lowest ones of the view's landscape."""
    if state.get("scope", TRAY) == TRAY:
        return state.tray
    H = source.couplings(state.estimator, state.mix)
    try:
        rules = constraints_in_view(source)
        m = removed_in_view(rules)
        return lowest_states(H, m, state.lowest, constraints=rules, time_limit=WAIT).removed
    except InputError as error:
        st.warning(plain(str(error)))
        return []


def start_benchmark(run: Run, states: list[tuple[int, ...]]) -> None:
    """On the run's own texts, made into sequences as they were for the run."""
    tray = state.get("scope", TRAY) == TRAY
    request = jobs.request_for(
        run,
        (str(BUNDLED),),
        with_texts=True,
        states=[[], *map(run.units.listed, states)],
        sequences=state.sequences,
        length=state.length,
        tasks=tray and state.tasks,
        prompt=state.prompt if tray else "",
        **({} if tray else {"speed": False}),
    )
    state.benchmark = jobs.start("benchmark", request).id


def ask(source: Source) -> list[tuple[int, ...]]:
    """The controls and the button; returns the states that the page is about."""
    with st.container(key="controls-compare"):
        columns = st.columns([1.5, 0.9, 0.9, 0.9, 1, 2.6, 1.9], vertical_alignment="bottom")
    state.setdefault("scope", TRAY)  # not the control's default: other buttons set it too
    columns[0].segmented_control("States", [TRAY, LOWEST], key="scope", required=True)
    columns[1].selectbox(
        "How many",
        [20, 50, 100, 200],
        key="lowest",
        disabled=state.scope == TRAY,
        help="Lowest in energy, at Explore's M and couplings.",
    )
    columns[2].selectbox(
        "Sequences",
        [64, 128, 256],
        index=1,
        key="sequences",
        help="Of the run's own texts: their report split, which no choice has used.",
    )
    columns[3].number_input(
        "Length", 2, 131_072, source.run.meta["texts"]["length"], key="length", help="Tokens a sequence."
    )
    columns[4].checkbox(
        "Toy tasks",
        value=is_demo(source.run.meta["model"]["source"]),
        key="tasks",
        disabled=state.scope == LOWEST,
        help="The bundled questions about the demo's made-up world, which other models know nothing of: real "
        "tasks are under Benchmarks.",
    )
    columns[5].text_input(
        "Prompt", PROMPTS.get(source.run.meta["model"]["name"], DEFAULT_PROMPT), key="prompt"
    )
    states = states_asked(source)
    what = "picked" if state.scope == TRAY else "lowest"
    label = (
        f"Measure {len(states)} {what} state{'s' if len(states) != 1 else ''}"
        if states
        else "Measure the original"
    )
    columns[6].button(
        label,
        type="primary",
        on_click=start_benchmark,
        args=(source.run, states),
        width="stretch",
        help="And the original.",
    )
    if missing(source.run.meta["model"]["source"]) is None:
        forward = seconds_of_forward(source.run, state.sequences, state.length)
        more = "; toy tasks, speed and answers come on top" if state.scope == TRAY and states else ""
        st.caption(f"Measuring takes about {in_words(measure_seconds(forward, len(states)))} here{more}.")
    return states


# what was found


def show_prune(run: Run, states: list[tuple[int, ...]]) -> None:
    """One of the states as a checkpoint, and to talk with."""
    name = lambda s: f"{name_of(s, run.blocks)}: {run.units.said(s)}"  # noqa: E731
    chosen = st.selectbox("State", states, format_func=name, key="compare_state")
    prune_panel(run, chosen)
    home_link()
    chat_panel(run, chosen)


def page() -> None:
    """The whole page."""
    st.title("Compare")
    source = opened_source()
    if source is None:
        return
    if source.run is None:
        st.info(
            f"{plain(source.name)} is a bare matrix: there is no model to measure. Choose a run in Explore."
        )
        return
    lacks_weights(source.run)
    ask_for_texts(source.run)
    lead = st.empty()
    states = ask(source)
    m = m_in_view(source)
    searches = jobs.on_run(folders.find_run(source.run.key), m, source.by)
    shown = comparable(of_ruler(searches))
    learned, others, raced = (latest(shown, kind) for kind in ("learn", "peers", "race"))
    offer_race(source.run, [s for s in states if len(s) == m], raced)
    job = current_benchmark()
    found = known_points(source)
    lead.html(f'<div class="finding">{html.escape(finding(found, {}, source.units.said))}</div>')
    left, right = st.columns(2, gap="large")
    with left:
        st.fragment(show_energies, run_every=1 if job and job.active else None)(source, states, job)
        if not found.rows and not any(len(s) == m for s in states):
            offer(source)
    with right:
        ids = (learned.id if learned else None, others.id if others else None)
        active = any(j and j.active for j in (learned, others))
        st.fragment(show_curves, run_every=1 if active else None)(ids, active)
        improve(source.run, m, learned, others)
    show_search_results(source, learned, others)
    show_race(source, raced)
    names = [
        "Measured",
        "Order",
        "Behaviour",
        "Benchmarks",
        "From elsewhere",
        *(["Chat, take home"] if states else []),
    ]
    tabs = dict(zip(names, st.tabs(names)))
    with tabs["Measured"]:
        st.fragment(show_table, run_every=1 if job and job.active else None)(source, states, job)
    with tabs["Order"]:
        show_order(found, source.units)
    with tabs["Behaviour"]:
        show_behaviour(source.run, states)
    with tabs["Benchmarks"]:
        show_harness(source.run, states)
    with tabs["From elsewhere"]:
        show_imported(source.run)
    if states:
        with tabs["Chat, take home"]:
            show_prune(source.run, states)


def current_benchmark() -> jobs.Job | None:
    """This session's benchmark, or the one that is running."""
    if state.get("benchmark"):
        try:
            return jobs.read(state.benchmark)
        except InputError:  # its folder was removed
            state.benchmark = None
    return next((job for job in jobs.running() if job.kind == "benchmark"), None)


page()
