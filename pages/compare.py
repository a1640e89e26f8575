"""Compare: what the energies are worth.

States measured against the original, what a forward buys, other methods' choices.
"""

import csv
import html
import io
import json
import math

import numpy as np
import streamlit as st

from core import jobs
from core.compare import other_tools
from core.compare.comparison import Points, Row, compare, finding, measured_rows, model_key, points, record
from core.energy.learned import learned_at, read_learned
from core.energy.sources import Source
from core.errors import InputError
from core.ising.energies import energies
from core.ising.states import indicator, pearson
from core.measure import behaviour
from core.spectrum.lowest import lowest_states
from core.store import folders
from core.store.results import Results
from core.store.runs import Run
from core.tasks.items import BUNDLED, chance_levels, read_tasks
from core.tasks.presets import PRESETS, asked
from core.view.figures import alike, energy_against_loss, forwards_spent, rank_changes, trust, unexplained
from pages.parts import Safe, chart, html_table, name_of, prune_panel, watch
from pages.view import constraints_in_view, keep_view, opened_source, plain, source_of, through_app

PROMPTS = {"demo": "Emil met Rosa in Marsh. She carried the spoon. The spoon belongs to"}
DEFAULT_PROMPT = "Once upon a time"
TRAY, LOWEST = "Tray", "Lowest states"
SHOWN = 60  # states in the table
WAIT = 0.7  # seconds the page may search
CONFIG = {
    "displaylogo": False,
    "toImageButtonOptions": {"format": "svg"},
    "modeBarButtonsToRemove": ["select2d", "lasso2d"],
}
state = st.session_state


def listed(states: list[tuple[int, ...]]) -> list[str]:
    return [", ".join(map(str, s)) for s in states]


# what is asked for


def states_asked(source: Source) -> list[tuple[int, ...]]:
    """The states that the page is about: the tray's, or the lowest ones of the view's landscape."""
    if state.get("scope", TRAY) == TRAY:
        return state.tray
    H = source.couplings(state.estimator, state.mix)
    try:
        return lowest_states(
            H, state.removed, state.lowest, constraints=constraints_in_view(source), time_limit=WAIT
        ).removed
    except InputError as error:
        st.warning(plain(str(error)))
        return []


def start_benchmark(run: Run, states: list[tuple[int, ...]]) -> None:
    """On the run's own texts, made into sequences as they were for the run."""
    tray = state.get("scope", TRAY) == TRAY
    request = jobs.request_for(
        run,
        (str(BUNDLED),),
        with_texts=True,
        states=[[], *map(list, states)],
        sequences=state.sequences,
        length=state.length,
        tasks=tray and state.tasks,
        prompt=state.prompt if tray else "",
        **({} if tray else {"speed": False}),
    )
    state.benchmark = jobs.start("benchmark", request).id


def latest(searches: list[jobs.Job], kind: str) -> jobs.Job | None:
    """The job of this kind that is at work, else the last one that is done, else the last one."""
    fits = [job for job in searches if job.kind == kind]
    return (
        next((job for job in fits if job.active), None)
        or next((job for job in fits if job.status == "done"), None)
        or next(iter(fits), None)
    )


def ask(source: Source) -> list[tuple[int, ...]]:
    """The controls and the button; returns the states that the page is about."""
    with st.container(key="controls-compare"):
        columns = st.columns([1.5, 0.9, 0.9, 0.9, 1, 2.6, 1.9], vertical_alignment="bottom")
    columns[0].segmented_control("States", [TRAY, LOWEST], key="scope", default=TRAY, required=True)
    columns[1].selectbox(
        "How many",
        [20, 50, 100, 200],
        key="lowest",
        disabled=state.scope == TRAY,
        help="Lowest in energy, at Explore's M and couplings.",
    )
    columns[2].selectbox(
        "Sequences",
        [64, 128, 256],
        index=1,
        key="sequences",
        help="Of the run's own texts: their report split, which no choice has used.",
    )
    columns[3].number_input(
        "Length", 2, 131_072, source.run.meta["texts"]["length"], key="length", help="Tokens a sequence."
    )
    columns[4].checkbox("Bundled tasks", value=True, key="tasks", disabled=state.scope == LOWEST)
    columns[5].text_input(
        "Prompt", PROMPTS.get(source.run.meta["model"]["name"], DEFAULT_PROMPT), key="prompt"
    )
    states = states_asked(source)
    what = "picked" if state.scope == TRAY else "lowest"
    label = (
        f"Measure {len(states)} {what} state{'s' if len(states) != 1 else ''}"
        if states
        else "Measure the original"
    )
    columns[6].button(
        label,
        type="primary",
        on_click=start_benchmark,
        args=(source.run, states),
        width="stretch",
        help="And the original.",
    )
    if not states and state.scope == TRAY:
        st.info(
            "Pick states in Explore (key A): they are measured here against the original. Or take the lowest "
            "ones."
        )
    return states


