"""How far a proof is, in words."""

import math

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


def test_nothing_lies_below_a_ground_level_that_goes_on():
    said = proof(lowest_states(np.eye(12), 6, 300), 0)
    assert said == "300 of 924 states listed, none below ΔE 0 is missing; the last level (924 states) goes on"
