"""Healing as a job and a command: the table, the checkpoint and its record, the curve."""

import csv
import json

import pytest
import torch

from core import jobs
from core.__main__ import main
from core.errors import InputError
from core.export.record import is_export_of, is_healed_of
from core.job_kinds import heal
from core.jobs.progress import Cancelled, Progress
from core.jobs.requests import request_of
from core.measure.evaluation import sequence_losses
from core.model.load import load_model


def a_request(tiny, texts, out, settings, **changes) -> dict:
    return request_of(
        str(tiny),
        texts,
        **{
            "blocks": [2, 3],
            "settings": settings,
            "sequences": 32,
            "held": 8,
            "report": 16,
            "length": 24,
            "seed": 0,
            "tasks": False,
            "prompt": "the quick",
            "out": str(out),
            "zip": False,
            "provenance": {},
            **changes,
        },
    )


def done(request, tmp_path) -> tuple[dict, Progress]:
    folder = tmp_path / "job"
    folder.mkdir(exist_ok=True)
    progress = Progress(folder)
    return heal.run(request, progress), progress


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "lora", "tokens": 4000, "rate": 3e-3, "batch": 4},
        {"method": "seams", "tokens": 3000, "batch": 4, "replace": "merge"},
        {"method": "linear"},
    ],
    ids=["lora", "merge, then seams", "linear"],
)
def test_a_healed_checkpoint_is_the_student_and_says_so(tiny, some_texts, tmp_path, settings):
    out = tmp_path / "out"
    request = a_request(tiny["llama"], some_texts, out, settings)
    found, progress = done(request, tmp_path)
    record = json.loads((out / "blockscape.json").read_text())
    assert record["removed"] == [2, 3] and record["healed"]["asked"]["settings"] == settings
    assert record["healed"]["report"] == found["table"] and record["healed"]["won"] == found["won"]
    assert not is_export_of(out, request["model"], [2, 3])
    assert is_healed_of(out, request["model"], [2, 3], heal._asked(request))
    assert not is_healed_of(out, request["model"], [2, 3], {**heal._asked(request), "seed": 1})

    again, original = load_model(str(out)), load_model(str(tiny["llama"]))
    texts = heal.draw_sequences(original, heal.read_sources(some_texts), request, "report", 16, progress)
    losses = {name: row["loss"] for name, row in found["table"].items()}
    assert sequence_losses(again, texts.ids).mean() == pytest.approx(losses["healed"], abs=1e-5)
    assert sequence_losses(original, texts.ids).mean() == pytest.approx(losses["original"], abs=1e-6)
    assert sequence_losses(original, texts.ids, [2, 3]).mean() == pytest.approx(losses["pruned"], abs=1e-6)
    assert found["won"] == heal._won(found["table"])
    assert found["replies"].keys() == {"original", "pruned", "healed"}

    rows = list(csv.DictReader(open(found["curve"], newline="")))
    if settings["method"] == "linear":
        assert not rows and found["training"]["steps"] == 0
        assert found["training"]["after"]["kl"] < found["training"]["before"]["kl"]
    else:
        held = [float(row["kl"]) for row in rows if row["kl"]]
        assert min(held) == pytest.approx(found["training"]["after"]["kl"])
        noted = [json.loads(line) for line in (progress.folder / "curves.jsonl").read_text().splitlines()]
        assert [y for name, _, y, _ in noted if name == "kl"] == pytest.approx(held)


def test_what_was_won_back_is_a_share_of_the_increase():
    def won(*losses):
        return heal._won({n: {"loss": x} for n, x in zip(("original", "pruned", "healed"), losses)})

    assert won(1.0, 3.0, 1.5) == 0.75 and won(1.0, 3.0, 4.0) == -0.5
    assert won(2.0, 2.0, 1.0) is None and won(2.0, 1.5, 1.0) is None  # nothing was lost


def test_a_second_worker_writes_the_same_again(tiny, some_texts, tmp_path):
    """One that was killed behind the export: the checkpoint that is there is this very one, and made anew."""
    request = a_request(tiny["llama"], some_texts, tmp_path / "out", {"method": "merge"})
    first, _ = done(request, tmp_path)
    weights = (tmp_path / "out" / "model.safetensors").read_bytes()
    second, _ = done(request, tmp_path)
    assert first == second and (tmp_path / "out" / "model.safetensors").read_bytes() == weights
    other = {**request, "settings": {"method": "linear"}}
    with pytest.raises(InputError, match="already exists"):
        done(other, tmp_path)


def test_half_precision_is_written_as_it_is_verified(tiny, some_texts, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path / "half"
    AutoModelForCausalLM.from_pretrained(tiny["llama"], dtype=torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny["llama"]).save_pretrained(folder)
    request = a_request(folder, some_texts, tmp_path / "out", {"method": "linear"}, prompt=None)
    found, _ = done(request, tmp_path)
    assert found["verified"] and found["replies"] == {}
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"


def test_a_healing_that_was_cancelled_goes_on(tiny, some_texts, tmp_path, monkeypatch):
    steps, report = [], Progress.report

    def told(self, done, total, message):
        if message.startswith("healing"):
            steps.append(done)
            if done == 20 and len(steps) == 20:
                (self.folder / "cancel").touch()
        report(self, done, total, message)

    monkeypatch.setattr(Progress, "report", told)
    settings = {"method": "seams", "tokens": 4000, "batch": 4}
    request = a_request(tiny["llama"], some_texts, tmp_path / "out", settings, prompt=None)
    with pytest.raises(Cancelled):
        done(request, tmp_path)
    assert not (tmp_path / "out").exists()
    (tmp_path / "job" / "cancel").unlink()
    found, progress = done(request, tmp_path)
    assert found["training"]["steps"] == 41 and steps[20] == 16  # the last checkpoint is of step 15
    noted = [json.loads(line) for line in (progress.folder / "curves.jsonl").read_text().splitlines()]
    tokens = [x for name, x, _, _ in noted if name == "kl"]
    assert tokens[0] == 0 and tokens == sorted(set(tokens)) and tokens[-1] == 41 * 4 * 24


@pytest.mark.parametrize(
    "options, said",
    [
        (["--model", "demo"], "Which state is to be healed"),
        (["--run", "demo"], "Which state is to be healed"),
        (["--model", "demo", "--blocks", "3,12a"], "'12a' is a part of one"),
        (["--run", "demo", "--remove", "3", "--by", "branch"], "whole blocks"),
        (["--model", "demo", "--blocks", "3", "--method", "glue"], "no method 'glue'"),
        (["--model", "demo", "--blocks", "3", "--minutes", "0"], "minutes must be"),
        (["--model", "demo", "--blocks", "3", "--minutes", "1", "--tokens", "9"], "one budget"),
    ],
)
def test_what_the_command_refuses(tmp_path, capsys, options, said):
    assert main(["heal", *options, "--out", str(tmp_path / "out"), "--json"]) == 2
    assert said in json.loads(capsys.readouterr().out)["error"]


def test_a_healing_in_the_list_of_jobs(tiny, some_texts, tmp_path):
    request = a_request(tiny["llama"], some_texts, tmp_path, {"method": "lora", "minutes": 2.5})
    assert jobs.about("heal", request) == "llama · without 2, 3, lora, 2.5 minutes"