# what was found


@st.cache_resource(max_entries=8, show_spinner=False)
def rows_known(key: str, removed: int, home: str, stamp: tuple) -> list[Row]:
    """All measured losses at M, read once for every state of the store."""
    return measured_rows(source_of(key).run, Results(), removed)


def known_points(source: Source) -> Points:
    """Energies, of the couplings that the view shows, against all measured losses at its M."""
    rows = rows_known(source.key, state.removed, str(folders.home()), Results().stamp)
    H = source.couplings(state.estimator, state.mix)
    states = [row.removed for row in rows if row.removed]
    values = energies(H, indicator(states, source.blocks)) if states else []
    return points(rows, dict(zip(states, map(float, values))))


def spread_of(source: Source, states: list[tuple[int, ...]]) -> np.ndarray | None:
    """Posterior standard deviations of their energies, float64 [n]; None where the couplings were not
    learned.
    """
    if learned_at(state.estimator) is None or not states:
        return None
    return read_learned(source.key, state.estimator).energies(indicator(states, source.blocks))[1]


def show_energies(source: Source, job: jobs.Job | None) -> None:
    if job and job.active:
        watch(job.id, True)
    found = known_points(source)
    rank = found.agreement
    note = (
        (
            f"Spearman {rank.spearman:.2f} [{rank.low:.2f}, {rank.high:.2f}], Kendall {rank.kendall:.2f}, n "
            "= "
            f"{rank.n}"
        )
        if rank
        else f"n = {len(found.rows)}; no coefficient below 5"
    )
    st.html(
        '<div class="panelhead"><b>Energy against measured '
        f"loss</b><span>{html.escape(source.about(state.estimator).label)} · M = {state.removed} · "
        f"{note}</span></div>"
    )
    if not found.rows:
        st.caption(f"Nothing of M = {state.removed} is measured yet.")
        return
    spread = spread_of(source, found.states)
    figure = energy_against_loss(
        listed(found.states), found.energy, found.increase, found.se, found.lowest, found.best, spread
    )
    chart(st, figure, key="scatter", config=CONFIG)


def improve(run: Run, learned: jobs.Job | None, others: jobs.Job | None) -> None:
    """The controls of the learned landscape and of the peers."""
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
    choices = (
        (middle, "learn", "Improve: learn the landscape", learned),
        (right, "peers", "What other methods find", others),
    )
    for column, kind, label, job in choices:
        column.button(
            label,
            type="primary" if kind == "learn" else "secondary",
            on_click=start_search,
            args=(kind, run, state.removed),
            width="stretch",
            disabled=bool(job and job.active),
            key=f"start-{kind}",
        )


def start_search(kind: str, run: Run, removed: int) -> None:
    folder = folders.find_run(run.key).absolute()
    jobs.start(
        kind, jobs.request_on(run, folder, remove=removed, budget=float(state.budget), sequences=256, seed=0)
    )


