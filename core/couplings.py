"""From gradient rows to the coupling matrix H: one function an estimator.

Another estimator is one function and one entry of ESTIMATORS: it then appears
in the app and on the command line.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from core.errors import InputError
from core.ising import check_matrix
from core.runs import Run


def outer_mean(A: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """float64 [N, N]: A^T A / m, or with sample weights A^T W A / sum(W) (arXiv 2602.00161)."""
    A = np.asarray(A, dtype=np.float64)
    if weights is None:
        return A.T @ A / len(A)
    w = np.asarray(weights, dtype=np.float64)
    return (A * w[:, None]).T @ A / w.sum()


def _h0(run: Run) -> np.ndarray:
    return outer_mean(run.rows.A)


def _h1(run: Run) -> np.ndarray:
    return outer_mean(run.sampled.A)


def _hybrid(run: Run) -> np.ndarray:
    """S^1/2 corr(H1) S^1/2, S = measured single removals; a removal that lowers the loss counts as free."""
    H1 = outer_mean(run.sampled.A)
    scale = np.sqrt(np.diag(H1))
    correlation = H1 / np.outer(scale, scale).clip(min=np.finfo(np.float64).tiny)
    root = np.sqrt(run.singles.increase.clip(min=0.0))
    H = correlation * np.outer(root, root)
    np.fill_diagonal(H, root**2)
    return H


@dataclass(frozen=True)
class Estimator:
    label: str
    unit: str
    about: str
    compute: Callable[[Run], np.ndarray]
    needs: tuple[str, ...] = ()


ESTIMATORS = {
    "h0": Estimator("paper · H₀", "squared gradient, not nats", "H0 = AᵀA/m from the texts' own tokens (empirical Fisher; the paper)", _h0),
    "h1": Estimator(
        "sampled · H₁", "squared gradient, not nats", "H1: the same with labels sampled from the model (true Fisher)", _h1, ("sampled",)
    ),
    "hybrid": Estimator("hybrid", "nats", "S^½ corr(H1) S^½ with S the measured single removals", _hybrid, ("sampled", "singles")),
}


def available(run: Run) -> list[str]:
    """The estimators this run has the data for."""
    return [name for name, e in ESTIMATORS.items() if all(getattr(run, need) is not None for need in e.needs)]


def couplings(run: Run, estimator: str = "h0") -> np.ndarray:
    """float64 [N, N], symmetric. Errors: InputError for an unknown estimator or missing data."""
    if estimator not in ESTIMATORS:
        raise InputError(f"Unknown estimator {estimator!r}; choose one of {', '.join(ESTIMATORS)}.")
    if estimator not in available(run):
        raise InputError(
            f"The run has no {' and '.join(ESTIMATORS[estimator].needs)} rows for the estimator {estimator!r}; choose one of {', '.join(available(run))}."
        )
    return check_matrix(ESTIMATORS[estimator].compute(run), f"estimator {estimator}")


def rows_of(run: Run, estimator: str) -> np.ndarray | None:
    """float32 [m, N]: the rows A with H = A^T A / m, for bootstraps; None where the estimator is more than that."""
    return {"h0": run.rows.A, "h1": run.sampled.A if run.sampled else None}.get(estimator)
