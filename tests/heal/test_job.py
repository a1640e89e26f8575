"""Healing as a job and a command: the table, the checkpoint and its record, the curve."""

import csv
import json
import tempfile
from pathlib import Path

import pytest
import torch

from core import jobs
from core.__main__ import main
from core.cli.heal import describe
from core.energy.sources import open_source
from core.errors import InputError
from core.export import workshop
from core.forms.record import is_export_of, is_healed_of
from core.heal.healing import heal as heal_now
from core.heal.settings import Settings
from core.job_kinds import heal
from core.jobs.files import id_of
from core.jobs.progress import Cancelled, Progress
from core.jobs.requests import request_of
from core.measure.evaluation import sequence_losses
from core.model.load import load_model, wrap
from core.spectrum.lowest import lowest_states
from tests.zoo import tiny_model


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


def test_room_where_the_checkpoint_goes_is_looked_at_before_anything_is_learned(
    tiny, some_texts, tmp_path, monkeypatch
):
    """On another disk than the job's."""
    usage, full = workshop.shutil.disk_usage, type("Usage", (), {"free": 10_000})
    with tempfile.TemporaryDirectory(dir="/dev/shm") as disk:
        monkeypatch.setattr(
            workshop.shutil, "disk_usage", lambda f: full if str(f).startswith("/dev/shm") else usage(f)
        )
        out = Path(disk) / "exports" / "out"
        request = a_request(tiny["llama"], some_texts, out, {"method": "lora", "tokens": 4000})
        with pytest.raises(InputError, match=f"0.00 GB and 0.00 GB are free at '{disk}'; free some"):
            done(request, tmp_path)
        assert not out.parent.exists() and not list((tmp_path / "job").rglob("*.safetensors"))


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


@pytest.mark.parametrize("kind, method", [("llama", "kl"), ("gpt2", "lora")])
def test_attention_and_ffn_alone_are_healed_too(tiny, some_texts, tmp_path, kind, method):
    """Written in the portable form, which a stranger's process must load and find to be the student."""
    settings = {"method": method, "tokens": 4000, "rate": 3e-3, "batch": 4}
    state = [1, "2a", "4f"]
    request = a_request(tiny[kind], some_texts, tmp_path / "out", settings, blocks=state)
    found, progress = done(request, tmp_path)
    record = json.loads((tmp_path / "out" / "blockscape.json").read_text())
    assert record["removed"] == state and record["form"] == found["form"] == "portable"
    assert found["verified"] and found["units"] == [12, 8] and found["blocks"] == [6, 5]
    table = {name: row["loss"] for name, row in found["table"].items()}
    training = found["training"]
    assert training["after"]["kl"] < 0.9 * training["before"]["kl"] and training["steps"] == 4000 // 96
    again, original = load_model(str(tmp_path / "out")), load_model(str(tiny[kind])).seen("branch")
    assert again.parameters() == found["parameters"][1] < found["parameters"][0]
    texts = heal.draw_sequences(original, heal.read_sources(some_texts), request, "report", 16, progress)
    assert sequence_losses(again, texts.ids).mean() == pytest.approx(table["healed"], abs=1e-5)
    pruned = sequence_losses(original, texts.ids, original.units.parse("1,2a,4f")).mean()
    assert pruned == pytest.approx(table["pruned"], abs=1e-6)
    assert is_healed_of(tmp_path / "out", request["model"], state, heal._asked(request))
    with pytest.raises(InputError, match="take the model that it was made from"):
        done({**request, "model": str(tmp_path / "out"), "blocks": [0]}, tmp_path / "job")


@pytest.mark.parametrize(
    "settings",
    [{"method": "seams", "tokens": 3000, "batch": 4}, {"method": "linear"}],
    ids=["seams", "linear"],
)
def test_one_call_of_python_heals_as_the_job_does(tiny, some_texts, tmp_path, settings):
    request = a_request(tiny["llama"], some_texts, tmp_path / "out", settings, prompt=None)
    training = done(request, tmp_path)[0]["training"]
    given = {name: request[name] for name in ("texts", "length", "sequences", "held", "seed")}
    student, trained = heal_now(str(tiny["llama"]), [2, 3], **settings, **given)
    assert (trained.after.kl, trained.tokens) == (training["after"]["kl"], training["tokens"])
    assert trained.after.kl < trained.before.kl and len(student.blocks) == 4
    with pytest.raises(InputError, match="'4a' is a part"):
        heal_now(str(tiny["llama"]), [2, "4a"], "seams")


