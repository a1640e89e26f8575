"""A race of the lowest states: which of them is best, and which cannot be told from it."""

import html

import streamlit as st

from core import jobs
from core.energy.sources import Source
from core.ising.units import Units
from core.jobs.costs import in_words, race_seconds
from core.store import folders
from core.store.named_models import missing
from core.store.results import KL
from core.store.runs import Run
from pages.compare_parts.preview import LOWEST
from pages.compare_parts.searches import CHOOSING, add_to_tray, distances, increase_of
from pages.compare_parts.table import mini
from pages.shared.parts import Safe, html_table, name_of, seconds_of_forward, watch

DELTA = 0.05  # the chance to lose the best state that a click takes
SHOWN = 60  # states in the table
state = st.session_state


def offer_race(run: Run, states: list[tuple[int, ...]], raced: jobs.Job | None) -> None:
    """The button beside Measure, where many states are asked for, and how long it can take."""
    if state.scope != LOWEST or len(states) < 2:
        return
    with st.container(horizontal=True, vertical_alignment="center", key="offer-race"):
        st.button(
            f"Race the {len(states)} lowest{' by KL' if state.ruler == KL else ''}",
            on_click=start_race,
            args=(run, states),
            disabled=bool(raced and raced.active),
            help="All are measured on 8 sequences, those that are surely worse leave, the others are "
            f"measured on 8 more, up to {CHOOSING}. The best one is lost in at most {100 * DELTA:g} % of "
            "races. It goes by the Ruler, as the searches do.",
        )
        if missing(run.meta["model"]["source"]) is None:
            forward = seconds_of_forward(run, CHOOSING, run.meta["texts"]["length"])
            most = in_words(race_seconds(forward, len(states)))
            st.caption(
                f"A race finds the best of them, and its ties, in at most about {most} here; the clearer the "
                "differences, the sooner."
            )


def start_race(run: Run, states: list[tuple[int, ...]]) -> None:
    """Of the button: states of one M, on the choose split of the run's own texts."""
    folder = folders.find_run(run.key).absolute()
    asked = {
        "remove": len(states[0]),
        "states": [run.units.listed(s) for s in states],
        "sequences": CHOOSING,
        "delta": DELTA,
        "ruler": state.ruler,
    }
    jobs.start("race", jobs.request_on(run, folder, **asked))


def show_race(source: Source, job: jobs.Job | None) -> None:
    """The race at work, or what it found."""
    if job is not None:
        st.fragment(_race, run_every=1 if job.active else None)(source, job.id, job.active)


def _race(source: Source, job_id: str, polled: bool) -> None:
    job = jobs.read(job_id)
    if job.status != "done":
        st.html('<div class="panelhead"><b>Race</b></div>')
        watch(job_id, polled)
        return
    if polled:
        st.rerun()
    done = job.result
    ties, dropped = done["ties"], done["dropped"]
    by = " by KL" if KL in ties[0] else ""
    told = KL in ties[0]["report"]  # not of races from before it was measured
    st.html(
        f'<div class="panelhead"><b>Race of {len(ties) + len(dropped)} states{by}</b><span>'
        f"{html.escape(finding(done))} Cost {done['forwards']:.1f} forwards; measuring all would have cost "
        f"{done['forwards_of_all']:.1f}.</span></div>"
    )
    rows = [_row(racer, source.units, "tie" if len(ties) > 1 else "best", told) for racer in ties]
    rows[0][3] = "the winner"
    rows += [_row(racer, source.units, f"left at {racer['items']}", told) for racer in dropped]
    head = ["state", "removed", "race", f"above the winner, nats{' of KL' if by else ''}"]
    head += ["increase on unseen texts", *(["KL there", "same first choice"] if told else [])]
    st.html(html_table(head, rows[:SHOWN], "race"))
    more = f" {len(rows) - SHOWN} more left earlier." if len(rows) > SHOWN else ""
    st.caption(
        "Left at so many sequences: surely worse than another there. Above the winner (the lowest mean of "
        "those left): mean over the sequences that both were measured on, with its interval. The "
        "intervals to the best state hold at all looks together: it is lost in at most "
        f"{100 * done['delta']:g} % of races. Forwards: all blocks over {done['sequences']} sequences.{more}"
    )
    st.button(
        f"Add the {len(ties)} ties to the tray" if len(ties) > 1 else "Add the winner to the tray",
        on_click=add_to_tray,
        args=([source.units.state(racer["removed"]) or () for racer in ties],),
        key="tray-race",
    )


def finding(done: dict) -> str:
    """What a race has found, in a sentence."""
    ties, of = done["ties"], done["sequences"]
    if len(ties) > 1:
        return f"{len(ties)} states tie: {of} sequences do not tell them apart."
    return f"Decided after {done['decided_at']} of {of} sequences: one state is better than all others."


def _row(racer: dict, units: Units, where: str, told: bool) -> list:
    removed = units.state(racer["removed"]) or ()
    between = "" if racer["low"] is None else f" [{racer['low']:+.4f}, {racer['high']:+.4f}]"
    report = racer.get("report")
    return [
        name_of(removed, len(units)),
        Safe(f"{mini(removed, units)} {units.said(removed)}"),
        where,
        f"{racer['above']:+.4f}{between}",
        increase_of(report) if report else "",
        *((distances(report) if report else ["", ""]) if told else []),
    ]
