"""What work will take before it begins: a calibration, from what a `describe` job has measured; measuring and
searching, from how fast the model was before; an export; a chat.
"""

import math

from core.spectrum.memory_budget import size
from core.store.runs import BRANCH_SINGLES
from core.texts.packing import shares

# before any was measured, on two busy cores: a worker's start; of a chat, a token beside the reading of all
# weights (0.1 s of 540 MB: 48 tokens of SmolLM2-135M in float32 take 3 s, of the demo half a second)
_START, _TOKEN, _READ = 8.0, 0.01, 9e9
_TOKENS = 6e10  # parameters times tokens a second of a forward, there, where the model was never measured
_SHARED = 0.75  # of a state's forward that is no prefix of a state measured before it: 12 states of 30 blocks
BYTES = 10**6  # no job has so many steps
_WRITTEN = 4e7  # bytes a second of an export, there: SmolLM2-135M takes 40 s, the demo half a minute


_PAIR = 0.5  # of a forward that a pair takes behind the prefix it shares, the head included
_BACKWARD = 0.55  # of the time of rows with a second backward, for sampled labels: rows with one


def calibration_cost(
    description: dict, samples: int, singles: int, secants: int = 0, pairs: int = 0
) -> tuple[float, int]:
    """(seconds, peak bytes) of a calibration on the machine that made the description.

    Rows cost a forward and backward a batch, and secants one for each block and the intact model; all single
    removals what the description has measured, or a forward each where it is of a version that did not share
    hidden states. More sequences take more time, not more memory: batches are equal.
    """
    batch, blocks = description["batch"], len(description["blocks"])
    rows = math.ceil(samples / batch) * description["rows_seconds"]
    each = description.get("singles_seconds", (blocks + 1) * description["forward_seconds"])
    halves = description.get("branches_seconds", 0.0) * math.ceil(min(singles, BRANCH_SINGLES) / batch)
    single_removals = math.ceil(singles / batch) * each + halves
    own = sum(_of_own(description, count) for count in (samples, max(singles, secants, pairs)))
    one = description["rows_seconds"] * (_BACKWARD if description.get("sampled") else 1.0) / batch
    return (
        description["load_seconds"]
        + own * description["own_seconds"]
        + rows
        + single_removals
        + (blocks + 1) * secants * one
        + _light_pairs(blocks) * _PAIR * pairs * description["forward_seconds"] / batch,
        description["memory"],
    )


def _light_pairs(blocks: int) -> int:
    """As core.calibration.pairs chooses them."""
    light = max(3, round(0.75 * blocks))
    return min(300, light * (light - 1) // 2)


def lacking(description: dict, split: str, samples: int) -> list[tuple[str, int, int]]:
    """[(part, sequences that its weight asks for, sequences there are)] of the parts of the texts that give
    too few.
    """
    asked = _asked(description, samples)
    return [
        (p["name"], n, p["have"][split]) for p, n in asked if p["have"] is not None and n > p["have"][split]
    ]


def _of_own(description: dict, samples: int) -> int:
    return sum(n for part, n in _asked(description, samples) if part["have"] is None)


def _asked(description: dict, samples: int) -> list[tuple[dict, int]]:
    """(part, how many of the samples it gives) of all that are drawn from."""
    parts = description["parts"]
    return list(zip(parts, shares(samples, [p["weight"] for p in parts])))


def forward_seconds(parameters: int, tokens: int, per_token: float | None) -> float:
    """Of the original over so many tokens; per_token: seconds, measured; None where nothing was."""
    return tokens * (parameters / _TOKENS if per_token is None else per_token)


def measure_seconds(forward: float, states: int) -> float:
    """Until the original and so many states have their losses; forward: seconds of one over all sequences."""
    return _START + forward * (1 + _SHARED * states)


def search_seconds(forward: float, budget: float) -> float:
    """Until a search has spent its forwards and its choice is judged on as many unseen sequences."""
    return _START + forward * (budget + 2)


def race_seconds(forward: float, states: int) -> float:
    """At most, until a race of so many states is decided: nobody leaves, and all are judged on as many unseen
    sequences.
    """
    return _START + forward * (1 + 2 * _SHARED * states)


def in_words(seconds: float) -> str:
    """A time for a person, as precise as an estimate is."""
    return (
        f"{seconds:.0f} s"
        if seconds < 90
        else f"{seconds / 60:.0f} min"
        if seconds < 5400
        else f"{seconds / 3600:.1f} h"
    )


def counted(done: int, total: int) -> str:
    """How far work is: "3 of 8", and of millions, which are bytes, "1.2 GB of 3 GB"; nothing of one step."""
    if total >= BYTES:
        return f"{size(done)} of {size(total)}"
    return f"{done} of {total}" if total > 1 else ""


def prune_seconds(weights: int) -> float:
    """Until an export of so many bytes is written, reloaded in a second process and verified."""
    return 3 * _START + weights / _WRITTEN


def chat_seconds(weights: int, tokens: int, earlier: dict | None) -> float:
    """Until two models of `weights` bytes have answered with `tokens` tokens each; earlier: the result of the
    last chat with this model here, where there was one.
    """
    if earlier is None:
        return _START + 2 * weights / _READ + 2 * tokens * (_TOKEN + weights / _READ)
    each = [earlier[name]["seconds"] / max(1, earlier[name]["tokens"]) for name in ("original", "pruned")]
    return _START + earlier["load_seconds"] + tokens * sum(each)
