"""Commands for what the page Compare does: the same requests, so the same jobs, results and imports."""

import json

import numpy as np
import pytest

from core import jobs
from core.__main__ import main
from core.cli import peers
from core.compare import other_tools
from core.compare.comparison import model_key
from core.measure.behaviour import ask
from core.measure.evaluation import sequence_losses
from core.model.load import load_model
from core.store.folders import DEMO_RUN
from core.store.runs import load_run
from core.tasks.short_prompts import PROMPTS
from core.texts import pack, read_texts


def call(capsys, *argv) -> tuple[int, dict]:
    code = main([*map(str, argv), "--json"])
    out = capsys.readouterr()
    assert "Traceback" not in out.err
    return code, json.loads(out.out)


@pytest.fixture
def run_folder(tiny, text_file, tmp_path, capsys):
    fit = ["--texts", text_file, "--samples", 12, "--length", 32, "--out", tmp_path / "run"]
    assert call(capsys, "calibrate", "--model", tiny["llama"], *fit)[0] == 0
    return tmp_path / "run"


def test_peers_finds_what_the_page_finds_and_its_losses_are_those_of_the_states(
    run_folder, tiny, text_file, capsys
):
    code, done = call(
        capsys, "peers", "--run", run_folder, "--remove", 2, "--budget", 5, "--sequences", 8, "--seed", 3
    )
    assert code == 0 and set(done) == {"original", "methods", "curves", "budget"}
    assert {"greedy", "taylor"} <= set(done["methods"])
    run, asked = load_run(run_folder), {"remove": 2, "budget": 5.0, "sequences": 8, "seed": 3}
    job = jobs.find("peers", jobs.request_on(run, run_folder.absolute(), **asked))
    assert job.status == "done" and job.result == done
    loaded, texts = load_model(str(tiny["llama"])), read_texts(text_file)
    for split, of in (("choose", lambda m: m["loss"]), ("report", lambda m: m["report"]["loss"])):
        ids = pack(texts, loaded.tokenizer, split, 32, 8).ids
        for method in done["methods"].values():
            loss = sequence_losses(loaded, ids, method["removed"]).mean()
            assert len(method["removed"]) == 2 and np.isclose(loss, of(method), atol=1e-5)
    assert main(["peers", "--run", str(run_folder), "--remove", "2", "--budget", "5", "--sequences", "8",
                 "--seed", "3"]) == 0  # fmt: skip
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(done["methods"]) and any(line.startswith("greedy") for line in lines)


