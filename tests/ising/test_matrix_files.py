"""Matrix files as people have them: labelled tables, sparse ones, triangles; hostile ones are a sentence."""

import io
import zipfile

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from core.errors import InputError
from core.ising.energies import energies
from core.ising.matrix_files import parse_matrix, read_matrix


def test_matrix_files_round_trip(tmp_path):
    H = np.random.default_rng(1).normal(size=(5, 5))
    H = H + H.T
    np.save(tmp_path / "a.npy", H)
    np.savez(tmp_path / "a.npz", H=H, other=np.ones(3))
    np.savetxt(tmp_path / "a.csv", H, delimiter=",")
    for name in ("a.npy", "a.npz", "a.csv"):
        assert np.allclose(read_matrix(tmp_path / name), H, atol=1e-15)


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


def symmetric(n: int = 5, seed: int = 2) -> np.ndarray:
    H = np.random.default_rng(seed).normal(size=(n, n))
    return (H + H.T) / 2


def as_pandas(H: np.ndarray, labels=None, **options) -> bytes:
    return pd.DataFrame(H, labels, labels).to_csv(**options).encode(options.get("encoding", "utf-8"))


WORDS = [f"model.layers.{k}" for k in range(5)]


@pytest.mark.parametrize("name", ["a.csv", "A.CSV", "a.tsv"])
@pytest.mark.parametrize(
    "content",
    [
        as_pandas(symmetric()),
        as_pandas(symmetric(), WORDS),
        as_pandas(symmetric(), WORDS, index_label="block"),
        as_pandas(symmetric(), range(1, 6)),
        as_pandas(symmetric(), index=False),
        as_pandas(symmetric(), header=False),
        as_pandas(symmetric(), header=False, index=False),
        as_pandas(symmetric(), sep=";"),
        as_pandas(symmetric(), WORDS, sep=";", decimal=","),
        as_pandas(symmetric(), sep=";", decimal=",", index=False, header=False),
        as_pandas(symmetric(), sep="\t", decimal=",", index=False, header=False),
        as_pandas(symmetric(), sep=";", decimal=",", index=False),
        as_pandas(symmetric(), sep=";", decimal=",", header=False),
        as_pandas(symmetric(), sep="\t", encoding="utf-8-sig"),
        as_pandas(symmetric(), index=False, header=False, sep=" "),
        as_pandas(symmetric(), index=False, header=False).replace(b"\n", b",\r\n\r\n"),
        b"# written by hand\n" + as_pandas(symmetric()),
    ],
)
def test_tables_are_read_to_the_last_digit_with_or_without_labels(name, content):
    told: list[str] = []
    assert (parse_matrix(io.BytesIO(content), name, told.append) == symmetric()).all() and told == []


@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "bsr", "dia"])
@pytest.mark.parametrize("make", [sparse.csr_matrix, sparse.csr_array])
def test_sparse_matrices_of_scipy(tmp_path, kind, make):
    H = np.where(np.abs(symmetric()) > 0.4, symmetric(), 0)
    sparse.save_npz(tmp_path / "s.npz", make(H).asformat(kind))
    assert (read_matrix(tmp_path / "s.npz") == H).all()


@pytest.mark.parametrize("side", [np.triu, np.tril])
@pytest.mark.parametrize("form", ["npy", "npz", "sparse", "csv", "holes"])
def test_a_triangle_is_a_qubo_and_that_is_told(tmp_path, side, form):
    Q = side(np.random.default_rng(5).normal(size=(5, 5)))
    path = tmp_path / ("q.csv" if form in ("csv", "holes") else "q.npy" if form == "npy" else "q.npz")
    if form == "sparse":
        sparse.save_npz(path, sparse.coo_array(Q))
    elif form == "npz":
        np.savez(path, H=Q)
    elif form == "npy":
        np.save(path, Q)
    else:  # holes: the other half empty, as a masked correlation table
        frame = pd.DataFrame(Q)
        (frame.where(side(np.ones((5, 5), bool))) if form == "holes" else frame).to_csv(path)
    told: list[str] = []
    H = read_matrix(path, told.append)
    x = np.random.default_rng(6).integers(0, 2, (20, 5))
    assert np.allclose(energies(H, x), [row @ Q @ row for row in x], atol=1e-14) and (H == H.T).all()
    (sentence,) = told
    assert f"{'an upper' if side is np.triu else 'a lower'} triangle" in sentence and "QUBO" in sentence
    assert np.allclose(np.diag(H), np.diag(Q), atol=0)


