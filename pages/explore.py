"""Explore: the landscape of one source at one M, in one linked component."""

import numpy as np
import streamlit as st

from assets.lens import lens
from core import jobs
from core.compare.comparison import Mean, measured_kl
from core.energy.couplings import Misjudged, from_gradients, misjudged, rows_of
from core.energy.mix import mix_weights
from core.energy.sources import Source, list_sources
from core.energy.uncertainty import energy_noise
from core.errors import InputError
from core.ising.states import check_blocks, indicator, short_hashes
from core.job_kinds.solve import TIME_LIMIT, solve_request, solved
from core.landscape.candidates import Candidate, candidates, one_per_basin
from core.landscape.landscape import Landscape, landscape
from core.landscape.locate import place
from core.landscape.wording import excess, progress_of_proof, significant
from core.spectrum.constraints import Constraints
from core.spectrum.lowest import lowest_states
from core.store import folders
from core.store.results import Results
from core.store.runs import canonical_key, read_view, view_key
from core.view.lens import landscape_data, tray_data
from core.view.messages import Asked, Commit, FileData, LandscapeData, MarkData, Snippets
from core.view.report import report_html
from core.view.snippets import View, cli_line, python_snippet
from core.view.state_files import Increases, states_csv, states_json
from core.view.unit_axes import titled
from pages.explore_parts.controls import controls, hold, show_facts
from pages.explore_parts.health import show_check, show_health
from pages.explore_parts.uploads import add_marks, show_reading, show_upload
from pages.shared.chat import chat_panel
from pages.shared.evidence import choices_of_others, measured_so_far
from pages.shared.exports import home_link, prune_panel
from pages.shared.link import PANELS, checked_look, read_link, write_link
from pages.shared.parts import sparkline, start_job, watch
from pages.shared.view import (
    AS_WRITTEN,
    RULES,
    TRAY_LIMIT,
    WAIT,
    as_it_is_now,
    clear_rules,
    constraints_in_view,
    plain,
    removed_in_view,
    rules_in_view,
    source_of,
)

KEY = "lens"
LOWEST = 100  # states that a warning looks at
PICKED = 5  # states that one click picks
# of the view: what its landscape depends on
SOLVED = ("source", "estimator", "mix", "removed", "count", *RULES)
ALONE = (
    "<style>header[data-testid=stHeader], .st-key-chip { display: none !important; } "
    ".stMainBlockContainer { padding: 0 !important; }</style>"
)
state = st.session_state


@st.cache_resource(max_entries=24, show_spinner=False, hash_funcs=AS_WRITTEN)
def solve(
    key: str,
    estimator: str,
    mix: dict | None,
    removed: int | None,
    count: int,
    constraints: Constraints,
    job_id: str | None,
) -> Landscape | None:
    """What a page may wait for, or what the job has found."""
    H = source_of(key).couplings(estimator, mix)
    found = solved(jobs.read(job_id).result, H) if job_id else None
    found = found or lowest_states(H, removed, count, constraints=constraints, time_limit=WAIT)
    return landscape(H, found, constraints, free=removed is None) if len(found.x) else None


@st.cache_resource(max_entries=24, show_spinner=False, hash_funcs=AS_WRITTEN)
def wrong(key: str, estimator: str, mix: dict | None) -> list[Misjudged]:
    """The blocks of a source that gradients misjudge, where the couplings come from those."""
    run = source_of(key).run
    return misjudged(run, mix) if run and from_gradients(estimator) else []


