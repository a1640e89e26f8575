"""States of the Boltzmann ensemble by Monte Carlo: swap moves and parallel tempering (Swendsen and Wang 1986,
Geyer 1991), for landscapes that are too large to enumerate.

Several independent chains start from random states. Each is a ladder of replicas from infinite temperature
down to the one that is asked for: a replica moves by Metropolis' rule, and neighbours on the ladder exchange
their states. How far the chains agree (R-hat, Gelman and Rubin 1992, of split chains) and how many
independent samples they are worth (initial monotone sequence, Geyer 1992) comes with the samples.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy.optimize import brentq

from core.shape.descent import random_states
from core.shape.moves import Moves, moves_of
from core.spectrum.constraints import Rules

CHAINS, SAMPLES, BURN = (
    4,
    2000,
    0.25,
)  # samples of each chain that are kept; sweeps before them, a share of theirs
_STEP = 1.4  # ratio of neighbouring temperatures of the ladder
_MOST = 32  # replicas
AGREED = 1.01  # R-hat up to which chains agree (Vehtari et al. 2021)
_LEAST = 400  # effective samples below which figures are too rough


@dataclass(frozen=True)
class Sampled:
    """Samples of every chain; the last replica has the temperature that was asked for."""

    temperature: float
    x: np.ndarray  # bool [chains, samples, N]: of the last replica
    energies: np.ndarray  # float64 [chains, replicas, samples]
    betas: np.ndarray  # float64 [replicas]: inverse temperatures, the first 0
    log_ratio: np.ndarray  # float64 [replicas]: log Z(beta) - log Z(0)
    total: int | None  # number of states, where known
    effective: float  # independent samples of the last replica, the fewest of energy and units
    rhat: float  # the largest of energy and units

    @property
    def log_z(self) -> float:
        """log of the sum of exp(-E / T) over all states; NaN where their number is not known."""
        return math.log(self.total) + float(self.log_ratio[-1]) if self.total else math.nan

    @property
    def settled(self) -> bool:
        """Whether the chains agree and are long enough."""
        return self.rhat <= AGREED and self.effective >= _LEAST

    @property
    def said(self) -> str:
        """How far the samples may be trusted, in words."""
        chains, samples = self.x.shape[:2]
        worth = f"R-hat {self.rhat:.3f}, worth {self.effective:.0f} independent ones"
        tail = "" if self.settled else ": not settled, take them as rough"
        return f"estimated from {chains} chains of {samples} samples ({worth}){tail}"


def sample(
    H: np.ndarray,
    rules: Rules,
    temperature: float,
    *,
    samples: int = SAMPLES,
    chains: int = CHAINS,
    seed: int = 0,
) -> Sampled:
    """Samples of the ensemble of H float64 [N, N] at a temperature; the same seed gives the same ones."""
    rng = np.random.default_rng(seed)
    start = random_states(rules, max(chains, 256), rng)
    spread = np.einsum("ki,ij,kj->k", start.astype(float), H, start.astype(float)).std()
    betas = _ladder(float(spread), temperature)
    moves = moves_of(rules)
    seeds = rng.integers(2**31, size=chains)

    def chain(c: int) -> tuple[np.ndarray, np.ndarray]:
        first = np.repeat(start[c : c + 1], len(betas), axis=0)
        return _temper(H, first, betas, int(BURN * samples), samples, int(seeds[c]), *_arrays(rules, moves))

    with ThreadPoolExecutor() as pool:  # compiled code runs without the lock
        found = list(pool.map(chain, range(chains)))
    x, energies = np.stack([x for x, _ in found]), np.stack([e for _, e in found])
    last = energies[:, -1]
    units = np.flatnonzero(x.any(axis=(0, 1)) & ~x.all(axis=(0, 1)))
    traces = [last, *(x[:, :, u].astype(np.float64) for u in units)]
    traces = [t for t in traces if t.std() > 0]
    rhat = max((split_rhat(t) for t in traces), default=1.0)
    effective = min((effective_samples(t) for t in traces), default=float(last.size))
    return Sampled(
        temperature, x, energies, betas, _log_ratios(energies, betas), rules.total, effective, rhat
    )


def _ladder(spread: float, temperature: float) -> np.ndarray:
    """Inverse temperatures from 0 to 1 / T: one at the spread of random energies, then in equal ratios."""
    hottest = max(spread, temperature)
    steps = min(_MOST - 1, max(1, math.ceil(math.log(hottest / temperature) / math.log(_STEP)) + 1))
    return np.concatenate(
        [[0.0], np.geomspace(1 / hottest, 1 / temperature, steps) if steps > 1 else [1 / temperature]]
    )


def _arrays(rules: Rules, moves: Moves) -> tuple:
    """What compiled code needs of rules and moves."""
    return moves.swap, moves.alone, rules.weights, rules.at_least, rules.max_run


@njit(cache=True, nogil=True)
def _temper(H, x, betas, burn, samples, seed, swap, alone, weights, at_least, max_run):
    """(x bool [samples, N] of the last replica, energies float64 [replicas, samples]); x: [replicas, N]."""
    np.random.seed(seed)
    replicas, n = x.shape
    budgets = len(at_least)
    x = x.copy()
    energy, field = np.zeros(replicas), np.zeros((replicas, n))
    load = np.zeros((replicas, budgets))
    for r in range(replicas):
        for i in range(n):
            if x[r, i]:
                for k in range(n):
                    field[r, k] += 2 * H[i, k]
                for b in range(budgets):
                    load[r, b] += weights[b, i]
        for i in range(n):
            if x[r, i]:
                energy[r] += field[r, i] / 2
    movable = np.zeros(n, np.bool_)
    some_alone = False
    for i in range(n):
        movable[i] = swap[i].any() or alone[i]
        some_alone = some_alone or alone[i]
    units = np.flatnonzero(movable)
    place = np.arange(replicas)  # row of each replica of the ladder
    out, kept = np.zeros((samples, n), np.bool_), np.zeros((replicas, samples))
    if len(units) == 0:
        for s in range(samples):
            out[s] = x[0]
            kept[:, s] = energy
        return out, kept
    for sweep in range(burn + samples):
        for r in range(replicas):
            row = place[r]
            for _ in range(2 * len(units)):
                _move(
                    H,
                    x[row],
                    field[row],
                    load[row],
                    energy,
                    row,
                    betas[r],
                    units,
                    swap,
                    alone,
                    some_alone,
                    weights,
                    at_least,
                    max_run,
                )
        for r in range(sweep % 2, replicas - 1, 2):
            here, there = place[r], place[r + 1]
            if np.log(np.random.random()) < (betas[r + 1] - betas[r]) * (energy[there] - energy[here]):
                place[r], place[r + 1] = there, here
        if sweep >= burn:
            out[sweep - burn] = x[place[replicas - 1]]
            for r in range(replicas):
                kept[r, sweep - burn] = energy[place[r]]
    return out, kept


@njit(cache=True, nogil=True)
def _move(H, x, field, load, energy, row, beta, units, swap, alone, some_alone, weights, at_least, max_run):
    """One proposal: two movable units, drawn evenly, exchange what they are; or one changes alone. Both ways
    are equally likely to be proposed, so Metropolis' rule keeps detailed balance.
    """
    i = units[np.random.randint(len(units))]
    single = some_alone and np.random.random() < 0.5
    j = i if single else units[np.random.randint(len(units))]
    if single:
        if not alone[i]:
            return
    else:
        if x[i] == x[j] or not swap[i, j]:
            return
        if not x[i]:
            i, j = j, i
    change = 0.0
    back, go = i, j  # removed unit that comes back, kept unit that goes
    if single:
        back, go = (i, -1) if x[i] else (-1, i)
    if back >= 0:
        change -= field[back] - H[back, back]
    if go >= 0:
        change += field[go] + H[go, go]
    if back >= 0 and go >= 0:
        change -= 2 * H[back, go]
    if change > 0 and np.log(np.random.random()) >= -beta * change:
        return
    for b in range(len(at_least)):
        after = load[b]
        if back >= 0:
            after -= weights[b, back]
        if go >= 0:
            after += weights[b, go]
        if after < at_least[b]:
            return
    if go >= 0 and back < 0 and x.sum() == len(x) - 1:
        return  # something must stay
    if go >= 0 and max_run < len(x):
        run, k = 1, go - 1
        while k >= 0 and x[k] and k != back:
            run, k = run + 1, k - 1
        k = go + 1
        while k < len(x) and x[k] and k != back:
            run, k = run + 1, k + 1
        if run > max_run:
            return
    energy[row] += change
    for b in range(len(at_least)):
        if back >= 0:
            load[b] -= weights[b, back]
        if go >= 0:
            load[b] += weights[b, go]
    if back >= 0:
        x[back] = False
        for k in range(len(x)):
            field[k] -= 2 * H[back, k]
    if go >= 0:
        x[go] = True
        for k in range(len(x)):
            field[k] += 2 * H[go, k]


def _log_ratios(energies: np.ndarray, betas: np.ndarray) -> np.ndarray:
    """float64 [replicas]: log Z(beta) - log Z(0), step by step with Bennett's acceptance ratio (1976)."""
    found = np.zeros(len(betas))
    for r in range(len(betas) - 1):
        step = betas[r + 1] - betas[r]
        up, down = step * energies[:, r].ravel(), step * energies[:, r + 1].ravel()

        def unbalanced(f: float, up=up, down=down) -> float:
            return float(_fermi(up - f).mean() - _fermi(f - down).mean())

        low, high = float(min(up.min(), down.min())) - 50, float(max(up.max(), down.max())) + 50
        found[r + 1] = found[r] - brentq(unbalanced, low, high)
    return found


