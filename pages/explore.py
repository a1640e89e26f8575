"""Explore: the landscape of one source at one M, in one linked component."""

import html

import streamlit as st

from assets.lens import lens
from core.comparison import measured_increases
from core.couplings import ESTIMATORS
from core.errors import InputError
from core.ising import parse_matrix
from core.lens import Landscape, exponent, landscape, landscape_data, proof, tray_data, with_power
from core.results import Results
from core.runs import canonical_key
from core.sources import MATRIX, Source, list_sources, store_matrix
from core.spectrum import lowest_states
from core.states import parse_blocks
from pages.parts import prune_panel
from pages.view import COUNTS, plain, read_link, source_of, through_app, write_link

LABELS = {**{name: e.label for name, e in ESTIMATORS.items()}, MATRIX: "as given"}
UNITS = {**{name: e.unit for name, e in ESTIMATORS.items()}, MATRIX: "as given"}
KEY = "lens"
state = st.session_state


@st.cache_resource(max_entries=24, show_spinner="Solving…")
def solve(key: str, estimator: str, removed: int, count: int) -> Landscape:
    H = source_of(key).couplings(estimator)
    return landscape(H, lowest_states(H, removed, count))


@st.cache_resource(max_entries=24, show_spinner=False)
def picture(key: str, estimator: str, removed: int, count: int) -> dict:
    source, model = source_of(key), source_of(key).run.meta["model"] if source_of(key).run else None
    data = landscape_data(
        solve(key, estimator, removed, count), source.name, UNITS[estimator], model and model["blocks"], model and model["parameters"]
    )
    return {**data, "version": canonical_key({"k": key, "e": estimator, "m": removed, "c": count})}


def on_commit() -> None:
    message = state[KEY]["commit"]
    blocks = source_of(state.source).blocks
    state.seq = message["seq"]
    state.cursor = parse_blocks(",".join(map(str, message["cursor"])), blocks)
    state.tray = [parse_blocks(",".join(map(str, s)), blocks) for s in message["tray"]]


def on_prune() -> None:
    state.prune_state = parse_blocks(",".join(map(str, state[KEY]["prune"]["removed"])), source_of(state.source).blocks)
    state.prune_asked = True


def close_prune() -> None:
    state.prune_state = None


@st.dialog("Prune this state", width="large", on_dismiss=close_prune)
def prune_dialog(key: str, removed: tuple[int, ...]) -> None:
    prune_panel(source_of(key).run, removed)


def on_source() -> None:
    source = source_of(state.source)
    state.update(estimator=source.estimators[0], removed=source.opening, cursor=None, tray=[])


def on_upload() -> None:
    if state.upload is None:
        return
    try:
        state.source = store_matrix(parse_matrix(state.upload, state.upload.name), state.upload.name).key
        on_source()
    except InputError as error:
        state.problems.append(str(error))


def controls(source: Source, sources: dict[str, str]):
    """The row above the picture; returns the places of the facts and of the proof."""
    with st.container(key="controls"):
        run, m, estimator, count, facts, badge = st.columns([2.3, 1.25, 1.35, 0.95, 2.2, 2.5], vertical_alignment="top")
    run.selectbox("Run", list(sources), format_func=sources.get, key="source", on_change=on_source)
    m.number_input(
        f"Remove M of {source.blocks}",
        1,
        source.blocks - 1,
        key="removed",
        help="How many blocks to remove. Each state is one way to choose them.",
    )
    estimator.selectbox(
        "Couplings",
        source.estimators,
        format_func=LABELS.get,
        key="estimator",
        help="\n".join(f"- {ESTIMATORS[e].about}" for e in source.estimators if e in ESTIMATORS) or None,
    )
    count.selectbox("States", COUNTS, key="count", help="How many of the lowest states to list.")
    return facts, badge


def show_facts(found: Landscape, facts, badge) -> None:
    s, power = found.spectrum, exponent(found.spectrum.energies)
    values = {"E₀": with_power(s.energies[0], power), "gap": with_power(s.gap, power), "minima": str(int(found.minimum.sum()))}
    if s.degeneracy > 1:
        values["ground states"] = str(s.degeneracy)
    facts.html(
        '<div class="facts">' + "".join(f"<div><span>{name}</span><b>{value}</b></div>" for name, value in values.items()) + "</div>"
    )
    badge.html(f'<div class="proof"><b>✓ exact</b>&ensp;{html.escape(proof(s, power))}</div>')


@st.fragment
def draw(found: Landscape, data: dict) -> None:
    write_link()
    run = source_of(state.source).run
    measured = {"-".join(map(str, s)): list(v) for s, v in measured_increases(run, Results()).items()} if run else {}
    lens(
        {
            "measured": measured,
            "landscape": data,
            "tray": tray_data(found, state.tray),
            "cursor": list(state.cursor or found.ground),
            "seq": state.seq,
        },
        KEY,
        on_commit,
        on_prune,
    )
    if state.pop("prune_asked", False):  # the dialog belongs to the page, not to this fragment
        st.rerun()


def show_upload() -> None:
    with st.expander("Explore a matrix of your own"):
        st.file_uploader(
            "A symmetric coupling matrix: .npy, .npz (key H) or .csv", type=["npy", "npz", "csv"], key="upload", on_change=on_upload
        )


def page() -> None:
    sources = list_sources()
    if not sources:
        st.error(
            "No run is at hand: the bundled demo is missing from assets/demo/run. Calibrate a model with 'python -m core calibrate', then reload."
        )
        return
    read_link(sources)
    if state.source not in sources:
        sources[state.source] = source_of(state.source).name
    facts, badge = controls(source_of(state.source), sources)
    for problem in state.problems:
        st.warning(plain(problem))
    state.problems = []
    view = (state.source, state.estimator, state.removed, state.count)
    try:
        found = solve(*view)
    except InputError as error:
        st.error(plain(str(error)))
        write_link()
        show_upload()
        return
    show_facts(found, facts, badge)
    draw(found, picture(*view))
    if state.get("prune_state") and source_of(state.source).run:
        prune_dialog(state.source, state.prune_state)
    show_upload()


through_app()
page()
