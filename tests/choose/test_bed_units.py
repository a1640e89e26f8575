"""Finer cuts on a bed's model: every choice keeps its target, and the page says what the file holds."""

import json

import numpy as np
import pytest

from core.choose import bed_units, bed_units_page
from core.choose.bed_units import FILE, measure, state_of, targets_of
from core.ising.units import BRANCH
from core.measure.evaluation import sequence_losses
from core.model.load import load_model
from core.store.runs import load_run
from core.texts import pack, read_texts
from tests.choose.bed_cases import measured_run


@pytest.fixture(scope="module")
def studied(tiny, text_file, tmp_path_factory):
    """(what was found, the run, the model, its folder), at sizes of a tiny model."""
    folder = tmp_path_factory.mktemp("bed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLOCKSCAPE_HOME", str(folder / "home"))
        for name, size in dict(LENGTH=24, SKIPPED=4, CHOOSING=2, JUDGED=4, BUDGET=6.0, RANDOM=8).items():
            patch.setattr(bed_units, name, size)
        loaded = load_model(str(tiny["llama"]))
        measured_run(loaded, text_file, folder / "run")
        found = measure(str(tiny["llama"]), text_file, text_file, folder)
        yield found, load_run(folder / "run"), loaded, folder


def test_every_choice_keeps_its_target_and_is_judged_on_unseen_sequences(studied, text_file):
    found, run, loaded, folder = studied
    seen = run.seen(BRANCH)
    parts, targets = seen.meta["model"]["blocks"], {t.name: t for t in targets_of(seen)}
    assert {c["target"] for c in found["choices"]} == set(targets) and len(targets) == 4
    unseen = pack(read_texts(text_file), loaded.tokenizer, "report", 24, 4).ids
    for choice in found["choices"]:
        state, target = state_of(choice["removed"], seen.units), targets[choice["target"]]
        if choice["method"].startswith("whole"):
            assert len(state) == 2 * target.blocks
            whole = run.units.state(seen.units.stored(state))
            gap = sequence_losses(loaded, unseen, whole) - sequence_losses(loaded, unseen)
            assert np.abs(np.array(choice["increase"]) - gap).max() < 1e-4
        elif target.removed is not None:
            assert len(state) == target.removed and all(parts[u]["kind"] == "attention" for u in state)
        else:
            least = sum(p["bytes"] for p in parts) * target.blocks / len(loaded.blocks)
            assert sum(parts[u]["bytes"] for u in state) >= least * (1 - 1e-9)
    learned = [c for c in found["choices"] if c["method"].startswith("learned")]
    assert len(learned) == 4 * len(bed_units.SEEDS) and all(0 < c["forwards"] <= 6 for c in learned)
    assert {len(states) for states in found["random"].values()} <= set(range(1, 9))
    assert json.loads((folder / FILE).read_text()) == found


def test_the_page_says_what_the_file_holds(studied):
    found, run, _, _ = studied
    lines = bed_units_page.section(found, run)
    told = "\n".join(lines)
    best = min(found["choices"], key=lambda c: np.mean(c["increase"]))
    assert f"| {best['method']} | {np.mean(best['increase']):+.2f} (" in told
    assert all(f"**{target}**" in told for target in {c["target"] for c in found["choices"]})
    assert sum(line.startswith(("| h0 |", "| singles |", "| secant |")) for line in lines) == 3
