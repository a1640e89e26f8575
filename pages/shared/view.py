"""The view that pages share: source, estimator, domain mix, M, count, cursor and tray.

It lives in session_state, outlives a page, and is in the URL.
"""

import math
import re
from collections.abc import Callable, Mapping
from urllib.parse import unquote

import streamlit as st
from streamlit.runtime.pages_manager import PagesManager

from core.energy.mix import mix_text, read_mix
from core.energy.sources import Source, list_sources, open_source
from core.errors import InputError
from core.ising.states import parse_blocks
from core.spectrum.budget import Budget, read_budget, with_budget
from core.spectrum.constraints import Constraints, read_constraints

COUNTS = [100, 300, 1000, 2600]
TRAY_LIMIT = 50
# constraints as text, empty: none; the same names in the URL
RULES = {"keep": "", "remove": "", "groups": "", "max_run": "", "fits": ""}
RULE_LIMIT = 4000
PANELS = ("levels", "density", "states", "matrix", "arcs")  # what a link may show alone
MARK_LIMIT, LABEL_LIMIT = 50, 40
LOOK = re.compile(
    r"(density~?)?(spin~?)?(structure~?)?(-?[0-9.e+-]{1,16}:[0-9.e+-]{1,16})?"
)  # how the lens shows the landscape, in its own words
_EXPLORE = ("source", "estimator", "removed", "count", *RULES)
FORM = "cal_"  # how the keys of the calibration form begin
state = st.session_state


def through_app() -> None:
    """Run app.py instead, where Streamlit ran a page of the pages/ folder directly.

    On a fresh server it does so for a link to a page's own path, before app.py could call st.navigation.
    """
    if PagesManager.uses_pages_directory:
        PagesManager.uses_pages_directory = False
        st.rerun()


def plain(text: str) -> str:
    """A sentence for st.warning and the like, in which nothing is Markdown: names come from files and
    links.
    """
    # an invisible joint: bare addresses would become links even when escaped
    text = re.sub(r"(://|www\.)", "\u2060\\1", text)
    return re.sub(r"([\\`*_{}\[\]()#+\-.!|<>~$:@&])", r"\\\1", text)


def keep_view() -> None:
    """Hold on to the values of widgets while another page is shown."""
    kept = state.setdefault("kept_view", {})
    # what Streamlit drops on other pages
    names = {*_EXPLORE, *(name for name in (*state, *kept) if name.startswith(FORM))}
    for name in names:
        if name in state:
            kept[name] = state[name]
        elif name in kept:
            state[name] = kept[name]


@st.cache_resource(max_entries=8, show_spinner=False)
def source_of(key: str) -> Source:
    """The source of a key, opened once for all sessions."""
    return open_source(key)


def rules_in_view(source: Source) -> tuple[Constraints, Budget | None]:
    """The constraints that the view's texts ask for, without the budget, and the budget.

    Errors: InputError.
    """
    rules = read_constraints({name: state.get(name, "") for name in RULES}, source.blocks, source.kinds)
    text = state.get("fits", "").strip()
    if text and source.run is None:
        raise InputError(
            f"{source.name} is a bare matrix, which does not say what its blocks take; clear the budget "
            f"{text[:40]!r}."
        )
    return rules, read_budget(text) if text else None


def constraints_in_view(source: Source) -> Constraints:
    """All that a listed state must respect, the budget included. Errors: InputError."""
    rules, budget = rules_in_view(source)
    return rules if budget is None else with_budget(source.run.meta["model"], budget, rules)


def open_at_first(source: Source) -> None:
    """The view of a source as it opens: nothing of another's choices is left."""
    state.update(
        source=source.key,
        estimator=source.estimators[0],
        removed=source.opening,
        mix=None,
        cursor=None,
        tray=[],
        reasons={},
        marks={},
        prune_state=None,
        panel=None,
        look="",
        looked_at=None,
    )
    state.update(RULES)


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
    source = source_of(_linked_source(query, sources))
    open_at_first(source)
    state.update(count=COUNTS[-1], seq=state.get("seq", -1) + 1)
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
                state.update(read(query[name], source.blocks))
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
    if not fits and wanted != "demo":
        state.problems.append(
            f"The link asks for the run {wanted[:40]!r}, which is not in this store. "
            "Showing the demo instead."
        )
    return fits[0] if fits else first


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
    if "m" in query:
        if re.fullmatch(r"[0-9]{1,4}", query["m"]) and 1 <= int(query["m"]) < source.blocks:
            state.removed = int(query["m"])
        else:
            state.problems.append(
                f"The link asks for M = {query['m'][:20]!r}, which must be a whole number from 1 to "
                f"{source.blocks - 1}; showing M = {state.removed}."
            )


def open_run(key: str) -> None:
    """Make a run the view, as if it had been chosen in Explore."""
    open_at_first(source_of(key))
    state.setdefault("problems", [])
    state.update(count=state.get("count", COUNTS[-1]), seq=state.get("seq", -1) + 1)
    keep_view()


def tray_from_link(text: str, blocks: int) -> list[tuple[int, ...]]:
    """Picked states, as a link writes them."""
    return list(dict.fromkeys(blocks_from_link(part, blocks) for part in text.split("_")[:TRAY_LIMIT]))


def blocks_from_link(text: str, blocks: int) -> tuple[int, ...]:
    """One state, as a link writes it."""
    return parse_blocks(text.replace("-", ","), blocks)


LISTED: dict[str, Callable[[str, int], dict]] = {  # states in a link: what of the view each part says
    "mark": lambda text, blocks: {"marks": marks_from_link(text, blocks)},
    "cur": lambda text, blocks: {"cursor": blocks_from_link(text, blocks)},
    "tray": lambda text, blocks: {"tray": tray_from_link(text, blocks)},
}


def checked_look(text: str) -> str:
    """How the lens shows the landscape; plainly where a link does not say it in the lens's words."""
    found = LOOK.fullmatch(text)
    try:
        low, high = map(float, found[4].split(":")) if found and found[4] else (0.0, 1.0)
    except ValueError:
        return ""
    return text if found and -math.inf < low < high < math.inf else ""


def marks_from_link(text: str, blocks: int) -> dict[tuple[int, ...], str]:
    """{state: label} from "label:3-7-9_:1-2"."""
    parts = [part.rpartition(":") for part in text.split("_")[:MARK_LIMIT]]
    return {
        blocks_from_link(listed, blocks): " ".join(unquote(label).split())[:LABEL_LIMIT]
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
    link = {"run": state.source[:8], "m": str(state.removed), "e": state.estimator, "k": str(state.count)}
    link |= {name: state[name] for name in RULES if state.get(name)}
    if state.mix is not None:
        link["mix"] = mix_text(state.mix)
    if state.cursor:
        link["cur"] = "-".join(map(str, state.cursor))
    if state.tray:
        link["tray"] = "_".join("-".join(map(str, s)) for s in state.tray)
    if state.marks:
        link["mark"] = "_".join(
            f"{label.replace('%', '%25').replace('_', '%5F')}:{'-'.join(map(str, s))}"
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
