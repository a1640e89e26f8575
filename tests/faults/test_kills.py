"""Kills and races: nothing half-made under a final name, nothing computed twice, nothing left behind."""

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from core import jobs
from core.errors import InputError
from core.export import making
from core.forms.record import PROVENANCE
from core.job_kinds import prune
from core.measure.replay import Replay
from core.measure.state_losses import Kept
from core.model.load import load_model
from core.model.surgery import without
from core.store import folders, runs
from core.store.checkpoint import Checkpoint
from core.store.runs import file_sha256, load_run
from tests.choose.test_race import a_race
from tests.forked import forked_worker
from tests.jobs.test_jobs import finish, kill_worker, request_of, until, until_at_work, until_interrupted
from tests.store.test_runs import a_run

ROOT = Path(__file__).resolve().parents[2]


def progress_of(job) -> list[dict]:
    """What its workers have told, in whole lines."""
    lines = (job.folder / "progress.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines if line.endswith("}")]


AT_WORK = ("gradient rows", "single removals")


def told_by_the_last(job) -> int:
    """Lines that the last worker has told of its work."""
    messages = [line["message"] for line in progress_of(job)][::-1]
    return sum(message in AT_WORK for message in messages[: messages.index("starting")])


def strays(*roots: Path) -> list[str]:
    """Temporary files and folders: hidden ones (the store's lock is none) and checkpoints of work that is
    done.
    """
    found = [p for root in roots for p in root.rglob("*") if p.name.startswith(".") or p.name == "work"]
    return [str(p) for p in found if p.name != ".lock"]


def test_calibration_killed_at_twenty_random_moments_ends_bit_for_bit(tiny, tmp_path, monkeypatch, forks):
    long = tmp_path / "long.txt"
    long.write_text(
        "\n\n".join(
            f"Story {i}: {i * 7919 % 997} foxes met {i % 13} dogs by lake {i % 31}." for i in range(1500)
        )
    )
    request = request_of(tiny, long, samples=400, batch=1)
    whole = load_run(folders.home() / "runs" / finish(jobs.start("calibrate", request)).result["key"])
    forks.reap()
    monkeypatch.setenv("BLOCKSCAPE_HOME", str(tmp_path / "killed"))
    monkeypatch.setattr(Checkpoint, "INTERVAL", 0.05)
    kills, rng = [], random.Random(0)
    forks.hold("gradient rows", 0.05, most=18)  # of 400: the work outlasts the kills
    job = jobs.start("calibrate", request)
    while len(kills) < 20:
        until_at_work(job, len(kills) + 1)
        if len(kills) % 3 == 2:  # far enough for what it loses to be told
            until(lambda killed=job: told_by_the_last(killed) > 2)
        time.sleep(rng.uniform(0, 0.15))
        forks.kill()
        kills.append(time.time())
        until_interrupted(job.id)
        if len(kills) == 20:
            forks.let_go()
        job = jobs.start("calibrate", request)
    job = finish(job)
    forks.reap()
    assert job.status == "done", (job, kills)
    resumed = load_run(folders.home() / "runs" / job.result["key"])
    for name in ("rows", "sampled"):
        assert all(
            (getattr(getattr(whole, name), f) == getattr(getattr(resumed, name), f)).all()
            for f in ("A", "sample", "domain", "loss")
        )
    assert (whole.singles.increase == resumed.singles.increase).all() and (
        whole.singles.se == resumed.singles.se
    ).all()
    assert not strays(tmp_path / "killed")
    # lines are 0.2 s apart, four intervals of the checkpoint, and a batch lies between: the last but two is
    # always saved
    lines = [line for line in progress_of(job) if line["message"] in AT_WORK]
    told = 0
    for before, kill in zip([0, *kills], kills):
        own = [line["done"] for line in lines if before < line["t"] < kill]
        if len(own) > 2:
            told += 1
            assert all(line["done"] >= own[-3] for line in lines if line["t"] > kill), (own, kill)
    assert told >= 6, lines


# --- a race of states


