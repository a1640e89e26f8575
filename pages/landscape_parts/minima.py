"""Which minima are there, how deep, how wide, how sure?"""

import json

import streamlit as st

from core.energy.learned import learned_at
from core.errors import InputError
from core.ising.states import removed_blocks
from core.landscape.wording import exponent, with_power
from core.shape.bootstrap import RESAMPLES, Stability
from core.shape.descent import SampledBasins, sampled_basins
from core.view.snippets import View, landscape_line, landscape_snippet
from core.view.tree_files import tree_csv, tree_graphml, tree_svg, tree_table
from pages.landscape_parts.found import LISTED, WAIT, Named, Shown, resampled, shown
from pages.shared.parts import html_table
from pages.shared.view import AS_WRITTEN, plain, rules_in_view

DESCENTS = 1000
state = st.session_state


@st.cache_resource(max_entries=12, show_spinner="Descending from random states", hash_funcs=AS_WRITTEN)
def basins(view: Named) -> SampledBasins:
    """Where random states drain to."""
    found = shown(*view)
    tolerance = found.spectrum.tolerance
    return sampled_basins(found.H, found.minima.valleys.moves, found.rules, DESCENTS, tolerance=tolerance)


def show(found: Shown) -> None:
    """The table of minima, what is known of all, and the files."""
    tree, s = found.tree, found.spectrum
    word = found.source.units.word
    sampled, said = _sampled(found)
    st.markdown(plain(f"{found.minima.why[0].upper()}{found.minima.why[1:]}. {said}"))
    sure = None
    if found.source.run is not None and learned_at(found.estimator) is None:
        if st.toggle(
            f"How sure are they? Draw the calibration sample again, {RESAMPLES} times",
            key="shape_sure",
            help="A minimum or barrier that is there in few of the resamples is noise of the sample.",
        ):
            sure = resampled(found.named)
            lasting = int((sure.minimum >= 0.95).sum())
            st.caption(
                f"{lasting} of {len(sure.minimum)} minima are minima in at least 95 % of {sure.resamples} "
                f"resamples (estimated); the standard deviation of E₀ is "
                f"{with_power(sure.ground, exponent(s.energies))}."
            )
    rows, head = _rows(found, sampled, sure)
    st.html(html_table(head, rows, "minima"))
    st.caption(
        f"A minimum is a state that no move lowers ({_about(found.moves, word)}); its basin is what steepest "
        "descent takes there: of the listed states, counted; of all, estimated, with its 95 % interval. The "
        "barrier is the lowest energy above it that every path to a lower minimum must cross; "
        + (
            "exact, and – where none lies below the end of the list."
            if tree.exact
            else "an upper bound here."
        )
    )
    _files(found)


def _sampled(found: Shown) -> tuple[SampledBasins | None, str]:
    """Where random states drain to, and what that says; None where the rules leave too few to draw."""
    try:
        sampled = basins(found.named)
    except InputError as error:
        return None, f"Basins of all states cannot be estimated: {error}"
    seen = len(sampled.hits)
    more = (
        f"; their number is estimated at {sampled.minima:.0f} or more" if sampled.minima > seen + 0.5 else ""
    )
    return sampled, (
        f"{DESCENTS} steepest descents from random states end in {seen} different minima{more} (estimated); "
        f"{100 * sampled.unseen:.0f} % of all states drain to minima that none of them met."
    )


def _about(moves: str, word: str) -> str:
    if moves == "shift":
        return f"a move shifts one removed {word} by one in depth"
    return f"a move puts one removed {word} back and removes another"


def _rows(
    found: Shown, sampled: SampledBasins | None, sure: Stability | None
) -> tuple[list[list], list[str]]:
    v, tree, units = found.minima.valleys, found.tree, found.source.units
    power, ground = exponent(found.spectrum.energies), float(found.spectrum.energies[0])
    joins = {int(j): b for b, j in enumerate(tree.dying)}
    hits = {} if sampled is None else dict(zip(removed_blocks(sampled.x), sampled.hits.tolist()))
    head = ["", "removed", "ΔE", "basin, listed", "basin, all", "barrier", "to"]
    head += ["a minimum", "barrier there"] if sure is not None else []
    rows = []
    removed, basin = v.removed, v.basin
    for k in range(found.minima.count):
        of_all = "–"
        if sampled is not None:
            low, high = sampled.share(hits.get(removed[k], 0))
            of_all = f"{100 * low:.1f}–{100 * high:.1f} %"
        b = joins.get(k)
        barrier = (
            ["–", "–"]
            if b is None
            else [with_power(tree.energy[b] - v.energies[k], power), f"#{int(v.minimum[tree.survivor[b]])}"]
        )
        plateau = f" ({int(v.plateau[k])} states)" if v.plateau[k] > 1 else ""
        row = [
            f"#{int(v.minimum[k])}{plateau}",
            units.said(removed[k]),
            with_power(float(v.energies[k]) - ground, power) if k else "0",
            f"{int(basin[k])}",
            of_all,
            *barrier,
        ]
        if sure is not None:
            row += [f"{100 * sure.minimum[k]:.0f} %", "–" if b is None else f"{100 * sure.barrier[b]:.0f} %"]
        rows.append(row)
    return rows, head


def _files(found: Shown) -> None:
    units, tree = found.source.units, found.tree
    table = tree_table(tree, units, found.minima.count)
    name = f"{found.source.key[:8]}-{found.estimator}-minima"
    files = (
        ("CSV", "csv", "text/csv", lambda: tree_csv(table)),
        ("JSON", "json", "application/json", lambda: json.dumps(table) + "\n"),
        ("Tree as SVG", "svg", "image/svg+xml", lambda: tree_svg(tree, units)),
        ("GraphML", "graphml", "application/xml", lambda: tree_graphml(table)),
    )
    rules, budget = rules_in_view(found.source)
    asked = View(
        found.source, found.estimator, found.removed, found.minima.asked, found.mix, rules, budget, WAIT
    )
    with st.container(horizontal=True):
        for label, ending, kind, text in files:
            st.download_button(label, text, f"{name}.{ending}", kind, on_click="ignore", key=ending)
        try:
            st.popover("Python").code(landscape_snippet(asked, found.moves, LISTED), language="python")
            st.popover("Command").code(landscape_line(asked, found.moves, LISTED), language="sh")
        except InputError as error:  # of a source that is kept nowhere
            st.caption(plain(str(error)))
