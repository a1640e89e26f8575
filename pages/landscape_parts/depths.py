"""The shape for every M."""

import streamlit as st

from core.shape.depths import Depth, depths, nested
from core.spectrum.constraints import Constraints
from core.view.shape_figures import depths_figure
from pages.landscape_parts.found import CONFIG, Shown
from pages.shared.parts import chart
from pages.shared.view import AS_WRITTEN, plain, source_of

WAIT = 2.0  # seconds for each M


@st.cache_resource(max_entries=12, show_spinner="Solving every M", hash_funcs=AS_WRITTEN)
def every(key: str, estimator: str, mix: dict | None, constraints: Constraints, moves: str) -> list[Depth]:
    """Of a source."""
    H = source_of(key).couplings(estimator, mix)
    return list(depths(H, constraints, moves=moves, time_limit=WAIT))


def show(found: Shown) -> None:
    """Ground states, gaps, minima and basins over M."""
    units = found.source.units
    result = every(found.source.key, found.estimator, found.mix, found.constraints, found.moves)
    chart(st, depths_figure(result, found.removed, units), key="shape_depths", config=CONFIG)
    grown = nested([d.step for d in result])
    every_m = len(result) - 1
    changed = [d.step for d in result[1:] if not d.step.nested]
    example = max(changed, key=lambda step: len(step.left), default=None)
    broken = (
        f" The largest break is at M = {example.removed}: {units.said(example.left)} come back, "
        f"{units.said(example.entered)} go."
        if example
        else ""
    )
    degenerate = [d.step.removed for d in result if d.step.degeneracy > 1]
    tied = f" Ground states are degenerate at M = {', '.join(map(str, degenerate))}." if degenerate else ""
    steps = (
        f"In {len(grown)} of {every_m} steps the ground state is the one before and one {units.word} more, "
        f"as greedy removal assumes."
        if every_m
        else f"The rules leave one M, {result[0].step.removed}."
    )
    st.markdown(plain(f"{steps}{broken}{tied}"))
    st.caption(
        "Filled: proved, or counted over all states. Hollow: estimated from random descents (minima: at "
        "least so "
        f"many), or not proved within {WAIT:.0f} s."
    )
