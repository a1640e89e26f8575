"""Explore: the landscape of one source at one M, in one linked component."""

import html

import streamlit as st

from assets.lens import lens
from core import jobs
from core.comparison import measured_increases
from core.constraints import Constraints, read_constraints
from core.couplings import Misjudged, misjudged, rows_of
from core.errors import InputError
from core.ising import parse_matrix
from core.lens import Landscape, exponent, landscape, landscape_data, proof, significant, tray_data, with_power
from core.mix import in_percent, mix_label, mix_weights, sampled_percent, worth
from core.posterior import learned_at
from core.results import Results
from core.runs import canonical_key
from core.solving import TIME_LIMIT, solve_request, solved
from core.sources import Source, list_sources, store_matrix
from core.spectrum import lowest_states
from core.states import parse_blocks
from pages.parts import prune_panel, watch
from pages.view import COUNTS, RULES, open_at_first, plain, read_link, source_of, through_app, write_link

KEY = "lens"
SLIDERS = 24  # domains that have one
WAIT = 0.7  # seconds a page may search; what is not proved by then goes on as a job
state = st.session_state


@st.cache_resource(max_entries=24, show_spinner=False, hash_funcs={Constraints: repr})
def solve(
    key: str, estimator: str, mix: dict | None, removed: int, count: int, constraints: Constraints, job_id: str | None
) -> Landscape | None:
    """What a page may wait for, or what the job has found."""
    H = source_of(key).couplings(estimator, mix)
    found = solved(jobs.read(job_id).result, H) if job_id else None
    found = found or lowest_states(H, removed, count, constraints=constraints, time_limit=WAIT)
    return landscape(H, found, constraints) if len(found.x) else None


@st.cache_resource(max_entries=24, show_spinner=False)
def wrong(key: str, mix: dict | None) -> list[Misjudged]:
    """The blocks of a source that gradients misjudge."""
    run = source_of(key).run
    return misjudged(run, mix) if run else []


@st.cache_resource(max_entries=24, show_spinner=False, hash_funcs={Constraints: repr})
def picture(key: str, estimator: str, mix: dict | None, removed: int, count: int, constraints: Constraints, job_id: str | None) -> dict:
    source, run = source_of(key), source_of(key).run
    model = run.meta["model"] if run else None
    rows = rows_of(run, estimator) if run else None
    data = landscape_data(
        solve(key, estimator, mix, removed, count, constraints, job_id),
        source.name,
        source.about(estimator).unit,
        model and model["blocks"],
        model and model["parameters"],
        rows and rows.A,
        mix_weights(run, mix, rows) if rows else None,
        {b.block: f"removed alone it costs {significant(b.increase)} nats, its gradient hides that" for b in wrong(key, mix)},
    )
    rules = {"keep": list(constraints.keep), "remove": list(constraints.remove)}
    named = {"k": key, "e": estimator, "mix": mix, "m": removed, "c": count, "rules": repr(constraints), "job": job_id}
    return {**data, **rules, "source": key, "version": canonical_key(named)}


def on_commit() -> None:
    message = state[KEY]["commit"]
    if message["source"] != state.source:  # sent before another run was chosen
        return
    blocks = source_of(state.source).blocks
    state.seq = message["seq"]
    state.cursor = parse_blocks(",".join(map(str, message["cursor"])), blocks)
    state.tray = [parse_blocks(",".join(map(str, s)), blocks) for s in message["tray"]]
    if message["locked"]:  # only a click on the strip says anything of locks: the form may have changed since the picture was drawn
        state.update({name: ", ".join(map(str, sorted(message[name]))) for name in ("keep", "remove")}, solve_again=True)
        if set(state.cursor) & set(message["keep"]) or set(message["remove"]) - set(state.cursor):
            state.cursor = None


def on_prune() -> None:
    state.prune_state = parse_blocks(",".join(map(str, state[KEY]["prune"]["removed"])), source_of(state.source).blocks)
    state.prune_asked = True


def close_prune() -> None:
    state.prune_state = None


