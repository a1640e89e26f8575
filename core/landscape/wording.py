"""Energies, counts and proofs in words, one way everywhere."""

import math

import numpy as np

from core.ising.units import Units
from core.spectrum.constraints import Constraints, spare
from core.spectrum.lowest import Spectrum

EXCESS = 0.25  # share of what the lowest state removes that need not go, from which on it is told


def excess(constraints: Constraints, removed: tuple[int, ...], units: Units) -> tuple[int, str] | None:
    """(how many units have to go, a sentence) where M is free and the lowest state removes far more than the
    constraints ask for: the energy has its minimum there. None elsewhere.
    """
    goes, over = len(removed), spare(constraints, removed, len(units))
    if over < EXCESS * goes:
        return None
    return goes - over, (
        f"The rules need {goes - over} of these {goes} {units.word}s to go; {over} more go because that "
        "lowers the energy of these couplings, which does not mean a better model."
    )


def exponent(energies: np.ndarray) -> int:
    """The power of ten that energies (sorted, [K]) are shown in: 0 for ordinary sizes, else the ground's."""
    ground, largest = abs(float(energies[0])), float(np.abs(energies).max())
    shown = ground if ground > 1e-3 * largest else largest
    # below, a power of ten is no number any more
    power = max(-300, math.floor(math.log10(shown))) if shown > 0 else 0
    return 0 if -2 <= power <= 3 else power


def proof(spectrum: Spectrum, power: int) -> str:
    """What is certain of a spectrum, in words, energies in units of 10^power (see `exponent`)."""
    listed, total = len(spectrum.x), spectrum.total
    of = f" of {_count(total)}" if total is not None else ""
    if math.isinf(spectrum.lower_bound) and spectrum.exact:
        return f"all {_count(listed)} states are listed"
    bound = spectrum.lower_bound - spectrum.energies[0]
    if not spectrum.exact:
        return (
            f"{_count(listed)}{of} states found, not proved lowest: unlisted ones may reach down to ΔE "
            f"{with_power(bound, power)}"
        )
    bound = max(0.0, bound)  # of the ground level itself it is the tolerance lower
    size = f" ({_count(spectrum.level_size)} states)" if spectrum.level_size else ""
    cut = f"; the last level{size} goes on" if spectrum.level_cut else ""
    return f"{_count(listed)}{of} states listed, none below ΔE {with_power(bound, power)} is missing{cut}"


def progress_of_proof(seconds: float, bound: float, energy: float) -> str:
    """How far a search is: "proof: bound at 96 % of the K-th energy after 12 s". A share says nothing unless
    both are above 0.
    """
    after = f"after {seconds:.{int(seconds < 10)}f} s"
    if not math.isfinite(energy):
        return f"proof: too few states yet {after}"
    if energy > 0 and bound > 0:
        percent = f"{100 * min(1.0, bound / energy):.1f}".removesuffix(".0")
        return f"proof: bound at {percent} % of the K-th energy {after}"
    return f"proof: bound {bound:.3g}, K-th energy {energy:.3g} {after}"


def _count(n: int) -> str:
    """735 471, or 1.4·10¹¹."""
    if n < 10**7:
        return f"{n:,}".replace(",", "\u202f")
    digits, power = f"{n:.1e}".split("e")
    return f"{digits.removesuffix('.0')}·10{superscript(int(power))}"


def superscript(n: int) -> str:
    """A whole number as an exponent: ⁻¹²."""
    return str(n).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def significant(value: float) -> str:
    """Three significant digits, never in exponent form for ordinary sizes."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(digits, 6)}f}" if abs(value) >= 1e-4 else f"{value:.2e}"


def with_power(value: float, power: int) -> str:
    """An energy in units of 10^power, or of its own power of ten where it is much smaller."""
    if value > 0 and math.isfinite(value) and value < 10.0 ** (power - 2):
        power = max(-300, math.floor(math.log10(value)))
    if not math.isfinite(value):
        return "–"
    if value < 0:
        return "−" + with_power(-value, power)
    return significant(value / 10.0**power) + (f"·10{superscript(power)}" if power else "")
