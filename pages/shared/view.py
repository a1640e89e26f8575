"""The view that pages share: source, estimator, domain mix, M, count, cursor and tray.

It lives in session_state, outlives a page, and is in the URL (pages.shared.link).
"""

import re
from collections.abc import Callable
from typing import Any

import streamlit as st

from core.energy.sources import Source, open_source
from core.errors import InputError
from core.spectrum.constraints import Constraints, read_constraints, removed_by_groups
from core.spectrum.lowest import lowest_states
from core.spectrum.memory_budget import Budget, read_budget, with_budget
from core.store import folders
from core.store.runs import read_view

COUNTS = [100, 300, 1000, 2600]
TRAY_LIMIT = 50
WAIT = 0.7  # seconds a page may search; what is not proved by then goes on as a job
# constraints as text, empty: none; the same names in the URL
RULES = {"keep": "", "remove": "", "groups": "", "max_run": "", "fits": ""}
_EXPLORE = ("source", "estimator", "removed", "count", *RULES)
FORMS = ("cal_", "heal_", "home_")  # how the keys of the controls of calibration, Heal, Take home begin
state = st.session_state


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
    names = {*_EXPLORE, *(name for name in (*state, *kept) if name.startswith(FORMS))}
    for name in names:
        if name in state:
            kept[name] = state[name]
        elif name in kept:
            state[name] = kept[name]


def send_again(page: str) -> None:
    """Of the app, before a page is drawn: controls that were not on the page before get their values, which
    Streamlit sends to the browser only where they were set in this very run. Those of Heal and Take home
    come and go on one page, too.
    """
    came, state.page_before = state.get("page_before") != page, page
    for name in [name for name in state if str(name).startswith(FORMS if came else ("heal_", "home_"))]:
        state[name] = state[name]


def as_it_is_now(key: str) -> bytes:
    """A key, and when its run was last written: where the texts of a run lie may change, and what secants and
    pairs it has. Any other word as it is.

    Bytes, since Streamlit hashes what comes back by the same rule: words in it would come here again.
    """
    own = read_view(key)[0]
    file = folders.home() / "runs" / own / "run.json"
    known = re.fullmatch("[0-9a-f]{64}", own) and file.is_file()
    return f"{key} {file.stat().st_mtime_ns if known else 0}".encode()


# how arguments name what a cache holds: whatever is made of a source is made anew when its run is written
# anew
AS_WRITTEN: dict[str | type[Any], Callable[[Any], Any]] = {str: as_it_is_now, Constraints: repr}


@st.cache_resource(max_entries=8, show_spinner=False, hash_funcs=AS_WRITTEN)
def source_of(key: str) -> Source:
    """The source of a key, opened once for all sessions, and again when its run was written anew."""
    return open_source(key)


def rules_in_view(source: Source) -> tuple[Constraints, Budget | None]:
    """The constraints that the view's texts ask for, without the budget, and the budget.

    Errors: InputError.
    """
    rules = read_constraints({name: state.get(name, "") for name in RULES}, source.units)
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


def removed_in_view(rules: Constraints) -> int | None:
    """M as it is given; where it is left free, what groups remove together, and None where a budget decides.
    Errors: InputError where nothing says how much goes.
    """
    if state.removed is not None or rules.budgeted:
        return state.removed
    if rules.groups:
        return removed_by_groups(rules)
    fits = state.fits.strip()
    why = f"the whole model fits the budget {fits[:80]!r}" if fits else "M is left free"
    raise InputError(f"Nothing says how much to remove: {why}. Give M, a smaller budget, or groups.")


def clear_rules() -> None:
    """Of a button: nothing is asked of a state but M, which is given again where the rules had to say it."""
    state.update(RULES)
    if state.removed is None:
        state.removed = source_of(state.source).opening


@st.cache_resource(max_entries=24, show_spinner=False, hash_funcs=AS_WRITTEN)
def _lowest(
    key: str, estimator: str, mix: dict | None, removed: int | None, rules: Constraints
) -> tuple[int, ...] | None:
    H = source_of(key).couplings(estimator, mix)
    found = lowest_states(H, removed, 1, constraints=rules, time_limit=WAIT)
    return found.removed[0] if len(found.x) else None


def state_in_view(source: Source) -> tuple[int, ...] | None:
    """The state that Explore shows: the selected one, at first the lowest; None where no state fits the
    rules.
    """
    if state.cursor:
        return tuple(state.cursor)
    try:
        rules = constraints_in_view(source)
        return _lowest(source.key, state.estimator, state.mix, removed_in_view(rules), rules)
    except InputError:
        return None


def m_in_view(source: Source) -> int:
    """One M for what needs one: as `removed_in_view`, and where a budget decides, that of the lowest state;
    of a view without any, which Explore tells, that at which the source opens.
    """
    try:
        rules = constraints_in_view(source)
        removed = removed_in_view(rules)
        if removed is not None:
            return removed
        lowest = _lowest(source.key, state.estimator, state.mix, None, rules)
        return source.opening if lowest is None else len(lowest)
    except InputError:
        return source.opening


def open_at_first(source: Source) -> None:
    """The view of a source as it opens: nothing of another's choices is left."""
    state.update(
        source=source.key,
        estimator=source.default,
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


def see(by: str) -> None:
    """The view of the same run by block or by branch: picked and marked states that it can say stay."""
    before = source_of(state.source)
    after = before.seen(by)
    moved = lambda s: after.units.state(before.units.stored(s))  # noqa: E731
    kept = {
        "tray": [m for s in state.tray if (m := moved(s)) is not None],
        "marks": {m: label for s, label in state.marks.items() if (m := moved(s)) is not None},
        "estimator": state.estimator if state.estimator in after.estimators else after.default,
        "mix": state.mix,
    }
    open_at_first(after)
    state.update(kept)
    if not after.mixes(state.estimator):
        state.mix = None


def open_run(key: str) -> None:
    """Make a run the view, as if it had been chosen in Explore."""
    open_at_first(source_of(key))
    state.setdefault("problems", [])
    state.update(count=state.get("count", COUNTS[-1]), moves=state.get("moves", 0) + 1)
    keep_view()