@st.cache_resource(max_entries=24, show_spinner=False, hash_funcs=AS_WRITTEN)
def picture(
    key: str,
    estimator: str,
    mix: dict | None,
    removed: int | None,
    count: int,
    constraints: Constraints,
    job_id: str | None,
) -> LandscapeData:
    """The lens's data of a view, kept between reruns."""
    source, run = source_of(key), source_of(key).run
    model = run.meta["model"] if run else None
    rows = rows_of(run, estimator) if run else None
    data = landscape_data(
        solve(key, estimator, mix, removed, count, constraints, job_id),
        source.name,
        source.about(estimator).unit,
        model["blocks"] if model else None,
        model["parameters"] if model else None,
        rows.A if rows else None,
        mix_weights(run, mix, rows) if rows else None,
        {
            b.block: f"removed alone it costs {significant(b.increase)} nats, its gradient hides that"
            for b in wrong(key, estimator, mix)
        },
        source.units,
        constraints,
    )
    named = {
        "k": as_it_is_now(key).decode(),
        "e": estimator,
        "mix": mix,
        "m": removed,
        "c": count,
        "rules": repr(constraints),
        "job": job_id,
    }
    return {
        **data,
        "keep": list(constraints.keep),
        "remove": list(constraints.remove),
        "source": key,
        "version": canonical_key(named),
    }


@st.cache_resource(max_entries=24, show_spinner=False, hash_funcs={**AS_WRITTEN, Landscape: id})
def noise(key: str, estimator: str, mix: dict | None, found: Landscape) -> np.ndarray | None:
    """Standard errors of the energies above the ground state, float64 [K]; None where no sample says."""
    return energy_noise(source_of(key), estimator, found.spectrum.x, mix)


@st.cache_resource(max_entries=4, show_spinner=False)
def distances_so_far(key: str, home: str, stamp: tuple) -> dict[tuple[int, ...], Mean]:
    """The distances to the original that are known of a source, as `measured_so_far`."""
    run = source_of(key).run
    return measured_kl(run, Results()) if run else {}


def blocks_of(message: list) -> tuple[int, ...]:
    """A state that the browser sent. Errors: InputError."""
    return check_blocks(map(int, message), source_of(state.source).blocks)


def on_commit() -> None:
    """What the lens says: selection, look, and what it asks for."""
    message: Commit = state[KEY]["commit"]
    # sent before another run was chosen, or said once more
    if message["source"] != state.source or message["seq"] <= state.get("seq", 0):
        return
    state.seq = message["seq"]
    # else sent before another M was chosen
    if message["cursor"] is not None and state.removed in (None, len(message["cursor"])):
        state.cursor = blocks_of(message["cursor"])
    state.look = checked_look(message["look"])
    for asked in message["asks"]:
        ASKED[asked["ask"]](asked)


def set_rule(unit: int, rule: str) -> None:
    """Also of a button: a unit stays in every listed state ("keep"), goes in every one ("remove"), or is
    "free".
    """
    units = source_of(state.source).units
    ruled = {name: {*units.parse(state[name])} - {unit} for name in ("keep", "remove") if state[name].strip()}
    if rule != "free":
        ruled.setdefault(rule, set()).add(unit)
    state.update({name: units.said(some) for name, some in ruled.items()})
    gone = set(state.cursor or ())
    if gone & ruled.get("keep", set()) or ruled.get("remove", set()) - gone:
        state.cursor = None


def ask_rule(asked: Asked) -> None:
    """A click on the strip: only this unit, the form may have changed since the picture was drawn."""
    try:
        set_rule(blocks_of([asked["unit"]])[0], asked["ask"])
    except InputError:  # of what the form says: the page tells it
        pass


def ask_add(asked: Asked) -> None:
    """A state into the tray."""
    state.tray = list(dict.fromkeys([*state.tray, blocks_of(asked["state"])]))[:TRAY_LIMIT]


def ask_drop(asked: Asked) -> None:
    """A state out of the tray."""
    state.tray = [s for s in state.tray if s != blocks_of(asked["state"])]


def ask_prune(asked: Asked) -> None:
    """Open the prune dialog for a state."""
    state.update(prune_state=blocks_of(asked["state"]), whole_page=True)


def ask_open(asked: Asked) -> None:
    """A state of another M: its own landscape, with it selected."""
    blocks = blocks_of(asked["state"])
    state.update(cursor=blocks, removed=len(blocks))


def ask_mark(asked: Asked) -> None:
    """Mark a state that was typed by hand."""
    blocks = blocks_of(asked["state"])
    add_marks({blocks: f"by hand {short_hashes(indicator([blocks], source_of(state.source).blocks))[0]}"})


