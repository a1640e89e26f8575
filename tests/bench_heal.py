"""What healing wins back of the demo's loss, for docs/healing.md.

`python -m tests.bench_heal PART` measures what docs/healing.json lacks of a part: `methods` (every method at
one budget), `rates` (all weights at other rates), `long` (all weights, longer), `states` (ten states at one
budget), `rounds` (removed in rounds, healed after each). Killed, the same command goes on. `python -m
tests.healing_page` then writes the page.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from core.calibration.corpus import draw, read_sources
from core.energy.sources import open_source
from core.heal.parts import in_parts
from core.heal.settings import METHODS, TRAINED, Settings
from core.ising.states import pearson
from core.measure.evaluation import sequence_losses
from core.model.load import load_model
from core.spectrum.lowest import lowest_states
from tests.heal_runs import Bench, healed, tokens_within

PAGE = Path(__file__).resolve().parents[1] / "docs" / "healing.json"
LENGTH, LEARN, HELD, REPORT = 128, 1589, 32, 128
REMOVED = (6, 12)  # a quarter and half of the blocks
LISTED, MEASURED, STATES = 1000, 40, 10  # states by energy; of them measured; of those healed
SECONDS = {"methods": 60, "rates": 60, "long": 300, "states": 20, "rounds": 60}  # of CPU time, a training
SEEDS = {"methods": 2, "rates": 1, "long": 1, "rounds": 2}
RATES = (3e-4,)  # beside the usual one
ROUNDS = (2, 4)


def bench_of() -> Bench:
    """The demo and its bundled texts."""
    loaded, texts = load_model("demo"), read_sources(None)
    parts = (("calibrate", LEARN), ("choose", HELD), ("report", REPORT))
    return Bench("demo", *(draw(loaded, texts, split, LENGTH, count) for split, count in parts))


@dataclass(frozen=True)
class Asked:
    """One healing: its key in the file, the removed blocks, maybe in rounds, and what is kept with it."""

    key: str
    removed: list[int]
    settings: Settings
    parts: list[list[int]] = field(default_factory=list)
    kept: dict = field(default_factory=dict)


def asked_of(part: str, bench: Bench) -> Iterator[Asked]:
    """All that a part heals."""
    source = open_source("demo")
    H = source.couplings(source.default)
    for m in REMOVED:
        if part == "states":
            for name, state, energy in states_of(H, m, bench):
                yield Asked(f"{m} {name}", state, Settings(tokens=1), kept={"energy": energy})
            continue
        state = list(lowest_states(H, m, 1).removed[0])
        for seed in range(SEEDS[part]):
            yield from _of_state(part, m, state, seed, H)


def _of_state(part: str, m: int, state: list[int], seed: int, H: np.ndarray) -> Iterator[Asked]:
    """What a part but `states` heals of one state, with one seed."""
    own = Settings(tokens=1, seed=seed)
    if part == "methods":
        for method in TRAINED if seed else METHODS:  # no seed in what trains nothing
            yield Asked(f"{m} {method} {seed}", state, replace(own, method=method))
    elif part == "rates":
        for rate in RATES:
            yield Asked(f"{m} {rate} {seed}", state, replace(own, rate=rate))
    elif part == "rounds" and m == max(REMOVED):
        for rounds in ROUNDS:
            parts = in_parts(state, rounds, H)
            yield Asked(f"{m} {rounds} {seed}", state, own, parts, {"parts": parts})
    elif part == "long":
        yield Asked(f"{m} kl {seed}", state, own)


def states_of(H: np.ndarray, m: int, bench: Bench) -> Iterator[tuple[str, list[int], float]]:
    """(name, removed blocks, energy) of the states that are healed, all of the LISTED lowest: the lowest by
    energy; the best measured but for it; the most diverse, whose Pearson coefficient to the lowest is least;
    and others from the lowest measured loss to the highest. Measured on the held-out sequences, which judge
    nothing.
    """
    found, loaded = lowest_states(H, m, LISTED), load_model(bench.model)
    few = np.unique(np.linspace(1, LISTED - 1, MEASURED).round().astype(int))
    losses = [sequence_losses(loaded, bench.held.ids, found.removed[k]).mean() for k in few]
    order = few[np.argsort(losses)]
    diverse = int(pearson(found.x, found.x[:1])[:, 0].argmin())
    named = {"lowest": 0, "best measured": int(order[0]), "most diverse": diverse}
    others = [int(k) for k in order if k not in named.values()]
    spread = np.linspace(0, len(others) - 1, STATES - len(named)).round().astype(int)
    named |= {f"rank {others[at] + 1}": others[at] for at in spread}
    for name, k in named.items():
        yield name, list(found.removed[k]), float(found.energies[k])


def kept(row: dict) -> dict:
    """A row as the file has it: losses of sequences to four digits."""
    return {name: np.round(v, 4).tolist() if isinstance(v, np.ndarray) else v for name, v in row.items()}


def measure(part: str, file: Path) -> None:
    """Heal and judge what the file lacks of a part."""
    bench = bench_of()
    original = load_model("demo")
    for asked in asked_of(part, bench):
        found = json.loads(file.read_text()) if file.exists() else {}
        own = found.setdefault(part, {"seconds": SECONDS[part], "tokens": {}, "rows": {}})
        rows, tokens = own["rows"], own["tokens"]
        if asked.key in rows:
            continue
        settings = asked.settings
        if settings.trains:  # what has as many blocks and the same method has the same tokens
            kind = f"{len(asked.removed)} {settings.method}"
            if kind not in tokens:
                tokens[kind] = tokens_within(bench, asked.removed, settings, SECONDS[part])
            settings = replace(settings, tokens=tokens[kind])
        _, row = healed(bench, asked.removed, settings, parts=asked.parts)
        pruned = bench.losses(original, asked.removed)
        rows[asked.key] = kept({"removed": asked.removed, **asked.kept, **row, "pruned": pruned})
        found["original"] = np.round(bench.losses(original), 4).tolist()
        file.write_text(json.dumps(found))
        print(
            asked.key,
            {name: v for name, v in rows[asked.key].items() if name not in ("losses", "pruned")},
            flush=True,
        )


def main() -> None:
    """Measure a part."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("part", choices=SECONDS)
    asked.add_argument("--out", type=Path, default=PAGE)
    args = asked.parse_args()
    torch.set_num_threads(1)
    measure(args.part, args.out)


if __name__ == "__main__":
    main()