def show_curves(job_ids: tuple[str | None, str | None], polled: bool) -> None:
    found = [jobs.read(i) for i in job_ids if i]
    if polled and not any(job.active for job in found):
        st.rerun()
    curves, original = {}, None
    for job in found:
        curves |= {name: [(f, loss) for f, loss, _ in curve] for name, curve in jobs.curves_of(job).items()}
        original = job.result["original"] if job.status == "done" else original
    st.html(
        '<div class="panelhead"><b>Best loss found against forwards spent</b><span>lower and further left is '
        "better</span></div>"
    )
    if curves:
        chart(st, forwards_spent(curves, original), key="curves", config=CONFIG)
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
    rows = []
    if learned and learned.status == "done":
        done = learned.result
        rows.append(
            (
                "learned landscape",
                done["best"]["removed"],
                done["forwards"],
                done["best"]["loss"],
                done["report"],
            )
        )
    if others and others.status == "done":
        for name, m in sorted(
            others.result["methods"].items(), key=lambda item: item[1]["report"]["increase"]
        ):
            rows.append((name, m["removed"], m["forwards"], m["loss"], m["report"]))
    if not rows:
        return
    rows.sort(key=lambda row: row[4]["increase"])
    head = ["method", "removed", "", "forwards", "loss when choosing", "increase on unseen texts"]
    cells = [
        [
            name,
            Safe(mini(tuple(removed), source.blocks)),
            ", ".join(map(str, removed)),
            f"{spent:.1f}",
            f"{loss:.4f}",
            f"{r['increase']:+.4f} ± {r['increase_se']:.4f}",
        ]
        for name, removed, spent, loss, r in rows
    ]
    st.html(html_table(head, cells, "methods"))
    left, right = st.columns([1, 3])
    left.button("Add these states to the tray", on_click=add_to_tray, args=([tuple(row[1]) for row in rows],))
    if learned and learned.status == "done":
        right.button(
            "Show the learned landscape",
            on_click=show_learned,
            args=(source, state.removed),
            help="Here and in Explore, beside the paper's: under Couplings.",
        )


def show_learned(source: Source, removed: int) -> None:
    state.estimator = next(e for e in source.estimators if learned_at(e) == removed)
    state.mix = None
    keep_view()


def add_to_tray(states: list[tuple[int, ...]]) -> None:
    state.tray = list(dict.fromkeys([*state.tray, *(tuple(sorted(s)) for s in states)]))[:50]


def mini(removed: tuple[int, ...], blocks: int, common: frozenset[int] = frozenset()) -> str:
    """HTML: a state as a strip; blocks that all states of the table remove are drawn hollow."""
    kinds = ["both" if b in common else "gone" if b in removed else "" for b in range(blocks)]
    cells = "".join(f'<i class="{kind}"></i>' if kind else "<i></i>" for kind in kinds)
    return (
        '<span class="mini" role="img" aria-label="removes '
        f'{html.escape(", ".join(map(str, removed)) or "nothing")}">{cells}</span>'
    )


def table(rows: list[Row], blocks: int, energy: dict[tuple[int, ...], str]) -> str:
    """The measured rows as HTML; only what differs has a column, every text is escaped."""
    tasks = sorted({name for row in rows for name in row.tasks})
    chance = chance_levels(read_tasks())
    picked = [frozenset(row.removed) for row in rows if row.removed]
    common = frozenset.intersection(*picked) if len(picked) > 1 else frozenset()
    columns = {
        "state": lambda r: name_of(r.removed, blocks),
        "removed": lambda r: Safe(
            mini(r.removed, blocks, common if r.removed else frozenset())
            + " "
            + (", ".join(map(str, r.removed)) or "none")
        ),
        "energy": lambda r: energy.get(r.removed, ""),
        "loss, nats": lambda r: f"{r.loss.mean:.4f} ± {r.loss.se:.4f}" if r.loss else "–",
        "increase": lambda r: (
            f"{r.increase[0]:+.4f} ± {r.increase[1]:.4f}" + (" tie" if r.tied else "") if r.increase else ""
        ),
        "perplexity": lambda r: f"{math.exp(r.loss.mean):.3f}" if r.loss and r.loss.mean < 700 else "–",
        **{
            (f"{t} ({chance[t]:.2f})" if t in chance else t): lambda r, t=t: (
                f"{s.accuracy:.2f} [{s.low:.2f} {s.high:.2f}]" if (s := r.tasks.get(t)) else "–"
            )
            for t in tasks
        },
        "tokens/s": lambda r: f"{r.tokens_per_second:,.0f}" if r.tokens_per_second else "–",
        "parameters": lambda r: f"{r.parameters:,}",
        "MB": lambda r: f"{r.bytes / 1e6:.2f}",
    }
    cells = {name: [of(row) for row in rows] for name, of in columns.items()}
    shown = [
        name
        for name, column in cells.items()
        if name in ("state", "removed", "loss, nats", "increase") or len(set(column)) > 1
    ]
    return html_table(shown, [list(row) for row in zip(*(cells[name] for name in shown))], "states")


