"""Energies against measured losses, and what the order is worth."""

import html

import numpy as np
import streamlit as st

from core import jobs
from core.compare.comparison import Points, points
from core.energy.learned import learned_at, read_learned
from core.energy.sources import Source
from core.ising.energies import energies
from core.ising.states import indicator, pearson
from core.ising.units import Units
from core.store import folders
from core.store.results import Results
from core.view.measured_figures import alike, energy_against_loss, rank_changes, trust, unexplained
from pages.compare_parts.preview import show_preview
from pages.shared.evidence import rows_of_m
from pages.shared.parts import chart, watch
from pages.shared.view import m_in_view

state = st.session_state


CONFIG = {
    "displaylogo": False,
    "toImageButtonOptions": {"format": "svg"},
    "modeBarButtonsToRemove": ["select2d", "lasso2d"],
}


def known_points(source: Source) -> Points:
    """Energies, of the couplings that the view shows, against all measured losses at its M."""
    rows = rows_of_m(source.key, m_in_view(source), str(folders.home()), Results().stamp)
    H = source.couplings(state.estimator, state.mix)
    states = [row.removed for row in rows if row.removed]
    energy = dict(zip(states, map(float, energies(H, indicator(states, source.blocks))))) if states else {}
    return points(rows, energy)


def spread_of(source: Source, states: list[tuple[int, ...]]) -> np.ndarray | None:
    """Posterior standard deviations of their energies, float64 [n]; None where the couplings were not
    learned.
    """
    if learned_at(state.estimator) is None or not states:
        return None
    return read_learned(source.key, state.estimator).energies(indicator(states, source.blocks))[1]


def show_energies(source: Source, states: list[tuple[int, ...]], job: jobs.Job | None) -> None:
    """The scatter of energy against measured loss."""
    if job and job.active:
        watch(job.id, True)
    found = known_points(source)
    rank = found.agreement
    note = (
        (
            f"Spearman {rank.spearman:.2f} [{rank.low:.2f}, {rank.high:.2f}], Kendall {rank.kendall:.2f}, n "
            "= "
            f"{rank.n}"
        )
        if rank
        else f"n = {len(found.rows)}; no coefficient below 5"
    )
    st.html(
        '<div class="panelhead"><b>Energy against measured '
        f"loss</b><span>{html.escape(source.about(state.estimator).label)} · M = {m_in_view(source)} · "
        f"{note}</span></div>"
    )
    if not found.rows:
        show_preview(source, states)
        return
    spread = spread_of(source, found.states)
    figure = energy_against_loss(
        list(map(source.units.said, found.states)),
        found.energy,
        found.increase,
        found.se,
        found.lowest,
        found.best,
        spread,
    )
    chart(st, figure, key="scatter", config=CONFIG)


def show_order(found: Points, units: Units) -> None:
    """Ranks, what trusting the first states costs, what is left unexplained, how alike states are."""
    if len(found.rows) < 2:
        st.caption("Two measured states of this M are needed.")
        return
    names, left, right = list(map(units.said, found.states)), *st.columns(2)
    left.markdown("**Rank by energy, rank by loss**")
    chart(left, rank_changes(names, found.energy, found.increase), key="slope", config=CONFIG)
    right.markdown("**What trusting the first m states costs**")
    chart(right, trust(found.energy, found.increase), key="trust", config=CONFIG)
    left.markdown("**Measured minus predicted**")
    if len(set(found.energy.tolist())) > 1:
        chart(
            left, unexplained(names, found.energy, found.increase, found.se), key="residuals", config=CONFIG
        )
    right.markdown("**How alike the states are**, and a map of them by that")
    few = np.argsort(found.energy, kind="stable")[:200]
    x = indicator([found.states[k] for k in few], len(units))
    chart(
        right, alike([names[k] for k in few], pearson(x, x), found.increase[few]), key="alike", config=CONFIG
    )
    if len(found.rows) > len(few):
        right.caption(f"The {len(few)} lowest in energy of {len(found.rows)}.")
