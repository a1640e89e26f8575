"""The domain mix: how much each domain of a run's texts weighs, as {domain name: share}; None is as sampled.

Rows are kept one by one, so another mix is another weighting of the same rows: nothing is computed again.
As text a mix is `story=2, fact=1` (or `story:60,fact:40` in a link); in a name a comma, = , : or % is
written %2C, %3D, %3A or %25. A domain that a mix does not name has no share.
"""

import re
from collections.abc import Mapping
from urllib.parse import quote, unquote

import numpy as np

from core.errors import InputError, is_weight
from core.store.runs import Rows, Run

_NUMBER = re.compile(
    r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|[+-]?(nan|inf)", re.IGNORECASE | re.ASCII
)


def domain_rows(run: Run) -> dict[str, int]:
    """{domain name: rows of it}, in the order of the run's texts; domains that no row has are left out."""
    names = run.meta["texts"].get("domains") or []
    return {name: int(n) for k, name in enumerate(names) if (n := (run.rows.domain == k).sum())}


def check_mix(run: Run, mix: Mapping[str, float], rows: Rows | None = None) -> dict[str, float]:
    """The shares of a mix, normalised to a sum of 1, domains without a share left out.

    Errors: InputError for a domain that the run or `rows` (default: the run's) do not have, a share that is
    no number of at least 0, and shares that are all 0.
    """
    names = run.meta["texts"].get("domains") or []
    held = (run.rows if rows is None else rows).domain
    for name, share in mix.items():
        if name not in names:
            has = f"it has {_listed(names)}" if names else "it has none"
            raise InputError(f"The run has no domain {str(name)[:40]!r}: {has}; name one of its own.")
        if not is_weight(share):
            raise InputError(
                f"The share of the domain {name[:40]!r} is {str(share)[:40]}; give a number of at least 0."
            )
        if share > 0 and not (held == names.index(name)).any():
            raise InputError(
                f"The domain {name[:40]!r} is given the share {share:g} and the run has no row of it; give "
                "it 0."
            )
    if not any(mix.values()):
        raise InputError(
            f"The shares of the domain mix are all 0 ({mix_text(mix)[:80] or 'none given'}); give at least "
            "one domain more."
        )
    return {name: share for name, share in _shares(mix).items() if share}


def mix_weights(run: Run, mix: Mapping[str, float] | None, rows: Rows | None = None) -> np.ndarray | None:
    """float64 [m], sum 1: weights of `rows` (default: the run's) that give each domain its share in total.

    None for no mix. Errors: InputError as `check_mix`.
    """
    if mix is None:
        return None
    held = (run.rows if rows is None else rows).domain
    weights = np.zeros(len(held))
    for name, share in check_mix(run, mix, rows).items():
        own = held == run.meta["texts"]["domains"].index(name)
        weights[own] = share / own.sum()
    return weights


def sampled_percent(run: Run) -> dict[str, int]:
    """{domain name: whole per cent of the rows}, at least 1 each: the mix of the run as sampled."""
    rows = domain_rows(run)
    return in_percent({name: n / sum(rows.values()) for name, n in rows.items()})


def in_percent(mix: Mapping[str, float]) -> dict[str, int]:
    """The shares as whole numbers from 0 to 100: as they are if they are such, else per cent, at least 1."""
    if all(float(share).is_integer() and 0 <= share <= 100 for share in mix.values()):
        return {name: int(share) for name, share in mix.items()}
    return {name: max(1, round(100 * share)) if share else 0 for name, share in _shares(mix).items()}


def worth(weights: np.ndarray) -> float:
    """How many equally weighted rows have the sampling error of these: (sum w)^2 / sum w^2."""
    return float(weights.sum() ** 2 / (weights**2).sum())


def read_mix(text: str) -> dict[str, float]:
    """A mix from text. Errors: InputError for a part that is no `domain=share`, and a domain named twice."""
    mix: dict[str, float] = {}
    for part in text.split(","):
        cut = max(part.rfind("="), part.rfind(":"))
        name, share = unquote(part[: max(cut, 0)].strip()), part[cut + 1 :].strip()
        if not name or not _NUMBER.fullmatch(share):
            raise InputError(
                f"{part.strip()[:40]!r} is no share of a domain; write domain=share, with commas between: "
                "story=2, fact=1."
            )
        if name in mix:
            raise InputError(f"The domain {name[:40]!r} has two shares; give it one.")
        mix[name] = float(share)
    return mix


def mix_text(mix: Mapping[str, float]) -> str:
    """The mix for a link, which `read_mix` reads; domains without a share are left out, unless all are."""
    shares = {name: share for name, share in mix.items() if share} or mix
    return ",".join(f"{quote(str(name), safe='')}:{share:.12g}" for name, share in shares.items())


def mix_label(mix: Mapping[str, float], most: int = 3) -> str:
    """The mix in words, largest share first: story 60 %, fact 40 %."""
    percent = {
        name: 100 * share for name, share in sorted(_shares(mix).items(), key=lambda m: -m[1]) if share
    }
    named = [
        f"{name[:24]} {value:.0f} %" if value >= 0.5 else f"{name[:24]} < 1 %"
        for name, value in percent.items()
    ]
    return ", ".join(named[:most]) + (f" and {len(named) - most} more" if len(named) > most else "")


def _shares(mix: Mapping[str, float]) -> dict[str, float]:
    """The same in proportion, with a sum of 1; all 0 stays."""
    largest = max(mix.values(), default=0) or 1.0
    parts = {name: share / largest for name, share in mix.items()}  # no overflow in the sum
    total = sum(parts.values()) or 1.0
    return {name: part / total for name, part in parts.items()}


def _listed(names: list[str]) -> str:
    shown = ", ".join(str(name)[:40] for name in names[:8])
    return shown + (f" and {len(names) - 8} more" if len(names) > 8 else "")
