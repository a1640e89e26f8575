"""What here is structure, and what would noise show as well?"""

import math

import streamlit as st

from core.energy.couplings import rows_of
from core.shape.null_models import DRAWS, FIGURES, LISTED, Structure, structure
from core.shape.ruggedness import distance_correlation, ruggedness
from core.view.shape_figures import walk_figure
from pages.landscape_parts.found import CONFIG, Shown
from pages.shared.parts import chart, html_table
from pages.shared.view import AS_WRITTEN, plain, source_of

WAIT = 1.0  # seconds for the list of each draw: noise has no structure that would make a proof quick


@st.cache_resource(max_entries=12, show_spinner="Drawing noise, in up to two minutes", hash_funcs=AS_WRITTEN)
def beside_noise(key: str, estimator: str, mix: dict | None, removed: int) -> Structure:
    """The figures of a view beside those of noise."""
    source = source_of(key)
    rows = rows_of(source.run, estimator) if source.run is not None and mix is None else None
    H, A = source.couplings(estimator, mix), None if rows is None else rows.A
    return structure(H, removed, A, time_limit=WAIT)


def show(found: Shown) -> None:
    """The table, its verdict, and how rugged the landscape is."""
    if found.removed is None or not 2 <= found.removed <= found.source.blocks - 2:
        st.caption("Null models need one M with at least two removed and two kept.")
        return
    result = beside_noise(found.source.key, found.estimator, found.mix, found.removed)
    rows = []
    for figure, about in FIGURES.items():
        cells = [f"{figure}: {about}", f"{result.real[figure]:.3g}"]
        for name in result.nulls:
            low, high = result.nulls[name].range(figure)
            outside = figure in result.outside(name)
            cells.append(f"{low:.3g} to {high:.3g}{' *' if outside else ''}")
        rows.append(cells)
    st.html(html_table(["", "here", *(null.about for null in result.nulls.values())], rows))
    st.markdown(plain(verdict(result)))
    st.caption(
        f"The middle 95 % of {DRAWS} draws each, the {LISTED} lowest states listed, or what {WAIT:.0f} s of "
        "search find, without rules; * outside. All figures of this table are estimated."
    )
    walk = ruggedness(found.H, found.removed)
    likeness = distance_correlation(found.H, found.spectrum.removed[0])
    if math.isnan(likeness):
        st.caption("All states have the same energy, so there is nothing for a walk to remember.")
        return
    apart = len(found.tree.roots)
    st.markdown(
        plain(
            f"A random walk of swaps remembers its energy for {walk.length:.1f} swaps; "
            f"{100 * walk.share:.0f} % "
            "of the energy's variance over all states is in pairs, the rest is blocks that add up; energy "
            "and "
            f"distance to the ground state correlate with {likeness:+.2f} "
            "(exact, "
            f"without rules). Below the end of the list there "
            f"{'is one funnel' if apart == 1 else f'are {apart} funnels'}: "
            "parts of the tree that no path joins there."
        )
    )
    chart(st, walk_figure(walk), key="shape_walk", config=CONFIG)


def verdict(result: Structure) -> str:
    """One line."""
    parts = []
    for name, null in result.nulls.items():
        told = []
        for figure in result.outside(name):
            low, high = null.range(figure)
            told.append(f"{figure} {result.real[figure]:.2g} (noise {low:.2g} to {high:.2g})")
        parts.append(f"{', '.join(told) or 'nothing'} against {null.about}")
    return f"Beyond noise, at 95 %: {'; '.join(parts)}."
