"""Two processes give the run that one gives."""

import json
import os
import subprocess
import sys

import pytest
from safetensors.torch import load_file

from core import jobs
from core.__main__ import main
from core.calibration.calibrate import calibrate
from core.measure.evaluation import sequence_losses
from core.model.load import load_model
from core.ranks import ALONE, Ranks
from core.store import folders
from core.store.runs import load_run
from core.texts import pack, read_texts

SCRIPT = """
import sys
from pathlib import Path
from core import jobs
from core.store import folders
from core.__main__ import main
from core.calibration.calibrate import calibrate
from core.measure.evaluation import sequence_losses
from core.model.load import load_model
from core.ranks import joined
from core.store.runs import save_run
from core.texts import pack, read_texts

model, text, out = sys.argv[1:]
loaded = load_model(model)
texts = read_texts(text)
with joined() as ranks:
    run = calibrate(
        loaded, pack(texts, loaded.tokenizer, "calibrate", 32, 23), batch=4, sampled=True, seed=3,
        singles=pack(texts, loaded.tokenizer, "choose", 32, 6), checkpoint=Path(out) / "work", ranks=ranks,
    )
assert (run is None) == (ranks.rank > 0)
if run:
    save_run(run, Path(out) / "run")
"""


def test_ranks_share_the_samples(tiny, text_file, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        tmp_path / "script.py",
    ]
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [*command, tiny["llama"], text_file, tmp_path],
        check=True,
        timeout=600,
        env=environment,
        capture_output=True,
    )
    many = load_run(tmp_path / "run")
    loaded, texts = load_model(str(tiny["llama"])), read_texts(text_file)
    sequences, singles = (
        pack(texts, loaded.tokenizer, split, 32, n) for split, n in (("calibrate", 23), ("choose", 6))
    )
    one = calibrate(loaded, sequences, batch=4, sampled=True, seed=3, singles=singles)
    assert many.key == one.key and many.meta["plan"]["ranks"] == 2
    for name in ("rows", "sampled"):
        a, b = getattr(many, name), getattr(one, name)
        assert (a.A == b.A).all() and (a.sample == b.sample).all() and len(set(a.sample.tolist())) == 23
    assert (many.singles.increase == one.singles.increase).all()


def test_what_a_rank_kept_on_a_disk_of_its_own_is_computed_again(tiny, text_file):
    class Lonely(Ranks):
        """Rank 0 of two, of which the other never sends anything."""

        def gather(self, item):
            return [item]

        def agree(self, item):
            return item

    loaded = load_model(str(tiny["gpt2"]))
    sequences = pack(read_texts(text_file), loaded.tokenizer, "calibrate", 32, 20)
    a, b = (calibrate(loaded, sequences, batch=3, ranks=ranks) for ranks in (Lonely(0, 2), ALONE))
    assert (a.rows.A == b.rows.A).all()


def test_a_launched_command_does_the_job_together(tiny, text_file, tmp_path, capsys):
    argv = [
        "calibrate",
        "--model",
        tiny["llama"],
        "--texts",
        text_file,
        "--texts",
        "own",
        "--samples",
        21,
        "--length",
        24,
    ]
    argv = list(map(str, [*argv, "--batch", 4, "--singles", 3, "--json"]))
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "-m",
        "core",
    ]
    done = subprocess.run(
        [*launch, *argv, "--out", tmp_path / "two"], check=True, timeout=600, capture_output=True, text=True
    )
    told = json.loads(done.stdout)  # one object: rank 0's
    (job,) = jobs.list_jobs()
    assert job.status == "done" and job.result["key"] == told["key"] and not (job.folder / "work").exists()
    folders.home().rename(tmp_path / "elsewhere")  # the run and its own samples: all is computed again
    assert main([*argv, "--out", str(tmp_path / "one")]) == 0
    many, one = load_run(tmp_path / "two"), load_run(tmp_path / "one")
    assert (
        many.key == one.key
        and (many.rows.A == one.rows.A).all()
        and (many.singles.increase == one.singles.increase).all()
    )
    assert (many.meta["plan"]["ranks"], one.meta["plan"]["ranks"]) == (2, 1) and many.meta["texts"][
        "domains"
    ] == [text_file.stem, "own"]


