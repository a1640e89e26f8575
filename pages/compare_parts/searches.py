"""What forwards buy: searches and the landscape that learns, their curves and results."""

import streamlit as st

from core import jobs
from core.energy.learned import learned_at, learned_by
from core.energy.sources import Source
from core.jobs.costs import in_words, search_seconds
from core.store import folders
from core.store.named_models import missing
from core.store.results import KL, LOSS, RULERS
from core.store.runs import Run
from core.view.measured_figures import forwards_spent
from pages.compare_parts.energies import CONFIG
from pages.compare_parts.table import mini
from pages.shared.parts import Safe, chart, html_table, seconds_of_forward, watch
from pages.shared.view import keep_view, m_in_view

CHOOSING = 256  # sequences to choose on, and as many unseen ones to report on
_SIDE_BY_SIDE = ("learn", "peers")  # kinds of jobs
state = st.session_state


def latest(searches: list[jobs.Job], kind: str) -> jobs.Job | None:
    """The job of this kind that is at work, else the last one that is done, else the last one."""
    fits = [job for job in searches if job.kind == kind]
    return (
        next((job for job in fits if job.active), None)
        or next((job for job in fits if job.status == "done"), None)
        or next(iter(fits), None)
    )


def of_ruler(searches: list[jobs.Job]) -> list[jobs.Job]:
    """The searches that went by the ruler that the page shows: of others the numbers are no losses."""
    ruler = state.setdefault("ruler", LOSS)  # not the control's default: it is read before
    return [job for job in searches if job.request.get("ruler", LOSS) == ruler]


def comparable(searches: list[jobs.Job]) -> list[jobs.Job]:
    """Of learning and the other methods those on as many sequences as the one that moved last: losses, curves
    and forwards of other numbers are of other texts. What else was asked of the run stands for itself.
    """
    counts = [job.request["sequences"] for job in searches if job.kind in _SIDE_BY_SIDE]
    return [job for job in searches if job.kind not in _SIDE_BY_SIDE or job.request["sequences"] == counts[0]]


def improve(run: Run, removed: int, learned: jobs.Job | None, others: jobs.Job | None) -> None:
    """The controls of the learned landscape and of the peers."""
    st.segmented_control(
        "Ruler",
        RULERS,
        key="ruler",
        required=True,
        format_func=lambda ruler: "KL" if ruler == KL else ruler,
        help="What a choice goes by while it is searched for: the loss on the texts, or KL(original || "
        "pruned), how far the next-token distributions are from the original's. Races go by it, too. The "
        "result is told in both.",
    )
    left, middle, right = st.columns([1, 1.4, 1.4], vertical_alignment="bottom")
    left.number_input(
        "Forwards",
        5,
        10_000,
        50,
        key="budget",
        help="One forward: all blocks over the 256 choosing sequences. Rows and single removals are paid "
        "from it.",
    )
    if missing(run.meta["model"]["source"]) is None:
        forward = seconds_of_forward(run, CHOOSING, run.meta["texts"]["length"])
        left.caption(f"About {in_words(search_seconds(forward, state.budget))} here.")
    choices = (
        (middle, "learn", "Improve: learn the landscape", learned),
        (right, "peers", "What other methods find", others),
    )
    for column, kind, label, job in choices:
        column.button(
            label,
            type="primary" if kind == "learn" else "secondary",
            on_click=start_search,
            args=(kind, run, removed),
            width="stretch",
            disabled=bool(job and job.active),
            key=f"start-{kind}",
        )


def start_search(kind: str, run: Run, removed: int) -> None:
    """Of a button: learn, or run the other methods, on the run of the view."""
    folder = folders.find_run(run.key).absolute()
    jobs.start(
        kind,
        jobs.request_on(
            run,
            folder,
            remove=removed,
            budget=float(state.budget),
            sequences=CHOOSING,
            seed=0,
            ruler=state.ruler,
        ),
    )


