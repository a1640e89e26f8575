"""A bed holds what was measured, state by state; its page says nothing that is not in it."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from core.choose import bed_page
from core.choose.bed import Bed, around, depths_of, drawn, read_bed
from core.errors import InputError
from core.measure.evaluation import sequence_losses
from tests.choose.bed_cases import measured_bed

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_groups_are_the_same_for_the_same_seed_and_hold_what_they_say():
    increase = np.linspace(0, 1, 12)[::-1]
    groups = drawn(12, increase, (3, 5), 30)
    assert groups == drawn(12, increase, (3, 5), 30) != drawn(12, increase, (3, 5), 30, seed=1)
    assert groups["singles"] == [(), *((i,) for i in range(12))] and len(groups["pairs"]) == 66
    assert groups["cheapest-3"] == list(itertools.combinations(range(6, 12), 3))  # no more than 20 of them
    for name in ("random-3", "random-5", "cheapest-5"):
        m = int(name[-1])
        assert len(set(groups[name])) == 30 and {len(s) for s in groups[name]} == {m}
    assert min(map(min, groups["cheapest-5"])) >= 3  # three quarters of 12
    assert drawn(12, increase, (3,), 10)["random-3"] == groups["random-3"][:10]
    assert depths_of(30) == (3, 6, 10, 15) and depths_of(24) == (2, 5, 8, 12)
    near = around((0, 1, 2), 12, 5)
    assert near[0] == (0, 1, 2) and all(len(set(s) & {0, 1, 2}) == 2 for s in near[1:]) and len(near) == 6


@pytest.fixture(scope="module")
def measured(tiny, text_file):
    """As `measured_bed`."""
    return measured_bed(str(tiny["llama"]), text_file)


def test_a_bed_is_what_was_measured_and_survives_its_file(measured, tmp_path):
    loaded, _, bed, texts = measured
    for state in [(), (2,), (0, 3), *bed.removed[-3:]]:
        loss = sequence_losses(loaded, texts.ids, state)
        assert np.abs(bed.values[0][bed.at[state]] - loss).max() < 1e-5
    assert not bed.increase()[bed.at[()]].any() and (bed.values[1][bed.at[()]] == 0).all()
    assert {len(bed.removed[k]) for k in bed.groups["random-3"]} == {3}
    bed.write(tmp_path / "bed.npz")
    again = read_bed(tmp_path / "bed.npz")
    assert again.removed == bed.removed and again.meta == bed.meta and set(again.groups) == set(bed.groups)
    assert (again.values[0] == bed.values[0].astype(np.float32)).all()
    assert np.allclose(again.values[1], bed.values[1], rtol=1e-3, atol=1e-4)
    (tmp_path / "bed.npz").write_bytes(b"PK no bed")
    with pytest.raises(InputError, match="measure it again"):
        read_bed(tmp_path / "bed.npz")
    assert isinstance(bed, Bed) and bed.half(False).stop == bed.half(True).start == 3


def test_the_page_says_what_the_bed_holds(measured):
    _, run, bed, _ = measured
    page = bed_page.page("tiny", run, bed, {})
    for heading in ("The bed", "Who orders", "What would each choose", "Two bodies", "The ruler"):
        assert f"## {heading}" in page
    line = next(line for line in page.splitlines() if line.startswith("| singles |") and "(" in line)
    ground = bed.removed[bed.groups["lowest:singles-2"][0]]
    assert f"{bed.increase()[bed.at[ground]].mean():+.2f} (+0.00 ± 0.00)" in line


@pytest.mark.parametrize("folder", sorted((DOCS / "beds").glob("*/")), ids=lambda f: f.name)
def test_every_figure_of_the_page_in_docs_is_computed_from_the_bed(folder):
    if not (folder / "bed.npz").exists():
        pytest.skip("not measured yet")
    written = (DOCS / f"study-{folder.name}.md").read_text(encoding="utf-8").splitlines()
    found = bed_page.page(folder.name, *bed_page.read(folder), *bed_page.read_more(folder)).splitlines()
    own_line = 2  # names the machine that wrote it
    assert found[:own_line] + found[own_line + 1 :] == written[:own_line] + written[own_line + 1 :]
