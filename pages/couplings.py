"""Couplings: the matrix as heatmap, and who pulls on whom as a graph."""

import numpy as np
import streamlit as st

from core.couplings import ESTIMATORS
from core.figures import heatmap, interaction_graph
from core.interchange import qubo_text
from pages.view import opened_source, plain, source_of, through_app

state = st.session_state


@st.cache_resource(max_entries=24, show_spinner=False)
def figures(key: str, estimator: str, scale: str, layout: str, per_block: int):
    H = source_of(key).couplings(estimator)
    return heatmap(H, scale), interaction_graph(H, layout, per_block)


def page() -> None:
    st.title("Couplings")
    source = opened_source()
    if source is None:
        return
    unit = ESTIMATORS[state.estimator].about if state.estimator in ESTIMATORS else "as given"
    st.markdown(f"{plain(source.name)}, {plain(unit)}. Choose another run or estimator in Explore.")
    left, right = st.columns(2, gap="large")
    scale = left.segmented_control("Scale", ["signed log", "linear"], default="signed log", key="scale") or "signed log"
    layout = right.segmented_control("Layout", ["depth", "force", "spectral"], default="depth", key="layout") or "depth"
    per_block = (
        right.slider("Strongest couplings of each block", 1, min(8, source.blocks - 1), min(3, source.blocks - 1), key="per_block")
        if source.blocks > 2
        else 1
    )
    matrix, graph = figures(state.source, state.estimator, scale, layout, per_block)
    left.plotly_chart(matrix, key="matrix", config={"displaylogo": False})
    right.plotly_chart(graph, key="graph", config={"displaylogo": False})
    H = source.couplings(state.estimator)
    values = np.linalg.eigvalsh(H)[::-1]
    share = values.clip(min=0) / max(values.clip(min=0).sum(), np.finfo(float).tiny)
    st.caption(
        f"E = Σ Hᵢᵢ + 2 Σᵢ<ⱼ Hᵢⱼ over the removed blocks. Purple: removing both costs more than each alone; green: less. Node size: sum of |H|. "
        f"The largest eigenvalue holds {100 * share[0]:.0f} % of the trace, the four largest {100 * share[:4].sum():.0f} %."
    )
    csv = lambda: "\n".join(",".join(map(repr, row)) for row in H.tolist()) + "\n"  # noqa: E731
    name, m = f"{state.source[:8]}-{state.estimator}", state.removed  # read now: a download is made outside any session
    left, right, _ = st.columns([1, 2, 3])
    left.download_button("Matrix as .csv", csv, f"{name}.csv", "text/csv", on_click="ignore")
    right.download_button(
        f"QUBO text for M = {m}", lambda: qubo_text(H, removed=m), f"{name}-m{m}.qubo", "text/plain",
        on_click="ignore", help="For other solvers: x = 1 removed, and a penalty, large enough to be exact, for any other number of blocks.",
    )  # fmt: skip


through_app()
page()
