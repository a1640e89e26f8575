"""Energies, the Ising form and matrix files."""

import itertools

import numpy as np
import pytest

from core.errors import InputError
from core.ising.energies import check_matrix, energies, own_costs, read_matrix, to_spins
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


def test_matrix_files_round_trip(tmp_path):
    H = np.random.default_rng(1).normal(size=(5, 5))
    H = H + H.T
    np.save(tmp_path / "a.npy", H)
    np.savez(tmp_path / "a.npz", H=H, other=np.ones(3))
    np.savetxt(tmp_path / "a.csv", H, delimiter=",")
    for name in ("a.npy", "a.npz", "a.csv"):
        assert np.allclose(read_matrix(tmp_path / name), H, atol=1e-15)


def test_rounding_asymmetry_is_averaged_out():
    H = np.array([[1.0, 2.0], [2.0 + 1e-10, 1.0]])
    assert (check_matrix(H) == check_matrix(H).T).all()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.npy", b"not numpy", "cannot be read"),
        ("a.npy", b"", "cannot be read"),
        ("a.npz", b"PK", "cannot be read"),
        ("a.csv", b"1,2\n3", "cannot be read"),
        ("a.csv", b"\xff\xfe1,2", "UTF-8"),
        ("a.csv", b"1,2\n3,1", "not symmetric"),
        ("a.csv", b"1,nan\nnan,1", "not finite"),
        ("a.csv", b"1,2,3", "square"),
        ("a.txt", b"1", ".npy, .npz or .csv"),
        ("a.csv", b"a,b\nc,d", "cannot be read"),
    ],
)
def test_bad_matrix_files_are_one_sentence(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=says) as caught:
        read_matrix(tmp_path / name)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_objects_and_missing_keys_are_refused(tmp_path):
    np.save(tmp_path / "o.npy", np.array([[object()]]), allow_pickle=True)
    np.savez(tmp_path / "k.npz", J=np.eye(2))
    with pytest.raises(InputError, match="cannot be read"):
        read_matrix(tmp_path / "o.npy")
    with pytest.raises(InputError, match="under the key H"):
        read_matrix(tmp_path / "k.npz")
    with pytest.raises(InputError, match="No matrix file"):
        read_matrix(tmp_path / "none.npy")
