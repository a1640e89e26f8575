"""Couplings: the matrix as heatmap, and who pulls on whom as a graph."""

import re

import numpy as np
import streamlit as st

from core.couplings import first_order, misjudged
from core.errors import InputError
from core.figures import gradient_figure, heatmap, interaction_graph
from core.interchange import qubo_text
from core.lens import significant
from core.mix import mix_label, mix_text
from core.posterior import learned_at, read_learned
from core.runs import Run
from pages.view import opened_source, plain, source_of, through_app

state = st.session_state


@st.cache_resource(max_entries=24, show_spinner=False)
def figures(key: str, estimator: str, mix: dict | None, scale: str, layout: str, per_block: int):
    H = source_of(key).couplings(estimator, mix)
    spread = None if learned_at(estimator) is None else read_learned(key, estimator).spread
    return heatmap(H, scale, spread), interaction_graph(H, layout, per_block)


def show_gradient(run: Run) -> None:
    """The first-order term that the energy leaves out, and where gradients are known to mislead."""
    st.subheader("First-order term")
    found, blocks = first_order(run, state.mix), run.blocks
    st.markdown(
        f"{found.significant} of {blocks} blocks have a mean gradient beyond two standard errors, where chance alone gives about {0.05 * blocks:.0f}. "
        f"Its size is {100 * found.ratio:.2g} % of a row's entries; rows of mean 0 would show {100 * found.noise:.2g} %."
    )
    st.plotly_chart(gradient_figure(found.gradient, found.se), key="gradient", config={"displaylogo": False})
    for b in misjudged(run, state.mix):
        st.caption(
            f"Block {b.block} costs {significant(b.increase)} nats when it is removed alone; its gradient predicts {significant(b.predicted)}."
        )


def page() -> None:
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
    scale = left.segmented_control("Scale", ["signed log", "linear"], default="signed log", key="scale") or "signed log"
    layout = right.segmented_control("Layout", ["depth", "force", "spectral"], default="depth", key="layout") or "depth"
    per_block = (
        right.slider("Strongest couplings of each block", 1, min(8, source.blocks - 1), min(3, source.blocks - 1), key="per_block")
        if source.blocks > 2
        else 1
    )
    if learned_at(state.estimator) is not None:
        spread = read_learned(source.key, state.estimator).spread
        off = ~np.eye(len(spread), dtype=bool)
        st.caption(
            f"Posterior standard deviation of a coupling: {np.median(spread[off]):.2g} nats in the middle, {spread[off].max():.2g} at most; "
            f"of an own cost: {np.median(np.diag(spread)):.2g} and {np.diag(spread).max():.2g}. Every one is in the matrix's hover."
        )
    matrix, graph = figures(state.source, state.estimator, state.mix, scale, layout, per_block)
    left.plotly_chart(matrix, key="matrix", config={"displaylogo": False})
    right.plotly_chart(graph, key="graph", config={"displaylogo": False})
    values = np.linalg.eigvalsh(H)[::-1]
    share = values.clip(min=0) / max(values.clip(min=0).sum(), np.finfo(float).tiny)
    st.caption(
        f"E = Σ Hᵢᵢ + 2 Σᵢ<ⱼ Hᵢⱼ over the removed blocks. Purple: removing both costs more than each alone; green: less. Node size: sum of |H|. "
        f"The largest eigenvalue holds {100 * share[0]:.0f} % of the trace, the four largest {100 * share[:4].sum():.0f} %."
    )
    csv = lambda: "\n".join(",".join(map(repr, row)) for row in H.tolist()) + "\n"  # noqa: E731
    tag = "" if state.mix is None else "-mix-" + re.sub(r"\W+", "-", mix_text(state.mix))[:60].strip("-")
    name, m = f"{state.source[:8]}-{state.estimator}{tag}", state.removed  # read now: a download is made outside any session
    left, right, _ = st.columns([1, 2, 3])
    left.download_button("Matrix as .csv", csv, f"{name}.csv", "text/csv", on_click="ignore")
    right.download_button(
        f"QUBO text for M = {m}", lambda: qubo_text(H, removed=m), f"{name}-m{m}.qubo", "text/plain",
        on_click="ignore", help="For other solvers: x = 1 removed, and a penalty, large enough to be exact, for any other number of blocks.",
    )  # fmt: skip
    if source.run is not None:
        show_gradient(source.run)


through_app()
page()