def show_curves(job_ids: tuple[str | None, str | None], polled: bool) -> None:
    """The best loss found against forwards spent, drawn anew while a search is at work."""
    found = [jobs.read(i) for i in job_ids if i]
    if polled and not any(job.active for job in found):
        st.rerun()
    curves: dict[str, list[tuple[float, float]]] = {}
    original = None
    for job in found:
        curves |= {name: [(f, loss) for f, loss, _ in curve] for name, curve in jobs.curves_of(job).items()}
        original = job.result["original"] if job.status == "done" else original
    what = "KL" if state.ruler == KL else "loss"
    st.html(
        f'<div class="panelhead"><b>Best {what} found against forwards spent</b><span>lower and further left '
        "is better</span></div>"
    )
    if curves:
        chart(st, forwards_spent(curves, original, state.ruler), key="curves", config=CONFIG)
    else:
        st.caption(
            "Measured states correct the couplings, the corrected landscape says what to measure next: spend "
            "some forwards to see what that finds. "
            "All methods pay by the same meter: blocks executed, on 256 sequences of the choose split, kept "
            "prefixes free."
        )
    for job in found:
        if job.status != "done":
            if not job.active:
                st.caption(f"The last one, of {job.request['budget']:g} forwards:")
            watch(job.id, False)


def show_search_results(source: Source, learned: jobs.Job | None, others: jobs.Job | None) -> None:
    """What the searches chose, on sequences that no choice has seen."""
    rows, ruler = [], state.ruler
    if learned and learned.status == "done":
        done = learned.result
        rows.append(
            (
                "learned landscape",
                source.units.state(done["best"]["removed"]) or (),
                done["forwards"],
                done["best"][ruler],
                done["report"],
            )
        )
    if others and others.status == "done":
        for name, m in others.result["methods"].items():
            rows.append((name, source.units.state(m["removed"]) or (), m["forwards"], m[ruler], m["report"]))
    if not rows:
        return
    rows.sort(key=lambda row: row[4]["kl"]["mean"] if ruler == KL else row[4]["increase"])
    told = any("kl" in row[4] for row in rows)  # not of searches from before it was measured
    head = ["method", "removed", "", "forwards", f"{'KL' if ruler == KL else 'loss'} when choosing"]
    head += ["increase on unseen texts", *(["KL there", "same first choice"] if told else [])]
    cells = [
        [
            name,
            Safe(mini(removed, source.units)),
            source.units.said(removed),
            f"{spent:.1f}",
            f"{loss:.4f}",
            increase_of(r),
            *(distances(r) if told else []),
        ]
        for name, removed, spent, loss, r in rows
    ]
    st.html(html_table(head, cells, "methods"))
    if others and others.status == "done" and (without := jobs.unpaid(others.result)):
        spent = others.result["budget"]
        st.caption(f"{spent:.1f} forwards do not pay for the first states of: {', '.join(without)}.")
    left, right = st.columns([1, 3])
    left.button("Add these states to the tray", on_click=add_to_tray, args=([row[1] for row in rows],))
    if learned and learned.status == "done":
        right.button(
            "Show the learned landscape",
            on_click=show_learned,
            args=(source, m_in_view(source)),
            help="Here and in Explore, beside the paper's: under Couplings.",
        )


def distances(report: dict) -> list[str]:
    """KL and the share of equal first choices on unseen texts, with their 95 % intervals, which one sequence
    does not have.
    """
    if "kl" not in report:
        return ["–", "–"]
    kl, same = report["kl"], report["same"]
    between = "" if kl["low"] is None else f" [{kl['low']:.4f} {kl['high']:.4f}]"
    shares = "" if same["low"] is None else f" [{100 * same['low']:.1f} {100 * same['high']:.1f}]"
    return [f"{kl['mean']:.4f}{between}", f"{100 * same['mean']:.1f} %{shares}"]


def increase_of(report: dict) -> str:
    """The loss increase on unseen texts with its standard error, which one sequence does not have."""
    error = "" if report["increase_se"] is None else f" ± {report['increase_se']:.4f}"
    return f"{report['increase']:+.4f}{error}"


def show_learned(source: Source, removed: int) -> None:
    """Of a button: Explore on the landscape that was learned at this M by the ruler of the page."""
    found = [e for e in source.estimators if learned_at(e) == removed and learned_by(e) == state.ruler]
    if found:  # its file may have been removed since
        state.estimator, state.mix = found[0], None
        keep_view()


def add_to_tray(states: list[tuple[int, ...]]) -> None:
    """Of a button: these states are picked."""
    state.tray = list(dict.fromkeys([*state.tray, *(tuple(sorted(s)) for s in states)]))[:50]
