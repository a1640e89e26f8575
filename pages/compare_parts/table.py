"""The measured states side by side: table, files, answers."""

import csv
import io
import math
from collections.abc import Callable
from dataclasses import astuple
from functools import partial

import streamlit as st

from core import jobs
from core.compare.comparison import Row, compare, model_key, record
from core.energy.sources import Source
from core.ising.energies import energies
from core.ising.states import indicator
from core.ising.units import BLOCK, Units, name_text
from core.store.as_json import as_json
from core.store.results import Results
from core.tasks.items import chance_levels, read_tasks
from pages.compare_parts.energies import spread_of
from pages.shared.parts import Safe, html_table, name_of, watch

state = st.session_state


SHOWN = 60  # states in the table


def mini(removed: tuple[int, ...], units: Units, common: frozenset[int] = frozenset()) -> str:
    """HTML: a state as a strip, by branch a column for each block; units that all states of the table remove
    are drawn hollow.
    """
    kinds = ["both" if u in common else "gone" if u in removed else "" for u in range(len(units))]
    cell = [f'<i class="{kind}"></i>' if kind else "<i></i>" for kind in kinds]
    if units.by == BLOCK:
        lanes, cells = "", "".join(cell)
    else:
        lanes = " lanes"
        cells = "".join(f"<span>{''.join(cell[u] for u in own)}</span>" for own in units.of_block)
    return (
        f'<span class="mini{lanes}" role="img" aria-label="removes '
        f'{units.said(removed) or "nothing"}">{cells}</span>'
    )


def _error(se: float) -> str:
    """A standard error, which one sequence does not have."""
    return "" if math.isnan(se) else f" ± {se:.4f}"


def _score(task: str, row: Row) -> str:
    score = row.tasks.get(task)
    return f"{score.accuracy:.2f} [{score.low:.2f} {score.high:.2f}]" if score else "–"


def _kl(row: Row) -> str:
    if row.distance is None:
        return "–"
    if not row.removed:
        return "0"
    kl = row.distance.kl
    return f"{kl.mean:.4f}" + ("" if kl.low is None else f" [{kl.low:.4f} {kl.high:.4f}]")


def _kl_of_tokens(row: Row) -> str:
    found = row.distance if row.removed else None
    return f"{found.median:.2g} / {found.p99:.2g}" if found and found.median is not None else "–"


def _same(row: Row) -> str:
    if row.distance is None:
        return "–"
    if not row.removed:
        return "100 %"
    same = row.distance.same
    ends = "" if same.low is None else f" [{100 * same.low:.1f} {100 * same.high:.1f}]"
    return f"{100 * same.mean:.1f} %{ends}"


def table(rows: list[Row], units: Units, energy: dict[tuple[int, ...], str]) -> str:
    """The measured rows as HTML; only what differs has a column, every text is escaped."""
    tasks = sorted({name for row in rows for name in row.tasks})
    chance = chance_levels(read_tasks())
    picked = [frozenset(row.removed) for row in rows if row.removed]
    common = frozenset.intersection(*picked) if len(picked) > 1 else frozenset()
    columns: dict[str, Callable[[Row], str]] = {
        "state": lambda r: name_of(r.removed, len(units)),
        "removed": lambda r: Safe(
            mini(r.removed, units, common if r.removed else frozenset())
            + " "
            + (units.said(r.removed) or "none")
        ),
        "energy": lambda r: energy.get(r.removed, ""),
        "loss, nats": lambda r: f"{r.loss.mean:.4f}{_error(r.loss.se)}" if r.loss else "–",
        "increase": lambda r: (
            f"{r.increase[0]:+.4f}{_error(r.increase[1])}" + (" tie" if r.tied else "") if r.increase else ""
        ),
        "perplexity": lambda r: f"{math.exp(r.loss.mean):.3f}" if r.loss and r.loss.mean < 700 else "–",
        "KL, nats a token": _kl,
        "median / 99 %": _kl_of_tokens,
        "same first choice": _same,
        **{f"{t} acc" + (f" ({chance[t]:.2f})" if t in chance else ""): partial(_score, t) for t in tasks},
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


def as_csv(rows: list[Row], units: Units, energy: dict[tuple[int, ...], float]) -> str:
    """The table as CSV, numbers in full."""
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
            "kl",
            "kl_se",
            "kl_low",
            "kl_high",
            "kl_median",
            "kl_99",
            "same",
            "same_se",
            "same_low",
            "same_high",
            *(f"{t} acc" for t in tasks),
            "tokens_per_second",
            "parameters",
            "bytes",
        ]
    )
    for r in rows:
        loss = [r.loss.mean, _known(r.loss.se), len(r.loss.values)] if r.loss else ["", "", ""]
        scores = [r.tasks[t].accuracy if t in r.tasks else "" for t in tasks]
        writer.writerow(
            [
                name_text(units.stored(r.removed)),
                energy.get(r.removed, ""),
                *loss,
                *(map(_known, r.increase[:2]) if r.increase else ("", "")),
                *_distance_cells(r),
                *scores,
                r.tokens_per_second or "",
                r.parameters,
                r.bytes,
            ]
        )
    return out.getvalue()


def _known(number: float) -> float | str:
    """A number as a cell, empty where it is none."""
    return "" if math.isnan(number) else number


def _distance_cells(row: Row) -> list:
    """The distance to the original in full: ten cells, empty where nothing was measured."""
    found = row.distance
    if found is None:
        return [""] * 10
    cells = [*astuple(found.kl), found.median, found.p99, *astuple(found.same)]
    return ["" if value is None else value for value in cells]


def show_table(source: Source, states: list[tuple[int, ...]], job: jobs.Job | None) -> None:
    """The table with its files, and what the models answer."""
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
    st.html(table(rows[: SHOWN + 1], source.units, told))
    more = f" {len(rows) - 1 - SHOWN} more states are in the CSV." if len(rows) > SHOWN + 1 else ""
    st.caption(
        "Loss on sequences that no choice has seen, ± standard error; increase: paired on the same "
        "sequences, a tie is within two standard errors. "
        "KL: how far the state's next-token distributions are from the original's on the same tokens, "
        "KL(original || state), mean with its 95 % interval over sequences; median / 99 %: of the KL of "
        "single tokens, to 4 %. Same first choice: where both find the same token likeliest, of all tokens. "
        "acc: accuracy on a task with its 95 % interval, chance in brackets after the name. "
        "Tokens per second: a forward pass of the really pruned model. "
        f"{source.units.word.capitalize()}s that all of these states remove are drawn hollow; columns in "
        f"which nothing differs are left out.{more}"
    )
    left, right, _ = st.columns([1, 1, 10])
    left.download_button(
        "CSV", as_csv(rows, source.units, energy), "compare.csv", "text/csv", on_click="ignore"
    )
    right.download_button(
        "JSON",
        lambda: as_json(record(source.run, states, Results())),
        "compare.json",
        "application/json",
        on_click="ignore",
        help="Every item of every measurement, with the model, data, settings and versions it comes from.",
    )
    show_answers(model_key(source.run), rows, source.units)


def show_answers(model: str, rows: list[Row], units: Units) -> None:
    """The same prompt, answered by each."""
    answers = {
        units.state(removed): text
        for (removed, prompt), text in Results().answers(model).items()
        if prompt == state.prompt
    }
    known = [row.removed for row in rows if row.removed in answers]
    if known:
        st.subheader("The same prompt")
        body = [[name_of(removed, len(units)), f"{state.prompt}{answers[removed]}"] for removed in known]
        st.html(html_table(["state", f"greedy, at most 40 tokens after: {state.prompt}"], body, "answers"))