def as_csv(rows: list[Row], energy: dict[tuple[int, ...], float]) -> str:
    out = io.StringIO()
    tasks = sorted({name for row in rows for name in row.tasks})
    writer = csv.writer(out)
    writer.writerow(
        [
            "removed",
            "energy",
            "loss",
            "loss_se",
            "sequences",
            "increase",
            "increase_se",
            *tasks,
            "tokens_per_second",
            "parameters",
            "bytes",
        ]
    )
    for r in rows:
        loss = [r.loss.mean, r.loss.se, len(r.loss.values)] if r.loss else ["", "", ""]
        scores = [r.tasks[t].accuracy if t in r.tasks else "" for t in tasks]
        writer.writerow(
            [
                ",".join(map(str, r.removed)),
                energy.get(r.removed, ""),
                *loss,
                *(r.increase[:2] if r.increase else ("", "")),
                *scores,
                r.tokens_per_second or "",
                r.parameters,
                r.bytes,
            ]
        )
    return out.getvalue()


def show_table(source: Source, states: list[tuple[int, ...]], job: jobs.Job | None) -> None:
    if job and not job.active and job.status != "done":
        watch(job.id, False)
    rows = compare(source.run, states, Results())
    H = source.couplings(state.estimator, state.mix)
    energy = dict(zip(states, map(float, energies(H, indicator(states, source.blocks))))) if states else {}
    spread = spread_of(source, states)
    told = {
        s: f"{e:.4g}" + ("" if spread is None else f" ± {spread[k]:.2g}")
        for k, (s, e) in enumerate(energy.items())
    }
    st.html(table(rows[: SHOWN + 1], source.blocks, told))
    more = f" {len(rows) - 1 - SHOWN} more states are in the CSV." if len(rows) > SHOWN + 1 else ""
    st.caption(
        "Loss on sequences that no choice has seen, ± standard error; increase: paired on the same "
        "sequences, a tie is within two standard errors. "
        "Tasks: accuracy with its 95 % interval, chance in brackets after the name. Tokens per second: a "
        "forward pass of the really pruned model. "
        "Blocks that all of these states remove are drawn hollow; columns in which nothing differs are left "
        f"out.{more}"
    )
    left, right, _ = st.columns([1, 1, 10])
    left.download_button("CSV", as_csv(rows, energy), "compare.csv", "text/csv", on_click="ignore")
    right.download_button(
        "JSON",
        lambda: json.dumps(record(source.run, states, Results())),
        "compare.json",
        "application/json",
        on_click="ignore",
        help="Every item of every measurement, with the model, data, settings and versions it comes from.",
    )
    show_answers(model_key(source.run), rows, source.blocks)


def show_answers(model: str, rows: list[Row], blocks: int) -> None:
    answers = {
        removed: text
        for (removed, prompt), text in Results().answers(model).items()
        if prompt == state.prompt
    }
    known = [row.removed for row in rows if row.removed in answers]
    if known:
        st.subheader("The same prompt")
        body = [[name_of(removed, blocks), f"{state.prompt}{answers[removed]}"] for removed in known]
        st.html(html_table(["state", f"greedy, at most 40 tokens after: {state.prompt}"], body, "answers"))


def show_order(found: Points, blocks: int) -> None:
    if len(found.rows) < 2:
        st.caption("Two measured states of this M are needed.")
        return
    names, left, right = listed(found.states), *st.columns(2)
    left.markdown("**Rank by energy, rank by loss**")
    chart(left, rank_changes(names, found.energy, found.increase), key="slope", config=CONFIG)
    right.markdown("**What trusting the first m states costs**")
    chart(right, trust(found.energy, found.increase), key="trust", config=CONFIG)
    left.markdown("**Measured minus predicted**")
    if len(set(found.energy.tolist())) > 1:
        chart(
            left, unexplained(names, found.energy, found.increase, found.se), key="residuals", config=CONFIG
        )
    right.markdown("**How alike the states are**, and a map of them by that")
    few = np.argsort(found.energy, kind="stable")[:200]
    x = indicator([found.states[k] for k in few], blocks)
    chart(
        right, alike([names[k] for k in few], pearson(x, x), found.increase[few]), key="alike", config=CONFIG
    )
    if len(found.rows) > len(few):
        right.caption(f"The {len(few)} lowest in energy of {len(found.rows)}.")


