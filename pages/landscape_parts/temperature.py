"""What a temperature makes of the landscape: the Boltzmann ensemble, its pairs, its overlaps."""

import numpy as np
import streamlit as st

from core.energy.uncertainty import energy_spread
from core.landscape.wording import exponent, with_power
from core.thermal.ensemble import ESTIMATED, UNLISTED, Ensemble, ensemble, of_list
from core.thermal.overlap import Overlap, overlap_of_ensemble, overlap_of_states
from core.thermal.whole import whole
from core.view.coupling_figures import heatmap
from core.view.shape_figures import overlap_figure, probability_figure
from pages.landscape_parts.found import CONFIG, Named, Shown, shown
from pages.shared.parts import chart, html_table
from pages.shared.view import AS_WRITTEN, plain

GAPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


@st.cache_resource(max_entries=40, show_spinner="At this temperature", hash_funcs=AS_WRITTEN)
def at(view, temperature: float) -> Ensemble:
    """The ensemble of a view."""
    found = shown(*view)
    return ensemble(found.H, found.spectrum, temperature, found.rules)


@st.cache_resource(max_entries=40, show_spinner=False, hash_funcs=AS_WRITTEN)
def likeness(view: Named, temperature: float) -> dict[str, Overlap]:
    """Overlaps of two states of the ensemble, and of the minima."""
    found = shown(*view)
    thermal = at(view, temperature)
    drawn = overlap_of_ensemble(found.H, found.spectrum, thermal, found.rules)
    v = found.minima.valleys
    sets = {} if drawn is None else {"two states at this temperature": drawn}
    minima = v.spectrum.x[v.minimum]
    if len(minima) > 1 and not np.ptp(minima.sum(axis=1)):
        sets["two of the minima"] = overlap_of_states(minima)
    return sets


def unit_of(found: Shown) -> float:
    """The gap; where everything listed is one level, the spread of the couplings."""
    gap = found.spectrum.gap
    return gap if np.isfinite(gap) else float(np.ptp(found.H)) or 1.0


def show(found: Shown) -> None:
    """The slider and all that follows from it."""
    s, units, unit = found.spectrum, found.source.units, unit_of(found)
    power = exponent(s.energies)
    chosen = st.select_slider(
        "Temperature, in gaps", GAPS, value=10, key="shape_t", help=f"The gap is {with_power(unit, power)}."
    )
    noise = noise_of_ground(found.named)
    _mark_of_noise(noise, unit)
    t = float(chosen) * unit
    if not _ready(found, t, chosen):
        return
    thermal = at(found.named, t)
    spread = f" ({t / noise:.2g} standard deviations of E₀)" if noise else ""
    rough = "about " if thermal.how == ESTIMATED else ""
    st.markdown(
        plain(
            f"T = {with_power(t, power)}{spread}: {rough}{_number(thermal.effective)} effective states, mean "
            f"energy {with_power(thermal.energy, power)} above the ground state, heat capacity "
            f"{thermal.heat_capacity:.2f} ({thermal.why})."
        )
    )
    chart(st, probability_figure(thermal, s.removed[0], units), key="shape_p", config=CONFIG)
    safe = [units.names[u] for u in np.argsort(-thermal.removed)[: int(s.x[0].sum())]]
    st.caption(
        f"The {units.word}s that go most often at this temperature: {', '.join(safe)}. Outlined: those of "
        "the "
        "ground state. At T = 0 only the ground state is left; where T is about the noise of the energies, "
        "the order of single states says nothing, and these probabilities say what the sample agrees on."
    )
    left, right = st.columns(2, gap="large")
    with left:
        _show_pairs(found, thermal)
    with right:
        _show_overlaps(found, t)


def _number(value: float) -> str:
    return (
        "an unknown number of"
        if np.isnan(value)
        else f"{value:,.0f}".replace(",", "\u202f")
        if value < 1e7
        else f"{value:.2g}"
    )


def _ready(found: Shown, t: float, chosen: float) -> bool:
    """Whether the ensemble is at hand; sampling takes a while, and is started by hand."""
    if of_list(found.spectrum, t, found.rules).error <= UNLISTED or whole(found.H, found.rules) is not None:
        return True
    st.caption(
        "There are too many states to count them all, and at this temperature those that are not listed may "
        f"hold more than {100 * UNLISTED:.0f} % of the weight: only sampling tells, in about half a minute."
    )
    return st.toggle(f"Sample at {chosen} gaps", key=f"shape_sample_{chosen}")


@st.cache_resource(max_entries=24, show_spinner=False, hash_funcs=AS_WRITTEN)
def noise_of_ground(view: Named) -> float | None:
    """The standard deviation of E0, over resamples of the calibration; None where there are none."""
    found = shown(*view)
    return energy_spread(found.source, found.estimator, found.spectrum.removed[0], found.mix)


def _mark_of_noise(noise: float | None, unit: float) -> None:
    if noise:
        st.caption(
            f"E₀ scatters by {noise / unit:.3g} gaps over resamples of the calibration (estimated): up to "
            "that temperature the ranking of single states is noise anyway."
        )


def _show_pairs(found: Shown, thermal: Ensemble) -> None:
    units, c = found.source.units, thermal.connected.copy()
    np.fill_diagonal(c, 0)
    st.markdown("**Together or instead of each other?**")
    chart(st, heatmap(c, "linear", name="c", units=units), key="shape_pairs", config=CONFIG)
    i, j = np.triu_indices(len(c), 1)
    order = np.argsort(-np.abs(c[i, j]))[:6]
    rows = [
        [f"{units.names[a]}, {units.names[b]}", f"{c[a, b]:+.3f}", f"{thermal.pairs[a, b]:.3f}"]
        for a, b in zip(i[order], j[order])
    ]
    st.html(html_table(["pair", "c", "both removed"], rows))
    st.caption(
        "c = P(both are removed) − P(one) P(other). Purple: they go together; green: one goes instead of the "
        f"other. It is {thermal.how}, as the probabilities are."
    )


def _show_overlaps(found: Shown, t: float) -> None:
    st.markdown("**One valley or many?**")
    sets = likeness(found.named, t)
    if not sets:
        st.caption("The states remove different numbers, and their overlaps are not compared.")
        return
    chart(st, overlap_figure(sets), key="shape_overlap", config=CONFIG)
    for name, overlap in sets.items():
        st.caption(
            f"{name.capitalize()}: {overlap.verdict}, mean overlap {overlap.mean:.2f} ({overlap.how})."
        )
    st.caption(
        "P(q): how much two states have in common. One peak near 1 is a funnel, two peaks are two valleys, a "
        "broad hill is a glass: many ways that are equally good and have little to do with each other."
    )