def ask_unmark(asked: Asked) -> None:
    """Take a mark back."""
    state.marks = {s: label for s, label in state.marks.items() if s != blocks_of(asked["state"])}


def ask_panel(asked: Asked) -> None:
    """Show one panel alone, or all again."""
    state.update(panel=asked["panel"] if asked["panel"] in PANELS else None, whole_page=True)


def ask_later(name: str, what: str) -> None:
    """What only the run that follows can do."""
    state[name] = [*state.get(name, ()), what]


ASKED = {
    "add": ask_add,
    "drop": ask_drop,
    "keep": ask_rule,
    "remove": ask_rule,
    "free": ask_rule,
    "prune": ask_prune,
    "open": ask_open,
    "mark": ask_mark,
    "unmark": ask_unmark,
    "panel": ask_panel,
    "compare": lambda asked: state.update(go_compare=True, whole_page=True),
    "pick": lambda asked: ask_later("picks", "pick"),
    "basins": lambda asked: ask_later("picks", "basins"),
    "file": lambda asked: ask_later("files", asked["kind"]),
}


def close_prune() -> None:
    """The dialog was dismissed."""
    state.prune_state = None


@st.dialog("Prune this state", width="large", on_dismiss=close_prune)
def prune_dialog(key: str, removed: tuple[int, ...]) -> None:
    """Prune a state and talk with it, over the page."""
    prune_panel(source_of(key).run, removed)
    home_link()
    chat_panel(source_of(key).run, removed)


def show_misjudged(found: Landscape, rules: Constraints) -> None:
    """The worst block that low states remove, that costs far more than its gradient says, and of which no
    rule speaks.
    """
    lowest, ruled = found.spectrum.x[:LOWEST], {*rules.keep, *rules.remove}
    shown = [
        b
        for b in wrong(state.source, state.estimator, state.mix)
        if lowest[:, b.block].any() and b.block not in ruled
    ]
    if shown:
        worst = max(shown, key=lambda b: b.increase)
        called = titled(source_of(state.source).units, worst.block)
        often = f"in {int(lowest[:, worst.block].sum())} of the {len(lowest)} lowest states"
        with st.container(key="misjudged", horizontal=True, vertical_alignment="center"):
            st.markdown(
                f"{called}, removed {often}, costs {significant(worst.increase)} nats alone; its "
                "gradient predicts "
                f"{significant(worst.predicted)}: keep it.",
                width="content",
            )
            unit = called[0].lower() + called[1:]
            st.button(f"Keep {unit}", on_click=set_rule, args=(worst.block, "keep"), type="tertiary")


def show_excess(source: Source, found: Landscape, rules: Constraints) -> None:
    """Where M is left free and the lowest state removes far more than the rules ask for: the energy has its
    minimum there.
    """
    if found.removed is not None:
        return
    told = excess(rules, found.ground, source.units)
    if told is None:
        return
    need, sentence = told
    with st.container(key="excess", horizontal=True, vertical_alignment="center"):
        st.markdown(sentence, width="content")
        fewer = {"removed": need, "cursor": None}
        st.button(f"Remove {need}", on_click=state.update, args=(fewer,), type="tertiary")
        if state.estimator != source.default:
            usual = {"estimator": source.default, "cursor": None}
            label = f"Take {source.about(source.default).label}"
            st.button(label, on_click=state.update, args=(usual,), type="tertiary")


def show_search(request: dict, curve: tuple[tuple[float, float, float], ...]) -> None:
    """Where the list is not proved: how far the proof is, and a job that goes on, with its progress."""
    if curve:
        shares = [max(0.0, 100 * bound / e) for _, bound, e in curve if 0 < e < np.inf]
        with st.container(key="proof", horizontal=True, vertical_alignment="center"):
            st.caption(progress_of_proof(*curve[-1]), width="content")
            if len(shares) > 2:
                st.html(sparkline(shares, "the bound, in shares of the K-th energy, as the search went on"))
    job = jobs.find("solve", request)
    if job and job.status == "done":
        st.info(f"Searched for {job.result['seconds'] / 60:.0f} minutes without coming to a proof.")
        return
    if not (job and job.active):
        st.button(
            f"Search on for a proof (up to {TIME_LIMIT / 60:.0f} minutes, in the background)",
            on_click=start_job,
            args=("solve", request),
        )
    if job:
        st.fragment(watch, run_every=1 if job.active else None)(job.id, job.active)


