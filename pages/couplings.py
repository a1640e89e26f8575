"""Couplings: the matrix as heatmap, and who pulls on whom as a graph."""

import re

import numpy as np
import streamlit as st

from core import jobs
from core.compare.agreement import clustered
from core.compare.audit import finding
from core.compare.comparison import measured_kl
from core.compare.quadratic import Foretold, foretold, told
from core.energy.couplings import first_order, misjudged
from core.energy.learned import learned_at, read_learned
from core.energy.mix import mix_label, mix_text
from core.energy.network import VIEWS, Role, effective_rank, roles, strongest, view_of
from core.energy.secants import not_quadratic
from core.energy.sources import Source
from core.errors import InputError
from core.ising.energies import to_spins
from core.ising.interchange import qubo_text
from core.ising.units import BLOCK, Units
from core.landscape.wording import significant
from core.store import folders
from core.store.named_models import missing
from core.store.results import Results
from core.store.runs import Run
from core.view.coupling_figures import (
    audit_figure,
    eigenvalues_figure,
    fields_figure,
    heatmap,
    interaction_graph,
)
from core.view.measured_figures import kl_against_prediction
from core.view.run_figures import gradient_figure
from core.view.snippets import couplings_snippet
from core.view.unit_axes import both_titled, by_kind, titled
from pages.shared.evidence import audit_of, audit_request, follow, start_measuring, time_of
from pages.shared.link import opened_source
from pages.shared.parts import chart, html_table
from pages.shared.view import AS_WRITTEN, m_in_view, plain, source_of

CONFIG = {"displaylogo": False, "toImageButtonOptions": {"format": "svg"}}
state = st.session_state
Named = tuple[str, str, dict | None]  # source, estimator, mix

ORDERS = ("depth", "clustering")
KIND = "kind"  # an order by branch


@st.cache_resource(max_entries=24, show_spinner=False, hash_funcs=AS_WRITTEN)
def matrix_figure(key: str, estimator: str, mix: dict | None, view: str, scale: str, order: str, clip: float):
    """(the heatmap, the units from first to last row), kept between reruns."""
    H = source_of(key).couplings(estimator, mix)
    spread = None if learned_at(estimator) is None or view != "H" else read_learned(key, estimator).spread
    units = source_of(key).units
    order_of = {"clustering": lambda: clustered(view_of(H, "correlation")), KIND: lambda: by_kind(units)[0]}
    shown = order_of.get(order, lambda: np.arange(len(H)))()
    name = view if view != "correlation" else "r"
    return heatmap(view_of(H, view), scale, spread, shown, clip, name, units), shown


@st.cache_resource(max_entries=24, show_spinner=False, hash_funcs=AS_WRITTEN)
def network(key: str, estimator: str, mix: dict | None, layout: str, share: float):
    """(the network, the role of every unit), kept between reruns."""
    H = source_of(key).couplings(estimator, mix)
    edges = strongest(H, share)
    found = roles(H, edges)
    units = source_of(key).units
    return interaction_graph(H, edges, [r.community for r in found], layout, units), found


def show_pair(H: np.ndarray, pair: tuple[int, int], units: Units) -> None:
    """What a clicked cell says."""
    i, j = pair
    if i == j:
        st.markdown(f"**{titled(units, i)}**: own cost {H[i, i]:.4g}; field h = {to_spins(H).h[i]:.4g}.")
        return
    together = H[i, i] + H[j, j] + 2 * H[i, j]
    r = view_of(H, "correlation")[i, j]
    st.markdown(
        f"**{both_titled(units, i, j)}**: H = {H[i, j]:.4g}, J = {H[i, j] / 2:.4g}, correlation {r:+.2f}. "
        f"Removed alone {H[i, i]:.4g} and {H[j, j]:.4g}, "
        f"together {together:.4g}: {abs(2 * H[i, j]):.4g} {'more' if H[i, j] > 0 else 'less'} than the sum."
    )


def show_gradient(run: Run) -> None:
    """The first-order term that the energy leaves out, and where gradients are known to mislead."""
    st.subheader("First-order term")
    found, n = first_order(run, state.mix), run.blocks
    st.markdown(
        f"{found.significant} of {n} {run.units.word}s have a mean gradient beyond two standard errors, "
        f"where chance alone gives about {0.05 * n:.0f}. "
        f"Its size is {100 * found.ratio:.2g} % of a row's entries; rows of mean 0 would show "
        f"{100 * found.noise:.2g} %."
    )
    chart(st, gradient_figure(found.gradient, found.se, run.units), key="gradient", config=CONFIG)
    for b in misjudged(run, state.mix):
        st.caption(
            f"{titled(run.units, b.block)} costs {significant(b.increase)} nats when it is removed alone; "
            f"its gradient predicts {significant(b.predicted)}."
        )


@st.cache_resource(max_entries=8, show_spinner=False, hash_funcs=AS_WRITTEN)
def prediction_of_kl(key: str, home: str, stamp: tuple) -> Foretold | None:
    """Measured KL beside what the couplings say of it, read once for every state of the store."""
    run = source_of(key).run
    return foretold(run, measured_kl(run, Results()))


