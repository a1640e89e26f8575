"""Coupling matrices of the kinds the engine must cope with, for tests and the benchmark."""

from pathlib import Path

import numpy as np

INSTANCES = Path(__file__).resolve().parents[2] / "shared" / "instances"


def llm_like(n: int, seed: int) -> np.ndarray:
    """Strong first and last blocks, correlations that decay with distance: a Gram matrix of gradient-like
    rows.
    """
    rng = np.random.default_rng(seed)
    depth = np.arange(n)
    size = 0.02 + 1.2 * np.exp(-depth / 1.5) + 0.6 * np.exp(-(n - 1 - depth) / 1.2)
    size *= np.exp(0.3 * rng.normal(size=n))
    mixing = np.exp(-np.abs(depth[:, None] - depth) / 4.0)
    A = rng.normal(size=(8 * n, n)) @ np.linalg.cholesky(mixing + 1e-9 * np.eye(n)).T * size
    return A.T @ A / len(A)


def branches(blocks: int, seed: int) -> np.ndarray:
    """As `llm_like`, by branch: the two branches of a block are most alike, and an attention is smaller than
    an FFN.
    """
    rng, n = np.random.default_rng(seed), 2 * blocks
    depth = np.repeat(np.arange(blocks), 2)
    size = 0.02 + 1.2 * np.exp(-depth / 1.5) + 0.6 * np.exp(-(blocks - 1 - depth) / 1.2)
    size *= np.exp(0.3 * rng.normal(size=n)) * np.tile([0.6, 1.0], blocks)
    mixing = np.exp(-np.abs(depth[:, None] - depth) / 4.0) + 0.3 * np.eye(n)
    A = rng.normal(size=(8 * n, n)) @ np.linalg.cholesky(mixing).T * size
    return A.T @ A / len(A)


def wishart(n: int, seed: int, rows: float = 2.0) -> np.ndarray:
    """Gram matrix of `rows` N Gaussian rows: no structure, hard."""
    A = np.random.default_rng(seed).normal(size=(int(rows * n), n))
    return A.T @ A / len(A)


def duplicated(n: int, seed: int, copies: int = 2) -> np.ndarray:
    """A Wishart matrix of which every block occurs `copies` times, up to 1e-9."""
    rng = np.random.default_rng(seed)
    base = np.repeat(rng.normal(size=(2 * n, (n + copies - 1) // copies)), copies, axis=1)[:, :n]
    A = base + 1e-9 * rng.normal(size=base.shape)
    return A.T @ A / len(A)


def dependent(n: int, seed: int) -> np.ndarray:
    """Nearly dependent blocks: few large directions, in which low states cancel, above a small full-rank
    rest.
    """
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(2 * n, n)) * 0.02
    A[: max(1, n // 6)] = rng.normal(size=(max(1, n // 6), n))
    return A.T @ A / len(A)


def integer(n: int, seed: int) -> np.ndarray:
    """Small whole numbers: many exact ties."""
    H = np.random.default_rng(seed).integers(-3, 4, size=(n, n)).astype(float)
    return np.triu(H) + np.triu(H, 1).T


def instance(name: str) -> np.ndarray | None:
    """H of a shared instance; None where the folder is not there."""
    path = INSTANCES / f"{name}.npz"
    if not path.is_file():
        return None
    with np.load(path) as arrays:
        H = arrays["H"].astype(np.float64)
    return (H + H.T) / 2
