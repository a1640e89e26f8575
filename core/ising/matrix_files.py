"""Coupling matrices from the files people have: numpy's, scipy's sparse ones, and tables of text.

A table may have a byte order mark, semicolons, tabs or spaces, decimal commas, and labels in its first row
and column, as pandas writes them. A triangle is a QUBO, whose energy is x^T Q x: it is read as (Q + Q^T) / 2,
which has the same energies, and the reader is told.
"""

import io
import math
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from core.errors import InputError
from core.ising.energies import check_matrix

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".npy", ".npz", ".csv", ".tsv")
_LARGEST = 4096  # blocks of a sparse matrix: its file does not say by its size what it claims
_UNPACKED = 2**30  # bytes of an .npz, unpacked
Told = Callable[[str], None]


def _silent(sentence: str) -> None:
    pass


def read_matrix(path: Path, told: Told = _silent) -> np.ndarray:
    """float64 [N, N]: a coupling matrix from .npy, .npz (key `H`, or a sparse matrix of scipy), .csv or .tsv,
    checked by `check_matrix`.

    told: takes a sentence where a file was not read as it stands. Errors: InputError.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"No matrix file {str(path)!r}; give a .npy, .npz, .csv or .tsv file.")
    with open(path, "rb") as f:
        return parse_matrix(f, path.name, told)


def parse_matrix(stream: BinaryIO, name: str, told: Told = _silent) -> np.ndarray:
    """`read_matrix` for an open binary file (an upload); `name` decides the format."""
    suffix = Path(name).suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{name} ends in {suffix or 'nothing'}; a matrix file is .tsv, .npy, .npz or .csv.")
    read = {".npy": _numpy, ".npz": _archive}.get(suffix, _table)
    try:
        H = read(stream, name)
    except InputError:
        raise
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is not UTF-8 text (byte {error.start}); save it as UTF-8.") from error
    except Exception as error:  # numpy, scipy and pandas raise many kinds for a damaged file
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise _unreadable(name, reason) from error
    return check_matrix(_of_triangle(H, name, told), name)


def _unreadable(name: str, reason: str) -> InputError:
    return InputError(
        f"{name} cannot be read as a matrix ({reason}); write it with numpy.save, or as a table of numbers."
    )


def _numpy(stream: BinaryIO, name: str) -> np.ndarray:
    return np.load(stream, allow_pickle=False)


def _archive(stream: BinaryIO, name: str) -> np.ndarray:
    """The array H of an .npz, or the sparse matrix that scipy.sparse.save_npz wrote."""
    with zipfile.ZipFile(stream) as members:
        unpacked = sum(member.file_size for member in members.infolist())
    if unpacked > _UNPACKED:
        raise InputError(f"{name} unpacks to {unpacked:,} bytes, more than a matrix takes; store H alone.")
    stream.seek(0)
    with np.load(stream, allow_pickle=False) as arrays:
        if "H" in arrays.files:
            return arrays["H"]
        if not {"format", "shape", "data"} <= set(arrays.files):
            raise InputError(
                f"{name} has the keys {', '.join(arrays.files)[:200] or 'none'}; the matrix must be under "
                "the key H, or be a sparse one as scipy.sparse.save_npz writes it."
            )
    stream.seek(0)
    return _sparse(stream, name)


def _sparse(stream: BinaryIO, name: str) -> np.ndarray:
    """A sparse matrix, dense; nothing of its claims is used before it was checked."""
    from scipy import sparse

    matrix: Any = sparse.load_npz(stream)
    if math.prod(map(int, matrix.shape)) > _LARGEST**2:
        raise InputError(
            f"{name} claims the shape {tuple(map(int, matrix.shape))}; a sparse matrix may have at most "
            f"{_LARGEST} blocks."
        )
    if matrix.format in ("csr", "csc", "bsr"):
        matrix.check_format(full_check=True)  # indices outside would be written outside
    return matrix.toarray()


def _table(stream: BinaryIO, name: str) -> np.ndarray:
    """The numbers of a table of text, its labels left out; empty cells to one side of the diagonal are 0."""
    import pandas as pd

    lines = stream.read().decode("utf-8-sig").splitlines()
    text = "\n".join(line for line in lines if line.strip() and not line.startswith("#"))
    separator, decimal = _marks(text)
    try:
        cells = pd.read_csv(
            io.StringIO(text),
            sep=separator,
            header=None,
            dtype=str,
            skipinitialspace=True,
            keep_default_na=False,
            na_values=[""],
        )
    except pd.errors.EmptyDataError:
        raise _unreadable(name, "it is empty") from None
    return _numbers(_without_labels(cells.dropna(axis=1, how="all"), decimal), decimal, name)


def _marks(text: str) -> tuple[str, str]:
    """(what stands between cells, told by the first line; the decimal mark).

    Where something else parts the cells, a comma is the decimal mark, unless numbers have points.
    """
    first = text.partition("\n")[0]
    between = next((mark for mark in (";", "\t", ",") if mark in first), r"\s+")
    commas = between != "," and re.search(r"\d,\d", text) and not re.search(r"\d\.\d", text)
    return between, "," if commas else "."


def _is_number(cell: str, decimal: str) -> bool:
    try:
        float(cell.replace(decimal, "."))
    except ValueError:
        return False
    return True


def _without_labels(cells: "pd.DataFrame", decimal: str) -> "pd.DataFrame":
    """The table without the row and the column of labels that pandas and spreadsheets write beside a matrix.

    A square table whose corner is empty or a word has both; one with a row or a column too many has that one.
    What is no label stays, and is refused as the number that it is not.
    """
    rows, columns = cells.shape
    head, side = cells.iloc[0].tolist(), cells.iloc[:, 0].tolist()
    if min(rows, columns) < 2:
        return cells
    if rows == columns and (_is_empty(head[0]) or not _is_number(head[0], decimal)):
        labelled = _are_labels(head[1:], decimal) and _are_labels(side[1:], decimal)
        return cells.iloc[1:, 1:] if labelled else cells
    if rows == columns + 1 and _are_labels(head, decimal):
        return cells.iloc[1:]
    if columns == rows + 1 and _are_labels(side, decimal):
        return cells.iloc[:, 1:]
    return cells


def _is_empty(cell: object) -> bool:
    return not isinstance(cell, str)  # pandas' missing value


def _are_labels(cells: list, decimal: str) -> bool:
    """Words, each another one, or numbers that count up from 0 or 1."""
    if any(map(_is_empty, cells)) or len(set(cells)) < len(cells):
        return False
    counting = any(cells == [str(k + first) for k in range(len(cells))] for first in (0, 1))
    return counting or not any(_is_number(cell, decimal) for cell in cells)


def _numbers(cells: "pd.DataFrame", decimal: str, name: str) -> np.ndarray:
    """float64 of a table of text. Errors: InputError naming the first cell that is no number."""
    empty = cells.isna().to_numpy()
    if len(set(empty.shape)) == 1:
        below = np.tril(np.ones_like(empty), -1)
        if any((empty == side).all() for side in (below, below.T)):  # that side was left out
            cells, empty = cells.fillna("0"), np.zeros_like(empty)
    values = cells.to_numpy(dtype=object, copy=True)
    for i, j in np.ndindex(values.shape):
        if empty[i, j] or not _is_number(values[i, j], decimal):
            what = "empty" if empty[i, j] else f"{values[i, j][:40]!r}, no number"
            raise _unreadable(name, f"row {i + 1}, column {j + 1} of its numbers is {what}")
        values[i, j] = float(values[i, j].replace(decimal, "."))
    return values.astype(np.float64)


def _of_triangle(H: np.ndarray, name: str, told: Told) -> np.ndarray:
    """A triangle's symmetric matrix of the same energies; anything else as it is."""
    if H.ndim != 2 or H.shape[0] != H.shape[1] or H.dtype.kind not in "fiub":
        return H
    below, above = np.tril(H, -1).any(), np.triu(H, 1).any()
    if below == above:
        return H
    told(
        f"{name} is {'a lower' if below else 'an upper'} triangle: it was read as a QUBO, whose energy is "
        "x'Qx, so each pair's number is shared by its two entries, (Q + Q') / 2. If the other half of a "
        "symmetric matrix was left out instead, give Q + Q' with the diagonal of Q."
    )
    H = H.astype(np.float64)
    return (H + H.T) / 2
