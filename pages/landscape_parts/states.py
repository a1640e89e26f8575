"""The density of states, and where known states lie in it."""

import numpy as np
import streamlit as st

from core.ising.energies import energies
from core.ising.states import indicator
from core.store import folders
from core.store.results import Results
from core.thermal.density import Density, density, density_of_list
from core.thermal.sampling import Sampled, sample
from core.view.shape_figures import density_figure
from pages.landscape_parts.found import CONFIG, Named, Shown, shown
from pages.landscape_parts.temperature import unit_of
from pages.shared.evidence import choices_of_others, measured_so_far
from pages.shared.parts import chart, html_table
from pages.shared.view import AS_WRITTEN, plain

LOW = 0.1  # share of the states that a closer look holds
COLD = 1  # gaps: the lowest temperature of the ladder that estimates a density
state = st.session_state


@st.cache_resource(max_entries=12, show_spinner="Drawing states", hash_funcs=AS_WRITTEN)
def drawn(view: Named) -> Sampled:
    """Of a ladder of temperatures down to a cold one."""
    found = shown(*view)
    return sample(found.H, found.rules, COLD * unit_of(found))


@st.cache_resource(max_entries=12, show_spinner="Counting states", hash_funcs=AS_WRITTEN)
def counted(view: Named, asked: tuple[float, ...], estimate: bool, low: bool) -> Density | None:
    """The density of a view, and the states below each of the energies."""
    found = shown(*view)
    s, top = found.spectrum, None
    if low:
        whole = counted(view, asked, estimate, False)
        top = None if whole is None else whole.quantile(LOW)
    if np.isinf(s.lower_bound):
        return density_of_list(s, np.array(asked), top=top)
    ground, sampled = float(s.energies[0]), drawn(view) if estimate else None
    return density(found.H, found.rules, ground, np.array(asked), s.tolerance, sampled, top=top)


def show(found: Shown) -> None:
    """The histogram and the table of known states."""
    s = found.spectrum
    groups = _known(found)
    asked = tuple(float(e) for own in groups.values() for e in own)
    low = st.toggle(
        "Only the lower tenth", key="shape_low", help="Where single blocks dominate, the rest has no room."
    )
    result = counted(found.named, asked, False, low)
    if result is None:
        st.caption(
            "There are too many states to count them all: their density can only be estimated by sampling."
        )
        if not st.toggle("Estimate it, in about a minute", key="shape_density"):
            return
        result = counted(found.named, asked, True, low)
        assert result is not None  # it was sampled
    st.markdown(plain(f"States by energy ({result.why})."))
    chart(st, density_figure(result, groups, float(s.energies[0])), key="shape_dos", config=CONFIG)
    below = dict(zip(asked, result.below.tolist()))
    rows = []
    for name, own in groups.items():
        if len(own):
            low, high = (below[float(e)] for e in (min(own), max(own)))
            rows.append([name, len(own), _of(low, result.total), _of(high, result.total)])
    st.html(html_table(["", "states", "states below the lowest", "states below the highest"], rows))
    st.caption(
        "How many states the rules leave is not known: shares of all of them, estimated."
        if np.isnan(result.total)
        else f"All {result.total:,.0f} states; counts are {result.how}.".replace(",", "\u202f")
    )


def _of(below: float, total: float) -> str:
    if np.isnan(total):
        return f"{100 * below:.2g} %"
    share = f" ({100 * below / total:.2g} %)" if total and below else ""
    return (f"{below:,.0f}".replace(",", "\u202f") if below < 1e7 else f"{below:.2g}") + share


def _known(found: Shown) -> dict[str, np.ndarray]:
    """{name: energies} of states that somebody knows, of this M and within the rules."""
    s, n = found.spectrum, found.source.blocks

    def of(states: list[tuple[int, ...]]) -> np.ndarray:
        x = indicator(states, n)
        return energies(found.H, x[found.rules.allows(x)]) if states else np.zeros(0)

    groups = {"listed": s.energies[[0, -1]], "tray": of(list(state.tray))}
    if found.source.run is not None:
        known = measured_so_far(found.source.key, str(folders.home()), Results().stamp)
        groups["measured"] = of([m for m in known if m])
        groups["others chose"] = of(list(choices_of_others(found.source.run, len(s.removed[0]))))
    groups["marked"] = of(list(state.marks))
    return groups
