"""Jobs: one worker a request, progress on disk, cancel, kill and resume bit for bit."""

import fcntl
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from core import jobs
from core.errors import InputError
from core.jobs.files import last_progress, locked
from core.store import folders
from core.store.results import Results
from core.store.runs import load_run
from tests.clocks import fastest

ROOT = Path(__file__).resolve().parents[2]


def request_of(tiny, text_file, samples=200, batch=2, **changes) -> dict:
    return {
        "model": str(tiny["llama"]),
        "texts": str(text_file),
        "samples": samples,
        "length": 24,
        "seed": 0,
        "batch": batch,
        "sampled": True,
        "singles": 4,
        "inputs": jobs.fingerprint(str(tiny["llama"]), str(text_file)),
        **changes,
    }


def finish(job, limit=300):
    deadline = time.monotonic() + limit
    while (job := jobs.read(job.id)).active:
        assert time.monotonic() < deadline, (job, (job.folder / "log.txt").read_text())
        time.sleep(0.05)
    return job


def until(condition, limit=180):
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def until_at_work(job, workers):
    """Until the given number of workers have started, and the last is past loading."""
    until(lambda: worked(job, workers, "gradient rows") or worked(job, workers, "single removals"))


def worked(job, workers, message) -> bool:
    """Whether the given number of workers have started and the last one reports the message."""
    file = job.folder / "progress.jsonl"
    starts = file.read_text().count('"starting"') if file.exists() else 0
    return starts >= workers and message in jobs.read(job.id).message


def until_measuring(job, workers):
    until(lambda: worked(job, workers, "loss"))


def until_interrupted(job_id):
    until(lambda: jobs.read(job_id).status == "interrupted")


def kill_worker(job) -> None:
    os.killpg(int((job.folder / "lock").read_text()), signal.SIGKILL)


def test_a_job_runs_to_its_end_and_the_same_request_is_instant(tiny, text_file, cold_start):
    job = jobs.start("calibrate", request_of(tiny, text_file))
    assert job.active
    job = finish(job)
    assert job.status == "done" and job.done == job.total, job
    row = 2.3 + 1.3  # forwards for the texts' labels and for sampled ones
    # single removals of blocks and, twice, of branches
    assert 200 + 4 * (1 + 5 / 2 + 2 * 7 / 2) / row - 0.5 <= job.total < 200 + 4 * 19 / row
    assert load_run(folders.home() / "runs" / job.result["key"]).rows.A.shape == (200, 6)
    seconds = []
    for _ in range(3):  # others may take the processor once
        began = time.monotonic()
        again = jobs.start("calibrate", request_of(tiny, text_file))
        seconds.append(time.monotonic() - began)
        assert again.id == job.id and again.status == "done"
    assert min(seconds) < 0.2
    assert [j.id for j in jobs.list_jobs()] == [job.id]
    assert not (job.folder / "work").exists()
    lines = [json.loads(line) for line in (job.folder / "progress.jsonl").read_text().splitlines() if line]
    assert all(set(line) == {"t", "done", "total", "rate", "message"} for line in lines)


def test_a_result_that_was_damaged_is_made_again(tiny, text_file):
    request = request_of(tiny, text_file, samples=20)
    job = finish(jobs.start("calibrate", request))
    rows = folders.home() / "runs" / job.result["key"] / "A.npz"
    good = load_run(rows.parent).rows.A
    rows.write_bytes(rows.read_bytes() + b"x")
    job = finish(jobs.start("calibrate", request))
    assert job.status == "done" and (load_run(rows.parent).rows.A == good).all()
    assert f"{job.result['key']}.bad-" in job.result["set_aside"]
    assert "was damaged and is set aside" in (job.folder / "log.txt").read_text()


def test_what_is_measured_of_the_moment_can_be_done_anew(tiny, text_file):
    request = jobs.request_of(str(tiny["llama"]), str(text_file), length=32, batch=2, sampled=False)
    first = finish(jobs.start("describe", request))
    assert jobs.start("describe", request).status == "done"
    again = finish(jobs.redo("describe", request))
    assert again.id == first.id and again.status == "done"
    starts = (first.folder / "progress.jsonl").read_text().count('"starting"')
    assert starts == 2 and again.result["rows_seconds"] != first.result["rows_seconds"]


