"""Blocks as a network."""

import numpy as np
import pytest

from core.energy.network import effective_rank, roles, strongest, view_of
from core.ising.energies import energies

B = np.random.default_rng(0).normal(size=(30, 7))
H = B.T @ B / 30


def test_the_correlation_is_that_of_the_rows_and_j_is_half_of_h():
    expected = H / np.sqrt(np.outer(np.diag(H), np.diag(H)))
    assert np.allclose(view_of(H, "correlation"), expected) and view_of(H, "H") is H
    J = view_of(H, "J")
    assert np.allclose(J, H / 2 - np.diag(np.diag(H)) / 2)
    assert (view_of(np.diag([0.0, 1.0]), "correlation")[0] == 0).all()


def test_the_effective_rank_counts_equal_directions():
    assert effective_rank(np.eye(6)) == pytest.approx(6) and effective_rank(
        np.outer(B[0], B[0])
    ) == pytest.approx(1)
    assert (
        effective_rank(np.diag([1.0, 1, 0, 0])) == pytest.approx(2) and effective_rank(np.zeros((3, 3))) == 1
    )


def test_the_strongest_pairs_come_first():
    pairs = strongest(H, 0.25)
    sizes = np.sort(np.abs(H[np.triu_indices(7, 1)]))[::-1]
    assert [abs(v) for _, _, v in pairs] == pytest.approx(sizes[:5]) and len(strongest(H, 0.0)) == 1


def test_two_groups_that_pull_on_themselves_are_found():
    group = np.array([0, 1, 0, 1, 1, 0])
    H = np.where(group[:, None] == group[None], 1.0, 0.01)
    found = roles(H, strongest(H, 1.0))
    assert [r.community for r in found] == group.tolist() and found[0].strength == pytest.approx(2.03)
    assert max(r.centrality for r in found) == 1


def test_the_pull_is_what_a_block_adds_to_the_others_energy():
    for r in roles(H, strongest(H, 0.5)):
        x = np.ones((2, 7), bool)
        x[1, r.block] = False
        with_it, without = energies(H, x)
        assert with_it - without == pytest.approx(r.own + 2 * r.pull)