def show_prediction() -> None:
    """Measured KL against the quadratic form of H1, which has no scale to be fitted."""
    st.subheader("Measured KL against the quadratic form")
    found = prediction_of_kl(state.source, str(folders.home()), Results().stamp)
    if found is None:
        st.caption("The run has no rows of sampled labels (H₁); calibrate with them to see it.")
        return
    st.markdown(told(found))
    if found.states:
        names = list(map(source_of(state.source).units.said, found.states))
        figure = kl_against_prediction(names, found.m, found.predicted, found.measured, found.se)
        chart(st, figure, key="prediction", config=CONFIG)
    st.caption(
        "H₁ is the second derivative of KL(original || pruned) with respect to the gates: removing x costs "
        "about T/2 xᵀH₁x nats a token, T the predicted tokens of a row, with no fitted scale. Measured: on "
        "sequences that no choice has seen, whatever estimator or mix Explore shows."
    )


def matrix_controls(column, units: Units) -> tuple[str, str, str, float]:
    """(what is shown of the matrix, scale, order of the units, share of the pairs told apart by colour)."""
    with column.container(horizontal=True, vertical_alignment="bottom"):
        view = st.segmented_control(
            "Show",
            list(VIEWS),
            default="H",
            key="view",
            required=True,
            help="; ".join(f"{k}: {v}" for k, v in VIEWS.items()),
        )
        scale = st.segmented_control(
            "Scale", ["signed log", "linear"], default="signed log", key="scale", required=True
        )
        orders = ORDERS if units.by == BLOCK else (*ORDERS, KIND)
        if state.get("order") not in orders:
            state.order = ORDERS[0]
        order = st.segmented_control("Order", orders, key="order", required=True)
        clip = st.toggle(
            "Clip",
            key="clip",
            help="The colours tell the weaker 98 % of the pairs apart; the others have the end's colour.",
        )
    return view, scale, order, 0.98 if clip else 1.0


def network_controls(column, n: int) -> tuple[str, float]:
    """(layout, share of the pairs that are drawn)."""
    with column.container(horizontal=True, vertical_alignment="bottom"):
        layout = st.segmented_control(
            "Layout", ["depth", "force", "spectral"], default="depth", key="layout", required=True
        )
        if n <= 2:
            return layout, 1.0
        most = max(1, min(100, round(600 / n)))
        return layout, st.slider("Strongest pairs, %", 1, 100, most, key="share") / 100


def show_spread(source: Source) -> None:
    """How sure the couplings of a learned landscape are."""
    spread = read_learned(source.key, state.estimator).spread
    off = ~np.eye(len(spread), dtype=bool)
    st.caption(
        f"Posterior standard deviation of a coupling: {np.median(spread[off]):.2g} nats in the middle, "
        f"{spread[off].max():.2g} at most; "
        f"of an own cost: {np.median(np.diag(spread)):.2g} and {np.diag(spread).max():.2g}. Every one is "
        "in the matrix's hover."
    )


def show_matrix(
    H: np.ndarray, units: Units, named: Named, view: str, scale: str, order: str, clip: float
) -> None:
    """The matrix; a click on a cell tells the pair."""
    matrix, placed = matrix_figure(*named, view, scale, order, clip)
    clicked = chart(st, matrix, key="matrix", config=CONFIG, on_select="rerun", selection_mode="points")
    for point in clicked["selection"]["points"][:1] if clicked else []:
        show_pair(H, (int(placed[round(point["y"])]), int(placed[round(point["x"])])), units)
    shown = np.abs(view_of(H, view)[~np.eye(len(H), dtype=bool)])
    if clip < 1:
        end = np.quantile(shown, clip)
        st.caption(
            f"Colours end at ±{end:.3g}; {int((shown > end).sum()) // 2} pairs are beyond, the strongest "
            f"{shown.max():.3g}."
        )


def show_eigenvalues(H: np.ndarray, units: Units) -> None:
    """What the drawings mean, and how many directions the matrix has."""
    values = np.linalg.eigvalsh(H)[::-1]
    part = values.clip(min=0) / max(values.clip(min=0).sum(), np.finfo(float).tiny)
    st.caption(
        f"E = Σ Hᵢᵢ + 2 Σᵢ<ⱼ Hᵢⱼ over the removed {units.word}s. Purple: removing both costs more than each "
        "alone; green: less. Node size: sum of |H|, colour: community. "
        f"The largest eigenvalue holds {100 * part[0]:.0f} % of the trace, the four largest "
        f"{100 * part[:4].sum():.0f} %; effective rank {effective_rank(H):.1f} of {len(H)}. "
        "A click on a cell shows the pair."
    )
    left, right = st.columns(2, gap="large")
    chart(left, fields_figure(H, units), key="fields", config=CONFIG)
    chart(right, eigenvalues_figure(H), key="eigenvalues", config=CONFIG)


