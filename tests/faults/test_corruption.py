"""Rot, truncation and foreign files: nothing damaged is read silently; it is set aside, made again, and said
so.
"""

import io
import json
import random
from dataclasses import replace

import numpy as np
import pytest

from core import jobs
from core.calibration.calibrate import calibrate
from core.energy.couplings import couplings
from core.errors import InputError
from core.job_kinds.calibrate import run as calibrate_job
from core.jobs.files import last_progress, write_whole
from core.jobs.progress import Progress
from core.measure.state_losses import Forwards
from core.model.load import load_model
from core.store import folders
from core.store.checkpoint import Checkpoint
from core.store.runs import keep_run, load_run, save_run, stored_run
from core.texts import pack, read_texts
from tests.jobs.test_jobs import finish, request_of
from tests.store.test_runs import a_run

ARRAYS = ("A.npz", "A_sampled.npz", "singles.npz")


def truncations(content: bytes, count: int, rng: random.Random):
    return [
        content[:k] for k in [0, len(content) - 1] + [rng.randrange(len(content)) for _ in range(count - 2)]
    ]


def flips(content: bytes, count: int, rng: random.Random):
    flipped = []
    for _ in range(count):
        changed = bytearray(content)
        changed[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        flipped.append(bytes(changed))
    return flipped


def appended(content: bytes, count: int, rng: random.Random):
    return [content + tail for tail in [b"\0", b"\n", b" ", b"x"]] + [
        content + rng.randbytes(1 + k) for k in range(count - 4)
    ]


def foreign(count: int, rng: random.Random):
    """Random bytes, and whole files of the right kind with other content."""
    found = [rng.randbytes(rng.randrange(1, 4000)) for _ in range(count - 4)]
    for arrays in ({"A": np.zeros((4, 6))}, {}, vars(a_run(seed=9).rows)):
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        found.append(buffer.getvalue())
    return [*found, b"{}"]


def test_none_of_1050_damaged_runs_loads(tmp_path):
    rng = random.Random(0)
    save_run(a_run(m=12), tmp_path / "run")
    good = {name: (tmp_path / "run" / name).read_bytes() for name in (*ARRAYS, "run.json")}
    damaged = {name: [] for name in good}
    for name in ARRAYS:
        damaged[name] += (
            truncations(good[name], 75, rng)
            + flips(good[name], 100, rng)
            + appended(good[name], 12, rng)
            + foreign(25, rng)
        )
    damaged["run.json"] += truncations(good["run.json"], 75, rng) + flips(good["run.json"], 300, rng)
    damaged["run.json"] += appended(good["run.json"], 14, rng) + foreign(25, rng)
    silent = []
    for name, contents in damaged.items():
        for content in contents:
            (tmp_path / "run" / name).write_bytes(content)
            try:
                load_run(tmp_path / "run")
                silent.append((name, content[:200]))
            except InputError as error:
                assert "\n" not in str(error) and "calibrate" in str(error)
        (tmp_path / "run" / name).write_bytes(good[name])
    assert sum(map(len, damaged.values())) == 1050 and not silent
    load_run(tmp_path / "run")


def test_whole_files_of_another_run_are_foreign(tmp_path):
    save_run(a_run(seed=1), tmp_path / "one")
    save_run(a_run(seed=2), tmp_path / "two")
    for name in ARRAYS:
        mine = (tmp_path / "one" / name).read_bytes()
        (tmp_path / "one" / name).write_bytes((tmp_path / "two" / name).read_bytes())
        if mine != (tmp_path / "one" / name).read_bytes():
            with pytest.raises(InputError, match="missing, cut off or changed"):
                load_run(tmp_path / "one")
        (tmp_path / "one" / name).write_bytes(mine)
    folder = keep_run(a_run(seed=1))
    for file in (tmp_path / "two").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    load_run(folder)  # whole, but not what its name says
    with pytest.raises(InputError, match="holds the run"):
        stored_run(folder.name)


def test_a_changed_number_in_run_json_is_refused_and_the_bundled_run_is_sealed(tmp_path):
    save_run(a_run(), tmp_path / "run")
    file = tmp_path / "run" / "run.json"
    file.write_text(file.read_text().replace('"parameters": 100', '"parameters": 101'))
    with pytest.raises(InputError, match="changed since it was written"):
        load_run(tmp_path / "run")
    assert (
        "digest" in json.loads((folders.DEMO_RUN / "run.json").read_text())
        and load_run(folders.DEMO_RUN).blocks == 24
    )


@pytest.mark.parametrize("name", [*ARRAYS, "run.json"])
def test_a_damaged_run_in_the_store_is_set_aside_made_again_and_said_so(
    tiny, text_file, tmp_path, caplog, name
):
    request = request_of(tiny, text_file, samples=6)
    first = calibrate_job(request, Progress(place(tmp_path / "a")))
    assert "set_aside" not in first and not caplog.messages
    folder = folders.home() / "runs" / first["key"]
    good, rows = load_run(folder), (folder / name).read_bytes()
    rotten = flips(rows, 1, random.Random(1))[0]
    (folder / name).write_bytes(rotten)
    again = calibrate_job(request, Progress(place(tmp_path / "b")))
    (aside,) = folder.parent.glob(f"{first['key']}.bad-*")
    assert again["set_aside"] == str(aside) and (aside / name).read_bytes() == rotten
    assert "damaged and is set aside" in caplog.text
    assert (stored_run(first["key"]).rows.A == good.rows.A).all()
    assert "set_aside" not in calibrate_job(request, Progress(place(tmp_path / "c")))


def place(folder):
    folder.mkdir()
    return folder


@pytest.mark.parametrize("name", ["request.json", "result.json"])
def test_junk_in_a_jobs_files_is_as_if_it_were_absent(tmp_path, no_worker, name):
    whole = jobs.start("benchmark", {"a": 1})
    write_whole(
        whole.folder / "result.json", {"status": "done", "result": {"items": 5, "text": "é"}, "t": 1.0}
    )
    assert jobs.start("benchmark", {"a": 1}).status == "done" and len(no_worker) == 1
    rng, file = random.Random(2), whole.folder / name
    good = file.read_bytes()
    for content in [
        *truncations(good, 40, rng),
        *flips(good, 40, rng),
        *appended(good, 10, rng),
        *foreign(10, rng),
        b"[]",
        b"null",
        b"{}",
        b'{"status": "done"}',
        b"[" * 100_000,
    ]:
        file.write_bytes(content)
        (other := folders.home() / "jobs" / ("0" * 16)).mkdir(exist_ok=True)
        (other / "request.json").write_bytes(content)
        listed = jobs.list_jobs()
        if name == "request.json":
            assert not listed
            with pytest.raises(InputError, match="removed or damaged"):
                jobs.read(whole.id)
            assert jobs.start("benchmark", {"a": 1}).request == {"a": 1} and file.read_bytes() != content
        else:
            assert (
                [job.id for job in listed] == [whole.id]
                and listed[0].status != "done"
                and listed[0].result is None
            )
    assert name == "request.json" or jobs.start("benchmark", {"a": 1}).status != "done"
    other = jobs.start("benchmark", {"a": 2})
    # whole, but another job's
    (other.folder / "request.json").write_bytes((whole.folder / "request.json").read_bytes())
    assert [job.id for job in jobs.list_jobs()] == [whole.id] and jobs.start(
        "benchmark", {"a": 2}
    ).request == {"a": 2}


def test_junk_in_the_progress_is_passed_over(tmp_path):
    for line in (b"[]", b"3", b"\xff\xfe", b"{", b"[" * 100_000):
        (tmp_path / "progress.jsonl").write_bytes(line + b"\n")
        assert last_progress(tmp_path) == {}


def sequences_of(loaded, text_file):
    return pack(read_texts(text_file), loaded.tokenizer, "calibrate", 16, 12)


def test_damaged_checkpoints_are_set_aside_and_their_part_is_computed_again(
    tiny, text_file, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(Checkpoint, "INTERVAL", 0.0)
    loaded = load_model(str(tiny["llama"]))
    sequences, singles = (
        sequences_of(loaded, text_file),
        pack(read_texts(text_file), loaded.tokenizer, "choose", 16, 3),
    )
    options = {"batch": 4, "sampled": True, "singles": singles, "checkpoint": tmp_path / "work"}
    whole = calibrate(loaded, sequences, **options)
    files = sorted((tmp_path / "work").glob("*.npz"))
    assert len(files) == 1 + 3 + (1 + 6 + 12) and not caplog.messages  # columns, rows, losses
    rng = random.Random(3)
    for round_ in range(40):
        file = rng.choice(files)
        good = file.read_bytes()
        kind = (truncations, flips, appended, lambda c, n, r: foreign(n, r))[round_ % 4]
        file.write_bytes(rng.choice(kind(good, 5, rng)))
        damaged = file.read_bytes() != good
        caplog.clear()
        again = calibrate(loaded, sequences, **options)
        assert (
            damaged
            and "1 damaged checkpoint files were set aside" in caplog.text
            and file.with_suffix(".bad").exists()
        )
        for mine, theirs in ((again.rows, whole.rows), (again.sampled, whole.sampled)):
            assert all((getattr(mine, f) == getattr(theirs, f)).all() for f in ("A", "loss", "sample"))
        assert (again.singles.increase == whole.singles.increase).all()
        file.write_bytes(good)
        file.with_suffix(".bad").unlink()


def test_a_checkpoint_belongs_to_one_key_and_keeps_its_plan(tmp_path):
    first = Checkpoint(tmp_path, {"batch": 4}, "one")
    first.put("a", {"x": np.arange(3)})
    first.flush()
    assert "a" in Checkpoint(tmp_path, {"batch": 9}, "one") and Checkpoint(
        tmp_path, {"batch": 9}, "one"
    ).plan == {"batch": 4}
    other = Checkpoint(tmp_path, {"batch": 9}, "two")
    assert "a" not in other and other.plan == {"batch": 9} and not other.damaged


def test_a_checkpoint_of_other_weights_is_not_taken_up(tiny, text_file, tmp_path, monkeypatch):
    """Even in the same job: a file may be changed without a trace in its name, size and times."""
    monkeypatch.setattr(Checkpoint, "INTERVAL", 0.0)
    llama, other = load_model(str(tiny["llama"])), load_model(str(tiny["mistral"]))
    sequences = sequences_of(llama, text_file)
    calibrate(llama, sequences, checkpoint=tmp_path)
    assert (
        calibrate(other, sequences, checkpoint=tmp_path).rows.A == calibrate(other, sequences).rows.A
    ).all()


# --- numbers that are not finite


def poisoned(monkeypatch, sequences, data=(), own=(), batch=50):
    """Rows of these positions get NaN or infinity: in the data's labels, or in the sampled ones."""
    import core.calibration.calibrate as calibration

    honest, position = calibration.gradient_rows, iter(range(0, len(sequences.ids), batch))

    def rows(model, ids, **options):
        a, loss, (own_a, own_loss) = honest(model, ids, **options)
        start = next(position)
        for k in range(len(ids)):
            if start + k in data:
                (a[k] if k % 2 else loss)[k % 5 if k % 2 else k] = float("nan" if k % 3 else "inf")
            if start + k in own:
                (own_a[k] if k % 2 else own_loss)[k % 5 if k % 2 else k] = float("-inf" if k % 3 else "nan")
        return a, loss, (own_a, own_loss)

    monkeypatch.setattr(calibration, "gradient_rows", rows)


@pytest.mark.parametrize(("data", "own"), [((3, 70), ()), ((), (3, 70)), ((3,), (70,)), ((3, 70), (3, 70))])
def test_one_percent_of_poison_is_dropped_from_both_and_counted(
    tiny, text_file, tmp_path, monkeypatch, data, own
):
    loaded = load_model(str(tiny["llama"]))
    request = request_of(tiny, text_file, batch=50, singles=0)
    sequences = pack(
        read_texts(text_file), loaded.tokenizer, "calibrate", request["length"], request["samples"]
    )
    poisoned(monkeypatch, sequences, data, own)
    result = calibrate_job(request, Progress(place(tmp_path / "job")))
    run = stored_run(result["key"])
    assert result["dropped"] == 2 and result["rows"] == 198
    assert run.meta["dropped"] == sequences.index[[3, 70]].tolist()
    assert (run.rows.sample == run.sampled.sample).all() and (run.rows.domain == run.sampled.domain).all()
    assert set(run.rows.sample) == set(sequences.index) - set(run.meta["dropped"])
    for estimator in ("h0", "h1"):
        assert np.isfinite(couplings(run, estimator)).all()


@pytest.mark.parametrize(
    ("data", "own"), [(range(10), ()), ((), range(10)), (range(5), range(100, 105)), ((1, 2), (3,))]
)
def test_more_poison_ends_the_job_with_a_sentence(tiny, text_file, tmp_path, monkeypatch, data, own):
    loaded = load_model(str(tiny["llama"]))
    request = request_of(tiny, text_file, batch=50, singles=0)
    poisoned(
        monkeypatch,
        pack(read_texts(text_file), loaded.tokenizer, "calibrate", request["length"], request["samples"]),
        data,
        own,
    )
    with pytest.raises(
        InputError, match=f"^{len({*data, *own})} of 200 gradient rows are not finite .*more than 1 %.*anew"
    ):
        calibrate_job(request, Progress(place(tmp_path / "job")))
    assert not list((folders.home() / "runs").glob("[!.]*"))


@pytest.mark.parametrize(("count", "bad"), [(2, True), (200, False)])
def test_a_removal_whose_loss_is_not_finite_is_dropped_or_refused(tiny, text_file, monkeypatch, count, bad):
    loaded = load_model(str(tiny["llama"]))
    texts = read_texts(text_file)
    sequences, singles = (
        pack(texts, loaded.tokenizer, "calibrate", 16, 4),
        pack(texts, loaded.tokenizer, "choose", 16, count),
    )
    honest = Forwards.measure

    def losses(meter, state, chunk):
        values = honest(meter, state, chunk).copy()
        if state == (2,) and chunk == 0:
            values[1] = np.inf
        return values

    monkeypatch.setattr(Forwards, "measure", losses)
    if bad:
        with pytest.raises(InputError, match="1 of 2 losses with a block removed are not finite"):
            calibrate(loaded, sequences, singles=singles)
    else:
        run = calibrate(loaded, sequences, sampled=True, singles=singles)
        assert run.singles.sequences == count - 1 and run.meta["dropped_singles"] == [int(singles.index[1])]
        assert np.isfinite(run.singles.increase).all() and np.isfinite(couplings(run, "hybrid")).all()


def test_weights_that_overflow_end_with_the_sentence(tiny, text_file, tmp_path):
    """Finite weights, infinite logits: through a real worker."""
    from safetensors.torch import load_file, save_file

    from tests.model.test_load import changed

    folder = changed(tiny, tmp_path)
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] *= 3e38
    tensors["lm_head.weight"].clamp_(-3e38, 3e38)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    request = {**request_of(tiny, text_file, samples=30, batch=10), "model": str(folder)}
    job = finish(jobs.start("calibrate", request))
    assert job.status == "failed" and job.bad_input and "30 of 30 gradient rows are not finite" in job.error
    assert not list((folders.home() / "runs").glob("[!.]*"))


def test_damage_is_told_by_the_text_not_only_by_its_meaning():
    from core.store.sealed_json import seal, unseal

    data = {"b": [1, 2.5, None, "é"], "a": {"10": 1, "9": 2}, "digest": "old"}
    text = seal(data)
    assert unseal(text) == {"b": [1, 2.5, None, "é"], "a": {"10": 1, "9": 2}}
    for other in (
        text + " ",
        text.replace("2.5", "2.50"),
        json.dumps(json.loads(text)),
        text.replace('"b"', '"c"'),
        "",
        "[]",
        "[" * 10**5,
    ):
        assert unseal(other) is None
    assert unseal(seal({1: (1, 2)})) == {"1": [1, 2]}


def test_a_copy_moved_aside_twice_by_the_same_process_is_kept_twice():
    run = a_run()
    for content in (b"one", b"two"):
        (keep_run(run) / "A.npz").write_bytes(content)
    keep_run(replace(run))
    assert sorted((p / "A.npz").read_bytes() for p in (folders.home() / "runs").glob("*.bad-*")) == [
        b"one",
        b"two",
    ]