def test_a_race_killed_ten_times_measures_nothing_again(tiny, text_file, tmp_path, monkeypatch, forks):
    """SIGKILL, the worker's own process, ten times. Every measurement and every writing to the store leaves a
    line: what was written is never measured again, and a kill costs the race one measurement at most, its
    last.
    """
    diary, most, measurements = tmp_path / "diary", [0], itertools.count(1)
    measure, write = Replay.__call__, Kept.flush

    def line(*words) -> None:
        with diary.open("a") as file:
            file.write(json.dumps(words) + "\n")

    def measured(self, part, kept, *rest):
        found = measure(self, part, kept, *rest)
        line(self.sequences.split, self.sequences.index[part].tolist(), kept)
        time.sleep(0.02 * bool(most[0]))
        if next(measurements) == most[0]:  # it waits for the kill: the race outlasts them
            signal.pause()
        return found

    def written(self):
        write(self)
        line("written")

    monkeypatch.setattr(Replay, "__call__", measured)
    monkeypatch.setattr(Kept, "flush", written)
    request = a_race(tiny, load_model(str(tiny["llama"])), text_file)
    whole = finish(jobs.start("race", request))
    forks.reap()
    once = {entry for entry in diary.read_text().splitlines() if entry != '["written"]'}
    diary.unlink()
    monkeypatch.setenv("BLOCKSCAPE_HOME", str(tmp_path / "killed"))
    rng, most[0] = random.Random(0), 6
    job = jobs.start("race", request)
    for kill in range(10):
        before = len(diary.read_text().splitlines()) if kill else 0
        until(lambda n=before: diary.exists() and len(diary.read_text().splitlines()) > n + 2)
        time.sleep(rng.uniform(0, 0.06))
        forks.kill()
        until_interrupted(job.id)
        most[0] *= kill < 9
        with diary.open("a") as file:
            file.write("killed\n")
        job = jobs.start("race", request)
    job = finish(job)
    forks.reap()
    assert job.status == "done" and job.result == whole.result, job
    safe, unsafe = set(), []
    entries = diary.read_text().splitlines()
    for entry in entries:
        if entry == '["written"]':
            safe, unsafe = safe | set(unsafe), []
        elif entry == "killed":
            assert sum(json.loads(lost)[0] == "choose" for lost in unsafe) <= 1
            unsafe = []
        else:
            assert entry not in safe
            unsafe.append(entry)
    assert entries.count("killed") == 10 and not unsafe
    assert set(entries) - {"killed", '["written"]'} == once


# --- exports


