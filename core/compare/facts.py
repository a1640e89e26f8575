"""What the landscape and the store know of one state, for the card of an export."""

from core.compare.audit import audit
from core.compare.comparison import compare, measured_rows, pair_losses
from core.compare.health import health_of
from core.energy.sources import Source
from core.landscape.locate import place
from core.spectrum.lowest import lowest_states
from core.store.results import Results

LISTED = 1000  # lowest states that a rank is looked for among
WAIT = 5.0  # seconds that their proof may take


def facts(source: Source, estimator: str, mix: dict | None, state: tuple[int, ...]) -> dict:
    """JSON: energy, place among the lowest states of as many units, health of these couplings there, and what
    was measured of the state and the original. Errors: InputError, as core.energy.sources.
    """
    run = source.run
    assert run is not None  # a bare matrix has nothing to write
    H, results, m = source.couplings(estimator, mix), Results(), len(state)
    listed = lowest_states(H, m, LISTED, time_limit=WAIT)
    (where,) = place(H, listed, [state], word=run.units.word)
    measured, pairs = measured_rows(run, results, m), audit(H, pair_losses(run, results))
    verdict = health_of(source, estimator, mix, listed.removed[0], measured, pairs)
    rows = compare(run, [state], results)
    return {
        "run": run.key,
        "estimator": estimator,
        "meaning": source.about(estimator).label,
        **({} if mix is None else {"mix": mix}),
        "energy": where.energy,
        "rank": where.rank,
        "place": _sentence(where.words),
        "health": {"colour": verdict.colour, "sentence": verdict.sentence},
        "texts": str(run.meta["texts"].get("source", "its texts")),
        "measured": [
            {
                "name": name,
                "loss": row.loss and row.loss.mean,
                "increase": row.increase and list(row.increase),
                "tasks": {task: vars(score) for task, score in row.tasks.items()},
            }
            for name, row in zip(("original", "pruned"), rows)
        ]
        if any(row.loss or row.tasks for row in rows[1:])
        else [],
    }


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."
