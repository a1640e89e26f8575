"""The row above the picture in Explore: run, M and how many, couplings, domain mix, rules, and what is
proved.
"""

import html
import time

import streamlit as st

from core.energy.mix import in_percent, mix_label, mix_weights, sampled_percent, worth
from core.energy.sources import Source
from core.errors import InputError
from core.ising.units import BLOCK
from core.landscape.landscape import Landscape
from core.landscape.wording import exponent, proof, with_power
from core.spectrum.constraints import Constraints
from core.spectrum.memory_budget import Fit, needs, read_budget, size, smallest_removal
from core.spectrum.sweep import Step, sweep
from core.store.runs import Run
from core.view.coupling_figures import how_many
from pages.shared.view import (
    AS_WRITTEN,
    COUNTS,
    RULES,
    clear_rules,
    open_at_first,
    plain,
    rules_in_view,
    see,
    source_of,
)

SLIDERS = 24  # domains that have one
SWEEP_SECONDS, SWEEP_STEP = (4, 40), 0.3  # of a sweep at first and on request, of each M
state = st.session_state


def forget_cursor() -> None:
    """What was selected need not fit what is asked for now."""
    state.cursor = None


def hold(*names: str) -> None:
    """Keep what widgets said that are not shown in this run: Streamlit would drop it.

    What a closed popover holds is one of them: the browser goes on saying what it last showed there, and
    would undo what Back, a link or the strip have set since.
    """
    state.update({name: state[name] for name in names})


def controls(source: Source, sources: dict[str, str]):
    """The row above the picture; returns the places of the facts and of the proof."""
    mixes = len(source.domains) > 1 and source.mixes(state.estimator)
    with st.container(key="controls"):
        widths = (
            [1.15, 0.97, 1.42, 0.7, 1.12, 0.93, 0.9, 0.88, 2.0, 1.75]
            if mixes
            else [1.3, 1.02, 1.45, 0.75, 1.15, 0.85, 0.8, 2.08, 1.9]
        )
        run, by, m, many, estimator, *mix, count, rules, facts, badge = st.columns(
            widths, vertical_alignment="top"
        )
    run.selectbox("Run", list(sources), format_func=sources.get, key="source", on_change=on_source)
    by.selectbox(
        "By",
        source.views,
        index=source.views.index(source.by),
        key=f"by-{source.key}",  # a control for each view: it says what is shown, whoever chose that
        on_change=on_view,
        args=(f"by-{source.key}",),
        disabled=len(source.views) < 2,
        help="What a state removes: whole blocks, or by branch attention (12a) and FFN (12f) on their own. "
        + (
            "One calibration has both."
            if len(source.views) > 1
            else "This run knows whole blocks only; calibrate again to see them apart."
        ),
    )
    m.number_input(
        f"Remove M of {source.blocks}",
        1,
        source.blocks - 1,
        value=None,
        key="removed",
        on_change=forget_cursor,
        placeholder="free",
        help=f"How many {source.units.word}s to remove. Each state is one way to choose them. Left empty, as "
        "many go as a budget (under M?) or groups ask for.",
    )
    with many:
        how_many_control(source)
    estimator.selectbox(
        "Couplings",
        source.estimators,
        format_func=lambda e: source.about(e).label,
        key="estimator",
        help="\n".join(f"- {source.about(e).about}" for e in source.estimators),
        on_change=on_estimator,
    )
    for column in mix:
        with column:
            mix_control(source)
    count.selectbox("States", COUNTS, key="count", help="How many of the lowest states to list.")
    with rules:
        rules_control(source)
    return facts, badge