def show_roles(found: list[Role], units: Units) -> None:
    """Every unit's place in the network, the strongest first."""
    head = [units.word, "own cost", "sum of |H|", "sum of H", "centrality", "community"]
    rows = []
    for r in sorted(found, key=lambda r: -r.strength):
        numbers = [f"{r.own:.4g}", f"{r.strength:.4g}", f"{r.pull:+.4g}", f"{r.centrality:.2f}"]
        rows.append([units.names[r.block], *numbers, r.community])
    with st.expander(f"Every {units.word}"):
        st.html(html_table(head, rows, "roles"))


def show_audit(source: Source) -> None:
    """Whether the pairs agree with measured ones; the measurement is offered where there is none."""
    st.subheader("Do the pairs carry information?")
    found = audit_of(source, state.estimator, state.mix)
    st.markdown(plain(finding(found, source.about(state.estimator).label, source.units.word)))
    if found is not None:
        left, right = st.columns(2, gap="large")
        chart(left, audit_figure(found, source.units), key="audit", config=CONFIG)
        right.html(html_table(["couplings", "Spearman", "95 %", "verdict"], audits(source), "audits"))
        right.caption(
            "Of the same measured pairs: what two removals cost together beyond the sum of both, against "
            "2 H of the pair, for every estimator of this run."
        )
    request = audit_request(source.run)
    job = jobs.find("benchmark", request)
    if missing(source.run.meta["model"]["source"]) is None and (job is None or not job.active):
        if job is None or job.status != "done":
            pairs = sum(len(s) == 2 for s in request["states"])
            st.button(
                f"Measure {pairs} pairs ({time_of(source.run, request)})",
                on_click=start_measuring,
                args=(request,),
                help=f"And the original and their {source.units.word}s alone, on a few sequences of the "
                "run's own texts.",
            )
    follow(request)


def show_quadratic(run: Run) -> None:
    """Where no quadratic form can hold: blocks whose slopes at both ends do not tell what removal costs."""
    secants = (run.whole or run).secants  # they are of whole blocks in every view
    if secants is None:
        return
    far = not_quadratic(secants)
    told = (
        f"Not for {'block' if len(far) == 1 else 'blocks'} {', '.join(map(str, far))}: along their gates no "
        "quadratic form holds that far, and only measuring tells."
        if far
        else "It does for every block: along single gates the loss is quadratic enough."
    )
    st.caption(
        "A removal costs minus half of the slopes at its two ends where the loss is quadratic along the "
        "gate. " + told
    )


def audits(source: Source) -> list[list]:
    """A row for every estimator of the source."""
    rows = []
    for name in source.estimators:
        found = audit_of(source, name)
        rank = found.agreement if found else None
        word = {True: "informative", False: "none", None: "open"}[found.informative if found else None]
        numbers = [f"{rank.spearman:.2f}", f"{rank.low:.2f} to {rank.high:.2f}"] if rank else ["-", "-"]
        rows.append([source.about(name).label, *numbers, word])
    return rows


def show_downloads(source: Source, H: np.ndarray) -> None:
    """The matrix as .csv, as a QUBO, and as code."""
    csv = lambda: "\n".join(",".join(map(repr, row)) for row in H.tolist()) + "\n"  # noqa: E731
    tag = "" if state.mix is None else "-mix-" + re.sub(r"\W+", "-", mix_text(state.mix))[:60].strip("-")
    # read now: a download is made outside any session
    name, m = f"{state.source[:8]}-{state.estimator}{tag}", m_in_view(source)
    left, right, code, _ = st.columns([1, 1.4, 1, 2])
    try:
        code.popover("Python").code(couplings_snippet(source, state.estimator, state.mix), language="python")
    except InputError as error:  # of a source that is kept nowhere
        code.caption(plain(str(error)))
    left.download_button("Matrix as .csv", csv, f"{name}.csv", "text/csv", on_click="ignore")
    right.download_button(
        f"QUBO text for M = {m}",
        lambda: qubo_text(H, removed=m),
        f"{name}-m{m}.qubo",
        "text/plain",
        on_click="ignore",
        help="For other solvers: x = 1 removed, and a penalty, large enough to be exact, for any other "
        f"number of {source.units.word}s.",
    )


def page() -> None:
    """The whole page."""
    st.title("Couplings")
    source = opened_source()
    if source is None:
        return
    unit = source.about(state.estimator).about
    mixed = f" Domain mix: {mix_label(state.mix, 9)}." if state.mix is not None else ""
    st.markdown(plain(f"{source.name}, {unit}.{mixed} Choose another run, estimator or mix in Explore."))
    try:
        H = source.couplings(state.estimator, state.mix)
    except InputError as error:
        st.error(plain(f"{error} Set the mix in Explore."))
        return
    left, right = st.columns(2, gap="large")
    units = source.units
    shown = matrix_controls(left, units)
    layout, share = network_controls(right, source.blocks)
    if learned_at(state.estimator) is not None:
        show_spread(source)
    named = (state.source, state.estimator, state.mix)
    with left:
        show_matrix(H, units, named, *shown)
    graph, found = network(*named, layout, share)
    chart(right, graph, key="graph", config=CONFIG)
    show_eigenvalues(H, units)
    show_roles(found, units)
    show_downloads(source, H)
    if source.run is not None:
        show_audit(source)
        show_quadratic(source.run)
        show_gradient(source.run)
        show_prediction()


page()