@st.dialog("Prune this state", width="large", on_dismiss=close_prune)
def prune_dialog(key: str, removed: tuple[int, ...]) -> None:
    prune_panel(source_of(key).run, removed)


def on_source() -> None:
    open_at_first(source_of(state.source))


def on_upload() -> None:
    if state.upload is None:
        return
    try:
        state.source = store_matrix(parse_matrix(state.upload, state.upload.name), state.upload.name).key
        on_source()
    except InputError as error:
        state.problems.append(str(error))


def on_mix(shares: dict[str, int], sampled: dict[str, int]) -> None:
    """The sliders as they stand over `shares`; where that is how the texts were sampled, no mix."""
    shares = {name: state.get(f"mix-{k}", share) for k, (name, share) in enumerate(shares.items())}
    state.mix = None if shares == sampled else shares


def mix_control(source: Source) -> None:
    """How much each domain of the texts weighs, a slider for each: they show the view's mix, whoever set it."""
    sampled = sampled_percent(source.run)
    given = {} if state.mix is None else in_percent(state.mix)
    shares = {name: given.get(name, 0) for name in sampled} if given else sampled
    st.html('<div class="label">Domain mix</div>')
    label = "as sampled" if state.mix is None else plain(mix_label(state.mix, 1))
    with st.popover(label, width="stretch", help="How much each domain of the calibration texts weighs in the couplings."):
        for k, name in enumerate(list(shares)[:SLIDERS]):
            state[f"mix-{k}"] = shares[name]
            label = f"{plain(name[:40])} · {source.domains[name]:,} rows"
            st.slider(label, 0, 100, key=f"mix-{k}", on_change=on_mix, args=(shares, sampled))
        if len(shares) > SLIDERS:
            st.caption(f"{len(shares) - SLIDERS} more domains keep their shares.")
        if state.mix is not None:
            try:
                weights = mix_weights(source.run, state.mix)
                st.caption(f"{plain(mix_label(state.mix, SLIDERS))}. As certain as {worth(weights):,.0f} of {len(weights):,} rows.")
            except InputError:  # the page says it
                pass
        st.button("As sampled", on_click=state.update, args=({"mix": None},), disabled=state.mix is None)


def on_estimator() -> None:
    if learned_at(state.estimator) is not None:  # measured on the texts as sampled
        state.mix = None


def controls(source: Source, sources: dict[str, str]):
    """The row above the picture; returns the places of the facts and of the proof."""
    mixes = len(source.domains) > 1 and learned_at(state.estimator) is None
    with st.container(key="controls"):
        widths = [1.65, 1.2, 1.2, 1.12, 0.84, 0.8, 2.3, 2.31] if mixes else [1.8, 1.2, 1.25, 0.9, 0.85, 2.1, 2.4]
        run, m, estimator, *mix, count, rules, facts, badge = st.columns(widths, vertical_alignment="top")
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
        format_func=lambda e: source.about(e).label,
        key="estimator",
        help="\n".join(f"- {source.about(e).about}" for e in source.estimators),
        on_change=on_estimator,
    )
    for place in mix:
        with place:
            mix_control(source)
    count.selectbox("States", COUNTS, key="count", help="How many of the lowest states to list.")
    with rules:
        st.html('<div class="label">Rules</div>')
        active = sum(bool(state[name].strip()) for name in RULES)
        tip = "What every listed state must respect. Or click a block of the strip: it stays, it goes, it is free."
        with st.popover(f"{active} set" if active else "none", width="stretch", help=tip):
            st.text_input("Blocks that stay", key="keep", placeholder="0, 23")
            st.text_input("Blocks that go", key="remove", placeholder="5, 7-9")
            st.text_input("Groups: exactly so many of each", key="groups", placeholder="0-11: 2; 12-23: 3")
            st.text_input("At most so many in a row", key="max_run", placeholder="any; 1: no two neighbours")
            st.button("Clear", on_click=state.update, args=(RULES,))
    return facts, badge


