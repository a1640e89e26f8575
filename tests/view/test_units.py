"""Drawings of a model that is seen by branch: names, kinds and lanes."""

import itertools
import re

import numpy as np
import pytest

from core.energy.sources import open_source
from core.ising.units import BRANCH, whole
from core.landscape.landscape import landscape
from core.spectrum.lowest import lowest_states
from core.spectrum.sweep import sweep
from core.view.coupling_figures import fields_figure, heatmap, how_many, interaction_graph
from core.view.lens import landscape_data, strongest_edges
from core.view.report import report_html
from core.view.run_figures import gradient_figure
from core.view.snippets import View
from core.view.unit_axes import both_titled, by_kind, depth_ticks, titled
from pages.compare_parts.table import mini
from pages.shared.parts import block_strip, block_table, branch_strip


@pytest.fixture(scope="module")
def halves():
    """The demo by branch: 24 blocks, 48 units."""
    return open_source("demo").seen(BRANCH)


@pytest.fixture(scope="module")
def found(halves):
    H = halves.couplings("h0")
    return landscape(H, lowest_states(H, 6, 100))


def test_the_lens_is_told_what_each_unit_is_called_and_where_it_is(halves, found):
    model = halves.run.meta["model"]
    data = landscape_data(found, "t", "u", model["blocks"], model["parameters"], units=halves.units)
    assert data["names"][:3] == ["0a", "0f", "1a"] and data["block"][:3] == [0, 0, 1]
    assert data["blocks"] == len(data["names"]) == len(data["parameters"]) == 48
    assert data["word"] == "unit" and data["kinds"][:2] == ["attention", "FFN"]
    assert sum(data["kv"]) == sum(data["kv"][::2]) > 0  # of attention alone
    by_block = landscape_data(found, "t", "u", None, None)
    assert by_block["names"][:2] == ["0", "1"] and by_block["word"] == "block"


def test_units_are_titled_by_name_and_kind(halves):
    assert titled(halves.units, 7) == "3f (FFN)" and titled(whole(9), 7) == "Block 7"
    assert both_titled(halves.units, 6, 7) == "3a (attention) and 3f (FFN)"
    assert both_titled(whole(9), 6, 7) == "Blocks 6 and 7"


def test_a_matrix_in_order_of_kind_rules_its_quarters_off(halves, found):
    order, kinds = by_kind(halves.units)
    assert kinds == [("attention", 24), ("FFN", 24)] and order[:2].tolist() == [0, 2]
    figure = heatmap(found.H, order=order, units=halves.units)
    assert [line.y0 for line in figure.layout.shapes if line.y0 == line.y1] == [23.5]
    assert [a.text for a in figure.layout.annotations] == ["attention", "FFN"]
    cells = figure.data[1]
    assert cells.text[1].startswith("0a and 1a<br>H = ") and cells.customdata[1].tolist() == [0, 2]
    deep = heatmap(found.H, units=halves.units)
    assert not deep.layout.shapes
    assert deep.layout.xaxis.ticktext[1] == "2" and deep.layout.xaxis.tickvals[1] == 4.5
    assert heatmap(found.H[:9, :9]).data[1].text[1].startswith("blocks 0 and 1<br>H = ")


def test_half_of_the_pairs_may_be_zero_and_the_scale_still_tells_the_others_apart():
    H = np.zeros((8, 8))
    H[0, 1] = H[1, 0] = 1.0
    H[2, 3] = H[3, 2] = H[4, 5] = H[5, 4] = 1e-4
    z = np.array(heatmap(H).data[0].z)
    assert z[2, 3] > 0.05 * z[0, 1]


def test_the_graph_tells_kinds_by_shape(halves, found):
    edges = [(int(i), int(j), v) for i, j, v in strongest_edges(found.H, 2)]
    figure = interaction_graph(found.H, edges, [0] * 48, "force", halves.units)
    nodes = next(trace for trace in figure.data if trace.mode == "markers+text")
    assert nodes.marker.symbol[:2] == ("circle", "square") and nodes.text[25] == "12f"
    assert [trace.name for trace in figure.data if trace.showlegend is not False] == ["attention", "FFN"]
    along = interaction_graph(found.H, edges, [0] * 48, "depth", halves.units)
    nodes = next(trace for trace in along.data if trace.mode == "markers+text")
    assert [text for text in nodes.text if text] == [str(b) for b in range(0, 24, 2)]


def test_bars_and_curves_name_units(halves, found):
    assert fields_figure(found.H, halves.units).data[0].customdata[25] == "12f"
    bars = gradient_figure(np.ones(48), np.ones(48), halves.units).data[0]
    assert bars.text[24] == "12a" and gradient_figure(np.ones(3), np.ones(3)).data[0].text[1] == "block 1"
    assert depth_ticks(whole(9)) == {}
    figure = how_many(list(itertools.islice(sweep(found.H), 2)), 1, halves.units)
    assert re.fullmatch(r"enter \d+[af]<br>leave none", figure.data[0].customdata[0])
    assert figure.layout.xaxis2.title.text == "M, removed units"


def test_a_strip_has_a_column_a_block_with_a_lane_a_unit(halves):
    state = halves.units.parse("3, 12f")
    html = mini(state, halves.units)
    assert html.count("<span>") == 24 and html.count("<i") == 48 and html.count('class="gone"') == 3
    assert 'aria-label="removes 3, 12f"' in html
    assert "<span>" not in mini((3,), whole(24)) and mini((3,), whole(24)).count("<i") == 24


def test_the_model_s_strip_and_table_show_what_each_branch_holds(halves):
    blocks = halves.run.whole.meta["model"]["blocks"]
    html = branch_strip(blocks, halves.units, halves.units.parse("3, 12f"))
    assert html.count("<i") == 48 and html.count('<i class="gone"') == 3
    assert "attention, 16,448 parameters" in html and html.count("<span>") == 24
    assert block_strip(blocks, (3,)).count("<i") == 24
    rows = re.findall(r"<tr>(.*?)</tr>", block_table(blocks))
    assert len(rows) == 1 + 24 * 3
    cells = [re.findall(r"<td>(.*?)</td>", row) for row in rows[1:4]]
    assert [row[0] for row in cells] == ["0", "0a", "0f"] and cells[2][4] == "0"
    for column in (2, 3, 4):
        whole_, *parts = (int(row[column].replace(",", "")) for row in cells)
        assert whole_ == sum(parts)
    of_before = [{**b, "branches": [{"kind": part["kind"]} for part in b["branches"]]} for b in blocks]
    assert block_table(of_before).count("<tr>") == 25


def test_the_report_has_lanes_and_says_units(halves, found):
    html = report_html(View(halves, "h0", 6, 100), found)
    assert "Removing 6 of 48 units" in html and "by units changed" in html
    path = re.search(r'<path class="gone" d="(.*?)"/>', html).group(1)
    assert path.count("M") == 6 * 80 and len(set(re.findall(r"v([\d.]+)h", path))) == 1
    assert "A column a block (attention above FFN)" in html
