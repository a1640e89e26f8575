"""States: block lists, Pearson coefficients, diversity."""

import itertools

import numpy as np
import pytest

from core.errors import InputError
from core.ising.states import (
    block_list,
    blocks_changed,
    diversity,
    indicator,
    parse_blocks,
    pearson,
    removed_blocks,
    short_hashes,
)


def test_pearson_is_numpys_and_affine_in_the_overlap_at_equal_m():
    x = indicator(list(itertools.combinations(range(8), 3)), 8)
    r = pearson(x, x)
    assert np.allclose(r, np.corrcoef(x.astype(float)), atol=1e-12)
    p, overlap = 3 / 8, (x.astype(int) @ x.T.astype(int))
    assert np.allclose(r, (overlap / 8 - p**2) / (p * (1 - p)), atol=1e-12)


def test_pearson_where_m_differs():
    x, y = indicator([(0, 1)], 6), indicator([(1, 2, 5)], 6)
    assert np.isclose(pearson(x, y)[0, 0], np.corrcoef(x[0], y[0])[0, 1])


def test_diversity_and_blocks_changed():
    x = indicator([(0, 1), (0, 2), (4, 5)], 6)
    r = np.corrcoef(x.astype(float))
    assert np.allclose(diversity(x), [1 - r[0, 1], 1 - r[1, 0], 1 - max(r[2, 0], r[2, 1])])
    assert np.isnan(diversity(x[:1])).all()
    assert blocks_changed(x, x[0]).tolist() == [0, 1, 2]


def test_lists_round_trip_and_hashes_stay():
    states = [(0, 3, 5), (1, 2, 4)]
    assert removed_blocks(indicator(states, 6)) == states
    everything = indicator(list(itertools.combinations(range(12), 4)), 12)
    hashes = short_hashes(everything)
    assert hashes[::-1] == short_hashes(everything[::-1]) and all(len(h) == 4 for h in hashes)
    assert len(set(hashes)) > 0.98 * len(hashes)
    assert short_hashes(np.pad(everything, ((0, 0), (0, 5)))) == hashes


@pytest.mark.parametrize(
    ("text", "blocks"), [("3", (3,)), ("3,7-9, 20", (3, 7, 8, 9, 20)), (" 9 , 2 ", (2, 9))]
)
def test_parse_blocks(text, blocks):
    assert parse_blocks(text, 24) == blocks


@pytest.mark.parametrize(
    "text", ["", "a", "1,,2", "3-1", "1,1", "1-3,2", "24", "-1", "1.5", "1_0", "٣", "1-2-3", "9" * 5]
)
def test_bad_block_lists_are_one_sentence(text):
    with pytest.raises(InputError) as caught:
        parse_blocks(text, 24)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("state", [(), (3,), (0, 1), (3, 7, 8, 9, 20), (0, 1, 2, 5, 6, 10)])
def test_block_lists_are_read_back(state):
    assert not state or parse_blocks(block_list(state)) == state
    assert block_list((3, 9, 8, 7, 20)) == "3,7-9,20" and block_list(()) == ""
