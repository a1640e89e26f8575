"""A solve that takes longer than a page may wait, as a job: this module needs no torch.

HOME/spectra/<sha256>.npz    the listed states, named by the digest of the file
"""

import hashlib
import io
import math
import os
from collections.abc import Mapping
from dataclasses import asdict

import numpy as np

from core.energy.sources import open_source
from core.ising.energies import energies
from core.jobs.progress import Progress
from core.landscape.wording import progress_of_proof
from core.spectrum.constraints import Constraints
from core.spectrum.lowest import Spectrum, lowest_states
from core.store import folders

TIME_LIMIT = 600.0  # seconds of a job
_FACTS = ("exact", "level_cut", "total", "tolerance", "seconds", "nodes", "level_size")


def solve_request(
    source: str,
    estimator: str,
    removed: int,
    count: int,
    constraints: Constraints,
    mix: Mapping[str, float] | None = None,
) -> dict:
    """What a solve job is asked: a source by its key, and the view; the mix only where there is one."""
    request = {
        "source": source,
        "estimator": estimator,
        "removed": removed,
        "count": count,
        "constraints": asdict(constraints),
    }
    return request if mix is None else {**request, "mix": dict(mix)}


def run(request: dict, progress: Progress) -> dict:
    """The worker: the lowest states of a source, with the proof or what is proved when the time is up."""
    H = open_source(request["source"]).couplings(request["estimator"], request.get("mix"))

    def report(now) -> None:
        far = progress_of_proof(now.seconds, now.bound, now.energy)
        progress.report(int(now.seconds), int(TIME_LIMIT), f"{far}, {now.nodes:.2g} nodes")

    fields = request["constraints"]
    constraints = Constraints(
        **{
            **fields,
            **{name: _tuples(fields[name]) for name in ("keep", "remove", "groups", "weights", "at_least")},
        }
    )
    found = lowest_states(
        H, request["removed"], request["count"], constraints=constraints, time_limit=TIME_LIMIT, report=report
    )
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=found.x)
    target = folders.keep("spectra", buffer.getvalue(), ".npz")
    bound = None if math.isinf(found.lower_bound) else found.lower_bound
    curve = [[v if math.isfinite(v) else None for v in point] for point in found.curve]
    facts = {fact: getattr(found, fact) for fact in _FACTS}
    return {"out": str(target), "lower_bound": bound, "curve": curve, **facts}


def _tuples(value):
    return tuple(_tuples(v) for v in value) if isinstance(value, list | tuple) else value


def solved(result: dict, H: np.ndarray) -> Spectrum | None:
    """The spectrum of a finished job; None when its file is gone or damaged."""
    try:
        with open(result["out"], "rb") as f:
            content = f.read()
        if f"{hashlib.sha256(content).hexdigest()}.npz" != os.path.basename(result["out"]):
            return None
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            x = arrays["x"]
    except OSError:
        return None
    bound = math.inf if result["lower_bound"] is None else result["lower_bound"]
    return Spectrum(
        x=x,
        energies=energies(H, x),
        lower_bound=bound,
        curve=_curve(result),
        **{fact: result[fact] for fact in _FACTS},
    )


def _curve(result: dict) -> tuple[tuple[float, float, float], ...]:
    """How far the proof was, by time: core.spectrum.lowest.Spectrum.curve; none of a job of before."""
    return tuple(
        (seconds, *(math.inf if v is None else v for v in values))
        for seconds, *values in result.get("curve", [])
    )