def logits_of(loaded):
    ids = torch.randint(2, 200, (2, 20), generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        return loaded.model(input_ids=ids, use_cache=False).logits


def is_whole(out: Path) -> bool:
    """Every file that the manifest names is there with its digest, and no other."""
    record = json.loads((out / PROVENANCE).read_text())
    return {p.name: file_sha256(p) for p in out.iterdir() if p.name != PROVENANCE} == record["files"]


def inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:  # asked once: an earlier export may be moved away at any moment
        return None


def test_an_export_killed_at_twenty_moments_is_whole_or_absent(tiny, no_worker):
    request = {
        "model": str(tiny["llama"]),
        "blocks": [1, 4],
        "out": str(folders.home() / "exports" / "pruned"),
        "zip": False,
        "provenance": {"run": "abc"},
        "inputs": {},
    }
    job = jobs.start("prune", request)
    exports, rng = folders.home() / "exports", random.Random(4)
    loaded = load_model(str(tiny["llama"]))
    with without(loaded, [1, 4]):
        expected = logits_of(loaded)
    began = time.monotonic()
    os.waitpid(forked_worker(job.id), 0)
    whole = time.monotonic() - began
    assert is_whole(exports / "pruned")
    shutil.rmtree(exports)
    (job.folder / "result.json").unlink()
    seen = set()
    for k in range(20):
        if k % 4 == 0 and k:  # as at the first: nothing is there
            shutil.rmtree(exports, ignore_errors=True)
        before = inode(exports / "pruned")
        worker = forked_worker(job.id)
        if k in (5, 11, 17):  # about the rename: as soon as a new folder is there
            deadline = time.monotonic() + 180
            while inode(exports / "pruned") in (None, before):
                assert time.monotonic() < deadline, jobs.read(job.id)
                time.sleep(1e-4)  # a copy file by file takes a millisecond
        elif k:  # the first at its start
            time.sleep(rng.uniform(0, 1.1 * whole))
        os.killpg(worker, signal.SIGKILL)
        os.waitpid(worker, 0)
        if exports.is_dir():
            assert [p.name for p in exports.iterdir()] in ([], ["pruned"])
        seen.add((exports / "pruned").exists())
        if (exports / "pruned").exists():
            assert is_whole(exports / "pruned")
        (job.folder / "result.json").unlink(missing_ok=True)  # one that was done is asked for again
    os.waitpid(forked_worker(job.id), 0)
    job = jobs.read(job.id)
    assert job.status == "done" and job.result["verified"] and seen == {True, False}, (job, seen)
    assert not strays(folders.home()) and is_whole(exports / "pruned")
    assert [p.name for p in exports.iterdir()] == ["pruned"]
    assert torch.equal(logits_of(load_model(str(exports / "pruned"))), expected)
    weights = exports / "pruned" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert not is_whole(exports / "pruned")


@pytest.fixture
def other_disk():
    """A folder on another disk than that of the jobs."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.mark.parametrize("at", ["writing", "failing", "swapping", "swapping on another disk"])
def test_an_earlier_export_stays_until_the_new_one_is_verified(tiny, tmp_path, monkeypatch, at, request):
    """A cancel, a kill or what the system says while an equal export is written again leaves the earlier one,
    or the next worker puts it back.
    """

    class Killed(BaseException):
        pass

    def killed(*_, **__):
        raise Killed

    def full(*_):
        raise OSError("No space left on device")

    place = request.getfixturevalue("other_disk") if "disk" in at else folders.home()
    out = place / "exports" / "pruned"
    asked = {"model": str(tiny["llama"]), "blocks": [1], "out": str(out), "zip": False, "provenance": {}}
    progress = jobs.Progress(tmp_path)
    prune.run(asked, progress)
    before, replace = inode(out), os.replace
    if at == "writing":
        monkeypatch.setattr(making, "card", killed)
    elif at == "failing":
        renames = iter([replace, full])
        monkeypatch.setattr(making.os, "replace", lambda *paths: next(renames, replace)(*paths))
    else:  # between the two renames, and nothing is tidied up
        renames = iter([replace])
        monkeypatch.setattr(making.os, "replace", lambda *paths: next(renames, killed)(*paths))
        monkeypatch.setattr(making.shutil, "rmtree", lambda *_, **__: None)
    with pytest.raises(InputError if at == "failing" else Killed):
        prune.run(asked, progress)
    monkeypatch.undo()
    assert out.exists() == ("swapping" not in at)
    if at == "swapping":
        out.parent.rmdir()  # by somebody who tidies up
    monkeypatch.setattr(prune, "write_pruned", killed)
    with pytest.raises(Killed):
        prune.run(asked, progress)
    assert inode(out) == before and is_whole(out) and [p.name for p in out.parent.iterdir()] == ["pruned"]


# --- races

STARTER = """
import json, sys, time
from core import jobs
print("ready", flush=True)
for line in sys.stdin:
    kind, request, at = json.loads(line)
    time.sleep(max(0, at - time.time() - 0.002))
    while time.time() < at:
        pass
    print(jobs.start(kind, request).id, flush=True)
"""


@pytest.fixture
def stand_in(monkeypatch):
    """Workers do cheap, torch-free work."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "standin"))


@pytest.fixture
def starters(stand_in):
    """Eight processes, each a session of its own that starts what it is told to."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", STARTER],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(8)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    yield processes
    for process in processes:
        process.stdin.close()
        process.wait(60)


def light_request(tmp_path, number, steps=1, pause=0.0) -> dict:
    return {"number": number, "steps": steps, "pause": pause, "count": str(tmp_path / f"{number}.txt")}


def starts_of(job) -> int:
    return sum(line["message"] == "starting" for line in progress_of(job))


def test_fifty_races_of_two_to_eight_sessions_are_fifty_computations(starters, tmp_path):
    rng = random.Random(6)
    for race in range(50):
        racing = rng.sample(starters, rng.randint(2, 8))
        request = light_request(tmp_path, race)
        at = time.time() + 0.03
        for process in racing:
            process.stdin.write(json.dumps(["benchmark", request, at]) + "\n")
            process.stdin.flush()
        ids = {process.stdout.readline().strip() for process in racing}
        assert len(ids) == 1
        job = finish(jobs.read(ids.pop()))
        assert job.status == "done" and job.result == {"number": race, "file": f"{race}.txt"}, (
            job,
            (job.folder / "log.txt").read_text(),
        )
        assert Path(request["count"]).read_text() == "computed\n" and starts_of(job) == 1
        assert all(jobs.start("benchmark", request).result == job.result for _ in racing)  # all get it
    assert not strays(folders.home() / "jobs") and len(jobs.list_jobs()) == 50


def test_a_worker_that_is_late_is_waited_for(stand_in, monkeypatch, tmp_path):
    """It had counted as interrupted, 5 seconds from its start on, and come all the same."""
    monkeypatch.setattr("core.jobs.job._QUEUED", 0.0)
    monkeypatch.setenv("STAND_IN_LATE", "1")
    job = jobs.start("benchmark", light_request(tmp_path, 0))
    seen = set()
    while (status := jobs.read(job.id).status) != "done":
        seen.add(status)
    assert job.status == "queued" and seen <= {"queued", "running"}, seen
    assert jobs.start("benchmark", job.request).id == job.id and starts_of(job) == 1


def test_a_worker_that_dies_on_its_way_has_left_its_job(stand_in, monkeypatch, tmp_path):
    monkeypatch.setattr("core.jobs.job._QUEUED", 0.0)
    monkeypatch.setattr("core.jobs.control.sys.executable", "/bin/false")
    job = jobs.start("benchmark", light_request(tmp_path, 0))
    until_interrupted(job.id)


def test_many_workers_of_one_job_compute_once(stand_in, no_worker, tmp_path):
    """The lock alone, without the help of start(): eight workers, one at work, however late the others
    are.
    """
    request = light_request(tmp_path, 0, steps=2, pause=0.2)
    job = jobs.start("benchmark", request)
    workers = [subprocess.Popen([sys.executable, "-m", "core.jobs", job.id], cwd=ROOT) for _ in range(8)]
    assert [worker.wait(180) for worker in workers] == [0] * 8
    assert jobs.read(job.id).status == "done" and Path(request["count"]).read_text() == "computed\n"


def test_a_killed_owner_is_taken_over_within_five_seconds(starters, tmp_path):
    request = light_request(tmp_path, 0, steps=400, pause=0.01)
    job, seconds = jobs.start("benchmark", request), []
    for takeover in range(1, 4):
        until(lambda n=takeover: jobs.read(job.id).message == "working" and starts_of(job) == n)
        kill_worker(job)
        killed = time.time()
        until(lambda: not jobs.read(job.id).active)  # the kernel has let go of its lock
        for process in starters:
            process.stdin.write(json.dumps(["benchmark", request, time.time() + 0.05]) + "\n")
            process.stdin.flush()
        assert {process.stdout.readline().strip() for process in starters} == {job.id}
        until(lambda n=takeover: starts_of(job) == n + 1)
        starts = [line["t"] for line in progress_of(job) if line["message"] == "starting"]
        seconds.append(starts[-1] - killed)
    assert min(seconds) <= 5, seconds  # the machine is not this test's alone
    job = finish(job)
    assert (
        job.status == "done"
        and Path(request["count"]).read_text() == "computed\n" * 4
        and starts_of(job) == 4
    )


KEEPER = """
import sys, time
from core.store.runs import keep_run
from tests.store.test_runs import a_run
run = a_run(m=2000, seed=int(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
print(keep_run(run), flush=True)
"""


@pytest.mark.parametrize("damaged", [False, True])
def test_two_processes_keep_the_same_run_at_once(damaged):
    run = a_run(m=2000)
    if damaged:
        (runs.keep_run(run) / "A.npz").write_bytes(b"rot")
    keepers = [
        subprocess.Popen(
            [sys.executable, "-c", KEEPER, "0"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    assert [keeper.stdout.readline() for keeper in keepers] == ["ready\n"] * 2
    for keeper in keepers:
        keeper.stdin.write("\n")
        keeper.stdin.flush()
    folder = folders.home() / "runs" / run.key
    assert [keeper.communicate(timeout=180)[0].strip() for keeper in keepers] == [str(folder)] * 2
    assert [keeper.returncode for keeper in keepers] == [0, 0]
    assert (load_run(folder).rows.A == run.rows.A).all() and not strays(folders.home())
    assert len(list(folder.parent.glob("*.bad-*"))) == damaged


def test_threads_keep_the_same_run_at_once():
    with ThreadPoolExecutor(8) as pool:
        for seed in range(10):
            assert len(set(pool.map(runs.keep_run, [a_run(seed=seed)] * 8))) == 1
    assert not strays(folders.home()) and len(list((folders.home() / "runs").glob("[!.]*"))) == 10


def test_a_writer_killed_midway_leaves_nothing_once_the_run_is_kept(monkeypatch):
    run = a_run()
    child = os.fork()
    if not child:
        monkeypatch.setattr(np, "savez_compressed", lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL))
        runs.keep_run(run)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL and strays(folders.home())
    runs.keep_run(run)
    assert not strays(folders.home()) and load_run(folders.home() / "runs" / run.key).key == run.key