def show_facts(found: Landscape, facts, badge) -> None:
    s, power = found.spectrum, exponent(found.spectrum.energies)
    values = {"E₀": with_power(s.energies[0], power), "gap": with_power(s.gap, power), "minima": str(int(found.minimum.sum()))}
    if s.degeneracy > 1:
        values["ground states"] = str(s.degeneracy)
    facts.html(
        '<div class="facts">' + "".join(f"<div><span>{name}</span><b>{value}</b></div>" for name, value in values.items()) + "</div>"
    )
    mark = "<b>✓ exact</b>" if s.exact else '<b class="open">bound</b>'
    mixed = f"; mix: {mix_label(state.mix, 2)}" if state.mix is not None else ""
    badge.html(f'<div class="proof">{mark}&ensp;{html.escape(proof(s, power) + mixed)}</div>')


def keep_block(block: int) -> None:
    kept = parse_blocks(state.keep, source_of(state.source).blocks) if state.keep.strip() else ()
    state.keep = ", ".join(map(str, sorted({*kept, block})))
    if block in (state.cursor or ()):
        state.cursor = None


def show_misjudged(found: Landscape, rules: Constraints) -> None:
    """The worst block that listed states remove, that costs far more than its gradient says, and of which no rule speaks."""
    listed, ruled = found.spectrum.x, {*rules.keep, *rules.remove}
    shown = [b for b in wrong(state.source, state.mix) if listed[:, b.block].any() and b.block not in ruled]
    if shown:
        worst = max(shown, key=lambda b: b.increase)
        share = listed[:, worst.block].mean()
        often = "in every listed state" if share == 1 else f"in {max(1, round(100 * share))} % of the listed states"
        with st.container(key="misjudged", horizontal=True, vertical_alignment="center"):
            st.markdown(
                f"Block {worst.block}, removed {often}, costs {significant(worst.increase)} nats alone; its gradient predicts "
                f"{significant(worst.predicted)}: keep it.",
                width="content",
            )
            st.button(f"Keep block {worst.block}", on_click=keep_block, args=(worst.block,), type="tertiary")


def show_search(request: dict) -> None:
    """Where the list is not proved: go on in a job of its own, with its progress."""
    job = jobs.find("solve", request)
    if job and job.status == "done":
        st.info(f"Searched for {job.result['seconds'] / 60:.0f} minutes without coming to a proof.")
        return
    if not (job and job.active):
        st.button(
            f"Search on for a proof (up to {TIME_LIMIT / 60:.0f} minutes, in the background)",
            on_click=jobs.start,
            args=("solve", request),
        )
    if job:
        st.fragment(watch, run_every=1 if job.active else None)(job.id, job.active)


@st.fragment
def draw(found: Landscape, data: dict) -> None:
    if state.pop("prune_asked", False) or state.pop("solve_again", False):  # these belong to the page, not to this fragment
        st.rerun()
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
    try:
        rules = read_constraints({name: state[name] for name in RULES}, source_of(state.source).blocks)
        mix = source_of(state.source).check_mix(state.mix)  # shares of sum 1: one mix, one search, however it was set
        request = solve_request(state.source, state.estimator, state.removed, state.count, rules, mix)
        job = jobs.find("solve", request)
        view = (
            state.source,
            state.estimator,
            state.mix,
            state.removed,
            state.count,
            rules,
            job.id if job and job.status == "done" else None,
        )
        found = solve(*view)
    except InputError as error:
        st.error(plain(str(error)))
        if any(state[name].strip() for name in RULES):
            st.button("Clear the rules", on_click=state.update, args=(RULES,))
        if state.mix is not None:
            st.button("Domains as sampled", on_click=state.update, args=({"mix": None},))
        write_link()
        show_upload()
        return
    if found is None:
        st.info("No state that fits the rules was found in the time a page may take.")
        show_search(request)
        st.button("Clear the rules", on_click=state.update, args=(RULES,))
        write_link()
        return
    show_facts(found, facts, badge)
    if not found.spectrum.exact:
        show_search(request)
    show_misjudged(found, rules)
    draw(found, picture(*view))
    if state.get("prune_state") and source_of(state.source).run:
        prune_dialog(state.source, state.prune_state)
    show_upload()


through_app()
page()