def test_race_names_ties_and_who_left_among_the_lowest_or_those_named(run_folder, tmp_path, capsys):
    asked = ["race", "--run", run_folder, "--remove", 2, "--sequences", 24]
    code, done = call(capsys, *asked, "--states", "lowest:4", "--keep", "0", "--blocks", "1,2")
    states = [tuple(r["removed"]) for r in [*done["ties"], *done["dropped"]]]
    _, listed = call(capsys, "states", "--run", run_folder, "--remove", 2, "--count", 4, "--keep", "0")
    assert code == 0 and set(states) == {(1, 2), *(tuple(s["removed"]) for s in listed["states"])}
    assert done["winner"] == done["ties"][0]["removed"] and done["forwards"] <= done["forwards_of_all"]
    (tmp_path / "states.json").write_text('[{"removed": [4, 1]}, {"removed": [0, 1]}]')
    named = [*asked, "--states", tmp_path / "states.json"]
    code, done = call(capsys, *named)
    assert code == 0 and len(done["ties"]) + len(done["dropped"]) == 2
    assert main([str(word) for word in named]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (
        len(lines) == 5
        and lines[-1].startswith("It took")
        and lines[2].rstrip().endswith(",".join(map(str, done["winner"])))
    )
    by_kl = [*named, "--ruler", "kl"]
    code, done = call(capsys, *by_kl)
    assert code == 0 and all("kl" in r and "loss" not in r for r in [*done["ties"], *done["dropped"]])
    run = load_run(run_folder)
    request = {"states": [[1, 4], [0, 1]], "delta": 0.05, "remove": 2, "sequences": 24, "ruler": "kl"}
    assert jobs.find("race", jobs.request_on(run, run_folder.absolute(), **request)).result == done
    assert main([str(word) for word in by_kl]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[1] == "KL" and lines[-2] == "KL to the original, nats a token"
    for bad, why in ((["--blocks", "1,2"], "two different"), (["--delta", 0], "delta")):
        code, failed = call(capsys, *asked, *bad)
        assert code == 2 and why in failed["error"]


def test_behaviour_asks_what_the_page_asks(run_folder, tiny, tmp_path, capsys):
    (tmp_path / "states.json").write_text('[{"removed": [4, 1]}]')
    states, short = ["--blocks", "1,4", "--states", tmp_path / "states.json"], ["--tokens", 6]
    argv = ["behaviour", "--model", tiny["llama"], *states, *short]
    code, done = call(capsys, *argv)
    assert code == 0 and [state["removed"] for state in done["states"]] == [[], [1, 4]]
    of_page = jobs.request_for(load_run(run_folder), states=[[], [1, 4]], tokens=6)
    assert jobs.find("behaviour", of_page).result == done
    answers = ask(load_model(str(tiny["llama"])), [PROMPTS[k].text for k in (0, 7)], (1, 4), 6)
    assert [done["states"][1]["answers"][k]["text"] for k in (0, 7)] == [a.text for a in answers]
    assert main(list(map(str, argv))) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("original: sound") and lines[1].startswith("without 1,4: ")


def test_import_keeps_marked_scores_once_and_lists_them(tmp_path, capsys):
    (tmp_path / "list.csv").write_text('removed,mmlu\n"1,2",0.41\n')
    results = {"results": {"lambada": {"perplexity,none": 12.5}}, "lm_eval_version": "0.4"}
    (tmp_path / "r.json").write_text(json.dumps(results))
    (tmp_path / "bad.json").write_text("{")
    both = ["--file", tmp_path / "list.csv", "--file", tmp_path / "r.json", "--blocks", "5,3"]
    code, failed = call(capsys, "import", "--run", "demo", *both, "--file", tmp_path / "bad.json")
    assert code == 2 and "not JSON" in failed["error"]
    assert call(capsys, "import", "--run", "demo")[1] == {"new": 0, "imported": []}  # nothing by halves
    code, done = call(capsys, "import", "--run", "demo", *both)
    assert code == 0 and done["new"] == 2
    told = [(r["removed"], r["task"], r["metric"], r["value"], r["source"]) for r in done["imported"]]
    assert told == [
        ([1, 2], "mmlu", "score", 0.41, "list.csv"),
        ([3, 5], "lambada", "perplexity,none", 12.5, "r.json"),
    ]
    assert call(capsys, "import", "--run", "demo", *both)[1] == {**done, "new": 0}
    # what the page shows
    kept = other_tools.kept(model_key(load_run(DEMO_RUN)))
    assert [(list(r.removed), r.task, r.value) for r in kept] == [(s, t, v) for s, t, _, v, _ in told]
    assert main(["import", "--run", "demo"]) == 0
    assert "without 3,5: lambada perplexity,none 12.5" in capsys.readouterr().out


def test_bad_input_is_one_sentence(tiny, tmp_path, capsys):
    model = tiny["llama"]
    for argv, says in (
        (["peers", "--run", "demo", "--remove", 24, "--budget", 5], "M = 24"),
        (["peers", "--run", "demo", "--remove", 2], "--budget"),
        (["peers", "--run", "demo", "--remove", 2, "--budget", "no"], "forwards above 0"),
        (["behaviour", "--model", model, "--blocks", "3-1"], "runs backwards"),
        (["behaviour", "--model", model, "--blocks", "6"], "do not fit"),
        (["behaviour", "--model", model, "--states", tmp_path / "gone.json"], "No results file"),
        (["behaviour", "--model", model, "--tokens", 0], "at least 1"),
        (["import", "--run", tmp_path], "No run"),
        (["import", "--run", "demo", "--file", tmp_path / "gone.csv"], "No results file"),
        (["import", "--run", "demo", "--blocks", "24"], "0 to 23"),
    ):
        code, failed = call(capsys, *argv)
        assert code == 2 and says in failed["error"] and "\n" not in failed["error"], (argv, failed)


def test_a_search_that_the_budget_does_not_pay_for_is_named():
    report = {"increase": 0.5, "increase_se": None}
    greedy = {"removed": [1], "forwards": 12.5, "loss": 3.5, "report": report}
    found = {"methods": {"greedy": greedy}, "original": 3.0, "budget": 12.5}
    found["curves"] = {"greedy": [[12.5, 3.5]], "evolutionary": []}
    assert "12.5 forwards do not pay for the first states of: evolutionary" in peers.describe(found)
    assert "pay" not in peers.describe({**found, "curves": {"greedy": [[12.5, 3.5]]}})
