"""The minima of measured losses, where every state was measured, beside those of the energies."""

import math
from dataclasses import dataclass

import numpy as np

from core.shape.moves import Moves
from core.shape.valleys import Valleys, valleys
from core.spectrum.lowest import Spectrum, level_order


def listed(x: np.ndarray, values: np.ndarray) -> Spectrum:
    """All states x bool [K, N] with measured values [K] in place of energies, as a complete spectrum."""
    tolerance = 1e-12 * float(np.abs(values).max(initial=0.0))
    order = level_order(values, x, tolerance)
    return Spectrum(
        x=x[order],
        energies=values[order],
        exact=True,
        lower_bound=math.inf,
        level_cut=False,
        total=len(x),
        tolerance=tolerance,
        seconds=0.0,
    )


@dataclass(frozen=True)
class SameMinima:
    """Energies against measured losses over all states."""

    energy: Valleys
    loss: Valleys
    shared: int  # minima of the loss that are minima of the energy
    expected: float  # of as many states drawn at random
    basins: float  # share of the states whose two valleys end in the same minimum
    best: int  # rank by energy of the state of lowest loss
    found: float  # loss of the best minimum of the energy above the lowest loss
    ground: float  # loss of the ground state above the lowest loss


def same_minima(x: np.ndarray, energy: np.ndarray, loss: np.ndarray, moves: Moves) -> SameMinima:
    """Of all states x bool [K, N] under the moves; energy, loss: float64 [K]."""
    by_energy, by_loss = valleys(listed(x, energy), moves), valleys(listed(x, loss), moves)
    ends_energy, ends_loss = set(by_energy.removed), set(by_loss.removed)
    of_energy, of_loss = by_energy.spectrum.removed, by_loss.spectrum.removed
    end = {s: of_energy[by_energy.minimum[v]] for s, v in zip(of_energy, by_energy.valley)}
    same = [end[s] == of_loss[by_loss.minimum[v]] for s, v in zip(of_loss, by_loss.valley)]
    value = dict(zip(of_loss, by_loss.spectrum.energies.tolist()))
    lowest = float(by_loss.spectrum.energies[0])
    return SameMinima(
        by_energy,
        by_loss,
        len(ends_energy & ends_loss),
        len(ends_energy) * len(ends_loss) / len(x),
        float(np.mean(same)),
        of_energy.index(of_loss[0]),
        min(value[s] for s in ends_energy) - lowest,
        value[of_energy[0]] - lowest,
    )
