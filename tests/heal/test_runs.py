"""What the scripts behind docs/healing.md measure with: tests.heal_runs and tests.bench_heal."""

from pathlib import Path

import numpy as np
import pytest

from core.calibration.corpus import draw, read_sources
from core.energy.sources import open_source
from core.heal.settings import Settings
from core.measure.evaluation import sequence_losses
from core.model.load import load_model
from tests import bench_heal
from tests.heal_runs import Bench, healed, tokens_within


@pytest.fixture(scope="module")
def bench() -> Bench:
    loaded, texts = load_model("demo"), read_sources(None)
    counts = {"calibrate": 16, "choose": 4, "report": 4}
    return Bench("demo", *(draw(loaded, texts, split, 32, count) for split, count in counts.items()))


def test_a_healing_is_told_with_its_losses_and_goes_on_from_its_folder(bench, tmp_path: Path):
    settings = Settings("seams", tokens=8 * 32 * 4, evaluations=2)
    student, row = healed(bench, [5, 9], settings, tmp_path)
    assert row["tokens"] == 8 * 32 * 4 and len(row["curve"]) == 3
    assert (row["losses"] == sequence_losses(student, bench.report.ids)).all()
    seconds = [point["cpu"] for point in row["curve"]]
    assert seconds == sorted(seconds) and 0 < seconds[-1] <= row["cpu"] + 0.1
    again = healed(bench, [5, 9], settings, tmp_path)[1]  # it is done: nothing is trained
    assert (again["losses"] == row["losses"]).all() and again["curve"] == row["curve"]
    assert again["cpu"] >= row["cpu"] - 0.5


def test_more_seconds_hold_more_tokens(bench):
    own = Settings("seams", tokens=1, evaluations=1)
    few, many = (tokens_within(bench, [5, 9], own, seconds) for seconds in (2, 20))
    assert few % (8 * 32) == many % (8 * 32) == 0 and 0 < few < many


def test_states_that_are_healed_are_low_and_differ(bench, monkeypatch):
    monkeypatch.setattr(bench_heal, "LISTED", 60)
    monkeypatch.setattr(bench_heal, "MEASURED", 8)
    source = open_source("demo")
    found = {
        name: (tuple(state), energy)
        for name, state, energy in bench_heal.states_of(source.couplings(source.default), 4, bench)
    }
    assert list(found)[:3] == ["lowest", "best measured", "most diverse"] and len(found) == 10
    states, energies = zip(*found.values())
    assert len(set(states)) == len(states) and min(energies) == found["lowest"][1]
    overlap = [len(set(state) & set(states[0])) for state in states[1:]]
    assert len(set(found["most diverse"][0]) & set(states[0])) == min(overlap)
    losses = [np.mean(sequence_losses(load_model("demo"), bench.held.ids, s)) for s in states[3:]]
    assert losses == sorted(losses)
