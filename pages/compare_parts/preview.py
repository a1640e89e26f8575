"""Compare before anything is measured: which states could be, and where they stand by energy."""

import numpy as np
import streamlit as st

from core.energy.sources import Source
from core.errors import InputError
from core.ising.energies import energies
from core.ising.states import indicator
from core.landscape.candidates import candidates
from core.spectrum.constraints import Constraints
from core.spectrum.lowest import lowest_states
from core.view.measured_figures import to_be_measured
from pages.shared.parts import chart
from pages.shared.view import AS_WRITTEN, WAIT, constraints_in_view, m_in_view, removed_in_view, source_of

PICKED, LISTED, TAKEN = 5, 300, 20  # states that are proposed, of so many; those that one click takes
TRAY, LOWEST = "Tray", "Lowest states"
state = st.session_state


@st.cache_resource(max_entries=8, show_spinner=False, hash_funcs=AS_WRITTEN)
def proposed(
    key: str, estimator: str, mix: dict | None, removed: int | None, rules: Constraints
) -> list[tuple[int, ...]]:
    """Low states that differ from each other. Errors: InputError, as lowest_states."""
    H = source_of(key).couplings(estimator, mix)
    found = lowest_states(H, removed, LISTED, constraints=rules, time_limit=WAIT)
    return [c.removed for c in candidates(H, found, PICKED).chosen] if len(found.x) else []


def first_states(source: Source) -> list[tuple[int, ...]]:
    """States of the view's landscape to begin with; none where no state fits the rules."""
    try:
        rules = constraints_in_view(source)
        return proposed(source.key, state.estimator, state.mix, removed_in_view(rules), rules)
    except InputError:  # Explore says why
        return []


def show_preview(source: Source, states: list[tuple[int, ...]]) -> None:
    """The states that the page is about, or some to begin with, on the axis of energies."""
    m = m_in_view(source)
    asked = [s for s in states if len(s) == m]
    shown = asked or first_states(source)
    if not shown:
        st.caption(f"Nothing of M = {m} is measured yet.")
        return
    H = source.couplings(state.estimator, state.mix)
    names = list(map(source.units.said, shown))
    figure = to_be_measured(names, np.asarray(energies(H, indicator(shown, source.blocks))))
    chart(st, figure, key="preview", config={"displayModeBar": False})
    who = "the states to measure" if asked else f"{len(shown)} low states that differ"
    st.caption(
        f"Not measured yet: {who}, by energy. Measuring lifts each to the loss it really adds, and shows "
        "whether low energy means little loss."
    )


def offer(source: Source) -> None:
    """Two ways to fill the page where no state is asked for."""
    shown = first_states(source)
    if shown:
        with st.container(horizontal=True):
            st.button(f"Pick these {len(shown)}", on_click=pick, args=(shown,))
            st.button(f"Take the {TAKEN} lowest", on_click=take_lowest)


def pick(states: list[tuple[int, ...]]) -> None:
    """Of a button: these states are in the tray."""
    state.tray = list(dict.fromkeys([*state.tray, *states]))


def take_lowest() -> None:
    """Of a button: the page is about the lowest states."""
    state.update(scope=LOWEST, lowest=TAKEN)