def marks_data(found: Landscape, rules: Constraints, others: dict[tuple[int, ...], str]) -> list[MarkData]:
    """Marked states on the axes of the landscape: own ones, and other methods' choices."""
    labels = {**others, **state.marks}
    states = [s for s in labels if max(s, default=0) < len(found.H)]
    hashes = short_hashes(indicator(states, len(found.H))) if states else []
    word = source_of(state.source).units.word
    return [
        {
            "removed": list(p.removed),
            "label": labels[p.removed] or hashed,
            "rank": p.rank,
            "delta": p.delta,
            "energy": p.energy,
            "reason": p.words,
            "hash": hashed,
            "own": p.removed in state.marks,
        }
        for p, hashed in zip(
            place(found.H, found.spectrum, states, rules, word, found.removed is None), hashes
        )
    ]


def pick_states(found: Landscape) -> None:
    """Fill the tray with low states that differ from each other and from those picked before."""
    spread, units = noise(state.source, state.estimator, state.mix, found), source_of(state.source).units
    picked = candidates(
        found.H,
        found.spectrum,
        PICKED,
        noise=spread,
        taken=[s for s in state.tray if found.removed in (None, len(s))],
        names=units.names,
        word=units.word,
        tree=found.tree,
    ).chosen
    put_into_tray(picked)


def pick_basins(found: Landscape) -> None:
    """Fill the tray with the bottoms of the most persistent valleys that are not in it yet."""
    here = [s for s in state.tray if found.removed in (None, len(s))]
    put_into_tray(one_per_basin(found.H, found.tree, PICKED, here))


def put_into_tray(picked: list[Candidate]) -> None:
    """Add states, each with its reason."""
    state.reasons = {**state.reasons, **{c.removed: c.reason for c in picked}}
    state.tray = list(dict.fromkeys([*state.tray, *(c.removed for c in picked)]))[:TRAY_LIMIT]


@st.fragment
def draw(
    found: Landscape, data: LandscapeData, view: View, others: dict[tuple[int, ...], str], solved: tuple
) -> None:
    """The lens: the landscape with tray, marks, measurements and files; solved: what it depends on."""
    # what was asked for belongs to the page, not to this fragment; the form's changes come with a message of
    # the lens, too, where the browser sends both at once
    if state.pop("whole_page", False) or solved != solved_in_view():
        state.from_lens = True
        st.rerun()
    for pick in state.pop("picks", ()):
        {"pick": pick_states, "basins": pick_basins}[pick](found)
    write_link()
    measured = measured_so_far(state.source, str(folders.home()), Results().stamp)
    distances = distances_so_far(state.source, str(folders.home()), Results().stamp)
    lens(
        {
            "measured": {
                "-".join(map(str, s)): [*v, *([distances[s].mean] if s in distances else [])]
                for s, v in measured.items()
            },
            "landscape": data,
            "tray": tray_data(found, state.tray, state.reasons),
            "marks": marks_data(found, view.ruled, others),
            "cursor": list(
                state.cursor if state.cursor and found.removed in (None, len(state.cursor)) else found.ground
            ),
            "seq": state.get("seq", 0),
            "moves": state.moves,
            "panel": state.panel,
            "look": state.look,
            "snippets": snippets_of(view),
            "files": [file_of(kind, view, found, measured) for kind in state.pop("files", ())],
        },
        KEY,
        on_commit,
    )


def solved_in_view() -> tuple:
    """What the landscape of the view depends on, as the form has it."""
    return tuple(state[name] for name in SOLVED)


