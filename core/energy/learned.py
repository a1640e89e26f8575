"""Couplings that measurements correct: normal a priori, linear in every measured loss, so normal ever after.

The loss increase of a state is x^T H x and a deviation of its own. H is normal a priori: measured single
removals on the diagonal, secants or gate-gradient correlations beside it, with a spread for each entry
and a common scale (pairs are extrapolated from alpha = 1, and their sum grows with M). All in nats.
core.choose.learning decides what is measured; here is what it means, and where it is kept:
HOME/landscapes/<run key>/<M>/<sha256>.npz, or <M>-kl where the increase is KL to the original.
"""

import io
import re
import zipfile
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from core.energy.couplings import outer_mean, within_blocks
from core.energy.secants import bounded
from core.errors import InputError
from core.ising.units import BRANCH, Units
from core.store import folders
from core.store.results import LOSS, RULERS
from core.store.runs import Singles

# of single removals, of pairs, of all couplings together: relative
OWN_SPREAD, PAIR_SPREAD, SCALE_SPREAD = 0.2, 0.5, 0.5
ONE_SEQUENCE = 0.3  # of single removals that were measured on one sequence, whose standard error is not known
# what numpy raises of an .npz that is damaged
UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


def features(x: np.ndarray) -> np.ndarray:
    """float64 [K, N (N + 1) / 2]: blocks and pairs of the states x [K, N]; E = features(x) @ upper(H)."""
    x = np.atleast_2d(np.asarray(x, dtype=np.float64))
    i, j = np.triu_indices(x.shape[1])
    return x[:, i] * x[:, j]


def upper(H: np.ndarray) -> np.ndarray:
    """float64 [N (N + 1) / 2]: the weights of `features`, H_ii and 2 H_ij."""
    i, j = np.triu_indices(len(H))
    return np.where(i == j, 1.0, 2.0) * H[i, j]


def _matrix(weights: np.ndarray, n: int) -> np.ndarray:
    """float64 [N, N]: the inverse of `upper`."""
    i, j = np.triu_indices(n)
    H = np.zeros((n, n))
    H[i, j] = weights / np.where(i == j, 1.0, 2.0)
    return H + np.triu(H, 1).T


@dataclass(frozen=True)
class Prior:
    """The couplings before a state of M is measured: independent normal entries and a common scale."""

    mean: np.ndarray  # float64 [N, N], nats
    sd: np.ndarray  # float64 [N, N]: of each entry
    scale: float = SCALE_SPREAD  # standard deviation of a factor of mean 1 on all of `mean`


@dataclass(frozen=True)
class KnownPairs:
    """What was found out of pairs of blocks, and what it took."""

    energies: np.ndarray  # float64 [N, N], nats: beyond the sum of both (core.energy.secants.pair_energies)
    passes: float  # forwards of one sequence
    singles: Singles | None = None  # single removals, where they are not to be measured again
    block: np.ndarray | None = None  # float64 [blocks], then: of whole blocks, where N counts branches


def prior_from(
    increase: np.ndarray,
    se: np.ndarray,
    known: np.ndarray | KnownPairs,
    block: np.ndarray | None = None,
    units: Units | None = None,
) -> Prior:
    """Couplings of core.energy.couplings with spreads: from secants where they are known, "hybrid" of rows.

    increase, se: float64 [N], single removals and their standard errors (nan: not known); known: pairs, or
    rows [m, N] of gate gradients, of labels sampled from the model where there are such. A removal that seems
    to lower the loss counts as nearly free. block: float64 [blocks], of whole blocks, with the units of a
    model that is seen by branch: what the branches of a block cost together was measured then.
    """
    typical = float(np.median(np.abs(increase)))
    if not typical > 0:
        raise InputError(
            "Removing most blocks changes no loss at all; there is nothing to learn of this model on these "
            "texts."
        )
    own = np.maximum(increase, 0.05 * typical)
    product = np.sqrt(np.outer(own, own))
    if isinstance(known, KnownPairs):
        mean = bounded(own, known.energies)
    else:
        H = outer_mean(known)
        root = np.sqrt(np.diag(H))
        mean = H / np.outer(root, root).clip(min=np.finfo(np.float64).tiny) * product
        np.fill_diagonal(mean, own)
    sd = PAIR_SPREAD * product
    np.fill_diagonal(sd, np.hypot(OWN_SPREAD * own, np.where(np.isnan(se), ONE_SEQUENCE * own, se)))
    if units is not None and block is not None and units.by == BRANCH:
        same = units.same_block
        mean = np.where(same, within_blocks(own, np.maximum(block, 0.05 * typical), units) / 2, mean)
        sd = np.where(same, OWN_SPREAD * product, sd)
    return Prior(mean, sd)


