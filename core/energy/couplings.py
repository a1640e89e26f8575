"""From gradient rows to the coupling matrix H: one function an estimator.

Another estimator is one function and one entry of ESTIMATORS: it then appears
in the app and on the command line.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from core.energy.mix import mix_text, mix_weights, worth
from core.energy.secants import bounded, pair_energies
from core.errors import InputError
from core.ising.energies import check_matrix
from core.ising.units import Units
from core.store.runs import Rows, Run

Mix = Mapping[str, float] | None  # shares of the domains, see core.energy.mix


def outer_mean(A: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """float64 [N, N]: A^T A / m, or with sample weights A^T W A / sum(W) (arXiv 2602.00161)."""
    A = np.asarray(A, dtype=np.float64)
    if weights is None:
        return A.T @ A / len(A)
    w = np.asarray(weights, dtype=np.float64)
    return (A * w[:, None]).T @ A / w.sum()


def _h0(run: Run, mix: Mix) -> np.ndarray:
    return outer_mean(run.rows.A, mix_weights(run, mix))


def _h1(run: Run, mix: Mix) -> np.ndarray:
    assert run.sampled is not None  # needs
    return outer_mean(run.sampled.A, mix_weights(run, mix, run.sampled))


def within_blocks(own: np.ndarray, block: np.ndarray, units: Units) -> np.ndarray:
    """float64 [N, N], nats, symmetric: what the units of a block cost together beyond their sum, as measured,
    so that a whole block costs what its removal was measured at; 0 between blocks.

    own: float64 [N], of each unit alone; block: float64 [blocks], of whole blocks.
    """
    K = np.zeros((len(units), len(units)))
    for b, members in enumerate(units.of_block):
        pairs = list(itertools.combinations(members, 2))
        for i, j in pairs:
            K[i, j] = K[j, i] = (block[b] - own[list(members)].sum()) / len(pairs)
    return K


def _whole_blocks_as_measured(run: Run, H: np.ndarray) -> np.ndarray:
    """H of a run, whose blocks cost whole what their removal was measured at, where it is seen by branch."""
    if run.whole is None:
        return H
    block = run.block_costs
    assert block is not None  # singles are
    return np.where(
        run.units.same_block, within_blocks(own_costs_of(run), nearly_free(block), run.units) / 2, H
    )


def _hybrid(run: Run, mix: Mix) -> np.ndarray:
    """S^1/2 corr(H1) S^1/2, S = measured single removals; a removal that lowers the loss counts as free.

    A mix weighs the rows of H1; S is measured on texts of its own and stays.
    """
    assert run.singles is not None  # needs
    H1 = _h1(run, mix)
    scale = np.sqrt(np.diag(H1))
    correlation = H1 / np.outer(scale, scale).clip(min=np.finfo(np.float64).tiny)
    root = np.sqrt(run.singles.increase.clip(min=0.0))
    H = correlation * np.outer(root, root)
    np.fill_diagonal(H, root**2)
    return _whole_blocks_as_measured(run, H)


def _singles(run: Run, mix: Mix) -> np.ndarray:
    """Measured single removals alone: no pair of blocks counts."""
    assert run.singles is not None  # needs
    return _whole_blocks_as_measured(run, np.diag(own_costs_of(run)))


def own_costs_of(run: Run) -> np.ndarray:
    """float64 [N], nats: measured single removals; one that seems to lower the loss is nearly free."""
    assert run.singles is not None
    return nearly_free(run.singles.increase)


def nearly_free(increase: np.ndarray) -> np.ndarray:
    """float64 [N], nats: measured single removals, those that seem to lower the loss at a little."""
    increase = np.asarray(increase, dtype=np.float64)
    return np.maximum(increase, 0.05 * max(float(np.median(np.abs(increase))), np.finfo(np.float64).tiny))


def _secant(run: Run, mix: Mix) -> np.ndarray:
    """Measured single removals, and half of the secants (core.energy.secants) beside them."""
    H = bounded(own_costs_of(run), pair_energies(replace(run, pairs=None)))
    return _whole_blocks_as_measured(run, H)


def _pairs(run: Run, mix: Mix) -> np.ndarray:
    """The same, where a pair was measured with two thirds of the mean of its secant and its
    measured two-body part.
    """
    return bounded(own_costs_of(run), pair_energies(run))


def _with_first_order(run: Run, mix: Mix) -> np.ndarray:
    """T/2 H0 - diag(g): the loss to second order, dL ~ -g.x + 1/2 x^T (T H0) x.

    g: the mean gradient; T: predicted tokens a row. x_i^2 = x_i, so the linear term stands on the diagonal;
    T A^T A / m is the Hessian of the mean loss as H0 estimates it.
    """
    texts = run.meta["texts"]
    # runs from before it was noted were packed
    tokens = texts["predicted"] if "predicted" in texts else texts["length"] - 1
    return tokens / 2 * _h0(run, mix) - np.diag(first_order(run, mix).gradient)


@dataclass(frozen=True)
class Meaning:
    """What couplings are called, what they are in, and what they say."""

    label: str
    unit: str
    about: str


@dataclass(frozen=True)
class Estimator(Meaning):
    """One way from a run to couplings.

    compute: (run, mix) -> float64 [N, N]. needs: what a run must have for it, beside rows on the texts' own
    tokens: "sampled", "singles", "secants", "pairs". rows: which rows A of the run give H = A^T A / m,
    "rows" or "sampled", for bootstraps; None where H is more than that. mixes: whether a domain mix weighs
    it; single removals, secants and pairs were measured on texts as sampled.
    """

    compute: Callable[[Run, Mix], np.ndarray]
    needs: tuple[str, ...] = ()
    rows: str | None = None
    mixes: bool = True


ESTIMATORS = {
    "h0": Estimator(
        "paper · H₀",
        "squared gradient, not nats",
        "H0 = AᵀA/m from the texts' own tokens (empirical Fisher; the paper)",
        _h0,
        rows="rows",
    ),
    "h1": Estimator(
        "sampled · H₁",
        "squared gradient, not nats",
        "H1: the same with labels sampled from the model (true Fisher)",
        _h1,
        ("sampled",),
        rows="sampled",
    ),
    "hybrid": Estimator(
        "hybrid",
        "nats",
        "S^½ corr(H1) S^½ with S the measured single removals",
        _hybrid,
        ("sampled", "singles"),
    ),
    "singles": Estimator(
        "single removals",
        "nats",
        "measured single removals alone: blocks in order of what each costs",
        _singles,
        ("singles",),
        mixes=False,
    ),
    "pairs": Estimator(
        "secant + pairs",
        "nats",
        "measured single removals, and of light pairs what secant and measured two-body part say together",
        _pairs,
        ("singles", "secants", "pairs"),
        mixes=False,
    ),
    "secant": Estimator(
        "secant",
        "nats",
        "measured single removals, and pairs from how removing one block changes the slope along the other's "
        "gate",
        _secant,
        ("singles", "secants"),
        mixes=False,
    ),
    "h0g": Estimator(
        "H₀, first order on",
        "nats, extrapolated",
        "T/2 H0 − diag(g): the mean gradient g, which the paper takes for 0, counts as well, at T predicted "
        "tokens a sequence",
        _with_first_order,
    ),
}


def available(run: Run) -> list[str]:
    """The estimators this run has the data for."""
    return [name for name, e in ESTIMATORS.items() if all(getattr(run, need) is not None for need in e.needs)]


def from_gradients(estimator: str) -> bool:
    """Whether its own costs come from gradients alone: what measures removals knows better."""
    return estimator in ESTIMATORS and "singles" not in ESTIMATORS[estimator].needs


def couplings(run: Run, estimator: str = "h0", mix: Mix = None) -> np.ndarray:
    """float64 [N, N], symmetric; `mix`: {domain: share of it}, None as sampled.

    Errors: InputError for an unknown estimator, missing data, or a mix that the run cannot have.
    """
    if estimator not in ESTIMATORS:
        raise InputError(f"Unknown estimator {estimator!r}; choose one of {', '.join(ESTIMATORS)}.")
    if estimator not in available(run):
        raise InputError(
            f"The run has no {' and '.join(ESTIMATORS[estimator].needs)} rows for the estimator "
            f"{estimator!r}; choose one of {', '.join(available(run))}."
        )
    if mix is not None and not ESTIMATORS[estimator].mixes:
        raise InputError(
            f"The couplings {estimator!r} were measured on the texts as sampled; leave the mix "
            f"{mix_text(mix)[:40]!r} out, or take h0."
        )
    return check_matrix(ESTIMATORS[estimator].compute(run, mix), f"estimator {estimator}")


def rows_of(run: Run, estimator: str) -> Rows | None:
    """The rows with H = A^T A / m, for bootstraps; None where the estimator is more than that."""
    name = ESTIMATORS[estimator].rows if estimator in ESTIMATORS else None
    return None if name is None else getattr(run, name)


@dataclass(frozen=True)
class FirstOrder:
    """The mean gradient, which H leaves out, and how large it is."""

    gradient: np.ndarray  # float64 [N], nats: mean of d loss / d alpha_i over rows on the texts' own tokens
    se: np.ndarray  # float64 [N], nats: its standard error; NaN of one row
    ratio: float  # root mean square of the gradient over the blocks, to that of the rows' entries
    noise: float  # the ratio that as many rows of mean 0 have on average

    @property
    def significant(self) -> int:
        """Blocks whose gradient is beyond two standard errors."""
        return int((np.abs(self.gradient) > 2 * self.se).sum())


def first_order(run: Run, mix: Mix = None) -> FirstOrder:
    """The first-order term of the loss: is it about 0, as an energy without it takes for granted?

    The mix weighs the rows.
    """
    A, w = _weighted(run, mix)
    g = w @ A
    with np.errstate(invalid="ignore", divide="ignore"):
        se = np.sqrt(w**2 @ (A - g) ** 2 * np.float64(len(A)) / (len(A) - 1))
    entries = float(np.sqrt((w @ A**2).mean()))
    ratio = float(np.sqrt((g**2).mean())) / entries if entries else 0.0
    return FirstOrder(g, se, ratio, 1 / np.sqrt(worth(w)))


def _weighted(run: Run, mix: Mix) -> tuple[np.ndarray, np.ndarray]:
    """(A float64, w float64 of sum 1): the rows that count, and how much."""
    w = mix_weights(run, mix)
    if w is None:
        return run.rows.A.astype(np.float64), np.full(len(run.rows.A), 1 / len(run.rows.A))
    return run.rows.A[w > 0].astype(np.float64), w[w > 0]


FATAL = 0.5  # nats: a removal above it is fatal
FAR = 10  # times: as much above the median is fatal, and above what energy says, hidden


@dataclass(frozen=True)
class Misjudged:
    """A block whose gradient hides what removing it costs."""

    block: int
    increase: float  # nats, measured: the loss without this block alone
    predicted: float  # nats: what its gradient energy says, on the scale of the other blocks


def misjudged(run: Run, mix: Mix = None) -> list[Misjudged]:
    """Blocks that are fatal to remove although their gradient energy says otherwise.

    Fatal: the measured increase is above FATAL nats or FAR times the median of all blocks, and beyond two
    standard errors. Hidden: it is at least FAR times what H0_ii predicts, where median increase / median
    H0_ii turns energies into nats. Without measured singles there are none: [].
    """
    if run.singles is None:
        return []
    increase, own = run.singles.increase, np.diag(couplings(run, "h0", mix))
    typical, middle = float(np.median(increase)), float(np.median(own))
    predicted = own * max(typical, 0.0) / middle if middle > 0 else np.zeros(len(own))
    fatal = (increase > FATAL) | ((increase > FAR * typical) & (typical > 0))
    found = fatal & (increase > 2 * run.singles.se) & (increase >= FAR * predicted)
    return [Misjudged(int(b), float(increase[b]), float(predicted[b])) for b in np.flatnonzero(found)]