def test_a_state_that_no_checkpoint_could_say_is_refused_before_anything_is_learned():
    """Which blocks of jamba are attention is a matter of their numbers; so it is after each round."""
    teacher = wrap(tiny_model("jamba", 8), None, "jamba", None)
    settings = Settings("seams", tokens=100)
    with pytest.raises(InputError, match="by a period"):
        heal._parts({}, teacher, [1], settings)
    whole = [0, 1, 2, 3]
    assert heal._parts({}, teacher, whole, settings) == [whole]
    with pytest.raises(InputError, match="by a period"):
        heal._parts({"parts": [[0, 1], [2, 3]]}, teacher, whole, settings)


def test_it_learns_from_answers_and_is_judged_on_the_texts(tiny, some_texts, tmp_path):
    prompts = tmp_path / "prompts.csv"
    prompts.write_text("id,question\n" + "\n".join(f"{k},what is {k}?" for k in range(40)))
    named = f"{prompts}::column=question"
    settings = {"method": "seams", "tokens": 3000, "batch": 4}
    asked = {"sequences": 24, "length": 48, "prompt": None}
    request = a_request(tiny["llama"], some_texts, tmp_path / "out", settings, **asked, answers=named)
    assert any(str(prompts) in path for path in request["inputs"])
    found, _ = done(request, tmp_path)
    record = json.loads((tmp_path / "out" / "blockscape.json").read_text())["healed"]
    assert record["texts"]["source"] == f"answers to {prompts}" and record["texts"]["sequences"] <= 24
    assert record["asked"]["answers"] == named and found["training"]["steps"]
    plain = a_request(tiny["llama"], some_texts, tmp_path / "other", settings, **asked)
    own = {**plain, "learn": "own"}
    (tmp_path / "own").mkdir()
    table = done(own, tmp_path / "own")[0]["table"]
    assert table["pruned"] == found["table"]["pruned"] and table["healed"] != found["table"]["healed"]
    with pytest.raises(InputError, match="name one of the two"):
        done({**own, "answers": named, "out": str(tmp_path / "third")}, tmp_path / "own")


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


