"""What healing wins back of the demo's loss, for docs/healing.md.

`python -m tests.bench_heal PART` measures what docs/healing.json lacks of a part: `methods` (every method at
one budget), `long` (all weights, 15 CPU minutes), `states` (ten states at one budget). Killed, the same command
goes on. `python -m tests.healing_page` then writes the page.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from core.calibration.corpus import draw, read_sources
from core.energy.sources import open_source
from core.heal.settings import METHODS, Settings
from core.ising.states import diversity
from core.measure.evaluation import sequence_losses
from core.model.load import load_model
from core.spectrum.lowest import lowest_states
from tests.heal_runs import Bench, healed

PAGE = Path(__file__).resolve().parents[1] / "docs" / "healing.json"
LENGTH, LEARN, HELD, REPORT = 128, 1589, 32, 128
REMOVED = (6, 12)  # a quarter and half of the blocks
LISTED, MEASURED, STATES = 100, 40, 10  # states by energy; of them measured; of those healed
SECONDS = {"methods": 60, "long": 900, "states": 30}  # of CPU time, a training
SEEDS = {"methods": 2, "long": 1, "states": 1}


def bench_of() -> Bench:
    """The demo and its bundled texts."""
    loaded, texts = load_model("demo"), read_sources(None)
    parts = (("calibrate", LEARN), ("choose", HELD), ("report", REPORT))
    return Bench("demo", *(draw(loaded, texts, split, LENGTH, count) for split, count in parts))


def asked_of(part: str, bench: Bench) -> Iterator[tuple[str, list[int], Settings, dict]]:
    """(key, removed blocks, settings, what else is kept with it) of all that a part heals."""
    source = open_source("demo")
    H = source.couplings(source.default)
    for m in REMOVED:
        if part == "states":
            for name, state, energy in states_of(H, m, bench):
                yield f"{m} {name}", state, Settings(tokens=1), {"energy": energy}
            continue
        state = list(lowest_states(H, m, 1).removed[0])
        for method in METHODS if part == "methods" else ("kl",):
            for seed in range(SEEDS[part] if METHODS[method].rate else 1):
                settings = Settings(method, tokens=1, seed=seed)
                yield f"{m} {method} {seed}", state, settings, {}


def states_of(H: np.ndarray, m: int, bench: Bench) -> Iterator[tuple[str, list[int], float]]:
    """(name, removed blocks, energy) of the states that are healed: the lowest by energy, the best measured and
    the most diverse of the LISTED lowest, and others of them from the lowest measured loss to the highest.

    Measured on the held-out sequences, which choose and do not judge.
    """
    found = lowest_states(H, m, LISTED)
    few = np.unique(np.linspace(0, LISTED - 1, MEASURED).round().astype(int))
    loaded = load_model(bench.model)
    losses = [sequence_losses(loaded, bench.held.ids, found.removed[k]).mean() for k in few]
    order = few[np.argsort(losses)]
    named = {"lowest": 0, "best measured": int(order[0]), "most diverse": int(diversity(found.x).argmax())}
    others = [k for k in order if k not in named.values()]
    spread = np.linspace(0, len(others) - 1, STATES - len(named)).round().astype(int)
    named |= {f"rank {others[at] + 1}": int(others[at]) for at in spread}
    for name, k in named.items():
        yield name, list(found.removed[k]), float(found.energies[k])


def kept(row: dict) -> dict:
    """A row as the file has it: losses of sequences to four digits."""
    return {name: np.round(v, 4).tolist() if isinstance(v, np.ndarray) else v for name, v in row.items()}


def measure(part: str, file: Path) -> None:
    """Heal and judge what the file lacks of a part."""
    bench = bench_of()
    original = load_model("demo")
    for key, removed, settings, more in asked_of(part, bench):
        found = json.loads(file.read_text()) if file.exists() else {}
        rows = found.setdefault(part, {"seconds": SECONDS[part], "rows": {}})["rows"]
        if key in rows:
            continue
        _, row = healed(bench, removed, settings, SECONDS[part])
        pruned = bench.losses(original, removed)
        rows[key] = kept({"removed": removed, **more, **row, "pruned": pruned})
        found["original"] = np.round(bench.losses(original), 4).tolist()
        file.write_text(json.dumps(found))
        print(key, {name: v for name, v in rows[key].items() if name not in ("losses", "pruned")}, flush=True)


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
