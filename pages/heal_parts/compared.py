"""Several states healed with the same settings, side by side."""

import numpy as np
import streamlit as st

from core import jobs
from core.compare.healed import FEWEST, Healed, orders_of
from core.energy.sources import Source
from core.ising.energies import energies
from core.ising.states import indicator
from core.ising.units import written
from core.spectrum.lowest import lowest_states
from core.view.heal_figures import before_and_after
from pages.heal_parts.asked import Names
from pages.heal_parts.shown import show
from pages.shared.parts import chart, html_table, watch
from pages.shared.view import AS_WRITTEN, WAIT, source_of

LISTED = 300  # states among which a rank is looked up
WORDS = {"energy": "energy", "before": "loss before", "after": "loss after"}
state = st.session_state


def show_states(source: Source, states: list[Names], found: list[jobs.Job | None]) -> None:
    """What is at work, the table and the lines of those that are done, and one of them in full."""
    for removed, job in zip(states, found):
        if job is not None and job.status != "done":
            st.caption(f"removes {written(removed)}")
            st.fragment(watch, run_every=1 if job.active else None)(job.id, job.active)
    done = {removed: job for removed, job in zip(states, found) if job and job.status == "done"}
    if len(done) > 1:
        _table([_healed(source, removed, job.result) for removed, job in done.items()])
    if done:
        chosen = st.selectbox(
            "One of them in full", list(done), format_func=lambda s: f"removes {written(s)}", key="one_healed"
        )
        show(done[chosen])


def _healed(source: Source, removed: Names, result: dict) -> Healed:
    table = result["table"]
    energy, rank = _place(source, removed)
    losses = {name: table[model]["loss"] for name, model in (("before", "pruned"), ("after", "healed"))}
    return Healed(removed, table["original"]["loss"], **losses, energy=energy, rank=rank)


def _place(source: Source, removed: Names) -> tuple[float | None, int | None]:
    """(energy, rank from 0 on among the LISTED lowest) of a state in the landscape in view; None where that
    does not know it.
    """
    units = source.units.state(removed)
    if units is None:
        return None, None
    H = source.couplings(state.estimator, state.mix)
    energy = float(energies(H, indicator([units], len(H)))[0])
    ranks = _ranks(source.key, source.by, state.estimator, state.mix, len(units))
    return energy, ranks.get(units)


@st.cache_resource(max_entries=24, show_spinner=False, hash_funcs=AS_WRITTEN)
def _ranks(key: str, by: str, estimator: str, mix: dict | None, m: int) -> dict[tuple[int, ...], int]:
    """{state: rank} of the lowest, as far as they are proved."""
    H = source_of(key).seen(by).couplings(estimator, mix)
    found = lowest_states(H, m, LISTED, time_limit=WAIT)
    proved = np.searchsorted(found.energies, found.lower_bound, side="right")
    return {s: k for k, s in enumerate(found.removed[: len(found.x) if found.exact else proved])}


def _table(states: list[Healed]) -> None:
    orders = orders_of(states)
    rows = []
    for k, own in enumerate(states):
        values = {"energy": own.energy, "before": own.before, "after": own.after}
        rows.append(
            [
                k + 1,
                written(own.removed),
                *(_cell(name, value, orders.places, k) for name, value in values.items()),
                "" if own.won is None else f"{100 * own.won:.0f} %".replace("-", "−"),
                "" if own.rank is None else own.rank,
            ]
        )
    head = ["", "removes", "energy", "loss pruned", "loss healed", "won back", "rank"]
    st.html(html_table(head, rows))
    told = [f"The original has {states[0].original:.4f} nats; in brackets the place in that order."]
    told += [f"Spearman of {WORDS[a]} and {WORDS[b]}: {v:.2f}." for (a, b), v in orders.spearman.items()]
    if len(states) < FEWEST:
        told.append(f"From {FEWEST} states on it is told how well the orders agree.")
    st.caption(" ".join(told))
    chart(st, before_and_after(states), key="heal-before-after")


def _cell(name: str, value: float | None, places, k: int) -> str:
    """A value with the state's place by it, where all states have one."""
    if value is None:
        return ""
    text = f"{value:.4g}" if name == "energy" else f"{value:.4f}"
    return f"{text} ({places[name][k]})" if name in places else text
