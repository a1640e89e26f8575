"""Figures show the numbers they were given."""

import numpy as np
import pytest

from core.compare.healed import Healed
from core.energy.network import roles, strongest
from core.view.coupling_figures import (
    eigenvalues_figure,
    fields_figure,
    heatmap,
    interaction_graph,
    signed_log,
)
from core.view.heal_figures import before_and_after
from core.view.lens import strongest_edges
from core.view.measured_figures import (
    alike,
    energy_against_loss,
    forwards_spent,
    rank_changes,
    to_be_measured,
    trust,
    unexplained,
)
from core.view.palette import DARK, GREEDY, NEGATIVE, POSITIVE, ZERO, themed
from core.view.run_figures import gradient_figure

B = np.random.default_rng(0).normal(size=(20, 9))
H = B.T @ B


def test_the_heatmap_is_symmetric_around_zero_and_blank_on_the_diagonal():
    for scale in ("signed log", "linear"):
        trace, cells = heatmap(H, scale).data
        assert (np.array(cells.customdata)[10] == [1, 1]).all() and (cells.x[10], cells.y[10]) == (1, 1)
        assert (
            trace.zmin == -trace.zmax
            and np.isnan(np.diag(trace.z)).all()
            and (np.array(trace.customdata) == H).all()
        )
        off = ~np.eye(9, dtype=bool)
        assert (np.sign(np.array(trace.z)[off]) == np.sign(H[off])).all() and np.nanmax(
            np.abs(trace.z)
        ) == trace.zmax


def test_rows_stand_in_their_order_and_strong_pairs_may_be_clipped():
    order = np.array([8, 0, 1, 2, 3, 4, 5, 6, 7])
    trace, cells = heatmap(H, "linear", order=order, clip=0.5).data
    assert trace.customdata[0][1] == H[8, 0] and list(np.array(cells.customdata)[1]) == [8, 0]
    off = np.abs(H[~np.eye(9, dtype=bool)])
    assert (
        trace.zmax == pytest.approx(np.quantile(off, 0.5))
        and (np.abs(np.array(trace.z)[~np.isnan(np.array(trace.z))]) <= trace.zmax).all()
    )


def test_own_costs_fields_and_eigenvalues_are_drawn():
    own, field = fields_figure(H).data
    assert np.allclose(own.y, np.diag(H)) and np.allclose(field.y, H.sum(axis=1) / 2)
    (bars,) = eigenvalues_figure(H).data
    assert np.allclose(bars.y, np.linalg.eigvalsh(H)[::-1]) and bars.customdata[-1] == pytest.approx(100)


def test_colour_bar_labels_are_the_values_at_their_ticks():
    trace = heatmap(H).data[0]
    off = np.abs(H[~np.eye(9, dtype=bool)])
    assert (
        float(trace.colorbar.ticktext[-1]) == pytest.approx(off.max(), rel=0.06)
        and trace.colorbar.ticktext[2] == "0"
    )
    assert signed_log(np.array([0.0]), 1.0)[0] == 0


@pytest.mark.parametrize("layout", ["depth", "force", "spectral"])
def test_the_graph_has_every_block_and_only_the_strongest_pairs(layout):
    pairs, community = strongest_edges(H, 2), [b % 3 for b in range(9)]
    figure = interaction_graph(H, pairs, community, layout)
    assert len(set(figure.data[-1].marker.color)) == 3
    lines, nodes = figure.data[:-1], figure.data[-1]
    assert list(nodes.text) == [str(b) for b in range(9)]
    strength = np.abs(H) - np.diag(np.diag(H))
    expected = {tuple(sorted((i, int(j)))) for i in range(9) for j in np.argsort(-strength[i])[:2]}
    assert len(lines) == len(expected)
    if layout == "depth":
        for line in lines:
            i, j = round(line.x[0]), round(line.x[-1])
            assert (i, j) in expected and np.sign(line.y[12]) == np.sign(H[i, j])


def network_of(matrix):
    edges = strongest(matrix, 0.5)
    return interaction_graph(matrix, edges, [r.community for r in roles(matrix, edges)], "force")


@pytest.mark.parametrize("matrix", [np.zeros((4, 4)), np.eye(2), np.full((3, 3), 2.0)])
def test_plain_matrices_draw_too(matrix):
    (
        heatmap(matrix),
        heatmap(matrix, "linear"),
        network_of(matrix),
        fields_figure(matrix),
        eigenvalues_figure(matrix),
    )


def test_the_gradient_bars_have_two_standard_errors_and_stand_out_where_beyond():
    g, se = np.array([0.5, -0.1, -3.0]), np.array([0.1, 0.1, np.nan])
    (bars,) = gradient_figure(g, se).data
    assert (np.array(bars.y) == g).all() and np.array(bars.error_y.array)[0] == 0.2
    strong, weak, unknown = bars.marker.opacity
    assert strong == 1 and weak == unknown < 1


E_, L_, SE = np.array([3.0, 1, 2, 5, 4]), np.array([0.4, 0.2, 0.1, 0.5, 0.3]), np.full(5, 0.01)
NAMES = ["a", "b", "c", "d", "e"]


