"""The listed states as files: CSV for tables, JSON with where they come from; core.compare.other_tools reads
both.
"""

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import asdict

import core
from core.energy.learned import learned_by
from core.ising.states import short_hashes
from core.ising.units import BLOCK, Units, whole
from core.landscape.landscape import Landscape
from core.spectrum.lowest import levels
from core.spectrum.memory_budget import budget_text
from core.view.snippets import View

Increases = Mapping[tuple[int, ...], tuple[float, float, int]]  # {state: (nats, standard error, sequences)}
_MEASURED = ("loss_increase", "loss_increase_se", "sequences")


def states_csv(found: Landscape, measured: Increases | None = None, units: Units | None = None) -> str:
    """One row a state, lowest first; `removed` as text that core.ising.units.Units.parse reads, empty cells
    where nothing is known. units: of the view; None: blocks.
    """
    units = units or whole(len(found.H))
    rows = _rows(found, measured or {}, units)
    out = io.StringIO()
    writer = csv.DictWriter(
        out, [*rows[0], *(name for name in _MEASURED if name not in rows[0])], restval="", lineterminator="\n"
    )
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {**row, "removed": units.write(units.state(row["removed"]) or ()), "minimum": int(row["minimum"])}
        )
    return out.getvalue()


def states_json(view: View, found: Landscape, measured: Increases | None = None) -> str:
    """{"view": what decides the list and what is proved of it, "states": [...]}, one line a state."""
    states = ",\n  ".join(
        json.dumps(row, allow_nan=False) for row in _rows(found, measured or {}, view.source.units)
    )
    return (
        f'{{"view": {json.dumps(provenance(view, found), ensure_ascii=False, allow_nan=False)},\n '
        f'"states": [\n  {states}\n]}}\n'
    )


def _rows(found: Landscape, measured: Increases, units: Units) -> list[dict]:
    s = found.spectrum
    rows = []
    for k, (state, name, level) in enumerate(
        zip(s.removed, short_hashes(s.x), levels(s.energies, s.tolerance).tolist())
    ):
        row = {
            "rank": k,
            "hash": name,
            "removed": units.listed(state),
            "energy": float(s.energies[k]),
            "above_ground": float(s.energies[k] - s.energies[0]),
            "own_cost": float(found.own[k]),
            "pairs": float(s.energies[k] - found.own[k]),
            "level": level,
            "changed": int(found.changed[k]),
            # of a state that removes everything there is none
            "pearson": float(found.pearson[k]) if math.isfinite(found.pearson[k]) else None,
            "minimum": bool(found.minimum[k]),
        }
        if state in measured:
            row |= {field: value for field, value in zip(_MEASURED, measured[state]) if math.isfinite(value)}
        rows.append(row)
    return rows


def provenance(view: View, found: Landscape) -> dict:
    """Where a list of states comes from, as plain data: model, run, texts, what was asked, and what is
    proved.
    """
    run, s, ruler = view.source.run, found.spectrum, learned_by(view.estimator)
    rules = {name: value for name, value in asdict(view.constraints).items() if value not in ((), None)}
    about = {
        "blockscape": core.__version__,
        "source": view.source.name,
        "key": view.source.key,
        "blocks": len(view.source.units.of_block),
        **({} if view.source.by == BLOCK else {"by": view.source.by, "units": view.source.blocks}),
        "estimator": view.estimator,
        **({} if ruler is None else {"ruler": ruler}),
        "mix": None if view.mix is None else dict(view.mix),
        "removed": view.removed,
        "count": view.count,
        "rules": rules,
        "budget": None if view.budget is None else budget_text(view.budget),
        "listed": len(s.x),
        "of": s.total,
        "exact": s.exact,
        "unlisted_at_least": s.lower_bound if math.isfinite(s.lower_bound) else None,
        "tolerance": s.tolerance,
    }
    if run is not None:
        model = {name: run.meta["model"].get(name) for name in ("name", "type", "config", "weights")}
        about |= {
            "model": model,
            "samples": len(run.rows.A),
            "texts": run.meta["texts"].get("sha256"),
            "versions": run.meta.get("versions"),
        }
    return about
