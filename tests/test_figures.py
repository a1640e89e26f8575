"""Figures show the numbers they were given."""

import numpy as np
import pytest

from core.figures import gradient_figure, heatmap, interaction_graph, signed_log

B = np.random.default_rng(0).normal(size=(20, 9))
H = B.T @ B


def test_the_heatmap_is_symmetric_around_zero_and_blank_on_the_diagonal():
    for scale in ("signed log", "linear"):
        (trace,) = heatmap(H, scale).data
        assert trace.zmin == -trace.zmax and np.isnan(np.diag(trace.z)).all() and (np.array(trace.customdata) == H).all()
        off = ~np.eye(9, dtype=bool)
        assert (np.sign(np.array(trace.z)[off]) == np.sign(H[off])).all() and np.nanmax(np.abs(trace.z)) == trace.zmax


def test_colour_bar_labels_are_the_values_at_their_ticks():
    (trace,) = heatmap(H).data
    off = np.abs(H[~np.eye(9, dtype=bool)])
    assert float(trace.colorbar.ticktext[-1]) == pytest.approx(off.max(), rel=0.06) and trace.colorbar.ticktext[2] == "0"
    assert signed_log(np.array([0.0]), 1.0)[0] == 0


@pytest.mark.parametrize("layout", ["depth", "force", "spectral"])
def test_the_graph_has_every_block_and_only_the_strongest_pairs(layout):
    figure = interaction_graph(H, layout, per_block=2)
    lines, nodes = figure.data[:-1], figure.data[-1]
    assert list(nodes.text) == [str(b) for b in range(9)]
    strength = np.abs(H) - np.diag(np.diag(H))
    expected = {tuple(sorted((i, int(j)))) for i in range(9) for j in np.argsort(-strength[i])[:2]}
    assert len(lines) == len(expected)
    if layout == "depth":
        for line in lines:
            i, j = round(line.x[0]), round(line.x[-1])
            assert (i, j) in expected and np.sign(line.y[12]) == np.sign(H[i, j])


@pytest.mark.parametrize("matrix", [np.zeros((4, 4)), np.eye(2), np.full((3, 3), 2.0)])
def test_plain_matrices_draw_too(matrix):
    heatmap(matrix), heatmap(matrix, "linear"), interaction_graph(matrix)


def test_the_gradient_bars_have_two_standard_errors_and_stand_out_where_beyond():
    g, se = np.array([0.5, -0.1, -3.0]), np.array([0.1, 0.1, np.nan])
    (bars,) = gradient_figure(g, se).data
    assert (np.array(bars.y) == g).all() and np.array(bars.error_y.array)[0] == 0.2
    strong, weak, unknown = bars.marker.opacity
    assert strong == 1 and weak == unknown < 1
