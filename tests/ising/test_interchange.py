"""Round trips through dimod, spins and QUBO text; a penalty that changes no order."""

import itertools

import numpy as np
import pytest

from core.errors import InputError
from core.ising.energies import energies, from_spins, to_spins
from core.ising.interchange import exact_penalty, from_bqm, qubo_text, read_qubo, to_bqm
from tests.spectrum.test_lowest import KINDS, symmetric

X = np.array(list(itertools.product([0, 1], repeat=7)))


def linear(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=7)


@pytest.mark.parametrize("kind", KINDS)
def test_dimod_both_ways(kind):
    pytest.importorskip("dimod")
    H, g = symmetric(kind, 7, 1), linear(1)
    bqm = to_bqm(H, g)
    np.testing.assert_allclose(bqm.energies(X), energies(H, X, g), atol=1e-9)
    for model in (bqm, bqm.change_vartype("SPIN", inplace=False)):
        back, offset = from_bqm(model)
        np.testing.assert_allclose(energies(back, X) + offset, energies(H, X, g), atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_the_penalty_is_exact(kind):
    pytest.importorskip("dimod")
    H, g = symmetric(kind, 7, 2), linear(2)
    for m in range(1, 7):
        e = to_bqm(H, g, removed=m).energies(X)
        right = X.sum(axis=1) == m
        np.testing.assert_allclose(e[right], energies(H, X[right], g), atol=1e-7 * (1 + exact_penalty(H, g)))
        assert e[right].max() < e[~right].min()


def test_spins_both_ways():
    H, g = symmetric("random", 7, 3), linear(3)
    back, offset = from_spins(to_spins(H, g))
    np.testing.assert_allclose(back, H + np.diag(g), atol=1e-12)
    np.testing.assert_allclose(energies(back, X) + offset, energies(H, X, g), atol=1e-12)


@pytest.mark.parametrize("removed", [None, 3])
def test_qubo_text_both_ways(tmp_path, removed):
    H, g = symmetric("gram", 7, 4), linear(4)
    (tmp_path / "a.qubo").write_text(qubo_text(H, g, removed))
    back, offset = read_qubo(tmp_path / "a.qubo")
    rows = X if removed is None else X[X.sum(axis=1) == removed]
    np.testing.assert_allclose(
        energies(back, rows) + offset, energies(H, rows, g), atol=1e-12 * (1 + exact_penalty(H, g))
    )
    if removed is None:
        assert (back == (back + back.T) / 2).all() and (
            back[np.triu_indices(7, 1)] == H[np.triu_indices(7, 1)]
        ).all()


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "hello\n",
            "0 0 1.0\n",
            "p qubo 0 3 3 0\n0 5 1.0\n",
            "p qubo 0 3 3 0\n0 1 nan\n",
            "p qubo 0 x\n",
        ),
        *("c offset nan\np qubo 0 2 2 0\n", "p qubo 0 2 2 0\n0 0 1e308\n0 0 1e308\n"),
    ],
)
def test_damaged_qubo_text_is_one_sentence(tmp_path, text):
    path = tmp_path / "b.qubo"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_qubo(path)
    assert "\n" not in str(caught.value)


def test_a_comment_may_speak_of_an_offset(tmp_path):
    path = tmp_path / "c.qubo"
    path.write_text(
        "c offset of the energy is below\nc offset 2.5\np qubo 0 2 2 0\n1 1 3\n", encoding="utf-8"
    )
    H, offset = read_qubo(path)
    assert offset == 2.5 and H.tolist() == [[0, 0], [0, 3]]


def test_a_missing_file_and_a_wrong_linear_term(tmp_path):
    with pytest.raises(InputError):
        read_qubo(tmp_path / "none.qubo")
    with pytest.raises(InputError):
        qubo_text(np.eye(3), np.ones(4))