def test_ranks_share_the_states_of_a_benchmark(tiny, text_file, tmp_path, capsys):
    (tmp_path / "states.csv").write_text('removed\n"3,4"\n"0-1"\n')
    argv = [
        "benchmark",
        "--model",
        tiny["llama"],
        "--texts",
        text_file,
        "--sequences",
        20,
        "--length",
        24,
        "--blocks",
        "2",
        "--json",
    ]
    argv = list(map(str, [*argv, "--states", tmp_path / "states.csv"]))
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "-m",
        "core",
    ]
    done = subprocess.run([*launch, *argv], check=True, timeout=600, capture_output=True, text=True)
    told = json.loads(done.stdout)
    loaded = load_model(str(tiny["llama"]))
    ids = pack(read_texts(text_file), loaded.tokenizer, "report", 24, 20).ids
    losses = {state: sequence_losses(loaded, ids, state) for state in ((), (2,), (3, 4), (0, 1))}
    assert {tuple(s["removed"]) for s in told["states"]} == set(losses) and told["sequences"] == 20
    for s in told["states"]:
        own = losses[tuple(s["removed"])]
        assert abs(s["loss"] - own.mean()) < 1e-5 and abs(s["increase"] - (own - losses[()]).mean()) < 1e-5
    # the job is done: nothing is measured again
    assert main(argv) == 0 and json.loads(capsys.readouterr().out) == told


def test_a_launched_command_that_is_wrong_says_so(tiny, text_file, tmp_path):
    argv = [
        "calibrate",
        "--model",
        tiny["llama"],
        "--texts",
        text_file,
        "--samples",
        10**6,
        "--length",
        24,
        "--out",
        tmp_path / "out",
    ]
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "-m",
        "core",
    ]
    done = subprocess.run([*map(str, [*launch, *argv])], timeout=600, capture_output=True, text=True)
    assert done.returncode and "error: Too little text" in done.stderr and not (tmp_path / "out").exists()


def test_ranks_heal_as_one_process_with_their_batches_together(tiny, text_file, tmp_path, capsys):
    """Two ranks that read two sequences a step each learn what one learns that reads the four."""
    small = ["--model", tiny["llama"], "--texts", text_file, "--blocks", "2,3", "--method", "seams", "--json"]
    small += ["--tokens", 3000, "--length", 24, "--sequences", 32, "--held", 8, "--report", 8]
    argv = lambda batch, out: list(map(str, ["heal", *small, "--batch", batch, "--out", tmp_path / out]))  # noqa: E731
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*launch, "-m", "core", *argv(2, "two")], timeout=600, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    many = json.loads(done.stdout)  # one object: rank 0's
    (job,) = jobs.list_jobs()
    assert job.status == "done" and not (job.folder / "work").exists()
    assert main(argv(4, "one")) == 0
    one = json.loads(capsys.readouterr().out)
    assert many["training"]["steps"] == one["training"]["steps"] == 3000 // (4 * 24)
    assert many["training"]["after"]["kl"] < 0.9 * many["training"]["before"]["kl"]
    assert many["training"]["after"]["kl"] == pytest.approx(one["training"]["after"]["kl"], rel=1e-3)
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("two", "one")]
    apart = {name: float((w - weights[1][name]).abs().max()) for name, w in weights[0].items()}
    assert apart.keys() == weights[1].keys() and max(apart.values()) < 1e-3
    noted = [json.loads(line)[0] for line in (job.folder / "curves.jsonl").read_text().splitlines()]
    assert noted.count("kl") == 1 + -(-31 // 4)  # rank 0's alone: each evaluation once, and the unhealed one