def test_a_state_that_goes_in_rounds(tiny, some_texts, tmp_path):
    settings = {"method": "seams", "tokens": 4000, "batch": 4}
    asked = {"blocks": [1, 3, 4], "parts": [[4], [1, 3]], "prompt": None}
    request = a_request(tiny["llama"], some_texts, tmp_path / "out", settings, **asked)
    assert jobs.about("heal", request) == "llama · without 1, 3, 4, seams, 4000 tokens, in 2 rounds, batch 4"
    found, _ = done(request, tmp_path)
    record = json.loads((tmp_path / "out" / "blockscape.json").read_text())
    assert record["healed"]["asked"]["parts"] == [[4], [1, 3]] and record["removed"] == [1, 3, 4]
    assert found["training"]["steps"] == 2 * (2000 // 96) and found["blocks"] == [6, 3]
    assert found["table"]["healed"]["loss"] < found["table"]["pruned"]["loss"]
    request["parts"] = [[4], [1, 2]]
    with pytest.raises(InputError, match="are no parts of"):
        done(request, tmp_path)


@pytest.mark.parametrize(
    "options, said",
    [
        (["--model", "demo"], "Which state is meant"),
        (["--model", "demo", "--blocks", "3", "--rank", "0"], "leave either out"),
        (["--model", "demo", "--blocks", "3", "--remove", "1"], "leave either out"),
        (["--run", "demo"], "Nothing says how much to remove"),
        (["--model", "demo", "--blocks", "3,12a", "--method", "seams"], "'12a' is a part of a block"),
        (["--model", "demo", "--blocks", "3,12a", "--replace", "linear"], "'linear' is about whole ones"),
        (["--model", "demo", "--blocks", "3,12a", "--rounds", "2"], "2 rounds take whole ones"),
        (["--run", "demo", "--remove", "3", "--by", "branch", "--rounds", "2"], "Rounds take whole blocks"),
        (["--model", "demo", "--blocks", "3", "--learn", "own", "--answers", "p.csv"], "not allowed with"),
        (["--model", "demo", "--blocks", "3", "--method", "glue"], "no method 'glue'"),
        (["--model", "demo", "--blocks", "3", "--minutes", "0"], "minutes must be"),
        (["--model", "demo", "--blocks", "3", "--rounds", "2"], "cannot be removed in 2 rounds"),
        (["--model", "demo", "--blocks", "3,4", "--rounds", "2", "--replace", "merge"], "plain removal"),
        (["--model", "demo", "--blocks", "3", "--minutes", "1", "--tokens", "9"], "one budget"),
    ],
)
def test_what_the_command_refuses(tmp_path, capsys, options, said):
    assert main(["heal", *options, "--out", str(tmp_path / "out"), "--json"]) == 2
    assert said in json.loads(capsys.readouterr().out)["error"]


def test_a_name_that_is_taken_is_told_before_anything_is_learned(tiny, some_texts, tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    monkeypatch.setattr(heal, "_drawn", lambda *_: pytest.fail("texts were drawn"))
    with pytest.raises(InputError, match="already exists"):
        done(a_request(tiny["llama"], some_texts, out, {"method": "linear"}), tmp_path)
    assert (out / "notes.txt").read_text() == "mine"
    (tmp_path / "other.csv").write_text("mine")
    with pytest.raises(InputError, match="other.csv' already exists"):
        done(a_request(tiny["llama"], some_texts, tmp_path / "other", {"method": "linear"}), tmp_path)
    assert (tmp_path / "other.csv").read_text() == "mine"
    inside = tiny["llama"] / "healed"
    with pytest.raises(InputError, match="lies in the folder of the model"):
        done(a_request(tiny["llama"], some_texts, inside, {"method": "linear"}), tmp_path)


def test_a_healing_in_the_list_of_jobs(tiny, some_texts, tmp_path):
    request = a_request(tiny["llama"], some_texts, tmp_path, {"method": "lora", "minutes": 2.5})
    assert jobs.about("heal", request) == "llama · without 2, 3, lora, 2.5 minutes, asked 'the quick'"


def test_several_states_are_healed_alike_and_compared(tmp_path, capsys, monkeypatch):
    def here(kind, request):  # no worker to wait for
        folder = jobs.folder_of(id_of(kind, request))
        folder.mkdir(parents=True, exist_ok=True)
        return heal.run(request, Progress(folder))

    monkeypatch.setattr("core.cli.heal.as_job", here)
    small = ["--method", "merge", "--sequences", "8", "--held", "4", "--report", "8", "--no-tasks"]
    command = ["heal", "--run", "demo", "--remove", "3", "--rank", "9,0,3", *small]
    assert main([*command, "--out", str(tmp_path / "out"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [own["rank"] for own in found["states"]] == [0, 3, 9]
    listed = lowest_states(open_source("demo").couplings("h0"), 3, 10)
    assert [tuple(own["removed"]) for own in found["states"]] == [listed.removed[k] for k in (0, 3, 9)]
    energies = [own["energy"] for own in found["states"]]
    assert energies == sorted(energies) and found["orders"]["places"]["energy"] == [1, 2, 3]
    for name, model in (("before", "pruned"), ("after", "healed")):
        losses = [own["table"][model]["loss"] for own in found["states"]]
        assert found["orders"]["places"][name] == [sorted(losses).index(loss) + 1 for loss in losses]
    assert set(found["orders"]["spearman"]) == {"energy, before", "energy, after", "before, after"}
    for own in found["states"]:
        record = json.loads((tmp_path / "out" / f"rank-{own['rank']}" / "blockscape.json").read_text())
        assert record["removed"] == own["removed"] and record["healed"]["asked"]["settings"] == {
            "method": "merge"
        }
    printed = describe(found)
    assert "Spearman of before, after" in printed and printed.count(", verified") == 3
