"""What the Explore lens draws: plain data from a spectrum, ready for JSON.

Arrays travel as base64 of little-endian bytes (core.view.encoding). All arithmetic on states happens here and
in core.view.lens_shape, the component only draws. The fields are explained in core.view.messages.
"""

import math
from collections.abc import Mapping

import numpy as np

from core.energy.rank_stability import rank_stability
from core.ising.energies import energies
from core.ising.states import diversity, indicator, pearson, short_hashes
from core.ising.units import BLOCK, BRANCH, Units, whole
from core.landscape.landscape import Landscape
from core.landscape.wording import exponent
from core.spectrum.constraints import Constraints
from core.view.encoding import encode
from core.view.lens_shape import temperature_data, tree_data
from core.view.messages import LandscapeData, PickData

ARCS_PER_UNIT = {BLOCK: 3, BRANCH: 2}


def strongest_edges(H: np.ndarray, per_unit: int = ARCS_PER_UNIT[BLOCK]) -> list[list[float]]:
    """[i, j, H_ij], i < j, strongest first: the `per_unit` largest |H_ij| of every unit."""
    strength = np.abs(H).astype(np.float64)
    np.fill_diagonal(strength, -1)
    edges = {
        tuple(sorted((i, int(j))))
        for i in range(len(H))
        for j in np.argsort(-strength[i], kind="stable")[: min(per_unit, len(H) - 1)]
    }
    return [[i, j, float(H[i, j])] for i, j in sorted(edges, key=lambda e: -strength[e])]


STABILITY_STATES, STABILITY_RESAMPLES = 200, 300


def rank_intervals(
    A: np.ndarray | None, found: Landscape, weights: np.ndarray | None = None
) -> list[list[int]]:
    """[low, high] of the rank of each of the lowest STABILITY_STATES among them, 95 % over resamples of the
    rows A [m, N]; [] without rows.

    weights: float [m], those of a domain mix, where H was made with them.
    """
    if A is None:
        return []
    stable = rank_stability(
        A, found.spectrum.x[:STABILITY_STATES], weights=weights, resamples=STABILITY_RESAMPLES
    )
    return np.stack([np.floor(stable.low), np.ceil(stable.high)], axis=1).astype(int).tolist()


def landscape_data(
    found: Landscape,
    title: str,
    unit: str,
    blocks: list[dict] | None,
    parameters: int | None,
    rows: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    warnings: dict[int, str] | None = None,
    units: Units | None = None,
    constraints: Constraints | None = None,
) -> LandscapeData:
    """The part of the lens's data that depends on run, M, estimator, mix and count only.

    blocks: what the model says of each unit; rows [m, N], weights [m]: those whose mean product H is;
    warnings: {unit: what to know before it is removed}; units: of the view, None: whole blocks;
    constraints: those that the listed states respect.
    """
    s, units = found.spectrum, units or whole(len(found.H))
    return {
        "blocks": len(found.H),
        "names": list(units.names),
        "block": list(units.block),
        "word": units.word,
        "removed": found.removed,
        "count": len(s.x),
        "sizes": encode(s.x.sum(axis=1), "<u2"),
        "states": encode(np.nonzero(s.x)[1], "<u2"),
        "energy": encode(s.energies, "<f8"),
        "own": encode(found.own, "<f8"),
        "changed": encode(found.changed, "<u2"),
        "pearson": encode(found.pearson, "<f8"),
        "minimum": encode(found.minimum, "<u1"),
        "hash": short_hashes(s.x),
        "ranks": rank_intervals(rows, found, weights),
        "matrix": encode(found.H, "<f8"),
        "edges": strongest_edges(found.H, ARCS_PER_UNIT[units.by]),
        "frequency": encode(s.x.mean(axis=0), "<f8"),
        "exponent": exponent(s.energies),
        "tolerance": s.tolerance,
        "exact": s.exact,
        "tree": tree_data(found.tree),
        "temperatures": temperature_data(found, rows, weights, constraints),
        "title": title,
        "unit": unit,
        "kinds": [b["kind"] for b in blocks] if blocks else [],
        "parameters": [b["parameters"] for b in blocks] if blocks else [],
        "kv": [b.get("kv_bytes", 0) for b in blocks] if blocks else [],
        "total_parameters": parameters or 0,
        "warnings": {str(u): text for u, text in (warnings or {}).items()},
    }


def tray_data(
    found: Landscape, tray: list[tuple[int, ...]], reasons: Mapping[tuple[int, ...], str] | None = None
) -> list[PickData]:
    """One entry for each picked state, listed or not, of this M or another; reasons: why it was picked, where
    the app picked it.
    """
    if not tray:
        return []
    H, s = found.H, found.spectrum
    x = indicator(tray, len(H))
    e, r, d = energies(H, x), pearson(x, s.x[:1])[:, 0], diversity(x)
    hashes = short_hashes(x)
    ranks = {state: k for k, state in enumerate(s.removed)}
    same = np.full(len(x), True) if found.removed is None else x.sum(axis=1) == found.removed
    return [
        {
            "removed": list(state),
            "hash": hashes[k],
            "rank": ranks.get(state),
            "energy": float(e[k]),
            "delta": float(e[k] - s.energies[0]) if same[k] else None,
            "pearson": _number(r[k]),
            "diversity": _number(d[k]),
            "reason": (reasons or {}).get(state),
        }
        for k, state in enumerate(tray)
    ]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