def test_a_diagonal_matrix_is_no_triangle(tmp_path):
    np.save(tmp_path / "d.npy", np.diag([1.0, 2, 3]))
    read_matrix(tmp_path / "d.npy", lambda sentence: pytest.fail(sentence))


@pytest.mark.parametrize(
    "content, says",
    [
        (",2,3\n2,1,4\n3,4,1", "row 1, column 1 of its numbers is empty"),  # a hole, not a corner of labels
        ("x,2,3\n2,1,4\n3,4,1", "row 1, column 1 of its numbers is 'x'"),
        ("1,2\n2,b", "row 2, column 2 of its numbers is 'b'"),
        (",0,1\n0,5,6\n1,6,x", "row 2, column 2 of its numbers is 'x'"),
        (",a,a\na,5,6\na,6,1", "row 1, column 1"),  # labels that are no names
        ("1,2,4\n4,5,6\n7,8,9\n3,2,1", "shape"),
        ("5,1,2\n7,2,3\n", "shape"),
        ("1,2,3\n2,,4\n3,4,1", "row 2, column 2 of its numbers is empty"),
        ("1;2,5\n2.5;1", "'2,5', no number"),  # both marks
        ("1,2\n3,4,5\n", "cannot be read"),
        ("\n# nothing\n", "empty"),
        ("1\n2\n", "square"),
        ('"1,2\n3', "cannot be read"),
        ("\x00\x01,2\n3,4", "cannot be read"),
    ],
)
def test_tables_that_are_no_matrix_are_refused_by_the_cell(tmp_path, content, says):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(InputError, match=says) as caught:
        read_matrix(tmp_path / "a.csv")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def hostile(**arrays) -> bytes:
    """A sparse file with parts that do not fit."""
    whole = io.BytesIO()
    parts = {
        "format": b"csr",
        "shape": np.array([3, 3]),
        "data": np.ones(3),
        "indices": np.array([0, 1, 2], np.int32),
        "indptr": np.array([0, 1, 2, 3], np.int32),
    }
    np.savez(whole, **{**parts, **arrays})
    return whole.getvalue()


@pytest.mark.parametrize(
    "arrays, says",
    [
        ({"shape": np.array([10**9, 10**9])}, "cannot be read|claims the shape"),
        ({"format": b"coo", "shape": np.array([10**6, 10**6]), "row": [0, 1, 2], "col": [0, 1, 2]}, "claims"),
        ({"format": b"coo", "shape": np.array([10**12]), "coords": [[0, 1, 2]], "_is_array": True}, "claims"),
        ({"indices": np.array([0, 1, 10**8], np.int32)}, "cannot be read"),
        ({"indices": np.array([0, -9, 1], np.int32)}, "cannot be read"),
        ({"indptr": np.array([0, 9, 1, 3], np.int32)}, "cannot be read"),
        ({"indptr": np.array([0, 3], np.int32)}, "cannot be read"),
        ({"format": b"coo", "row": [0, 1, 9], "col": [0, 1, 2]}, "cannot be read"),
        ({"format": b"os"}, "cannot be read"),
        ({"format": np.array([object()], dtype=object)}, "cannot be read"),
        ({"shape": np.array([3, 4])}, "square"),
        ({"data": np.array([1.0, np.nan, 1])}, "not finite"),
    ],
)
def test_hostile_sparse_files_are_one_sentence(tmp_path, arrays, says):
    (tmp_path / "s.npz").write_bytes(hostile(**arrays))
    with pytest.raises(InputError, match=says) as caught:
        read_matrix(tmp_path / "s.npz")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_an_archive_that_unpacks_to_too_much_is_refused_before_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr("core.ising.matrix_files._UNPACKED", 2**20)
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("H.npy", bytes(2**21))
    with pytest.raises(InputError, match="unpacks to 2,097,152 bytes"):
        read_matrix(tmp_path / "bomb.npz")


def test_a_flipped_bit_is_a_sentence_or_a_matrix(tmp_path):
    sparse.save_npz(tmp_path / "s.npz", sparse.csr_array(symmetric()))
    whole = (tmp_path / "s.npz").read_bytes()
    rng, refused = np.random.default_rng(7), 0
    for place in rng.integers(0, len(whole) * 8, 120):
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        try:
            parse_matrix(io.BytesIO(flipped), "s.npz")
        except InputError as error:
            refused += "\n" not in str(error)
    assert refused > 60