def rules_control(source: Source) -> None:
    """What every listed state must respect, as text; core.spectrum.constraints.read_constraints reads it."""
    st.html('<div class="label">Rules</div>')
    active = sum(bool(state[name].strip()) for name in RULES)
    tip = "What every listed state must respect. Or click in the strip: it stays, it goes, it is free."
    label = f"{active} set" if active else "none"
    box = st.popover(label, width="stretch", help=tip, key="rules", on_change="rerun")
    with box:
        if not box.open:
            hold(*(name for name in RULES if name != "fits"))  # that one stands under M?
            return
        units, called = source.units, f"{source.units.word.capitalize()}s"
        stay, go = ("0, 23", "5, 7-9") if units.by == BLOCK else ("0, 23a", "5f, 7-9")
        st.text_input(f"{called} that stay", key="keep", on_change=forget_cursor, placeholder=stay)
        st.text_input(f"{called} that go", key="remove", on_change=forget_cursor, placeholder=go)
        kinds = list(dict.fromkeys(source.units.kinds))
        example = "; ".join(f"{kind}: 2" for kind in kinds[:2]) if len(kinds) > 1 else "0-11: 2; 12-23: 3"
        tip = f"{called}, or a kind of {units.word}, and how many of them go."
        st.text_input(
            "Groups: exactly so many of each",
            key="groups",
            on_change=forget_cursor,
            placeholder=example,
            help=tip,
        )
        st.text_input(
            "At most so many in a row",
            key="max_run",
            on_change=forget_cursor,
            placeholder="any; 1: no two neighbours",
        )
        st.button("Clear", on_click=clear_rules)


def show_facts(found: Landscape, facts, badge) -> None:
    """E0, gap, degeneracy and what is proved, at the right of the row."""
    s, power = found.spectrum, exponent(found.spectrum.energies)
    values = {
        "E₀": with_power(s.energies[0], power),
        "gap": with_power(s.gap, power),
        "minima": str(int(found.minimum.sum())),
    }
    if s.degeneracy > 1:
        values["ground states"] = str(s.degeneracy)
    facts.html(
        '<div class="facts">'
        + "".join(f"<div><span>{name}</span><b>{value}</b></div>" for name, value in values.items())
        + "</div>"
    )
    mark = "<b>✓ exact</b>" if s.exact else '<b class="open">bound</b>'
    mixed = f"; mix: {mix_label(state.mix, 2)}" if state.mix is not None else ""
    badge.html(f'<div class="proof">{mark}&ensp;{html.escape(proof(s, power) + mixed)}</div>')


def on_source() -> None:
    """Another source opens at its first view."""
    open_at_first(source_of(state.source))


def on_view(key: str) -> None:
    """The same run by block or by branch."""
    see(state[key])


def on_estimator() -> None:
    """A mix stays only where the couplings can have one."""
    if not source_of(state.source).mixes(state.estimator):
        state.mix = None


def on_mix(shares: dict[str, int], sampled: dict[str, int]) -> None:
    """The sliders as they stand over `shares`; where that is how the texts were sampled, no mix."""
    shares = {name: state.get(f"mix-{k}", share) for k, (name, share) in enumerate(shares.items())}
    state.mix = None if shares == sampled else shares


def mix_control(source: Source) -> None:
    """How much each domain of the texts weighs, a slider for each: they show the view's mix, whoever set
    it.
    """
    sampled = sampled_percent(source.run)
    given = {} if state.mix is None else in_percent(state.mix)
    shares = {name: given.get(name, 0) for name in sampled} if given else sampled
    st.html('<div class="label">Domain mix</div>')
    label = "as sampled" if state.mix is None else plain(mix_label(state.mix, 1))
    with st.popover(
        label, width="stretch", help="How much each domain of the calibration texts weighs in the couplings."
    ):
        for k, name in enumerate(list(shares)[:SLIDERS]):
            state[f"mix-{k}"] = shares[name]
            label = f"{plain(name[:40])} · {source.domains[name]:,} rows"
            st.slider(label, 0, 100, key=f"mix-{k}", on_change=on_mix, args=(shares, sampled))
        if len(shares) > SLIDERS:
            st.caption(f"{len(shares) - SLIDERS} more domains keep their shares.")
        if state.mix is not None:
            try:
                weights = mix_weights(source.run, state.mix)
                st.caption(
                    f"{plain(mix_label(state.mix, SLIDERS))}. As certain as {worth(weights):,.0f} of "
                    f"{len(weights):,} rows."
                )
            except InputError:  # the page says it
                pass
        st.button("As sampled", on_click=state.update, args=({"mix": None},), disabled=state.mix is None)


def how_many_control(source: Source) -> None:
    """Beside M: what every M costs, and the budget that says how many must go."""
    st.html('<div class="label">How many?</div>')
    box = st.popover(
        "M?",
        width="stretch",
        key="many",
        on_change="rerun",
        help=f"What each number of removed {source.units.word}s costs, and what fits a budget.",
    )
    with box:
        if box.open:
            show_how_many(source)
        else:
            hold("fits")


