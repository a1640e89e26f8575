"""Finer cuts on the model of a bed: attention and FFN on their own against whole blocks, at equal keys and
values and at equal weights, on sequences that no choice has seen.

    docs/beds/<model>/units.json    the choices, what each loses sequence by sequence, and random states of
    units

It is measured by `python -m core study --model M --units ...` and told by core.choose.bed_units_page.
"""

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.choose import other_methods
from core.choose.learning import from_run, learn
from core.energy.couplings import couplings
from core.ising.units import BLOCK, BRANCH, Name, State, Units
from core.measure.state_losses import Forwards, by_prefix, open_forwards
from core.model.load import load_model
from core.spectrum.constraints import Constraints
from core.spectrum.lowest import lowest_states
from core.store.runs import Run, load_run
from core.texts.documents import read_texts
from core.texts.packing import pack
from core.texts.sequences import part_of

LOG = logging.getLogger(__name__)
FILE = "units.json"
LENGTH, SKIPPED, CHOOSING, JUDGED = (
    128,
    64,
    16,
    16,
)  # tokens; sequences of the choosing split that the run has seen
BUDGET, SEEDS = 40.0, (0,)  # forwards of CHOOSING sequences that learning gets
RANDOM = 16  # states of each random group
ENDS = 1  # blocks at each end that random states leave in
MEMORY = 2 << 30  # bytes of hidden states
ESTIMATORS = ("h0", "singles", "hybrid", "secant")


@dataclass(frozen=True)
class Target:
    """What must go: as rules of units, and how many whole blocks give the same."""

    name: str
    about: str
    constraints: Constraints
    removed: int | None  # units; None: as many as the budget asks for
    blocks: int


def targets_of(run: Run) -> list[Target]:
    """A tenth, a fifth and two fifths of keys and values as attention alone, and the weights of a fifth and a
    third of the blocks; run: seen by branch.
    """
    units, parts = run.units, run.meta["model"]["blocks"]
    attention = tuple(u for u, p in enumerate(parts) if p["kv_bytes"])
    rest = tuple(u for u in range(len(units)) if u not in attention)
    n, found = len(units.of_block), []
    for count in (round(2 * n / 5), round(n / 5)):
        groups = ((attention, count), (rest, 0))
        share = 100 - round(100 * count / n)
        found.append(
            Target(f"kv {share} %", f"{count} of {n} attentions go", Constraints(groups=groups), count, count)
        )
    weights = np.array([float(p["bytes"]) for p in parts])
    for count in (round(n / 5), round(n / 3)):
        least = float(weights.sum() * count / n)
        budget = Constraints(weights=tuple(weights.tolist()), at_least=least * (1 - 1e-9))
        found.append(
            Target(f"weights of {count} blocks", f"units that weigh {count} blocks go", budget, None, count)
        )
    return [found[0], found[2], found[1], found[3]]  # what is asked for most, first


def measure(model: str, texts: str, judge: str, folder: Path) -> dict:
    """What each way of choosing takes for each target, judged; and random states of units. Resumable: losses
    are in the store.
    """
    whole = load_run(folder / "run")
    run, loaded = whole.seen(BRANCH), load_model(model).seen(BRANCH)
    units = run.units
    tokens = lambda source, split, count: pack(  # noqa: E731
        read_texts(source), loaded.tokenizer, split, LENGTH, count
    )
    unseen = open_forwards(loaded, tokens(judge, "report", JUDGED), memory=MEMORY)
    look = tokens(texts, "choose", SKIPPED)
    influence = {
        by: other_methods.block_influence(loaded.seen(by), look, len(run.seen(by).units))
        for by in (BLOCK, BRANCH)
    }
    choose = tokens(texts, "choose", SKIPPED + CHOOSING * len(SEEDS))
    found: dict = {"meta": _meta(texts, judge), "choices": [], "random": {}}
    for number, target in enumerate(targets_of(run)):
        if number == 2:
            _measure_random(found, run, unseen, folder)
        for name, state, forwards in _choices(target, whole, run, influence):
            found["choices"].append(_choice(target, name, state, forwards, unseen, units))
            _write(found, folder)
        for seed in SEEDS:
            first = SKIPPED + CHOOSING * seed
            meter = open_forwards(loaded, part_of(choose, slice(first, first + CHOOSING)), memory=MEMORY)
            learned = learn(
                from_run(run), meter, target.removed, BUDGET, constraints=target.constraints, seed=seed
            )
            name = f"learned, seed {seed}"
            choice = _choice(target, name, learned.removed, learned.forwards, unseen, units)
            found["choices"].append(choice)
            LOG.info("%s, %s: %+.3f", target.name, name, np.mean(choice["increase"]))
            _write(found, folder)
    return found


