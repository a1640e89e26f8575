"""What a state removes, by block and by branch."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InputError
from core.ising.units import BLOCK, BRANCH, in_order, name_text, read_name, read_names, units_of, whole

PLAIN = [["attention", "FFN"]] * 4
MIXED = [["Mamba"], ["sliding attention", "MoE"], ["FFN"], ["attention", "Mamba", "FFN", "FFN"]]


def test_names_tell_the_block_and_the_kind():
    assert units_of(PLAIN, BRANCH).names == ("0a", "0f", "1a", "1f", "2a", "2f", "3a", "3f")
    mixed = units_of(MIXED, BRANCH)
    assert mixed.names == ("0", "1a", "1f", "2", "3a", "3m", "3f", "3f2")
    assert mixed.block == (0, 1, 1, 2, 3, 3, 3, 3) and mixed.of_block == ((0,), (1, 2), (3,), (4, 5, 6, 7))
    assert mixed.word == "unit" and units_of(MIXED, BLOCK).word == "block"
    assert units_of(MIXED, BLOCK).kinds[1] == "sliding attention + MoE"


def test_blocks_of_one_branch_each_have_one_view():
    assert units_of([["Mamba"], ["attention"]], BRANCH) == units_of([["Mamba"], ["attention"]], BLOCK)
    with pytest.raises(InputError, match="by block or by branch, not by 'head'"):
        units_of(PLAIN, "head")


def test_a_state_has_one_name_in_both_views():
    by_block, by_branch = (units_of(PLAIN, by) for by in (BLOCK, BRANCH))
    state = by_branch.parse("0, 2-3")
    assert state == (0, 1, 4, 5, 6, 7) and by_branch.stored(state) == (0, 2, 3) == by_block.stored((0, 2, 3))
    assert by_branch.listed(state) == ["0a", "0f", "2a", "2f", "3a", "3f"] and by_block.listed((2,)) == [2]
    half = by_branch.parse("1f,0,2a")
    assert by_branch.stored(half) == (0, "1f", "2a") and by_branch.said(half) == "0, 1f, 2a"
    assert by_branch.write(half) == "0,1f,2a" and by_block.state((0, "1f")) is None
    assert by_block.state(by_branch.stored(state)) == (0, 2, 3) and by_block.state((7,)) is None
    assert by_branch.state(["1a", "1f"]) == by_branch.state([1]) == (2, 3)


@given(st.sets(st.integers(0, 7), max_size=7))
def test_what_is_written_is_read(state):
    units = units_of(MIXED, BRANCH)
    state = tuple(sorted(state))
    if state:
        assert units.parse(units.write(state)) == state
        assert read_names(units.write(state)) == in_order(units.stored(state))
    assert units.state(units.stored(state)) == state == units.state(units.listed(state))
    assert read_name(name_text(units.stored(state))) == units.stored(state)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1,1a", "1a is listed twice"),
        ("1,0,1", "^1 is listed twice"),
        ("9a", "Block 9 does not exist: the model has blocks 0 to 3"),
        ("4", "blocks 0 to 3"),
        ("2x", "Block 2 has no branch '2x'; it has 2a, 2f"),
        ("1a-3", "neither a block, a range of blocks nor a branch"),
        ("moon", "neither a block, a range of blocks nor a branch"),
        ("3-1", "runs backwards"),
    ],
)
def test_a_bad_list_is_one_sentence(text, says):
    with pytest.raises(InputError, match=says) as caught:
        units_of(PLAIN, BRANCH).parse(text)
    assert "\n" not in str(caught.value)


def test_halves_are_no_states_by_block():
    with pytest.raises(InputError, match="'2a' names a part of block 2"):
        whole(4).parse("1,2a")


def test_lists_of_any_model_are_read():
    assert read_names("12f, 3, 7-9,12a") == (3, 7, 8, 9, "12a", "12f")
    for text in ("3,3a", "12a,12a", "3a,x", "5-3"):
        with pytest.raises(InputError):
            read_names(text)