@st.cache_resource(max_entries=24, show_spinner=False, hash_funcs=AS_WRITTEN)
def swept(
    key: str, estimator: str, mix: dict | None, constraints: Constraints, seconds: float
) -> tuple[list[Step], bool]:
    """The ground state of every M as far as `seconds` reach, and whether that is all of them."""
    steps, began = [], time.monotonic()
    for step in sweep(
        source_of(key).couplings(estimator, mix), constraints=constraints, time_limit=SWEEP_STEP
    ):
        steps.append(step)
        if time.monotonic() - began > seconds:
            return steps, False
    return steps, True


def show_how_many(source: Source) -> None:
    """The sweep over every M, and the budget that must fit."""
    if source.run is not None:
        st.text_input(
            "It must fit",
            key="fits",
            on_change=forget_cursor,
            placeholder="24 GB at 8k context, batch 4 · or kv 60 %",
            help="Weights and KV cache, or the parameters a token uses; or shares of the original, such as "
            "weights 80 %, kv 60 %, time at 8k 75 %. Every listed state fits then.",
        )
    try:
        rules, budget = rules_in_view(source)
        if budget is not None:
            show_fit(source.run, smallest_removal(source.run.meta["model"], budget, rules))
        steps, whole = swept(
            state.source,
            state.estimator,
            source.check_mix(state.mix),
            rules,
            state.get("sweep_seconds", SWEEP_SECONDS[0]),
        )
    except InputError as error:
        st.warning(plain(str(error)))
        return
    st.plotly_chart(
        how_many(steps, state.removed, source.units),
        key="sweep",
        config={"displayModeBar": False},
        on_select=on_sweep,
        selection_mode="points",
    )
    told = [f"Energies in {source.about(state.estimator).unit}.", *sweep_words(steps, whole)]
    st.markdown(plain(" ".join([*told, "Click a point to go there."])))
    if not whole and state.get("sweep_seconds") != SWEEP_SECONDS[1]:
        st.button(
            f"Go on for {SWEEP_SECONDS[1]} s",
            on_click=state.update,
            args=({"sweep_seconds": SWEEP_SECONDS[1]},),
        )


def sweep_words(steps: list[Step], whole: bool) -> list[str]:
    """What a sweep over M shows, one sentence each; whole: every M was reached."""
    told, units = [], source_of(state.source).units
    word = units.word
    if steps and not whole:
        told.append(f"Up to M = {steps[-1].removed} in the time a page may take.")
    open_ends = sum(not step.spectrum.exact for step in steps)
    if open_ends:
        told.append(f"{open_ends} of them are not proved (hollow).")
    lost = next((step for step in steps if step.left), None)
    if lost:
        back = units.said(lost.left)
        told.append(
            f"From M = {lost.removed} on, the best choice is no longer the one before with a {word} more: "
            f"{back} come{'s' * (len(lost.left) == 1)} back."
        )
    falls = next((step for step, before in zip(steps[1:], steps) if step.energy < before.energy), None)
    if falls:
        told.append(
            f"From M = {falls.removed} on E₀ falls although more {word}s go: there the couplings extrapolate "
            "too far to be taken as a cost."
        )
    return told


def on_sweep() -> None:
    """A click on a point of the sweep goes to its M."""
    if points := state.sweep.selection.points:
        state.update(removed=int(points[0]["x"]), cursor=None)


def show_fit(run: Run, fit: Fit) -> None:
    """How many units must go so that the budget is kept."""
    budget = read_budget(state.fits)
    now = needs(run.meta["model"], (), budget)
    has = [f"{size(now.bytes)} whole"] * (budget.bytes is not None)
    has += [f"{size(now.active, '')} active parameters whole"] * (budget.active is not None)
    words = fit.said(run.units.word)
    words = words[0].upper() + words[1:]
    st.markdown(plain(f"{words} ({', '.join(has)})." if has else f"{words}."))
    if fit.least and state.removed is not None:
        with st.container(horizontal=True):
            if state.removed < fit.least:
                set_m(f"Remove {fit.least}", fit.least)
            set_m("As many as the budget asks for", None)


def set_m(label: str, removed: int | None) -> None:
    """A button that sets M, or leaves it free."""
    st.button(label, on_click=state.update, args=({"removed": removed, "cursor": None},))
