"""The view as a link: every choice is in the address, so a link survives re-solving and Back goes back."""

import math
import re
from collections.abc import Callable, Mapping
from urllib.parse import unquote

import streamlit as st

from core.energy.mix import mix_text, read_mix
from core.energy.sources import Source, list_sources
from core.errors import InputError
from core.ising.units import BLOCK, VIEWS, Units
from core.store.folders import SHIPPED_RUNS
from pages.shared.view import COUNTS, RULES, TRAY_LIMIT, keep_view, open_at_first, source_of

RULE_LIMIT = 4000
PANELS = ("tree", "levels", "density", "states", "matrix", "arcs")  # what a link may show alone
LOOK = re.compile(
    r"((density|tree(\.(10|20|30|50|100|all))?(\.(pearson|loss))?)~?)?"  # leaves that are shown, their colour
    r"(T([0-9]{1,4}|noise|list)~?)?"  # the temperature, in gaps
    r"(spin~?)?(structure~?)?(kinds~?)?(?P<zoom>-?[0-9.e+-]{1,16}:[0-9.e+-]{1,16})?"
)  # how the lens shows the landscape, in its own words
FREE = "free"  # M: as many as the rules ask for
MARK_LIMIT, LABEL_LIMIT = 50, 40
state = st.session_state


def read_link(sources: dict[str, str]) -> None:
    """The view that the URL describes, and a message for what it cannot: at first sight and when Back changed
    it.

    An empty query is a change of page, and a query that `write_link` wrote is no news. Where a control has
    just changed the view, the query came with it and may be older than the last link: then the view is right.
    """
    query = st.query_params
    if "source" in state and (
        not query or dict(query) == state.get("link") or link_of_view() != state.get("link")
    ):
        return
    state.problems = []
    source = _seen(source_of(_linked_source(query, sources)), query.get("by", BLOCK))
    open_at_first(source)
    state.update(count=COUNTS[-1], moves=state.get("moves", 0) + 1)
    for name in RULES:
        if len(text := query.get(name, "")) <= RULE_LIMIT:
            state[name] = text
        else:
            state.problems.append(
                f"The link's rule {name!r} has {len(text)} characters, more than {RULE_LIMIT}; it is left "
                "out."
            )
    if query.get("e") in source.estimators:
        state.estimator = query["e"]
    _read_mix(query, source)
    if query.get("k") in map(str, COUNTS):
        state.count = int(query["k"])
    _read_removed(query, source)
    state.panel = query.get("panel") if query.get("panel") in PANELS else None
    state.look = checked_look(query.get("look", ""))
    for name, read in LISTED.items():
        try:
            if name in query:
                state.update(read(query[name], source.units))
        except InputError as error:
            state.problems.append(f"The link's {name!r} cannot be read: {error}")
    keep_view()


def _linked_source(query: Mapping[str, str], sources: dict[str, str]) -> str:
    """The key of the source that a link asks for, else of the first."""
    first, wanted = next(iter(sources)), query.get("run")
    if not wanted:
        return first
    # keys only: a link must not make the server read a path of its author's choice
    fits = [key for key in sources if re.fullmatch(r"[0-9a-f]{8,64}", wanted) and key.startswith(wanted)]
    if wanted in SHIPPED_RUNS:
        fits = [source_of(wanted).key]
    if not fits:
        state.problems.append(
            f"The link asks for the run {wanted[:40]!r}, which is not in this store. "
            f"Showing {sources[first]} instead."
        )
    return fits[0] if fits else first


def _seen(source: Source, by: str) -> Source:
    """The source in the view that a link asks for; as it is, with the reason told, where it cannot."""
    if by not in VIEWS:
        state.problems.append(
            f"The link asks to see the run by {by[:20]!r}, which must be one of {', '.join(VIEWS)}."
        )
        return source
    try:
        return source.seen(by)
    except InputError as error:
        state.problems.append(f"The link asks to see the run by {by}: {error}")
        return source