def file_of(kind: str, view: View, found: Landscape, measured: Increases) -> FileData:
    """What the browser saves as a file: only the run that follows the question carries it."""
    made = {
        "csv": lambda: states_csv(found, measured, view.source.units),
        "json": lambda: states_json(view, found, measured),
        "html": lambda: report_html(view, found, state.tray, measured=measured, reasons=state.reasons),
    }
    return {"kind": kind, "text": made[kind]()}


def snippets_of(view: View) -> Snippets:
    """The code and the command that list the same states."""
    try:
        return {"python": python_snippet(view), "cli": cli_line(view)}
    except InputError as error:  # of a source that is kept nowhere
        return {"python": f"# {error}", "cli": f"# {error}"}


def view_solved(request: dict, removed: int | None, rules: Constraints) -> tuple:
    """What `solve` and `picture` are asked for: the view, and the job that has searched it to the end."""
    job = jobs.find("solve", request)
    searched = job.id if job and job.status == "done" else None
    return (state.source, state.estimator, state.mix, removed, state.count, rules, searched)


def keep_look(view: tuple) -> None:
    """How the lens looks at the landscape stays, but for a stretch of another landscape's energy axis."""
    if state.looked_at not in (None, view):
        state.look = "~".join(part for part in state.look.split("~") if ":" not in part)
    state.looked_at = view


def show_refusal(error: InputError) -> None:
    """Why the view cannot be solved, and the ways out of it."""
    st.error(plain(str(error)))
    if any(state[name].strip() for name in RULES):
        st.button("Clear the rules", on_click=clear_rules)
    if state.mix is not None:
        st.button("Domains as sampled", on_click=state.update, args=({"mix": None},))
    if state.removed is None:
        m = source_of(state.source).opening
        st.button(f"Remove {m}", on_click=state.update, args=({"removed": m},))
    write_link()
    show_upload()


def page() -> None:
    """The whole page."""
    sources = list_sources()
    if not sources:
        st.error(
            "No run is at hand: those that ship are missing from assets. Calibrate a model with "
            "'python -m core calibrate', then reload."
        )
        return
    # its message was sent with an address that need not have heard of the one before
    if not state.pop("from_lens", False):
        read_link(sources)
    own, by = read_view(state.source)
    sources = {view_key(key, by) if key == own else key: name for key, name in sources.items()}
    if state.source not in sources:
        sources[state.source] = source_of(state.source).name
    if state.pop("go_compare", False):
        st.switch_page("pages/compare.py")
    source = source_of(state.source)
    if state.panel:  # one panel, alone: for a talk, or inside another page
        st.html(ALONE)
        hold("source", "estimator", "removed", "count", *RULES)
        facts = badge = None
    else:
        facts, badge = controls(source, sources)
    for problem in state.problems:
        st.warning(plain(problem))
    state.problems = []
    show_reading()
    try:
        rules = constraints_in_view(source)
        mix = source.check_mix(state.mix)  # shares of sum 1: one mix, one search, however it was set
        removed = removed_in_view(rules)
        request = solve_request(state.source, state.estimator, removed, state.count, rules, mix)
        view = view_solved(request, removed, rules)
        found = solve(*view)
        keep_look(view)
    except InputError as error:
        show_refusal(error)
        return
    if found is None:
        st.info("No state that fits the rules was found in the time a page may take.")
        show_search(request, ())
        st.button("Clear the rules", on_click=clear_rules)
        write_link()
        return
    if facts is not None:
        show_facts(found, facts, badge)
        if not found.spectrum.exact:
            show_search(request, found.spectrum.curve)
        show_health(source, found)
        show_check(source, found)
        show_misjudged(found, rules)
        show_excess(source, found, rules)
    others = choices_of_others(source.run, len(found.ground)) if source.run else {}
    plain_rules, budget = rules_in_view(source)
    draw(
        found,
        picture(*view),
        View(source, state.estimator, removed, state.count, mix, plain_rules, budget),
        others,
        solved_in_view(),
    )
    if state.get("prune_state") and source.run:
        prune_dialog(state.source, state.prune_state)
    if facts is not None:
        show_upload()


page()
