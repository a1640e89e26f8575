"""How many rows, and how much noise, the energies of a run bear: from its rows and its bed alone."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from core.choose.bed import Bed
from core.choose.bed_tables import groups_of, table
from core.compare.agreement import spearman
from core.energy.couplings import couplings, outer_mean
from core.ising.energies import energies
from core.spectrum.lowest import lowest_states
from core.store.runs import Run

DRAWS = 10
NOISE = (0.01, 0.05, 0.1, 0.2, 0.5)  # standard deviation of a coupling's error, of the coupling
FROM_ROWS: dict[str, Callable[[Run, np.ndarray], np.ndarray]] = {
    "h0": lambda run, some: outer_mean(run.rows.A[some]),
    "h0 own": lambda run, some: np.diag(np.diag(outer_mean(run.rows.A[some]))),
    "cov": lambda run, some: np.cov(run.rows.A[some].astype(np.float64).T),
    "h1": lambda run, some: outer_mean(run.sampled.A[some]),  # type: ignore[union-attr]
}


def ground_of(H: np.ndarray, m: int) -> np.ndarray:
    """bool [N]: the state of lowest energy."""
    return lowest_states(H, m, 1).x[0]


def row_counts(run: Run) -> list[int]:
    """How many rows are tried."""
    most = len(run.rows.A)
    return [k for k in (16, 32, 64, 128) if k < most] + [most]


def by_rows(run: Run, bed: Bed, m: int) -> dict[tuple[str, int], np.ndarray]:
    """{(estimator, rows): float64 [draws, 2 + groups]} over random parts of the rows: Spearman of the
    energies of random states with those from all rows, blocks that the ground state shares with that from
    all rows, and Spearman with the measured increase in each group of M.
    """
    increase, groups = bed.increase().mean(axis=1), [rows for _, rows in groups_of(bed, [m])]
    found = {}
    for name, make in FROM_ROWS.items():
        every = np.arange(len(run.rows.A))
        whole = make(run, every)
        energy, ground = energies(whole, bed.x), ground_of(whole, m)
        for count in row_counts(run):
            own = []
            for seed in range(1 if count == len(every) else DRAWS):
                H = make(run, np.random.default_rng(seed).permutation(every)[:count])
                e = energies(H, bed.x)
                told = [spearman(e[g], increase[g]) for g in groups]
                same = spearman(e[groups[0]], energy[groups[0]])
                own.append([same, (ground_of(H, m) & ground).sum(), *told])
            found[name, count] = np.array(own)
    return found


def by_noise(H: np.ndarray, bed: Bed, m: int) -> dict[float, np.ndarray]:
    """{sd: float64 [draws, 2 + groups]}: every coupling times 1 + sd normal noise, as `by_rows`."""
    increase, groups = bed.increase().mean(axis=1), [rows for _, rows in groups_of(bed, [m])]
    energy, ground, found = energies(H, bed.x), ground_of(H, m), {}
    for sd in NOISE:
        own = []
        for seed in range(DRAWS):
            error = np.triu(np.random.default_rng(seed).normal(size=H.shape))
            noisy = H * (1 + sd * (error + np.triu(error, 1).T))
            e = energies(noisy, bed.x)
            told = [spearman(e[g], increase[g]) for g in groups]
            same = spearman(e[groups[0]], energy[groups[0]])
            own.append([same, (ground_of(noisy, m) & ground).sum(), *told])
        found[sd] = np.array(own)
    return found


def enough_rows(found: dict[tuple[str, int], np.ndarray], name: str, like: float = 0.95) -> int | None:
    """The fewest rows whose energies order states as all rows do, to this Spearman; None: no part of them."""
    counts = [count for (own, count), values in found.items() if own == name and values[:, 0].mean() >= like]
    return min(counts) if counts and min(counts) < max(c for _, c in found) else None


@dataclass(frozen=True)
class Borne:
    """What the energies of a run bear, at one M."""

    m: int
    groups: list[str]  # what the losses are of
    rows: dict[tuple[str, int], np.ndarray]
    noise: dict[str, dict[float, np.ndarray]]  # by couplings


def borne(run: Run, bed: Bed, depths: list[int]) -> Borne | None:
    """Both, at the second M; None with too few states."""
    m = depths[min(1, len(depths) - 1)]
    names = [name for name, _ in groups_of(bed, [m])]
    if not names:
        return None
    noise = {name: by_noise(couplings(run, name), bed, m) for name in ("h0", "pairs")}
    return Borne(m, names, by_rows(run, bed, m), noise)


def rows_and_noise(found: Borne | None) -> list[str]:
    """The chapter."""
    title = "## How many rows, how much noise?"
    if found is None:
        return [title, "", "Too few states."]
    rows = [[name, str(count), *_cells(values, found.m)] for (name, count), values in found.rows.items()]
    noisy = [
        [name, f"{sd:.0%}", *_cells(values, found.m)]
        for name, own in found.noise.items()
        for sd, values in own.items()
    ]
    head = ["order as before", "ground state shares", *(f"loss, {name}" for name in found.groups)]
    return [
        title,
        "",
        f"M = {found.m}. Energies from {DRAWS} random parts of the rows: Spearman with the energies from "
        "all rows over random states, blocks that the two ground states have in common, and Spearman with "
        "measured losses, mean ± spread over draws. More rows make energies more like themselves, and "
        "hardly more like losses.",
        "",
        *table(["couplings", "rows", *head], rows),
        "",
        "Noise: every coupling is multiplied by 1 + ε, ε normal with this standard deviation; the rest as "
        "above.",
        "",
        *table(["couplings", "noise", *head], noisy),
    ]


def _cells(values: np.ndarray, m: int) -> list[str]:
    mean, sd = values.mean(axis=0), values.std(axis=0)
    return [
        f"{mean[0]:.2f} ± {sd[0]:.2f}",
        f"{mean[1]:.1f} of {m}",
        *(f"{a:.2f} ± {b:.2f}" for a, b in zip(mean[2:], sd[2:])),
    ]
