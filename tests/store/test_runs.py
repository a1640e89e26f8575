"""Runs and the store: whole or refused, found by key, nothing overwritten."""

import json
from dataclasses import replace
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from core.energy import sources
from core.energy.couplings import available, couplings, outer_mean
from core.errors import InputError
from core.store import folders, runs
from core.store.runs import (
    FORMAT,
    Pairs,
    Rows,
    Run,
    Secants,
    Singles,
    canonical_key,
    extend_run,
    keep_run,
    load_run,
    rewrite_meta,
    save_run,
    stored_run,
)


def a_run(m=40, n=6, seed=0, extras=True) -> Run:
    rng = np.random.default_rng(seed)

    def rows() -> Rows:
        return Rows(
            rng.normal(size=(m, n)).astype(np.float32),
            np.arange(m),
            np.zeros(m, np.int16),
            rng.random(m).astype(np.float32),
        )

    meta = {
        "texts": {"length": 33},
        "seed": seed,
        "key": canonical_key({"seed": seed}),
        "model": {
            "name": f"m{seed}",
            "blocks": [{"kind": "attention + FFN", "parameters": 10}] * n,
            "parameters": 100,
        },
    }
    singles = Singles(np.array([0.5, 0.1, -0.02, 0.3, 0.2, 0.4])[:n], np.full(n, 0.01), 8)
    return Run(meta, rows(), rows() if extras else None, singles if extras else None)


def test_round_trip(tmp_path):
    run = a_run()
    again = load_run(save_run(run, tmp_path / "run"))
    for name in ("rows", "sampled"):
        for field in ("A", "sample", "domain", "loss"):
            a, b = (getattr(getattr(r, name), field) for r in (run, again))
            assert a.dtype == b.dtype and (a == b).all()
    assert (again.singles.increase == run.singles.increase).all() and again.singles.sequences == 8
    assert json.loads((tmp_path / "run" / "run.json").read_text())["format"] == FORMAT
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_rerun_replaces_a_run_but_never_another_folder(tmp_path):
    save_run(a_run(seed=0), tmp_path / "run")
    assert load_run(save_run(a_run(seed=1), tmp_path / "run")).meta["model"]["name"] == "m1"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "precious").touch()
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "run.json").write_text('{"mine": 1}')
    changed = tmp_path / "run" / "run.json"
    # a run that was changed may be written again
    changed.write_text(changed.read_text().replace('"m1"', '"m2"'))
    assert load_run(save_run(a_run(seed=1), tmp_path / "run")).meta["model"]["name"] == "m1"
    (tmp_path / "link").symlink_to(tmp_path / "run")
    (tmp_path / "run" / "notes.txt").touch()
    for name in ("other", "foreign", "link", "run"):
        with pytest.raises(InputError):
            save_run(a_run(), tmp_path / name)
    assert (tmp_path / "other" / "precious").exists() and (tmp_path / "run" / "notes.txt").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["foreign", "link", "other", "run"]


def test_damage_is_never_read_silently(tmp_path):
    rng = np.random.default_rng(0)
    save_run(a_run(), tmp_path / "run")
    for name in ("A.npz", "A_sampled.npz", "singles.npz"):
        file = tmp_path / "run" / name
        good = file.read_bytes()
        damaged = [good[:k] for k in rng.integers(0, len(good), 40)] + [good + b"x", b""]
        for position, bit in zip(rng.integers(0, len(good), 40), rng.integers(0, 8, 40)):
            flipped = bytearray(good)
            flipped[position] ^= 1 << bit
            damaged.append(bytes(flipped))
        for content in damaged:
            file.write_bytes(content)
            with pytest.raises(InputError, match="missing, cut off or changed"):
                load_run(tmp_path / "run")
        file.write_bytes(good)
    load_run(tmp_path / "run")


