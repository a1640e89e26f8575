"""Rows with a block removed are gradients at that corner, resumable, and added to a run that is there."""

import numpy as np
import pytest
import torch

from core import jobs
from core.calibration.gradient_rows import gradient_rows
from core.calibration.secants import with_secants
from core.errors import InputError
from core.measure.evaluation import sequence_losses
from core.model.gates import gated
from core.model.losses import sample_losses
from core.store.folders import find_run, home
from core.store.runs import load_run, save_run


def test_secants_are_gradients_where_a_block_is_removed(made, tmp_path):
    loaded, plain, texts = made
    n, ids = len(loaded.blocks), torch.from_numpy(texts.ids)
    run = with_secants(plain, loaded, texts, batch=4)
    assert run.key == plain.key and plain.secants is None and run.secants.A.shape == (n + 1, 6, n)
    assert np.allclose(run.secants.A[0], gradient_rows(loaded, ids)[0], atol=1e-6)
    for i in (0, 3):
        assert np.allclose(run.secants.loss[1 + i], sequence_losses(loaded, texts.ids, [i]), atol=1e-5)
        for j in (i, 4):  # central differences at the corner
            step = []
            for h in (3e-3, -3e-3):
                gates = torch.ones(n)
                gates[i] = 0.0
                gates[j] += h
                with gated(loaded, gates), torch.no_grad():
                    logits = loaded.model(input_ids=ids, use_cache=False).logits
                step.append(sample_losses(logits, ids).double())
            slope = ((step[0] - step[1]) / 6e-3).numpy()
            assert np.allclose(run.secants.A[1 + i, :, j], slope, rtol=0.03, atol=5e-3)
            assert np.abs(slope).max() > 4e-3
    save_run(run, tmp_path / "run")
    read = load_run(tmp_path / "run")
    assert (read.secants.A == run.secants.A).all() and read.meta["secants"]["sequences"] == 6


def test_what_was_computed_is_not_computed_again(made, tmp_path, monkeypatch):
    import core.calibration.calibrate as calibration

    loaded, plain, texts = made
    whole = with_secants(plain, loaded, texts, batch=4)
    monkeypatch.setattr("core.store.checkpoint.Checkpoint.INTERVAL", 0)
    honest, calls = calibration.gradient_rows, []

    def counted(*args, **options):
        calls.append(1)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return honest(*args, **options)

    monkeypatch.setattr(calibration, "gradient_rows", counted)
    with pytest.raises(KeyboardInterrupt):
        with_secants(plain, loaded, texts, batch=4, checkpoint=tmp_path)
    resumed = with_secants(plain, loaded, texts, batch=4, checkpoint=tmp_path)
    pieces = (len(loaded.blocks) + 1) * 2
    assert len(calls) == pieces + 1 and (resumed.secants.A == whole.secants.A).all()


def test_one_sequence_is_refused(made):
    loaded, plain, texts = made
    with pytest.raises(InputError, match="at least 2 sequences"):
        with_secants(plain, loaded, pack_one(texts))


def pack_one(texts):
    from core.texts.sequences import part_of

    return part_of(texts, slice(1))


def test_a_run_that_is_kept_gets_secants_and_keeps_its_key(tiny, text_file, monkeypatch):
    from core.job_kinds import calibrate as kind
    from core.jobs.progress import Progress

    threads = torch.get_num_threads()
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)  # of the worker that this process is not
    asked = {"samples": 6, "length": 24, "seed": 0, "batch": 4, "sampled": False, "singles": 4}
    folder = home() / "work"

    def made(**more):
        request = jobs.request_of(str(tiny["llama"]), str(text_file), **asked, **more)
        folder.mkdir(parents=True, exist_ok=True)
        return load_run(find_run(kind.run(request, Progress(folder))["key"]))

    plain, more = made(), made(secants=4)
    assert more.key == plain.key and plain.secants is None and len(more.secants.A[0]) == 4
    assert (more.rows.A == plain.rows.A).all() and (more.singles.increase == plain.singles.increase).all()
    assert torch.get_num_threads() == threads
    monkeypatch.setattr(kind, "with_secants", None)  # nothing is computed for fewer
    assert len(made(secants=3).secants.A[0]) == 4 and made().secants is not None