def _read_mix(query: Mapping[str, str], source: Source) -> None:
    if "mix" in query:
        try:
            mix = read_mix(query["mix"])
            source.couplings(state.estimator, mix)
            state.mix = mix
        except InputError as error:
            state.problems.append(
                f"The link's domain mix cannot be used: {error} Showing the domains as sampled."
            )


def _read_removed(query: Mapping[str, str], source: Source) -> None:
    if query.get("m") == FREE:
        state.removed = None
    elif "m" in query:
        if re.fullmatch(r"[0-9]{1,4}", query["m"]) and 1 <= int(query["m"]) < source.blocks:
            state.removed = int(query["m"])
        else:
            state.problems.append(
                f"The link asks for M = {query['m'][:20]!r}, which must be a whole number from 1 to "
                f"{source.blocks - 1}; showing M = {state.removed}."
            )


def tray_from_link(text: str, units: Units) -> list[tuple[int, ...]]:
    """Picked states, as a link writes them."""
    return list(dict.fromkeys(state_from_link(part, units) for part in text.split("_")[:TRAY_LIMIT]))


def state_from_link(text: str, units: Units) -> tuple[int, ...]:
    """One state, as `state_in_link` writes it."""
    return units.parse(text.replace("-", ","))


def state_in_link(removed: tuple[int, ...], units: Units) -> str:
    """One state: "3-12a"."""
    return "-".join(map(str, units.stored(removed)))


LISTED: dict[str, Callable[[str, Units], dict]] = {  # states in a link: what of the view each part says
    "mark": lambda text, units: {"marks": marks_from_link(text, units)},
    "cur": lambda text, units: {"cursor": state_from_link(text, units)},
    "tray": lambda text, units: {"tray": tray_from_link(text, units)},
}


def checked_look(text: str) -> str:
    """How the lens shows the landscape; plainly where a link does not say it in the lens's words."""
    found = LOOK.fullmatch(text)
    try:
        low, high = map(float, found["zoom"].split(":")) if found and found["zoom"] else (0.0, 1.0)
    except ValueError:
        return ""
    return text if found and -math.inf < low < high < math.inf else ""


def marks_from_link(text: str, units: Units) -> dict[tuple[int, ...], str]:
    """{state: label} from "label:3-7-9_:1-2"."""
    parts = [part.rpartition(":") for part in text.split("_")[:MARK_LIMIT]]
    return {
        state_from_link(listed, units): " ".join(unquote(label).split())[:LABEL_LIMIT]
        for label, _, listed in parts
    }


def opened_source() -> Source | None:
    """The source of the view on a page that only reads it, link included; None, with the reason shown, when
    no run is at hand.
    """
    sources = list_sources()
    if not sources:
        st.error("No run is at hand: calibrate a model with 'python -m core calibrate', then reload.")
        return None
    read_link(sources)
    write_link()
    return source_of(state.source)


def link_of_view() -> dict[str, str]:
    """The view as a query: blocks, never ranks, so that links survive re-solving."""
    m = FREE if state.removed is None else str(state.removed)
    link = {"run": state.source[:8], "m": m, "e": state.estimator, "k": str(state.count)}
    units = source_of(state.source).units
    if units.by != BLOCK:
        link["by"] = units.by
    link |= {name: state[name] for name in RULES if state.get(name)}
    if state.mix is not None:
        link["mix"] = mix_text(state.mix)
    if state.cursor:
        link["cur"] = state_in_link(state.cursor, units)
    if state.tray:
        link["tray"] = "_".join(state_in_link(s, units) for s in state.tray)
    if state.marks:
        link["mark"] = "_".join(
            f"{label.replace('%', '%25').replace('_', '%5F')}:{state_in_link(s, units)}"
            for s, label in state.marks.items()
        )
    if state.panel:
        link["panel"] = state.panel
    if state.look:
        link["look"] = state.look
    return link


def write_link() -> None:
    """One history entry a commit."""
    state.link = link_of_view()
    if dict(st.query_params) != state.link:
        st.query_params.from_dict(state.link)
