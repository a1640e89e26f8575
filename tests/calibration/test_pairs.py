"""Measured pairs are two-body parts of whole forwards, cost what they say, and are added to a run."""

import itertools

import numpy as np
import pytest

from core.calibration.calibrate import calibrate
from core.calibration.pairs import forwards_of, light_pairs, with_pairs
from core.calibration.secants import with_secants
from core.choose.learning import cost_of, known_of
from core.energy.couplings import available, couplings, own_costs_of
from core.energy.secants import pair_energies, secant_pairs
from core.errors import InputError
from core.measure.evaluation import sequence_losses
from core.measure.state_losses import open_forwards
from core.store.runs import load_run, save_run


def test_pairs_are_two_body_parts_and_go_on_where_they_were(made, tmp_path, monkeypatch):
    loaded, plain, texts = made
    run = with_pairs(plain, loaded, texts, batch=4)
    pairs = [tuple(p) for p in run.pairs.blocks.tolist()]
    assert pairs == light_pairs(plain.singles.increase) and run.pairs.part.shape == (len(pairs), 6)
    loss = lambda *removed: sequence_losses(loaded, texts.ids, removed)  # noqa: E731
    for (i, j), part in zip(pairs, run.pairs.part):
        assert np.allclose(part, loss(i, j) - loss(i) - loss(j) + loss(), atol=2e-5)
    monkeypatch.setattr("core.store.checkpoint.Checkpoint.INTERVAL", 0)

    def stop(done, total, message):
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        with_pairs(plain, loaded, texts, batch=4, checkpoint=tmp_path / "work", report=stop)
    told = []
    resumed = with_pairs(
        plain, loaded, texts, batch=4, checkpoint=tmp_path / "work", report=lambda *a: told.append(a[0])
    )
    assert (resumed.pairs.part == run.pairs.part).all() and min(told) > told[-1] / 3
    save_run(run, tmp_path / "run")
    assert (load_run(tmp_path / "run").pairs.part == run.pairs.part).all()


def test_what_pairs_take_is_what_is_executed(made):
    loaded, plain, texts = made
    pairs = light_pairs(plain.singles.increase)
    meter = open_forwards(loaded, texts, keep=False)
    for state in {(), *((b,) for p in pairs for b in p), *pairs}:
        meter.whole(state)
    assert forwards_of(pairs, len(loaded.blocks)) == pytest.approx(meter.forwards)
    run = with_pairs(with_secants(plain, loaded, texts), loaded, texts)
    n, m = len(loaded.blocks), len(texts.ids)
    known = known_of(run, 64, 1000.0)
    assert cost_of(known, 64) == pytest.approx(((n + 1) * m * 2.3 + forwards_of(pairs, n) * m) / 64)
    nothing = known_of(run, 64, 0.1)  # which pays for neither them nor a row a block
    assert cost_of(nothing, 64) == 0 and not nothing.energies.any()


def test_light_pairs_are_of_the_cheapest_blocks_and_not_too_many():
    increase = np.array([9.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 8.0])
    assert light_pairs(increase) == list(itertools.combinations(range(1, 7), 2))
    many = light_pairs(np.linspace(0, 1, 60))
    assert len(many) == 300 and max(i + j for i, j in many) < 60


def test_couplings_take_the_mean_of_secant_and_measurement_where_a_pair_was_measured(made):
    loaded, plain, texts = made
    half = with_secants(plain, loaded, texts)
    run = with_pairs(half, loaded, texts)
    assert available(half)[-2:] == ["secant", "h0g"] and "pairs" in available(run)
    K, found = secant_pairs(run.secants).shrunk, pair_energies(run)
    measured = {tuple(p): part.mean() for p, part in zip(run.pairs.blocks.tolist(), run.pairs.part)}
    for i, j in itertools.combinations(range(run.blocks), 2):
        expected = (K[i, j] + measured[i, j]) / 3 if (i, j) in measured else K[i, j] / 2
        assert found[i, j] == found[j, i] == pytest.approx(expected, abs=1e-6)
    own, H = own_costs_of(run), couplings(run, "pairs")
    assert np.allclose(np.diag(H), own) and (couplings(run, "secant") == couplings(half, "secant")).all()
    for i, j in measured:
        assert 2 * H[i, j] == pytest.approx(max(found[i, j], -min(own[i], own[j])), abs=1e-6)


def test_what_pairs_need_is_said(made):
    loaded, plain, texts = made
    with pytest.raises(InputError, match="--singles as well"):
        with_pairs(calibrate(loaded, texts, batch=4), loaded, texts)
    from core.texts.sequences import part_of

    with pytest.raises(InputError, match="at least 2 sequences"):
        with_pairs(plain, loaded, part_of(texts, slice(1)))
