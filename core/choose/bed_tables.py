"""Tables of a model's study, and what they are made of."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from core.choose.bed import Bed
from core.measure.state_losses import State
from core.store.runs import Run


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of Markdown."""
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]


def groups_of(
    bed: Bed, depths: Sequence[int], kinds: Sequence[str] = ("random", "cheapest")
) -> Iterator[tuple[str, np.ndarray]]:
    """(name in words, rows of the bed) of the groups that are judged."""
    for kind in kinds:
        for m in depths:
            rows = bed.groups.get(f"{kind}-{m}", np.zeros(0, int))
            if len(rows) >= 8:
                yield f"{kind}, M = {m}", rows


def with_error(values: np.ndarray) -> str:
    """Mean ± standard error of float64 [S], in nats, signed."""
    return f"{values.mean():+.2f} ± {values.std(ddof=1) / np.sqrt(len(values)):.2f}"


def increases(part: dict) -> dict[State, np.ndarray]:
    """{state: float64 [S], nats over the original} of a part that measured losses."""
    return {tuple(s): np.array(v) for s, v in zip(part["states"], part["increase"])}


def named(run: Run, domain: str) -> str:
    """A domain in words."""
    stem = Path(str(run.meta["texts"]["source"])).stem
    words = {"texts": stem.partition("-")[0], "own": "own samples"}
    return words.get(domain, domain)