def _fermi(u: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(np.clip(u, -700, 700)))


def split_rhat(trace: np.ndarray) -> float:
    """R-hat of [chains, samples], every chain split into two halves: 1 where they agree."""
    half = trace.shape[1] // 2
    parts = np.concatenate([trace[:, :half], trace[:, half : 2 * half]])
    within = parts.var(axis=1, ddof=1).mean()
    between = half * parts.mean(axis=1).var(ddof=1)
    if within == 0:
        return math.inf if between > 0 else 1.0
    return float(np.sqrt((half - 1) / half + between / (half * within)))


def effective_samples(trace: np.ndarray) -> float:
    """How many independent samples [chains, samples] are worth for their mean (Geyer's initial monotone
    sequence, the chains together as in Vehtari et al. 2021).
    """
    chains, n = trace.shape
    centred = trace - trace.mean(axis=1, keepdims=True)
    size = 2 ** math.ceil(math.log2(2 * n))
    spectrum = np.fft.rfft(centred, size, axis=1)
    own = np.fft.irfft(np.abs(spectrum) ** 2, size, axis=1)[:, :n].mean(axis=0) / n  # autocovariance
    within = own[0] * n / (n - 1)
    variance = own[0] + trace.mean(axis=1).var(ddof=1) if chains > 1 else own[0]
    if variance == 0:
        return float(trace.size)
    rho = 1 - (within - own) / variance
    pairs = rho[: 2 * (n // 2)].reshape(-1, 2).sum(axis=1)
    stop = int(np.argmax(pairs <= 0)) if (pairs <= 0).any() else len(pairs)
    time = 2 * np.minimum.accumulate(pairs[:stop]).sum() - 1 if stop else 1.0
    return float(min(trace.size, trace.size / max(time, 1.0)))
