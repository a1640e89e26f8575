"""States healed side by side: places by each ruler, and how well the orders agree."""

from itertools import permutations

import pytest

from core.compare.healed import Healed, orders_of, won_in_words


def states(*rows):
    return [Healed((k,), 1.0, before, after, energy) for k, (energy, before, after) in enumerate(rows)]


def test_places_and_what_came_back():
    found = orders_of(states((0.3, 1.4, 1.2), (0.1, 1.2, 1.1), (0.2, 1.2, 1.3)))
    assert found.places == {"energy": (3, 1, 2), "before": (3, 1, 1), "after": (2, 1, 3)}
    assert [s.won for s in states((0, 1.4, 1.2), (0, 1.0, 1.1), (0, 1.2, 1.3))] == pytest.approx(
        [0.5, None, -0.5], abs=1e-9
    )


def test_an_order_that_survives_and_one_that_turns_round():
    energy, before = (0.1, 0.2, 0.3, 0.4), (1.1, 1.2, 1.3, 1.4)
    for after in permutations((1.01, 1.02, 1.03, 1.04)):
        found = orders_of(states(*zip(energy, before, after)))
        apart = sum((a - b) ** 2 for a, b in zip(found.places["before"], found.places["after"]))
        assert found.spearman["before", "after"] == pytest.approx(1 - 6 * apart / (4 * 15))  # its definition
        assert found.spearman["energy", "before"] == pytest.approx(1)
    assert set(found.to_json()["spearman"]) == {"energy, before", "energy, after", "before, after"}


def test_what_is_not_known_is_not_told():
    without_energy = orders_of(states((None, 1.4, 1.2), (0.1, 1.2, 1.1), (0.2, 1.3, 1.3)))
    assert set(without_energy.places) == {"before", "after"} and len(without_energy.spearman) == 1
    assert orders_of(states((0.1, 1.4, 1.2), (0.2, 1.2, 1.1))).spearman == {}  # two say nothing
    equal = orders_of(states((0.1, 1.4, 1.2), (0.2, 1.4, 1.1), (0.3, 1.4, 1.3)))
    assert set(equal.spearman) == {("energy", "after")} and equal.places["before"] == (1, 1, 1)


def test_what_came_back_in_words():
    assert won_in_words(0.716).startswith("72 % of the loss increase came back")
    assert won_in_words(-0.007) == "worse than plain removal: the loss increase is 1 % larger"
    assert won_in_words(-0.001).startswith("0 % of the loss increase")
    assert won_in_words(-0.5) == "worse than plain removal: the loss increase is 1.5 times as large"