def show_behaviour(run: Run, states: list[tuple[int, ...]]) -> None:
    """Short prompts, answered by all: what is broken although the loss looks good."""
    request = jobs.request_for(run, states=[[], *map(list, states[:20])], tokens=behaviour.TOKENS)
    job = jobs.find("behaviour", request)
    if job is None or not (job.active or job.status == "done"):
        st.button(
            f"Ask {with_original(states[:20])} {len(behaviour.PROMPTS)} short prompts",
            on_click=jobs.start,
            args=("behaviour", request),
        )
    if job:
        st.fragment(watch, run_every=1 if job.active else None)(job.id, job.active)
    if not job or job.status != "done":
        st.caption(
            "Does it end by itself, go round in circles, keep the language, close its brackets, keep digits, "
            "say anything at all?"
        )
        return
    checks = list(job.result["states"][0]["checks"])
    rows = []
    for found in job.result["states"]:
        changes = found["checks"]
        cells = [
            f"{c['pruned']:.2f}"
            + (
                f" ({c['worse']} worse, {c['better']} better)"
                if found["removed"] and (c["worse"] or c["better"])
                else ""
            )
            for c in map(changes.get, checks)
            if c
        ]
        verdict = (
            ""
            if not found["removed"]
            else f"broken: {', '.join(found['broken'])}"
            if found["broken"]
            else "as the original"
        )
        rows.append([", ".join(map(str, found["removed"])) or "original", verdict, *cells])
    st.html(
        html_table(
            ["removed", "verdict", *(f"{c} ({job.result['states'][0]['checks'][c]['n']})" for c in checks)],
            rows,
            "behaviour",
        )
    )
    st.caption(
        "Share of prompts that are fine; broken: more of the prompts that changed got worse than chance "
        "allows (one-sided sign test, .05)."
    )
    with st.expander("Every answer"):
        names = [", ".join(map(str, f["removed"])) or "original" for f in job.result["states"]]
        answers = [
            [prompt, *(f["answers"][k]["text"] for f in job.result["states"])]
            for k, prompt in enumerate(job.result["prompts"])
        ]
        st.html(html_table(["prompt", *names], answers, "answers"))


def with_original(states: list[tuple[int, ...]]) -> str:
    return "the original" + (f" and {len(states)} state{'s' if len(states) > 1 else ''}" if states else "")


def show_harness(run: Run, states: list[tuple[int, ...]]) -> None:
    """A protocol of lm-evaluation-harness on the same states."""
    left, middle, right = st.columns([1.2, 2, 1], vertical_alignment="bottom")
    name = left.selectbox(
        "Protocol",
        [*PRESETS, "other tasks"],
        key="preset",
        help="Data set, shots, metric, BOS and template as one: numbers of different protocols are not "
        "compared.",
    )
    tasks = middle.text_input(
        "Tasks", key="tasks_named", placeholder="hellaswag, or a task file", disabled=name != "other tasks"
    )
    limit = right.number_input("Items a task", 1, 100_000, 100, key="limit")
    try:
        protocol, reads = asked(
            [t.strip() for t in tasks.split(",") if t.strip()] if name == "other tasks" else (),
            name if name != "other tasks" else None,
            None,
        )
        if not protocol.tasks:
            raise InputError("No task is named yet: give one of lm-evaluation-harness, or a task file.")
    except InputError as error:
        st.info(plain(str(error)))
        return
    request = jobs.request_for(
        run,
        reads,
        states=[[], *map(list, states[:20])],
        preset=protocol.to_json(),
        limit=int(limit),
        batch=16,
    )
    job = jobs.find("harness", request)
    if job is None or not (job.active or job.status == "done"):
        st.button(
            f"Measure {with_original(states[:20])}",
            on_click=jobs.start,
            args=("harness", request),
            key="start-harness",
        )
    if job:
        st.fragment(watch, run_every=1 if job.active else None)(job.id, job.active)
    st.caption(
        f"{protocol.dataset or 'as the task files say'}; "
        f"{'shots of the task' if protocol.shots is None else f'{protocol.shots} shots'}; "
        f"BOS: {protocol.bos}; template: {protocol.template}; lm-evaluation-harness {protocol.harness}."
    )
    if job and job.status == "done":
        rows = []
        names = list(job.result["states"][0]["tasks"])
        for found in job.result["states"]:
            cells = [
                f"{t['accuracy']:.3f} ± {t['se']:.3f}" if t["se"] is not None else f"{t['accuracy']:.3f}"
                for t in map(found["tasks"].get, names)
            ]
            rows.append([", ".join(map(str, found["removed"])) or "original", *cells])
        first = job.result["states"][0]["tasks"]
        chance = lambda t: "" if first[t]["chance"] is None else f", chance {first[t]['chance']:.2f}"  # noqa: E731
        st.html(
            html_table(
                ["removed", *(f"{t} ({first[t]['metric']}, n = {first[t]['n']}{chance(t)})" for t in names)],
                rows,
                "harness",
            )
        )


