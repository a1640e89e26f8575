"""Landscape: what does not fit beside the barcode. Minima, temperature, paths, density, every M, noise."""

import streamlit as st

from core.energy.mix import mix_label
from core.errors import InputError
from core.shape import MOVES
from pages.landscape_parts import depths, minima, noise, paths, states, temperature
from pages.landscape_parts.found import shown
from pages.shared.link import opened_source
from pages.shared.view import constraints_in_view, plain, removed_in_view

SECTIONS = {
    "Minima": minima.show,
    "Temperature": temperature.show,
    "Paths": paths.show,
    "Density": states.show,
    "Every M": depths.show,
    "Structure or noise": noise.show,
}
COUNTS = (10, 30, 100, 300)
state = st.session_state


def page() -> None:
    """The whole page."""
    st.title("Landscape")
    source = opened_source()
    if source is None:
        return
    mixed = f" Domain mix: {mix_label(state.mix, 9)}." if state.mix is not None else ""
    about = source.about(state.estimator).label
    removed = "as many as the rules ask for" if state.removed is None else f"M = {state.removed}"
    st.markdown(
        plain(
            f"{source.name}, {about}, {removed}.{mixed} Choose another run, couplings, M or rules in Explore."
        )
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        section = st.segmented_control(
            "Show", list(SECTIONS), default="Minima", key="shape_section", required=True
        )
        moves = st.segmented_control(
            "Move",
            list(MOVES),
            default="swap",
            key="shape_moves",
            required=True,
            help="; ".join(f"{name}: {what}" for name, what in MOVES.items()),
        )
        count = st.selectbox(
            "Minima",
            COUNTS,
            index=1,
            key="shape_count",
            width=110,
            help="How many of the lowest minima to find; the list of states grows until they are there.",
        )
    try:
        rules = constraints_in_view(source)
        m = removed_in_view(rules)
        found = shown(state.source, state.estimator, state.mix, m, rules, moves, count)
    except InputError as error:
        st.error(plain(f"{error} Change it in Explore."))
        return
    try:
        SECTIONS[section](found)
    except InputError as error:  # rules that leave too few states to sample
        st.warning(plain(str(error)))


page()
