"""Energies, and the Ising form."""

import itertools

import numpy as np
import pytest

from core.errors import InputError
from core.ising.energies import check_matrix, energies, own_costs, to_spins
from core.ising.states import indicator
from core.spectrum.lowest import lowest_states


def test_energies_against_sums_and_spins_for_every_state_of_6_blocks():
    rng = np.random.default_rng(0)
    H, g = rng.normal(size=(6, 6)), rng.normal(size=6)
    H = H + H.T
    states = [s for m in range(7) for s in itertools.combinations(range(6), m)]
    x = indicator(states, 6)
    expected = [sum(H[i, j] for i in s for j in s) + sum(g[i] for i in s) for s in states]
    assert np.allclose(energies(H, x, g), expected, atol=1e-12)
    pairs = [2 * sum(H[i, j] for i, j in itertools.combinations(s, 2)) for s in states]
    assert np.allclose(energies(H, x) - own_costs(H, x), pairs, atol=1e-12)
    spins, s = to_spins(H, g), 2.0 * x - 1
    ising = [
        sum(spins.J[i, j] * v[i] * v[j] for i, j in itertools.combinations(range(6), 2))
        + v @ spins.h
        + spins.offset
        for v in s
    ]
    assert np.allclose(ising, expected, atol=1e-12)


def test_rounding_asymmetry_is_averaged_out():
    H = np.array([[1.0, 2.0], [2.0 + 1e-10, 1.0]])
    assert (check_matrix(H) == check_matrix(H).T).all()
    check_matrix(np.array([[1.0, 1e-12], [-1e-12, 1e-3]]))


@pytest.mark.parametrize("size", [1e3, 1e9, 1e200])
def test_asymmetry_is_no_rounding_beside_a_block_that_dwarfs_the_rest(size):
    H = np.diag([size, 1.0, 1.0])
    H[1, 2], H[2, 1] = 0.5, -0.3
    with pytest.raises(InputError, match="not symmetric: entry"):
        check_matrix(H)


@pytest.mark.parametrize("size", [1.1e300, 1.7e308])
def test_couplings_whose_sums_are_no_numbers_are_refused(size):
    H = np.full((4, 4), 1.0)
    H[0, 3] = H[3, 0] = -size
    with pytest.raises(InputError, match="cannot be summed"):
        check_matrix(H)
    with pytest.raises(InputError, match="at most 1e"):
        lowest_states(np.eye(4), 2, 3, linear=np.full(4, size))
    with pytest.raises(InputError, match="not nan"):
        lowest_states(np.eye(4), 2, 3, linear=np.array([0, np.nan, 0, 0]))
    found = lowest_states(np.full((4, 4), 1e300), 2, 3, linear=np.full(4, -1e300))
    assert np.allclose(found.energies, 2e300)