def test_eight_starts_at_once_are_one_worker(tiny, text_file):
    request = request_of(tiny, text_file, samples=30)
    with ThreadPoolExecutor(8) as pool:
        started = list(pool.map(lambda _: jobs.start("calibrate", request), range(8)))
    assert len({job.id for job in started}) == 1
    job = finish(started[0])
    assert job.status == "done"
    messages = [
        json.loads(line)["message"]
        for line in (job.folder / "progress.jsonl").read_text().splitlines()
        if line
    ]
    assert messages.count("starting") == 1


@pytest.mark.parametrize("listens", [True, False])
def test_cancel_ends_within_3_seconds_and_a_new_start_resumes(tiny, text_file, forks, listens):
    """A worker that does not listen is killed."""
    request = request_of(tiny, text_file, samples=40, batch=1)
    forks.hold("gradient rows", 0.5)  # so that it is at them when it is cancelled

    def cancelled() -> float:
        job = jobs.start("calibrate", request)
        until(lambda: jobs.read(job.id).message == "gradient rows")
        if not listens:
            os.killpg(forks.children[-1], signal.SIGSTOP)
        began = time.monotonic()
        job = jobs.cancel(job.id)
        seconds = time.monotonic() - began
        assert job.status == "cancelled"
        forks.reap()
        return seconds

    assert fastest(cancelled, 3) < 3
    (job,) = jobs.list_jobs()
    assert jobs.cancel(job.id).status == "cancelled"
    forks.let_go()
    assert finish(jobs.start("calibrate", request)).status == "done"


def test_the_job_survives_the_process_that_started_it(tiny, text_file, cold_start):
    code = (
        "import json, sys; from core import jobs; print(jobs.start('calibrate', json.loads(sys.argv[1])).id)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(request_of(tiny, text_file))],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert finish(jobs.read(done.stdout.strip())).status == "done"


def test_bad_input_fails_with_its_sentence(tiny, text_file):
    job = finish(jobs.start("calibrate", request_of(tiny, text_file, samples=10**6)))
    assert job.status == "failed" and job.bad_input and "1000000 were asked for" in job.error
    with pytest.raises(InputError, match="No job"):
        jobs.read("0" * 16)


def test_a_changed_input_is_another_request(tiny, text_file, tmp_path):
    (tmp_path / "a.txt").write_text("one")
    before = jobs.fingerprint(str(tmp_path / "a.txt"), str(tiny["llama"]), None)
    (tmp_path / "a.txt").write_text("other")
    assert jobs.fingerprint(str(tmp_path / "a.txt"), str(tiny["llama"]), None) != before


def test_the_time_left_after_a_resume_is_of_this_workers_work(tmp_path, monkeypatch, capsys):
    """64 of 736 units kept, then one every 2 s: 1280 s are left, in the page and on the command line."""
    from core.cli.progress import Progress as Line
    from core.jobs.job import seconds_left

    now, line = [1000.0], Line()
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    line.last = 0.0
    progress = jobs.Progress(tmp_path, echo=line)

    def told(done, total, message, after):
        now[0] += after
        progress.report(done, total, message)
        last = last_progress(tmp_path)
        return seconds_left(last["done"], last["total"], last["rate"])

    assert told(0, 1, "starting", 0) is None and told(0, 256, "loading the model", 9) is None
    assert told(240, 256, "sampling the model's own texts", 120) == pytest.approx(8)
    assert told(64, 736, "gradient rows", 30) is None and told(80, 736, "gradient rows", 32) == 1312
    assert told(96, 736, "single removals", 32) == 1280
    progress.kept(100)  # passed over on the way
    assert told(198, 736, "single removals", 4) == pytest.approx(538 * 68 / 34)
    shown = capsys.readouterr().err.splitlines()
    assert shown[-2] == "single removals: 96/736, about 1280 s left" and shown[-4] == "gradient rows: 64/736"


def test_half_a_line_of_progress_is_passed_over(tmp_path):
    progress = jobs.Progress(tmp_path)
    progress.report(1, 5, "a")
    with open(tmp_path / "progress.jsonl", "a") as f:
        f.write('{"t": 1, "do')
    assert last_progress(tmp_path)["done"] == 1
    jobs.Progress(tmp_path).report(5, 5, "b")
    assert last_progress(tmp_path)["done"] == 5


def test_who_only_looks_keeps_the_lock_from_no_worker(tmp_path, monkeypatch):
    """However long it holds it: a reader may be put to sleep in between."""
    (tmp_path / "lock").touch()
    naps = []
    with open(tmp_path / "lock") as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)
        free = lambda _: naps.append(1) or len(naps) < 100 or fcntl.flock(reader, fcntl.LOCK_UN)  # noqa: E731
        monkeypatch.setattr("core.jobs.files.time.sleep", free)
        with locked(tmp_path) as mine:
            assert mine and len(naps) == 100
            with locked(tmp_path) as other:
                assert not other and len(naps) == 120