@dataclass(frozen=True)
class Posterior:
    """The couplings after states were measured; none: as before.

    x: bool [n, N]; increase: float64 [n], nats; deviation, sampling: float64 [n], standard deviations of what
    the Ising model leaves unexplained and of the measurement; ruler: what the increase is of, the loss or KL
    to the original. Both forms of the least squares are at hand,
    and the smaller is solved: that of the n states, or that of the N (N + 1) / 2 couplings and their scale.
    """

    prior: Prior
    x: np.ndarray
    increase: np.ndarray
    deviation: np.ndarray
    sampling: np.ndarray
    ruler: str = LOSS

    def _latent(self, phi: np.ndarray) -> np.ndarray:
        """float64 [K, F + 1]: features in units of independent standard normals, the scale's the last."""
        return np.column_stack(
            [phi * upper(self.prior.sd), self.prior.scale * (phi @ upper(self.prior.mean))]
        )

    def _weights_of(self, z: np.ndarray) -> np.ndarray:
        """float64 [..., F]: what the normals z [..., F + 1] make of the weights, beyond the prior mean."""
        return z[..., :-1] * upper(self.prior.sd) + self.prior.scale * z[..., -1:] * upper(self.prior.mean)

    @cached_property
    def _noise(self) -> np.ndarray:
        return self.deviation**2 + self.sampling**2

    @cached_property
    def _solved(self) -> tuple[np.ndarray, bool, np.ndarray]:
        """(T, dual, mean): of the normals, the mean and the covariance, 1 - T^T T (dual) or T^T T."""
        phi = features(self.x) if len(self.x) else np.zeros((0, len(upper(self.prior.mean))))
        G = self._latent(phi) / np.sqrt(self._noise)[:, None]
        residual = (self.increase - phi @ upper(self.prior.mean)) / np.sqrt(self._noise)
        n, f = G.shape
        if n <= f:
            W = np.linalg.inv(np.linalg.cholesky(G @ G.T + np.eye(n)))
            return W @ G, True, G.T @ (W.T @ (W @ residual))
        T = np.linalg.inv(np.linalg.cholesky(G.T @ G + np.eye(f)))
        return T, False, T.T @ (T @ (G.T @ residual))

    def _variances(self, z: np.ndarray) -> np.ndarray:
        """float64 [K]: posterior variance of combinations z [K, F + 1] of the normals."""
        T, dual, _ = self._solved
        seen = ((z @ T.T) ** 2).sum(axis=1)
        return ((z**2).sum(axis=1) - seen).clip(min=0.0) if dual else seen

    @cached_property
    def _weights(self) -> np.ndarray:
        return upper(self.prior.mean) + self._weights_of(self._solved[2])

    @cached_property
    def couplings(self) -> np.ndarray:
        """float64 [N, N], nats: the posterior mean."""
        return _matrix(self._weights, len(self.prior.mean))

    @cached_property
    def spread(self) -> np.ndarray:
        """float64 [N, N], nats: the posterior standard deviation of each coupling."""
        T, dual, _ = self._solved
        variance = (self._weights_of(T) ** 2).sum(axis=0)
        if dual:
            variance = upper(self.prior.sd) ** 2 + (self.prior.scale * upper(self.prior.mean)) ** 2 - variance
        return _matrix(np.sqrt(variance.clip(min=0.0)), len(self.prior.mean))

    def energies(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(mean, standard deviation) of x^T H x, float64 [K] each."""
        phi = features(x)
        return phi @ self._weights, np.sqrt(self._variances(self._latent(phi)))

    def above(self, x: np.ndarray) -> np.ndarray:
        """float64 [K]: standard deviation of the energy of each row of x [K, N] above that of the first."""
        phi = features(x)
        return np.sqrt(self._variances(self._latent(phi - phi[:1])))

    def measured(self) -> tuple[np.ndarray, np.ndarray]:
        """(mean, standard deviation) of the increase of each measured state, float64 [n] each.

        The state's own deviation is part of it.
        """
        energy, sd = self.energies(self.x)
        share = self.sampling**2 / self._noise  # of what is left of a measurement, the part that is its noise
        mean = self.increase - share * (self.increase - energy)
        return mean, np.sqrt(self.sampling**2 * (1 - share) + (share * sd) ** 2)


def to_bytes(posterior: Posterior) -> bytes:
    """A .npz with what the posterior follows from."""
    p, buffer = posterior, io.BytesIO()
    np.savez_compressed(
        buffer,
        mean=p.prior.mean,
        sd=p.prior.sd,
        scale=p.prior.scale,
        x=p.x,
        increase=p.increase,
        deviation=p.deviation,
        sampling=p.sampling,
        ruler=p.ruler,
    )
    return buffer.getvalue()


def read_posterior(content: bytes) -> Posterior:
    """The posterior of `to_bytes`; one from before it said its ruler went by the loss."""
    with np.load(io.BytesIO(content), allow_pickle=False) as a:
        return Posterior(
            Prior(a["mean"], a["sd"], float(a["scale"])),
            a["x"],
            a["increase"],
            a["deviation"],
            a["sampling"],
            str(a["ruler"]) if "ruler" in a else LOSS,
        )


# landscapes in the store: named learned-<M>-<the start of their digest>, learned-<M>-kl-... by KL

_OTHER = "|".join(ruler for ruler in RULERS if ruler != LOSS)
_FOLDER = re.compile(rf"([0-9]{{1,4}})(?:-({_OTHER}))?")
_NAME = re.compile(rf"learned-({_FOLDER.pattern})-([0-9a-f]{{8}})")


def keep_learned(run_key: str, removed: int, posterior: Posterior) -> Path:
    """Keep what was learned of a run's model at M (`removed`); the file is named by its digest."""
    place = str(removed) if posterior.ruler == LOSS else f"{removed}-{posterior.ruler}"
    return folders.keep(f"landscapes/{run_key}/{place}", to_bytes(posterior), ".npz")


def learned_names(run_key: str) -> list[str]:
    """Of every M and ruler the landscape that was learned last, in order of M."""
    latest = {}
    for path in sorted(
        (folders.home() / "landscapes" / run_key).glob("*/*.npz"), key=lambda p: p.stat().st_mtime_ns
    ):
        if (place := _FOLDER.fullmatch(path.parent.name)) and len(path.stem) == 64:
            latest[int(place[1]), place[2] or ""] = f"learned-{place[0]}-{path.stem[:8]}"
    return [latest[key] for key in sorted(latest)]


def learned_at(name: str) -> int | None:
    """The M that a landscape of this name was learned at; None for another estimator."""
    found = _NAME.fullmatch(name)
    return int(found[2]) if found else None


def learned_by(name: str) -> str | None:
    """What a landscape of this name was learned by, the loss or KL to the original; None for another
    estimator.
    """
    found = _NAME.fullmatch(name)
    return (found[3] or LOSS) if found else None


def read_learned(run_key: str, name: str) -> Posterior:
    """What was learned under this name. Errors: InputError where there is none, or it is damaged."""
    found = _NAME.fullmatch(name)
    paths = (
        list((folders.home() / "landscapes" / run_key / found[1]).glob(f"{found[4]}*.npz")) if found else []
    )
    try:
        return read_posterior(paths[0].read_bytes())
    except (IndexError, *UNREADABLE) as error:
        raise InputError(
            f"The learned landscape {name[:40]!r} of the run {run_key[:8]} cannot be read; learn it again in "
            "Compare."
        ) from error
