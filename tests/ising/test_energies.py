"""Energies, and the Ising form."""

import itertools

import numpy as np

from core.ising.energies import check_matrix, energies, own_costs, to_spins
from core.ising.states import indicator


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
