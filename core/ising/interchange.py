"""The problem in the forms of other solvers: dimod's binary quadratic model, and QUBO text files.

All of them are unconstrained; exactly M removed blocks become a penalty
P (sum x - M)^2, large enough that every choice of M blocks lies below every other choice.
"""

from pathlib import Path

import numpy as np

from core.errors import InputError
from core.ising.energies import check_linear, check_matrix


def exact_penalty(H: np.ndarray, linear: np.ndarray | None = None) -> float:
    """P so that E + P (sum x - M)^2 puts all states with M blocks below all others.

    A wrong count costs at least P, and no two energies differ by more than the sum of all absolute terms.
    """
    q = _terms(H, linear)
    return float(np.abs(q).sum()) * 1.01 or 1.0


def _terms(H: np.ndarray, linear: np.ndarray | None) -> np.ndarray:
    """float64 [N, N], upper triangular: the coefficient of x_i x_j, and of x_i on the diagonal."""
    H = check_matrix(H)
    g = np.zeros(len(H)) if linear is None else np.asarray(linear, dtype=np.float64)
    check_linear(g, len(H))
    return 2 * np.triu(H, 1) + np.diag(np.diag(H) + g)


def _penalised(q: np.ndarray, removed: int | None, penalty: float) -> tuple[np.ndarray, float]:
    """(terms, offset) with penalty (sum x - removed)^2 added."""
    if removed is None:
        return q, 0.0
    n = len(q)
    added = 2 * np.triu(np.ones((n, n)), 1) + (1 - 2 * removed) * np.eye(n)
    return q + penalty * added, penalty * removed**2


def _matrix(q: np.ndarray) -> np.ndarray:
    """H symmetric from upper triangular terms; x^T H x is their sum."""
    return (q + q.T) / 2


def to_bqm(
    H: np.ndarray, linear: np.ndarray | None = None, removed: int | None = None, penalty: float | None = None
):
    """dimod.BinaryQuadraticModel over variables 0..N-1 with the energies of E, float64 H [N, N], linear [N].

    removed: M, for which the penalty is added; penalty: default `exact_penalty`. A sampler's feasible states
    have exactly their energy E.
    """
    import dimod

    q, offset = _penalised(
        _terms(H, linear), removed, exact_penalty(H, linear) if penalty is None else penalty
    )
    return dimod.BinaryQuadraticModel.from_qubo(
        {(int(i), int(j)): float(q[i, j]) for i, j in zip(*np.triu_indices(len(q)))}, offset=offset
    )


def from_bqm(bqm) -> tuple[np.ndarray, float]:
    """(H float64 [N, N], offset) of a dimod model, spin or binary, in the order of `bqm.variables`.

    Linear terms are on the diagonal.
    """
    terms, offset = bqm.change_vartype("BINARY", inplace=False).to_qubo()
    place = {v: i for i, v in enumerate(bqm.variables)}
    H = np.zeros((len(place), len(place)))
    for (u, v), value in terms.items():
        H[place[u], place[v]] += value / 2
        H[place[v], place[u]] += value / 2
    return H, float(offset)


def qubo_text(
    H: np.ndarray, linear: np.ndarray | None = None, removed: int | None = None, penalty: float | None = None
) -> str:
    """The problem as a QUBO text: 'p qubo 0 N nodes couplers', then 'i i value' and 'i j value' (i < j).

    All digits are kept. The penalty's constant has no place in the format; a comment holds it as 'c offset
    VALUE'. removed, penalty: as in `to_bqm`.
    """
    q, offset = _penalised(
        _terms(H, linear), removed, exact_penalty(H, linear) if penalty is None else penalty
    )
    n = len(q)
    couplers = [(i, j) for i in range(n) for j in range(i + 1, n) if q[i, j]]
    lines = [f"c offset {offset!r}", f"p qubo 0 {n} {n} {len(couplers)}"]
    lines += [f"{i} {j} {float(q[i, j])!r}" for i, j in [*((i, i) for i in range(n)), *couplers]]
    return "\n".join(lines) + "\n"


def read_qubo(path: Path) -> tuple[np.ndarray, float]:
    """(H float64 [N, N], offset) from a QUBO text file. Errors: InputError naming the line that is wrong."""
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"No QUBO file {str(path)!r}; give a text file with a line 'p qubo 0 N nodes couplers'."
        )
    q: np.ndarray | None = None
    offset = 0.0
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        words = line.split()
        try:
            if not words or words[0] == "c":
                offset = _offset(words, offset)
            elif words[0] == "p":
                n = int(words[3])
                if words[1] != "qubo" or not 2 <= n <= 4096:
                    raise ValueError
                q = np.zeros((n, n))
            else:
                i, j, value = int(words[0]), int(words[1]), float(words[2])
                if q is None or min(i, j) < 0 or not np.isfinite(value):
                    raise ValueError
                q[i, j] += value
        except (ValueError, IndexError, TypeError):
            raise InputError(
                f"Line {number} of {path.name} is not QUBO text ({line[:60]!r}); write 'i j value' after 'p "
                "qubo 0 N ...'."
            ) from None
    if q is not None and not np.isfinite(q).all():
        raise InputError(f"The values of {path.name} add up to more than a number can hold; scale them down.")
    if q is None:
        raise InputError(f"{path.name} has no line 'p qubo 0 N nodes couplers'; it is not a QUBO file.")
    return _matrix(q), offset


def _offset(words: list[str], known: float) -> float:
    """What a comment says of the constant, as `qubo_text` writes it; other comments say nothing."""
    if words[1:2] != ["offset"] or len(words) != 3:
        return known
    value = float(words[2])
    if not np.isfinite(value):
        raise ValueError
    return value
