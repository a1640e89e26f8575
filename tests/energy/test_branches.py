"""A run seen by branch: the same calibration, other units."""

import numpy as np
import pytest

from core.energy.couplings import available, couplings
from core.energy.sources import open_source
from core.errors import InputError
from core.ising.energies import energies
from core.ising.states import indicator
from core.ising.units import BLOCK, BRANCH
from core.store.folders import DEMO_RUN
from core.store.runs import by_block, load_run, save_run, view_key


@pytest.fixture(scope="module")
def run():
    return load_run(DEMO_RUN)


def test_both_views_of_the_demo(run):
    seen = run.seen(BRANCH)
    assert (run.blocks, seen.blocks) == (24, 48) and seen.whole is run and seen.seen(BLOCK) is run
    assert seen.key == run.key and seen.view_key == view_key(run.key, BRANCH) != run.view_key == run.key
    parts = seen.meta["model"]["blocks"]
    for name in ("parameters", "bytes", "kv_bytes"):
        of_blocks = np.bincount(seen.units.block, [p[name] for p in parts])
        assert of_blocks.tolist() == [b[name] for b in run.meta["model"]["blocks"]]
    assert {p["kind"]: p["kv_bytes"] > 0 for p in parts} == {"attention": True, "FFN": False}
    assert np.allclose(by_block(seen.rows.A, seen.units), run.rows.A, atol=1e-6 * np.abs(run.rows.A).max())


def test_a_whole_block_has_the_energy_of_the_block(run):
    seen, rng = run.seen(BRANCH), np.random.default_rng(0)
    states = [tuple(sorted(rng.choice(24, m, replace=False).tolist())) for m in (1, 1, 3, 6, 12)]
    x = indicator(states, 24)
    y = indicator([seen.units.state(s) for s in states], 48)
    exact = by_block(seen.rows.A, seen.units).astype(np.float64)
    assert np.allclose(
        energies(couplings(seen, "h0"), y), energies(exact.T @ exact / len(exact), x), rtol=1e-6, atol=0
    )
    for name in ("h0", "h1", "h0g"):
        whole, halves = energies(couplings(run, name), x), energies(couplings(seen, name), y)
        assert np.allclose(whole, halves, rtol=1e-5, atol=0)
    singles = [energies(couplings(r, "singles"), z) for r, z in ((run, x), (seen, y))]
    assert np.allclose(*singles, rtol=1e-9, atol=0)
    assert set(available(seen)) == {"h0", "h1", "hybrid", "singles", "secant", "h0g"}


def test_a_block_of_rows_that_add_up_exactly(run):
    """To 1e-9 where the blocks' rows are the sums themselves, not their rounding to float32."""
    from dataclasses import replace

    seen = run.seen(BRANCH)
    summed = np.add.reduceat(seen.rows.A.astype(np.float64), [own[0] for own in seen.units.of_block], axis=1)
    whole = replace(run, rows=replace(run.rows, A=summed))
    x = np.eye(24, dtype=bool)
    y = indicator([seen.units.state((b,)) for b in range(24)], 48)
    for name in ("h0", "h0g"):
        a, b = energies(couplings(whole, name), x), energies(couplings(seen, name), y)
        assert np.allclose(a, b, rtol=1e-9, atol=1e-9 * np.abs(a).max())


def test_branches_survive_the_file_and_an_older_run_says_what_it_lacks(run, tmp_path):
    from dataclasses import replace

    again = load_run(save_run(run, tmp_path / "run"))
    for mine, theirs in zip(vars(run.branches).values(), vars(again.branches).values()):
        assert mine is theirs is None or np.array_equal(
            getattr(mine, "increase", mine), getattr(theirs, "increase", theirs)
        )
    old = replace(run, branches=None)
    assert old.views == (BLOCK,) and run.views == (BLOCK, BRANCH)
    with pytest.raises(InputError, match="knows whole blocks only"):
        old.seen(BRANCH)
    assert len(old.units_by(BRANCH)) == 48


def test_a_source_is_opened_by_the_key_of_its_view(run, tmp_path, monkeypatch):
    monkeypatch.setenv("BLOCKSCAPE_HOME", str(tmp_path))
    source = open_source("demo-branch")
    assert source.by == BRANCH and source.blocks == 48 and source.key == f"{run.key}-branch"
    assert open_source(source.key).key == source.key and source.seen(BLOCK).key == run.key
    assert open_source(f"{run.key[:8]}-branch").units.names[:2] == ("0a", "0f")