def show_imported(run: Run) -> None:
    """Numbers of other tools, marked as such."""
    file = st.file_uploader(
        "Results of another tool",
        type=["json", "csv"],
        help="A results file of lm-evaluation-harness, or a list of removed blocks with scores.",
    )
    if file is not None:
        suffix = f".{file.name.rsplit('.', 1)[-1].lower()}"
        path = folders.keep(
            "imports",
            file.getvalue(),
            suffix,
            "".join(c if c.isalnum() or c in "-_" else "-" for c in file.name.rsplit(".", 1)[0])[:60],
        )
        try:
            other_tools.keep(model_key(run), path, other_tools.read_results(path, blocks=run.blocks))
        except InputError as error:
            st.error(plain(str(error)))
    rows = [
        [
            ", ".join(map(str, r.removed)) or "original",
            r.task,
            r.metric,
            f"{r.value:.4g}",
            r.n or "",
            r.tool,
            r.source,
        ]
        for r in other_tools.kept(model_key(run))
    ]
    if rows:
        st.html(
            html_table(["removed", "task", "metric", "imported value", "n", "tool", "file"], rows, "imported")
        )
        states = list(dict.fromkeys(r.removed for r in other_tools.kept(model_key(run)) if r.removed))
        st.button("Add these states to the tray", on_click=add_to_tray, args=(states,), key="tray-imported")


def show_prune(run: Run, states: list[tuple[int, ...]]) -> None:
    name = lambda s: f"{name_of(s, run.blocks)}: {', '.join(map(str, s))}"  # noqa: E731
    chosen = st.selectbox("State", states, format_func=name, key="compare_state")
    prune_panel(run, chosen)


def page() -> None:
    st.title("Compare")
    source = opened_source()
    if source is None:
        return
    if source.run is None:
        st.info(
            f"{plain(source.name)} is a bare matrix: there is no model to measure. Choose a run in Explore."
        )
        return
    lead = st.empty()
    states = ask(source)
    job = current_benchmark()
    found = known_points(source)
    lead.html(f'<div class="finding">{html.escape(finding(found, {}))}</div>')
    left, right = st.columns(2, gap="large")
    with left:
        st.fragment(show_energies, run_every=1 if job and job.active else None)(source, job)
    searches = jobs.on_run(folders.find_run(source.key), state.removed)
    learned, others = latest(searches, "learn"), latest(searches, "peers")
    with right:
        ids, active = (
            tuple(j and j.id for j in (learned, others)),
            any(j and j.active for j in (learned, others)),
        )
        st.fragment(show_curves, run_every=1 if active else None)(ids, active)
        improve(source.run, learned, others)
    show_search_results(source, learned, others)
    names = [
        "Measured",
        "Order",
        "Behaviour",
        "Benchmarks",
        "From elsewhere",
        *(["Take one home"] if states else []),
    ]
    tabs = dict(zip(names, st.tabs(names)))
    with tabs["Measured"]:
        st.fragment(show_table, run_every=1 if job and job.active else None)(source, states, job)
    with tabs["Order"]:
        show_order(found, source.blocks)
    with tabs["Behaviour"]:
        show_behaviour(source.run, states)
    with tabs["Benchmarks"]:
        show_harness(source.run, states)
    with tabs["From elsewhere"]:
        show_imported(source.run)
    if states:
        with tabs["Take one home"]:
            show_prune(source.run, states)


def current_benchmark() -> jobs.Job | None:
    """This session's benchmark, or the one that is running."""
    if state.get("benchmark"):
        try:
            return jobs.read(state.benchmark)
        except InputError:  # its folder was removed
            state.benchmark = None
    return next((job for job in jobs.running() if job.kind == "benchmark"), None)


through_app()
page()
