"""How far a proof is, in words."""

import math
from dataclasses import replace

import numpy as np
import pytest

from core.landscape.wording import progress_of_proof, proof
from core.spectrum.lowest import lowest_states


@pytest.mark.parametrize(
    ("seconds", "bound", "energy", "says"),
    [
        (12.2, 0.96, 1.0, "proof: bound at 96 % of the K-th energy after 12 s"),
        (0.71, 1.234e-8, 1e-7, "proof: bound at 12.3 % of the K-th energy after 0.7 s"),
        (600, 2.0, 1.0, "proof: bound at 100 % of the K-th energy after 600 s"),
        (3, -1.5, 1.0, "proof: bound -1.5, K-th energy 1 after 3.0 s"),
        (3, -3.0, -2.0, "proof: bound -3, K-th energy -2 after 3.0 s"),
        (5, 0.5, math.inf, "proof: too few states yet after 5.0 s"),
    ],
)
def test_a_share_is_told_where_it_says_something(seconds, bound, energy, says):
    assert progress_of_proof(seconds, bound, energy) == says


@pytest.mark.parametrize(
    ("total", "says"),
    [
        (9_999_999, "3 of 9\u202f999\u202f999 states"),
        (9_970_000_000_000, "3 of 1·10¹³ states"),
        (137_846_528_820, "3 of 1.4·10¹¹ states"),
        (2**256, "3 of 1.2·10⁷⁷ states"),
    ],
)
def test_large_numbers_of_states_have_a_digit_before_their_power(total, says):
    found = lowest_states(np.diag(np.arange(6.0)), 3, 3)
    assert proof(replace(found, total=total), 0).startswith(says)


def test_nothing_lies_below_a_ground_level_that_goes_on():
    said = proof(lowest_states(np.eye(12), 6, 300), 0)
    assert said == "300 of 924 states listed, none below ΔE 0 is missing; the last level (924 states) goes on"