def test_checkpoints_are_whole_or_absent(tmp_path):
    from core.store.checkpoint import Checkpoint

    first = Checkpoint(tmp_path, {"batch": 4, "threads": 1})
    first.put("a", {"x": np.arange(3)})
    first.flush()
    (tmp_path / ".part").write_bytes(b"half")
    second = Checkpoint(tmp_path, {"batch": 9, "threads": 2})
    assert (
        second.plan == {"batch": 4, "threads": 1}
        and (second["a"]["x"] == np.arange(3)).all()
        and "b" not in second
    )


def benchmark_of(tiny, text_file, **changes) -> dict:
    return {
        "model": str(tiny["llama"]),
        "texts": str(text_file),
        "states": [[], [1, 4], [2]],
        "sequences": 120,
        "length": 24,
        "tasks": False,
        "prompt": "Document 1",
        **changes,
    }


def of(values: np.ndarray, told: dict, most: float = math.inf) -> dict:
    """What is told of values of each sequence; quantiles of tokens, which these do not have, as they are."""
    mean, se = values.mean(), values.std(ddof=1) / math.sqrt(len(values))
    ends = {"low": max(0, mean - 1.96 * se), "high": min(most, mean + 1.96 * se)}
    return pytest.approx({**told, "mean": mean, "se": se, **ends})


def test_a_benchmark_measures_every_state_once_and_equals_plain_evaluation(tiny, text_file):
    from core.measure.evaluation import sequence_losses
    from core.model.load import load_model
    from core.texts import pack, read_texts

    job = finish(jobs.start("benchmark", benchmark_of(tiny, text_file)))
    assert job.status == "done", (job, (job.folder / "log.txt").read_text())
    found = {(m.key.removed, m.key.metric): m for m in Results().of_model(job.result["model"])}
    assert [tuple(s["removed"]) for s in job.result["states"]] == [(), (1, 4), (2,)]
    loaded = load_model(str(tiny["llama"]))
    sequences = pack(read_texts(text_file), loaded.tokenizer, "report", 24, 120)
    for state in ((), (1, 4), (2,)):
        measured = found[state, "loss"]
        expected = dict(zip(sequences.index.tolist(), sequence_losses(loaded, sequences.ids, state)))
        assert measured.items.tolist() == sorted(expected)
        assert np.allclose(measured.values, [expected[i] for i in measured.items], atol=1e-5)
        assert found[state, "tokens_per_second"].mean > 0
    for row in job.result["states"]:
        assert row["kl"] == of(found[tuple(row["removed"]), "kl"].values, row["kl"])
        assert row["same"] == of(found[tuple(row["removed"]), "same"].values, row["same"], 1.0)
        assert (row["kl"]["p99"] > row["kl"]["median"] > 0) == bool(row["removed"])
    assert job.result["states"][0]["kl"]["p99"] == 0 and job.result["states"][0]["same"]["low"] == 1
    assert set(Results().answers(job.result["model"])) == {
        ((), "Document 1"),
        ((1, 4), "Document 1"),
        ((2,), "Document 1"),
    }

    seconds = found[(2,), "loss"].seconds
    more = finish(jobs.start("benchmark", benchmark_of(tiny, text_file, states=[[2], [0]], sequences=124)))
    again = {m.key.removed: m for m in Results().of_model(more.result["model"]) if m.key.metric == "loss"}
    assert len(again[(2,)].items) == 124 and len(again[(0,)].items) == 124 and again[(2,)].seconds > seconds
    assert (np.isin(found[(2,), "loss"].items, again[(2,)].items)).all()


