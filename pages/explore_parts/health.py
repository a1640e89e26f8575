"""The health card: how far the couplings in view may be believed, and the measurement that would tell."""

import html

import streamlit as st

from core import jobs
from core.compare.health import GREEN, SEQUENCES, UNKNOWN, Health, check_states, health_of
from core.energy.couplings import first_order
from core.energy.sources import Source
from core.landscape.landscape import Landscape
from core.store import folders
from core.store.named_models import missing
from core.store.results import Results
from core.store.runs import Run
from pages.shared.evidence import audit_of, follow, measuring, rows_of_m, start_measuring, time_of
from pages.shared.view import AS_WRITTEN, source_of

NO_MODEL = "Not known: a bare matrix has no model to measure."
state = st.session_state


@st.cache_resource(max_entries=24, show_spinner=False, hash_funcs=AS_WRITTEN)
def verdict(
    key: str, estimator: str, mix: dict | None, ground: tuple[int, ...], home: str, stamp: tuple
) -> Health:
    """The verdict on the couplings in view, whose lowest state is `ground`, made once for every state of the
    store: it bootstraps.
    """
    source = source_of(key)
    if source.run is None:
        return Health(UNKNOWN, NO_MODEL)
    rows = rows_of_m(key, len(ground), home, stamp)
    return health_of(source, estimator, mix, ground, rows, audit_of(source, estimator, mix))


def check_request(run: Run, found: Landscape) -> dict:
    """A measurement of the states that tell most of the landscape in view."""
    increase = None if run.singles is None else run.singles.increase
    return measuring(run, check_states(found.spectrum.x, increase))


def card(found: Health) -> str:
    """HTML: the colour as a word and a mark, and the sentence."""
    name = found.colour.replace(" ", "-")
    facts = "".join(f"<li>{html.escape(fact)}</li>" for fact in found.facts)
    more = f"<details><summary>Evidence</summary><ul>{facts}</ul></details>" if facts else ""
    return (
        f'<div class="health {name}" role="status"><b>{html.escape(found.colour)}</b>'
        f"<span>{html.escape(found.sentence)}</span>{more}</div>"
    )


def with_circumstances(found: Health, source: Source, landscape: Landscape) -> Health:
    """The verdict, with what the run says in its facts: sample size, first-order term, degeneracy."""
    run, facts = source.run, list(found.facts)
    if run is not None:
        drift = first_order(run)
        facts.append(
            f"{len(run.rows.A)} rows; mean gradient {100 * drift.ratio:.0f} % of a row's size, rows of mean "
            f"0 would show {100 * drift.noise:.0f} %."
        )
    if landscape.spectrum.degeneracy > 1:
        facts.append(f"{landscape.spectrum.degeneracy} states share the lowest energy.")
    return Health(found.colour, found.sentence, tuple(facts))


def show_health(source: Source, landscape: Landscape) -> None:
    """The card, and beside it what can be done: measure, go on, or learn."""
    view = (source.key, state.estimator, source.check_mix(state.mix), landscape.ground)
    found = verdict(*view, str(folders.home()), Results().stamp)
    found = with_circumstances(found, source, landscape)
    with st.container(key="health", horizontal=True, vertical_alignment="center"):
        st.html(card(found), width="stretch")
        if source.run is None or missing(source.run.meta["model"]["source"]) is not None:
            return
        request = check_request(source.run, landscape)
        job = jobs.find("benchmark", request)
        if job is not None and job.active:
            return
        rows = rows_of_m(source.key, len(landscape.ground), str(folders.home()), Results().stamp)
        known = {row.removed for row in rows if row.increase}
        asked = map(source.units.state, request["states"])
        new = [s for s in asked if s and s not in known]
        if new and (job is None or job.status != "done"):
            more = "more " if known else ""
            st.button(
                f"Check: measure {len(new)} {more}states ({time_of(source.run, request)})",
                on_click=start_measuring,
                args=(request,),
                help="The lowest states, the cheapest by single removals, windows and a few others, on "
                f"{SEQUENCES} sequences of the run's own texts.",
                type="primary" if found.colour == UNKNOWN else "secondary",
            )
        if found.colour != GREEN:
            st.button(
                "Learn it",
                on_click=state.update,
                args=({"go_compare": True},),
                help="In Compare: measured states correct the couplings.",
                type="tertiary",
            )


def show_check(source: Source, landscape: Landscape) -> None:
    """Progress of a check that is at work."""
    if source.run is not None:
        follow(check_request(source.run, landscape))
