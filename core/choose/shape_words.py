"""How docs/landscape.md writes its figures."""

from collections.abc import Sequence

ESTIMATORS = ("h0", "hybrid", "secant", "pairs")
SURE = 2.0  # standard errors


def with_error(value: Sequence[float], digits: int = 3) -> str:
    """A value and its standard error."""
    return f"{value[0]:+.{digits}f} ± {value[1]:.{digits}f}"


def percent(share: float) -> str:
    """A share."""
    return f"{100 * share:.0f} %" if share >= 0.1 or share == 0 else f"{100 * share:.1f} %"


def number(value: float | None, digits: int = 2) -> str:
    """A number, or a dash."""
    return "-" if value is None else f"{value:.{digits}f}"