def test_the_scatter_marks_the_lowest_energy_and_the_best_loss():
    cloud, lowest, best = energy_against_loss(NAMES, E_, L_, SE, 1, 2, spread=SE).data
    assert (
        list(cloud.x) == E_.tolist()
        and list(cloud.y) == L_.tolist()
        and list(cloud.error_x.array) == [0.02] * 5
    )
    assert (lowest.x[0], lowest.y[0]) == (1.0, 0.2) and (best.x[0], best.y[0]) == (2.0, 0.1)
    wide = energy_against_loss(NAMES, E_ * [1, 1, 1, 1, 100], L_, SE, 1, 2)
    assert (wide.layout.xaxis.type, wide.layout.yaxis.type) == ("log", None)


def test_what_is_not_measured_stands_by_its_energy_and_has_no_loss():
    energy = np.array([3.0, 1.0, 2.0])
    figure = to_be_measured(["0, 1", "2, 3", "4, 5"], energy)
    (points,) = figure.data
    assert list(points.x) == list(energy) == [line.x0 for line in figure.layout.shapes]
    assert figure.layout.annotations[0].x == 1.0 and not figure.layout.yaxis.showticklabels


def test_curves_are_increases_and_go_on_to_the_end():
    learned, greedy = forwards_spent(
        {"learned": [(4.0, 1.3), (6.0, 1.2)], "greedy": [(20.0, 1.25)], "random": []}, 1.0
    ).data
    assert (
        list(learned.x) == [4, 6, 21]
        and np.allclose(learned.y, [0.3, 0.2, 0.2])
        and np.allclose(greedy.y, [0.25])
    )


def test_ranks_on_both_sides():
    lines = {line.text[0]: tuple(line.y) for line in rank_changes(NAMES, E_, L_).data}
    assert lines == {"a": (2, 3), "b": (0, 1), "c": (1, 0), "d": (4, 4), "e": (3, 2)}


def test_trust_and_what_is_left_unexplained():
    assert list(trust(E_, L_).data[0].y) == pytest.approx([0.1, 0, 0, 0, 0])
    (points,) = unexplained(NAMES, E_, 2 * E_ - 1, SE).data
    assert np.allclose(points.y, 0, atol=1e-12) and np.allclose(points.x, 2 * E_ - 1)


def test_alike_states_stand_together_and_lie_together():
    pearson = np.array([[1, 0.9, -0.5], [0.9, 1, -0.4], [-0.5, -0.4, 1.0]])
    matrix, place = alike(["a", "b", "c"], pearson, np.arange(3.0)).data
    assert (
        sorted(matrix.customdata[0][0])
        and np.allclose(np.diag(matrix.z), 1)
        and matrix.z[1][0] in (0.9, -0.4)
    )
    far = lambda i, j: np.hypot(place.x[i] - place.x[j], place.y[i] - place.y[j])  # noqa: E731
    assert far(0, 1) == pytest.approx(np.sqrt(0.2)) and far(0, 2) == pytest.approx(np.sqrt(3))


def test_a_dark_page_has_dark_colours_and_the_same_numbers():
    light = heatmap(H)
    assert themed(light, False) is light
    dark = themed(light, True)
    assert [c for _, c in dark.data[0].colorscale] == [DARK[NEGATIVE], DARK[ZERO], DARK[POSITIVE]]
    for before, after in zip(light.to_dict()["data"], dark.to_dict()["data"], strict=True):
        assert all(before[name] == after[name] for name in ("x", "y", "customdata")) and before.get(
            "z"
        ) == after.get("z")
    assert set(themed(fields_figure(H), True).data[1].marker.color) <= {DARK[POSITIVE], DARK[NEGATIVE]}
    assert light.data[0].colorscale[0][1] == NEGATIVE  # the figure itself is shared between sessions


def test_noise_is_no_mountain():
    flat = forwards_spent({"learned": [(5.0, 1.0045368), (9.0, 1.0045371)]}, 1.0)
    low, high = flat.layout.yaxis.range
    assert low < 0.0045368 < 0.0045371 < high and high - low > 0.0003
    steep = forwards_spent({"learned": [(5.0, 1.5), (9.0, 1.004)]}, 1.0)
    low, high = steep.layout.yaxis.range
    assert (
        steep.layout.yaxis.type == "log"
        and 10**low < 0.004 < 10**high < 0.5
        and "1 point above the scale" in steep.layout.annotations[0].text
    )
    for original in (1.0, None):  # not steep enough for a logarithmic axis of itself, or no increase
        base = original or 0.0
        some = forwards_spent({"learned": [(5.0, base + 2.0), (9.0, base + 0.1)]}, original)
        low, high = some.layout.yaxis.range
        assert some.layout.yaxis.type == "log" and 10**low < 0.1 < 10**high < 2.0


def test_states_before_and_after_healing():
    states = [Healed((3, 4), 0.8, 1.2, 0.95), Healed((1, "2a"), 0.8, 1.1, 0.99), Healed((5,), 0.8, 1.3, 0.9)]
    figure = before_and_after(states)
    assert [tuple(line.y) for line in figure.data] == [(1.2, 0.95), (1.1, 0.99), (1.3, 0.9)]
    assert [line.text[0] for line in figure.data] == ["1", "2", "3"]
    assert [line.line.color == GREEDY for line in figure.data] == [False, False, True]  # the best healed one
    assert "1,2a" in figure.data[1].hovertemplate
    (original,) = figure.layout.shapes
    assert original.y0 == original.y1 == 0.8
