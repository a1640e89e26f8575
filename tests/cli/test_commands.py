"""The command line as a user meets it: JSON, exit codes, one sentence on failure."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core import jobs
from core.__main__ import main
from core.energy.learned import read_posterior
from core.energy.sources import open_source
from core.jobs.files import id_of, write_whole
from core.measure.evaluation import sequence_losses
from core.model.load import load_model
from core.store.folders import DEMO_RUN
from core.store.runs import load_run, save_run
from core.texts import pack, read_texts

ROOT = Path(__file__).resolve().parents[2]


def call(capsys, *argv) -> tuple[int, dict, str]:
    code = main([*map(str, argv), "--json"])
    out = capsys.readouterr()
    assert "Traceback" not in out.err
    return code, json.loads(out.out), out.err


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_the_four_commands_one_after_the_other(tiny, text_file, tmp_path, capsys, kind):
    code, done, progress = call(
        capsys,
        "calibrate",
        "--model",
        tiny[kind],
        "--texts",
        text_file,
        "--samples",
        24,
        "--length",
        32,
        "--out",
        tmp_path / "run",
    )
    assert code == 0 and set(done) == {"run", "key", "rows", "blocks", "dropped", "seconds", "texts", "start"}
    assert done["texts"].endswith("running text as it stands") and done["start"].startswith("<s>")
    assert (done["rows"], done["blocks"], done["dropped"]) == (24, 6, 0) and "done: 24/24" in progress

    by_path = call(capsys, "states", "--run", tmp_path / "run", "--remove", 2, "--count", 5)[1]
    by_key = call(capsys, "states", "--run", done["key"][:8], "--remove", 2, "--count", 5)[1]
    assert by_path["states"] == by_key["states"] and set(by_path) == {
        "states",
        "exact",
        "lower_bound",
        "level_cut",
        "seconds",
        "estimator",
    }
    A = load_run(tmp_path / "run").rows.A.astype(float)
    for rank, s in enumerate(by_path["states"]):
        assert s["rank"] == rank and np.isclose(s["energy"], (A[:, s["removed"]].sum(axis=1) ** 2).mean())
    best = by_path["states"][0]["removed"]

    code, pruned, _ = call(
        capsys,
        "prune",
        "--model",
        tiny[kind],
        "--blocks",
        ",".join(map(str, best)),
        "--out",
        tmp_path / "pruned",
    )
    assert (
        code == 0
        and pruned["verified"] is True
        and pruned["removed"] == best
        and pruned["parameters"][1] < pruned["parameters"][0]
    )

    losses = []
    for model in (tiny[kind], tmp_path / "pruned"):
        code, done, _ = call(
            capsys,
            "evaluate",
            "--model",
            model,
            "--texts",
            text_file,
            "--sequences",
            12,
            "--length",
            32,
            "--no-tasks",
            *(["--against", tiny[kind]] if model != tiny[kind] else []),
        )
        assert code == 0 and set(done) - {"kl", "same"} == {
            "loss",
            "loss_se",
            "perplexity",
            "sequences",
            "tokens",
            "tasks",
            "tokens_per_second",
        }
        assert ("kl" in done) == ("same" in done) == (model != tiny[kind])
        losses.append(done["loss"])
    assert 0 < done["kl"]["low"] < done["kl"]["mean"] < done["kl"]["p99"] and 0 < done["same"]["mean"] < 1
    argv = ["evaluate", "--model", tiny[kind], "--texts", text_file, "--sequences", 2, "--against", "demo"]
    code, failed, _ = call(capsys, *argv, "--length", 32, "--no-tasks")
    assert code == 2 and "do not have the same tokens" in failed["error"]
    assert losses[0] != losses[1] and done["tokens"] == 12 * 31


def test_a_measured_batch_and_checkpointed_blocks_give_the_same_rows(tiny, text_file, tmp_path, capsys):
    argv = ["calibrate", "--model", tiny["llama"], "--texts", text_file, "--samples", 24, "--length", 32]
    call(capsys, *argv, "--out", tmp_path / "plain")
    code, _, _ = call(
        capsys, *argv, "--batch", "auto", "--checkpointed", "--sampled", "--out", tmp_path / "sparing"
    )
    plain, sparing = load_run(tmp_path / "plain"), load_run(tmp_path / "sparing")
    assert code == 0 and sparing.meta["plan"]["checkpointed"] and sparing.meta["plan"]["batch"] >= 1
    difference = np.linalg.norm(plain.rows.A - sparing.rows.A, axis=1)
    assert (difference <= 1e-5 * np.linalg.norm(plain.rows.A, axis=1)).all()


def test_states_of_a_matrix(tmp_path, capsys):
    np.savetxt(tmp_path / "h.csv", np.diag([5.0, 1, 3, 2]), delimiter=",")
    ruled = call(
        capsys,
        "states",
        "--matrix",
        tmp_path / "h.csv",
        "--remove",
        2,
        "--count",
        99,
        "--keep",
        "1",
        "--max-run",
        1,
    )[1]
    assert ruled["states"] and all(
        1 not in s["removed"] and s["removed"][1] - s["removed"][0] > 1 for s in ruled["states"]
    )
    code, done, _ = call(capsys, "states", "--matrix", tmp_path / "h.csv", "--remove", 2, "--count", 99)
    assert code == 0 and done["states"][0] == {"removed": [1, 3], "energy": 3.0, "rank": 0}
    assert (
        len(done["states"]) == 6 and done["exact"] and done["lower_bound"] is None and not done["level_cut"]
    )


def test_the_best_couplings_of_a_run_are_those_that_the_app_opens_on(tmp_path, capsys):
    argv = ["states", "--remove", 8, "--count", 5, "--estimator"]
    best, pairs = (call(capsys, *argv, name, "--run", "demo")[1] for name in ("best", "pairs"))
    assert best["estimator"] == open_source("demo").default == "pairs" and best["states"] == pairs["states"]
    assert main([*map(str, argv), "best", "--run", "demo"]) == 0
    assert "(exact, pairs, " in capsys.readouterr().out
    save_run(replace(load_run(DEMO_RUN), secants=None, pairs=None, sampled=None), tmp_path / "bare")
    assert call(capsys, *argv, "best", "--run", tmp_path / "bare")[1]["estimator"] == "h0"
    code, failed, _ = call(capsys, *argv, "best", "--run", "demo", "--mix", "story=1")
    assert code == 2 and "leave the mix" in failed["error"]
    assert "estimator" not in call(capsys, "states", "--matrix", _matrix(tmp_path), "--remove", 1)[1]


def _matrix(folder):
    (folder / "h.csv").write_text("1,0\n0,2\n")
    return folder / "h.csv"


@pytest.mark.parametrize(
    ("name", "says"), [("tree.png", "ends in none of"), ("none/tree.svg", "a folder that does not exist")]
)
def test_where_a_tree_cannot_be_written_it_is_not_looked_for(name, says, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("core.cli.landscape.lowest_minima", None)
    argv = ["landscape", "--matrix", _matrix(tmp_path), "--remove", 1, "--out", tmp_path / name]
    code, done, _ = call(capsys, *argv)
    assert code == 2 and says in done["error"]


@pytest.mark.parametrize("argv", [("states", "--count", 2), ("landscape", "--minima", 1)])
def test_where_couplings_remove_far_more_than_a_budget_needs_it_is_said(argv, capsys):
    of = (*argv, "--run", "demo", "--fits", "kv 60 %")
    code, _, said = call(capsys, *of)
    assert code == 0 and "The rules need 10 of these 23 blocks to go; 13 more go because" in said
    assert "Give --remove 10, or try another estimator." in said
    assert "The rules need" not in call(capsys, *of, "--remove", 10)[2]


def test_states_of_a_domain_mix(capsys):
    argv = ["states", "--run", "demo", "--remove", 8, "--count", 5]
    run, plain = load_run(DEMO_RUN), call(capsys, *argv)[1]
    code, done, _ = call(capsys, *argv, "--mix", "story=2, memory=1")
    assert (
        code == 0
        and done["mix"] == {"story": pytest.approx(2 / 3), "memory": pytest.approx(1 / 3)}
        and "mix" not in plain
    )
    own = [
        run.rows.A[run.rows.domain == run.meta["texts"]["domains"].index(name)].astype(float)
        for name in ("story", "memory")
    ]
    for s in done["states"]:
        story, memory = ((A[:, s["removed"]].sum(axis=1) ** 2).mean() for A in own)
        assert np.isclose(s["energy"], (2 * story + memory) / 3)
    assert done["states"][0]["removed"] != plain["states"][0]["removed"]
    main([*map(str, argv), "--mix", "story:2,memory:1"])
    assert "mix: story 67 %, memory 33 %" in capsys.readouterr().out


def test_a_rerun_from_an_empty_store_is_bit_identical(tiny, text_file, tmp_path, capsys, monkeypatch):
    for name in ("a", "b"):
        monkeypatch.setenv("BLOCKSCAPE_HOME", str(tmp_path / f"home-{name}"))
        call(
            capsys,
            "calibrate",
            "--model",
            tiny["llama"],
            "--texts",
            text_file,
            "--samples",
            10,
            "--length",
            32,
            "--sampled",
            "--singles",
            4,
            "--out",
            tmp_path / name,
        )
    for file in ("A.npz", "A_sampled.npz", "singles.npz"):
        a, b = (np.load(tmp_path / name / file) for name in ("a", "b"))
        assert all((a[k] == b[k]).all() for k in a.files)


def bad_inputs(tiny, text_file, tmp_path):
    empty, latin = tmp_path / "empty.txt", tmp_path / "latin.txt"
    empty.write_text(" \n")
    latin.write_bytes(b"caf\xe9")
    (tmp_path / "folder").mkdir()
    np.savetxt(tmp_path / "asym.csv", [[1, 2], [3, 1]], delimiter=",")
    np.save(tmp_path / "nan.npy", np.full((3, 3), np.nan))
    np.save(tmp_path / "good.npy", np.eye(4))
    model, out = tiny["llama"], tmp_path / "out"
    fit = ["--texts", text_file, "--length", 32, "--out", out]
    return [
        (["calibrate", "--model", "no-one/nothing", *fit], "no-one/nothing"),
        (["calibrate", "--model", tmp_path / "folder", *fit], "no config.json"),
        (["calibrate", "--model", model, "--texts", empty, "--out", out], "no text"),
        (["calibrate", "--model", model, *fit, "--mode", "loose"], "no mode 'loose'"),
        (["calibrate", "--model", model, *fit, "--template", "chat"], "no chats or prompts"),
        (["calibrate", "--model", model, *fit, "--texts", "own::limit=3"], "has no limit"),
        (["evaluate", "--model", model, "--texts", "own", "--texts", "own::weight=2"], "named 2 times"),
        (["benchmark", "--model", model, "--texts", text_file], "No state is named"),
        (["benchmark", "--model", model, "--texts", text_file, "--blocks", "3-1"], "runs backwards"),
        (
            [
                "benchmark",
                "--model",
                model,
                "--texts",
                text_file,
                "--blocks",
                "99",
                "--sequences",
                4,
                "--length",
                24,
            ],
            "[99] do not fit",
        ),
        (["calibrate", "--model", model, "--texts", latin, "--out", out], "not UTF-8"),
        (["calibrate", "--model", model, "--texts", tmp_path / "none.txt", "--out", out], "No text file"),
        (["calibrate", "--model", model, *fit, "--samples", 99999], "99999 were asked for"),
        (["calibrate", "--model", model, *fit, "--samples", 0], "at least 1"),
        (["calibrate", "--model", model, "--texts", text_file, "--out", out, "--length", 97], "96 positions"),
        (["calibrate", "--model", model, "--texts", text_file, "--out", out, "--length", 1], "2 or more"),
        (["calibrate", "--model", model, *fit, "--samples", 4, "--batch", 0], "at least 1"),
        (["calibrate", "--model", model, *fit, "--samples", "many"], "at least 1"),
        (["calibrate", "--model", model, "--texts", text_file], "--out"),
        (["states", "--run", "demo", "--remove", 0], "M = 0"),
        (["states", "--run", "demo", "--remove", 24], "M = 24"),
        (["states", "--run", "demo", "--remove", 4, "--groups", "1-2"], "write blocks, a colon"),
        (["states", "--run", "demo", "--remove", 4, "--time-limit", 0], "seconds above 0"),
        (["states", "--run", "demo", "--remove", -3], "M = -3"),
        (["states", "--run", "demo", "--remove", 3, "--count", 0], "at least 1"),
        (["states", "--run", "demo", "--remove", 3, "--estimator", "magic"], "Unknown estimator"),
        (["states", "--run", tmp_path / "folder", "--remove", 3], "No run"),
        (["states", "--run", "demo", "--remove", 3, "--mix", "poem=1"], "no domain 'poem'"),
        (["states", "--run", "demo", "--remove", 3, "--mix", "story=0,memory=0"], "all 0"),
        (["states", "--run", "demo", "--remove", 3, "--mix", "story=-1"], "'story' is -1"),
        (["states", "--run", "demo", "--remove", 3, "--mix", "story=nan"], "'story' is nan"),
        (["states", "--run", "demo", "--remove", 3, "--mix", "story"], "domain=share"),
        (["states", "--run", "demo", "--remove", 3, "--mix", ""], "domain=share"),
        (["states", "--matrix", tmp_path / "good.npy", "--remove", 1, "--mix", "story=1"], "needs --run"),
        (["states", "--remove", 3], "required"),
        (["states", "--matrix", tmp_path / "asym.csv", "--remove", 1], "not symmetric"),
        (["states", "--matrix", tmp_path / "nan.npy", "--remove", 1], "not finite"),
        (["states", "--matrix", tmp_path / "good.npy", "--remove", 4], "M = 4"),
        (["states", "--matrix", tmp_path / "gone.npy", "--remove", 1], "No matrix file"),
        (["prune", "--model", model, "--blocks", "1,x", "--out", out], "'x'"),
        (["prune", "--model", model, "--blocks", "6", "--out", out], "0 to 5"),
        (["prune", "--model", model, "--blocks", "0-5", "--out", out], "keep at least one"),
        (["prune", "--model", model, "--blocks", "1", "--out", tmp_path], "already exists"),
        (["evaluate", "--model", tmp_path / "none"], "No model folder"),
        (["evaluate", "--model", model, "--batch", "0"], "at least 1"),
        (["evaluate", "--model", model, "--seed", "-1"], "at least 0"),
        (["calibrate", "--model", model, *fit[:-1], "/proc/nope/x"], "cannot be written"),
        (["calibrate", "--model", model, *fit[:-1], empty / "sub"], "cannot be written"),
        (["prune", "--model", model, "--blocks", "1", "--out", empty / "sub"], "cannot be written"),
        (["states", "--run", "x" * 300, "--remove", 3], "No run"),
        (["states", "--matrix", "x" * 300 + ".npy", "--remove", 3], "x"),
        (["prune", "--model", model, "--blocks", "0-9999", "--out", out], "0 to 5"),
        (["frobnicate"], "invalid choice"),
        ([], "required"),
    ]


def test_bad_input_is_one_sentence_and_exit_2(tiny, text_file, tmp_path, capsys):
    for argv, says in bad_inputs(tiny, text_file, tmp_path):
        code, done, _ = call(capsys, *argv)
        assert code == 2 and list(done) == ["error"], argv
        assert says in done["error"] and "\n" not in done["error"], (argv, done)
    assert not (tmp_path / "out").exists()


def run_process(*argv, **options):
    return subprocess.run(
        [sys.executable, "-m", "core", *map(str, argv)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )


@pytest.mark.parametrize(
    "end, said",
    [
        ({"status": "interrupted"}, "was killed; the same command resumes it."),
        (
            {"status": "failed", "error": "Unexpected KeyError: 'x'; see the job's log."},
            "Unexpected KeyError: ",
        ),
    ],
    ids=["killed", "failed"],
)
def test_a_job_that_ends_by_no_fault_of_its_input_says_so_in_its_own_words(
    tiny, tmp_path, capsys, monkeypatch, end, said
):
    monkeypatch.setattr("core.jobs.control.spawn", lambda job_id: None)
    monkeypatch.setattr(jobs, "follow", lambda job_id, _: replace(jobs.read(job_id), **end))
    code, told, _ = call(capsys, "prune", "--model", tiny["llama"], "--blocks", 1, "--out", tmp_path / "out")
    assert code == 1 and said in told["error"] and "RuntimeError" not in told["error"]


def test_a_loss_that_is_no_number_is_null(capsys, monkeypatch):
    found = {"loss": float("nan"), "perplexity": float("inf"), "sequences": 2, "tasks": {}}
    monkeypatch.setattr("core.cli.evaluate.as_job", lambda kind, request: found)
    code, told, _ = call(capsys, "evaluate", "--model", "demo", "--no-tasks")
    assert code == 0 and told == {**found, "loss": None, "perplexity": None}
    assert main(["evaluate", "--model", "demo"]) == 0 and "loss: nan" in capsys.readouterr().out


def test_what_no_search_can_do_is_said_before_a_model_is_loaded(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("core.cli.searches.as_job", lambda kind, request: {"asked": request["remove"]})
    (tmp_path / "half.json").write_text('[{"removed": ["3a", 4]}]')
    race, learn = ("race", "--run", "demo", "--remove"), ("learn", "--run", "demo", "--budget", 9)
    for argv, says in (
        ((*race, 6, "--delta", "nan"), "is not a chance"),
        ((*race, 6, "--states", "lowest:0"), "give a K of 1"),
        ((*race, 6, "--blocks", "1-5", "--blocks", "1-6"), "removes 5 blocks, and this race"),
        ((*race, 5, "--blocks", "1-5"), "two different states"),
        ((*race, 2, "--states", tmp_path / "half.json"), "'3a,4' cannot be said of this run, seen by block"),
        ((*learn, "--remove", 3, "--keep", "99"), "Block 99 does not exist"),
        ((*learn, "--remove", 3, "--go", "1,2,3,4"), "4"),
        ((*learn, "--remove", 3, "--fits", "all of it"), "all of it"),
        ((*learn, "--groups", "0-3:9"), "lower its count"),
    ):
        code, found, _ = call(capsys, *argv)
        assert code == 2 and says in found["error"], argv
    for argv in ((*learn, "--groups", "0-5:2"), (*learn, "--remove", 3), (*race, 2, "--states", "lowest:3")):
        assert call(capsys, *argv)[0] == 0


def test_as_a_process_stdout_is_json_only_and_help_works(tmp_path):
    done = run_process("states", "--run", "demo", "--remove", 8, "--count", 3, "--json")
    assert done.returncode == 0 and len(json.loads(done.stdout)["states"]) == 3
    failed = run_process("states", "--run", "demo", "--remove", 99)
    assert (
        failed.returncode == 2
        and failed.stdout == ""
        and failed.stderr.startswith("error: M = 99")
        and failed.stderr.count("\n") == 1
    )
    for command in ([], ["calibrate"], ["states"], ["peers"], ["evaluate"], ["import"]):
        shown = run_process(*command, "--help")
        assert shown.returncode == 0 and "usage: python -m core" in shown.stdout


def test_states_need_no_torch():
    code = (
        "import sys; from core.__main__ import main; main(['states', '--run', 'demo', '--remove', '4', "
        "'--json']); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).returncode == 0


def test_learn_finds_the_best_state_within_its_budget_and_goes_on_where_it_was_stopped(
    tiny, text_file, tmp_path, capsys
):
    run = tmp_path / "run"
    text_file = shutil.copy(text_file, tmp_path / "play.txt")
    argv = [
        "calibrate",
        "--model",
        tiny["llama"],
        "--texts",
        text_file,
        "--samples",
        24,
        "--length",
        32,
        "--sampled",
        "--out",
        run,
    ]
    assert call(capsys, *argv)[0] == 0
    code, done, _ = call(capsys, "learn", "--run", run, "--remove", 2, "--budget", 14, "--sequences", 24)
    assert code == 0 and {"best", "original", "curve"} <= set(done) and done["forwards"] <= 14
    assert len(done["best"]["removed"]) == 2 and done["curve"][-1][1] == done["best"]["loss"]
    loaded, texts = load_model(str(tiny["llama"])), read_texts(str(text_file))
    for split, own in (("choose", done["best"]["loss"]), ("report", done["report"]["loss"])):
        ids = pack(texts, loaded.tokenizer, split, 32, 24).ids
        assert abs(sequence_losses(loaded, ids, done["best"]["removed"]).mean() - own) < 1e-5
    assert len(read_posterior(Path(done["landscape"]).read_bytes()).couplings) == 6
    code, failed, _ = call(capsys, "learn", "--run", run, "--remove", 2, "--budget", 3, "--sequences", 24)
    assert code == 2 and "does not pay" in failed["error"]
    meta = load_run(run).meta
    assert meta["request"]["texts"] == str(text_file)
    moved = text_file.rename(tmp_path / "moved.txt")
    again = ("learn", "--run", run, "--remove", 2, "--budget", 14, "--sequences", 24)
    code, failed, _ = call(capsys, *again)
    assert code == 2 and "no longer at" in failed["error"] and "--texts" in failed["error"]
    code, found, _ = call(capsys, *again, "--texts", moved)
    assert code == 0 and found["best"] == done["best"]
    assert load_run(run).meta["request"]["texts"] == str(moved)


def test_m_follows_from_what_must_fit_or_from_groups(capsys):
    asked = ["states", "--run", "demo", "--count", 4]
    fits = call(capsys, *asked, "--fits", "weights 85 %, kv 70 %")[1]
    assert fits["exact"] and all(len(s["removed"]) >= 8 for s in fits["states"])  # 8 of 24 equal caches
    grouped = call(capsys, *asked, "--groups", "0-11: 2; 12-23: 1", "--go", "3")[1]
    assert all(len(s["removed"]) == 3 and 3 in s["removed"] for s in grouped["states"])
    for more, says in (
        ([], "give --remove, --fits or --groups"),
        (["--fits", "kv 100 %"], "The whole model fits"),
    ):
        code, failed, _ = call(capsys, *asked, *more)
        assert code == 2 and says in failed["error"]


def test_what_was_sent_once_is_sent_anew(tmp_path, capsys):
    (tmp_path / "out").mkdir()
    asked = {"kind": "push", "request": jobs.push_request(tmp_path / "out", "me/small", False), "t": 0.0}
    folder = jobs.folder_of(id_of("push", asked["request"]))
    folder.mkdir(parents=True)
    write_whole(folder / "request.json", asked)
    write_whole(folder / "result.json", {"status": "done", "result": {"url": "hub/1"}, "t": 0.0})
    assert main(["push", "--folder", str(tmp_path / "out"), "--repo", "me/small"]) != 0
    assert "is no export of Blockscape" in capsys.readouterr().err