def test_a_damaged_run_in_the_store_is_moved_aside_and_kept_again():
    folder = keep_run(a_run())
    (folder / "A.npz").write_bytes(b"rot")
    assert keep_run(a_run()) == folder and load_run(folder).key == a_run().key
    (aside,) = folder.parent.glob("*.bad-*")
    assert (aside / "A.npz").read_bytes() == b"rot"


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"format": 99, "key": "a"}', '{"format": 1, "key": "a", "files": {}}', "\udcff"],
)
def test_bad_run_json_is_one_sentence(tmp_path, content):
    (tmp_path / "run.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError) as caught:
        load_run(tmp_path)
    assert "\n" not in str(caught.value)


def test_what_two_jobs_add_to_a_run_at_once_is_all_kept():
    run = a_run()
    keep_run(run)
    secants = Secants(np.ones((7, 4, 6), np.float32), np.ones((7, 4), np.float32))
    pairs = Pairs(np.array([[0, 1]], np.int16), np.ones((1, 4), np.float32))
    with_secants = replace(run, secants=secants, meta={**run.meta, "secants": {"sequences": 4}})
    with_pairs = replace(run, pairs=pairs, meta={**run.meta, "pairs": {"sequences": 4}})
    fewer = Pairs(pairs.blocks, pairs.part[:, :2])
    for added in (
        with_secants,
        with_pairs,
        replace(run, pairs=fewer, meta={**run.meta, "pairs": {"sequences": 2}}),
    ):
        extend_run(added)  # each began with the run as it was at first
    found = stored_run(run.key)
    assert (
        found.secants is not None and (found.secants.A == 1).all() and found.meta["secants"]["sequences"] == 4
    )
    assert (
        found.pairs is not None and found.pairs.part.shape == (1, 4) and found.meta["pairs"]["sequences"] == 4
    )


def test_a_run_is_not_told_of_while_it_is_replaced():
    run = a_run()
    folder = keep_run(run)
    larger = replace(run, pairs=Pairs(np.array([[0, 1]], np.int16), np.ones((1, 4), np.float32)))
    other = Thread(target=extend_run, args=(larger,))

    def change(meta: dict) -> dict:
        other.start()
        other.join(0.3)
        return {**meta, "note": 1}

    rewrite_meta(folder, change)
    other.join()
    assert stored_run(run.key).pairs is not None


def test_a_run_that_is_replaced_while_it_is_read_is_read_again(monkeypatch):
    run = a_run()
    folder, real = keep_run(run), runs.file_sha256
    pairs = Pairs(np.array([[0, 1]], np.int16), np.ones((1, 4), np.float32))
    other = replace(run, sampled=None, pairs=pairs)  # without a file that the first one says it has

    def replaced(path):
        monkeypatch.setattr(runs, "file_sha256", real)
        save_run(other, folder)
        return real(path)

    monkeypatch.setattr(runs, "file_sha256", replaced)
    assert load_run(folder).pairs is not None


def test_the_store_finds_runs_by_path_and_prefix(tmp_path):
    run = a_run()
    save_run(run, tmp_path / "here")
    assert keep_run(run) == keep_run(run)
    assert folders.find_run(run.key[:8]) == folders.home() / "runs" / run.key
    assert folders.find_run(str(tmp_path / "here")) == tmp_path / "here"
    for unknown in ("deadbeef", "nothing", run.key[:7], str(tmp_path)):
        with pytest.raises(InputError, match="No run"):
            folders.find_run(unknown)
    assert list(sources.list_sources())[0] == load_run(folders.DEMO_RUN).key
    assert sources.open_source(run.key[:10]).name == run.name


def test_estimators_against_their_formulas():
    run = a_run(m=50)
    A, B = run.rows.A.astype(float), run.sampled.A.astype(float)
    assert np.allclose(couplings(run, "h0"), sum(np.outer(a, a) for a in A) / 50)
    assert np.allclose(couplings(run, "h1"), sum(np.outer(b, b) for b in B) / 50)
    H = sum(np.outer(b, b) for b in B) / 50
    S = run.singles.increase.clip(min=0)
    expected = [
        [np.sqrt(S[i] * S[j]) * H[i, j] / np.sqrt(H[i, i] * H[j, j]) for j in range(6)] for i in range(6)
    ]
    assert np.allclose(couplings(run, "hybrid"), expected)
    assert np.allclose(np.diag(couplings(run, "hybrid")), S)
    for x in np.random.default_rng(2).random((5, 6)) < 0.5:  # -g.x + 1/2 x^T (T H0) x, T = 32
        assert np.isclose(
            x @ couplings(run, "h0g") @ x, -A.mean(axis=0) @ x + 16 * x @ couplings(run, "h0") @ x
        )
    told = replace(run, meta={**run.meta, "texts": {"length": 33, "predicted": 8.5}})
    assert np.allclose(couplings(told, "h0g"), 4.25 * couplings(run, "h0") - np.diag(A.mean(axis=0)))
    w = np.random.default_rng(1).random(50)
    assert np.allclose(outer_mean(A, w), sum(v * np.outer(a, a) for v, a in zip(w, A)) / w.sum())
    assert available(run) == ["h0", "h1", "hybrid", "singles", "h0g"]
    own = np.maximum(run.singles.increase, 0.05 * 0.25)  # of the median
    assert np.allclose(couplings(run, "singles"), np.diag(own))
    assert available(a_run(extras=False)) == ["h0", "h0g"]
    with pytest.raises(InputError, match="has no sampled"):
        couplings(a_run(extras=False), "h1")
    with pytest.raises(InputError, match="Unknown estimator"):
        couplings(run, "h7")


def test_matrices_are_sources_and_survive(tmp_path):
    H = np.random.default_rng(0).normal(size=(7, 7))
    np.save(tmp_path / "mine.npy", H + H.T)
    direct = sources.open_source(tmp_path / "mine.npy")
    kept = sources.store_matrix(H + H.T, "mine")
    again = sources.open_source(kept.key[:8])
    assert (
        direct.key == kept.key == again.key
        and again.name == "mine"
        and again.blocks == 7
        and again.opening == 2
    )
    assert (again.couplings("matrix") == H + H.T).all()
    assert Path(folders.home() / "matrices").is_dir() and sources.list_sources()[kept.key] == "mine"


def test_a_damaged_neighbour_or_a_copy_set_aside_hides_no_run():
    folder = keep_run(a_run())
    for name in ("badbad", f"{a_run().key}.bad-1", "c" * 64):
        (folder.parent / name).mkdir()
        (folder.parent / name / "run.json").write_text(
            "{" if name != f"{a_run().key}.bad-1" else (folder / "run.json").read_text()
        )
    assert (
        folders.find_run(a_run().key[:8]) == folder
        and folders.find_run(load_run(folders.DEMO_RUN).key) == folders.DEMO_RUN
    )
    (folders.home() / "matrices").mkdir()
    (folders.home() / "matrices" / f"{'a' * 64}.npz").write_bytes(b"junk")
    shipped = {load_run(place).key for place in folders.shipped_runs().values()}
    assert set(sources.list_sources()) == {*shipped, a_run().key}
    with pytest.raises(InputError, match="damaged"):
        sources.open_source("a" * 64)