def _measure_random(found: dict, run: Run, unseen: Forwards, folder: Path) -> None:
    """Random states, judged as the choices are."""
    for name, states in _random(run).items():
        order = by_prefix(states, len(run.units))
        found["random"][name] = {run.units.write(s): _increase(unseen, s).round(4).tolist() for s in order}
        unseen.save()
        _write(found, folder)


def _meta(texts: str, judge: str) -> dict:
    return {"texts": Path(texts).name, "judge": Path(judge).name, "length": LENGTH, "judged": JUDGED}


def _choices(target: Target, whole: Run, run: Run, influence: dict) -> Iterator[tuple[str, State, float]]:
    """(how it is chosen, its units, forwards beyond the calibration) of what costs nothing more."""
    units = run.units
    for name in ("singles", "pairs"):
        blocks = lowest_states(couplings(whole, name), target.blocks, 1).removed[0]
        yield f"whole blocks, {name}", tuple(u for b in blocks for u in units.of_block[b]), 0.0
    blocks = influence[BLOCK][target.blocks].removed
    yield "whole blocks, block influence", tuple(u for b in blocks for u in units.of_block[b]), 0.0
    for name in ESTIMATORS:
        found = lowest_states(couplings(run, name), target.removed, 1, constraints=target.constraints)
        yield f"units, {name}", found.removed[0], 0.0
    if target.removed is not None:  # LLM-Drop chooses among attentions alone
        allowed = target.constraints.groups[0][0]
        kept = [u for u in _by_influence(influence[BRANCH]) if u in allowed][: target.removed]
        yield "units, block influence (LLM-Drop)", tuple(sorted(kept)), 0.0


def _by_influence(choices: dict) -> list[int]:
    """Units in the order in which block influence takes them."""
    order: list[int] = []
    for m in sorted(choices):
        order += [u for u in choices[m].removed if u not in order]
    return order


def _choice(target: Target, name: str, state: State, forwards: float, unseen: Forwards, units: Units) -> dict:
    increase = _increase(unseen, state)
    unseen.save()
    return {
        "target": target.name,
        "about": target.about,
        "method": name,
        "removed": units.listed(state),
        "forwards": round(forwards, 1),
        "increase": increase.round(4).tolist(),
    }


def _increase(unseen: Forwards, state: State) -> np.ndarray:
    """float64 [S]: nats above the original."""
    return unseen.whole(state) - unseen.whole(())


def _random(run: Run) -> dict[str, list[State]]:
    """Random states of each kind, the blocks at the ends left in."""
    units, rng = run.units, np.random.default_rng(0)
    parts, n = run.meta["model"]["blocks"], len(run.units.of_block)
    inner = [u for u in range(len(units)) if ENDS <= units.block[u] < n - ENDS]
    attention = [u for u in inner if parts[u]["kv_bytes"]]
    rest = [u for u in inner if not parts[u]["kv_bytes"]]
    least = sum(p["bytes"] for p in parts) / 5

    def mixed() -> State:
        state: list[int] = []
        for u in rng.permutation(inner):
            if sum(parts[v]["bytes"] for v in state) >= least:
                break
            state.append(int(u))
        return tuple(sorted(state))

    def some(among: list[int], count: int) -> State:
        return tuple(sorted(int(u) for u in rng.choice(among, count, replace=False)))

    few, many = round(n / 5), round(2 * n / 5)
    return {
        f"{few} attentions": [some(attention, few) for _ in range(RANDOM)],
        f"{many} attentions": [some(attention, many) for _ in range(RANDOM)],
        f"{round(n / 8)} FFNs": [some(rest, round(n / 8)) for _ in range(RANDOM)],
        "weights of a fifth of the blocks": [mixed() for _ in range(RANDOM)],
    }


def _write(found: dict, folder: Path) -> None:
    staging = folder / f"{FILE}.part"
    staging.write_text(json.dumps(found, separators=(",", ":")) + "\n", encoding="utf-8")
    os.replace(staging, folder / FILE)


def state_of(removed: list[Name], units: Units) -> State:
    """The state of a choice."""
    state = units.state(removed)
    assert state is not None  # of the bed's own model
    return state