def test_a_benchmark_killed_and_resumed_evaluates_no_item_twice(tiny, tmp_path, monkeypatch, forks):
    long = tmp_path / "long.txt"
    long.write_text("\n\n".join(f"Story {i}: {i * 7919 % 997} foxes met {i % 13} dogs." for i in range(8000)))
    request = benchmark_of(tiny, long, sequences=600, states=[[], [1], [2], [3], [4], [1, 2], [1, 3], [2, 3]])
    whole = finish(jobs.start("benchmark", request))
    forks.reap()
    reference = {(m.key.removed, m.key.metric): m for m in Results().of_model(whole.result["model"])}
    monkeypatch.setenv("BLOCKSCAPE_HOME", str(tmp_path / "killed"))
    rng, written = random.Random(1), []
    forks.hold("loss", 0.02, most=8)  # so that the work outlasts the kills
    job = jobs.start("benchmark", request)
    for kill in range(1, 11):
        until_measuring(job, kill)
        time.sleep(rng.uniform(0, 0.15))
        forks.kill()
        until_interrupted(job.id)
        if kill == 10:
            forks.let_go()
        written.append(
            sum(len(m.items) for m in Results().of_model(whole.result["model"]) if m.key.metric == "loss")
        )
        job = jobs.start("benchmark", request)
    assert finish(job).status == "done" and written == sorted(written)
    forks.reap()
    for m in Results().of_model(whole.result["model"]):
        if m.key.metric == "loss":
            expected = reference[m.key.removed, "loss"]
            assert m.items.tolist() == expected.items.tolist() and np.allclose(
                m.values, expected.values, atol=1e-6
            )


@pytest.mark.parametrize("model", ["~nosuchuser/x", "a" * 300, "a" * 5000, "x\0y"])
def test_odd_model_names_make_a_request_that_the_worker_refuses(model):
    assert jobs.request_of(model, samples=1)["model"] == model


def test_code_that_may_run_is_part_of_a_request(tmp_path):
    (tmp_path / "modeling.py").write_text("a = 1")
    before = [jobs.request_of(str(tmp_path), remote_code=code)["inputs"] for code in (False, True)]
    (tmp_path / "modeling.py").write_text("a = 22")
    after = [jobs.request_of(str(tmp_path), remote_code=code)["inputs"] for code in (False, True)]
    assert before[0] == after[0] and before[1] != after[1]


def test_files_that_lead_nowhere_are_passed_over(tmp_path):
    (tmp_path / "config.json").symlink_to(tmp_path / "gone")
    assert jobs.fingerprint(str(tmp_path)) == {str(tmp_path): []}


def test_a_request_knows_the_file_behind_a_sources_options(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("story\nonce upon a time\n")
    asked = jobs.request_of("demo", "a.csv::column=story,weight=2")
    assert (
        asked["texts"] == f"{tmp_path}/a.csv::column=story,weight=2"
        and str(tmp_path / "a.csv") in asked["inputs"]
    )
    (tmp_path / "a.csv").write_text("story\nanother time\n")
    assert jobs.request_of("demo", "a.csv::column=story,weight=2")["inputs"] != asked["inputs"]
    with pytest.raises(InputError, match="no option"):
        jobs.request_of("demo", "a.csv::colum=story")
