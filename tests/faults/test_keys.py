"""A name changes with everything that changes what it names, and with nothing else."""

import gzip
import json
import os
from dataclasses import replace
from shutil import copytree

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from core import jobs
from core.calibration import calibrate
from core.calibration.calibrate import run_key
from core.job_kinds import benchmark
from core.jobs.progress import Progress
from core.model.load import load_model
from core.store import runs
from core.store.results import Results
from core.texts import pack, read_texts
from tests.conftest import TEXT, write_tiny


def rows(text: str) -> str:
    return "\n".join(json.dumps({"text": d}) for d in text.split("\n\n"))


def packed(place):
    place.write_bytes(gzip.compress(rows(TEXT).encode()))
    return place


@pytest.fixture(scope="session")
def text_file(tmp_path_factory):
    """The texts of conftest as rows, which EOS joins."""
    return written(tmp_path_factory.mktemp("rows") / "text.jsonl", rows(TEXT))


class Case:
    """What a run's key is made of; a test changes one thing."""

    def __init__(self, model, text_file):
        self.model, self.texts = model, text_file
        self.split, self.length, self.samples, self.draw = "calibrate", 32, 20, 0
        self.sampled, self.label_seed, self.singles = True, 0, 4

    def sequences(self, loaded):
        return pack(
            read_texts(self.texts), loaded.tokenizer, self.split, self.length, self.samples, self.draw
        )

    def key(self, change=lambda sequences: sequences) -> str:
        loaded = load_model(str(self.model))
        singles = (
            pack(read_texts(self.texts), loaded.tokenizer, "choose", self.length, self.singles)
            if self.singles
            else None
        )
        return run_key(loaded, change(self.sequences(loaded)), self.sampled, singles, self.label_seed)


def copied(model, place, **files):
    """A copy of a model; a file's JSON is updated by a dict, its bytes are changed by a function."""
    folder = copytree(model, place)
    for name, change in files.items():
        path = folder / {"weights": "model.safetensors"}.get(name, f"{name}.json")
        if callable(change):
            path.write_bytes(change(path.read_bytes()))
        else:
            path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    return folder


def last_bit(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def scaled(content: bytes) -> bytes:
    return save({name: 2 * tensor for name, tensor in load(content).items()}, metadata={"format": "pt"})


def other_vocabulary(content: bytes) -> bytes:
    """The tokens of two letters change places."""
    tokenizer = json.loads(content)
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["e"], vocabulary["o"] = vocabulary["o"], vocabulary["e"]
    return json.dumps(tokenizer).encode()


def in_two_domains(place, swapped=False):
    lines = [
        json.dumps({"text": t, "domain": "ab"[(k + swapped) % 2]}) for k, t in enumerate(TEXT.split("\n\n"))
    ]
    place.write_text("\n".join(lines))
    return place


def written(place, content):
    place.write_text(content)
    return place


FIELDS = {  # name: what differs
    "one bit of one weight": lambda c, t, m: setattr(c, "model", copied(c.model, t / "a", weights=last_bit)),
    "all weights, same config": lambda c, t, m: setattr(c, "model", copied(c.model, t / "a", weights=scaled)),
    "another type": lambda c, t, m: setattr(c, "model", write_tiny(t / "a", "mistral")),
    "a field of the config": lambda c, t, m: setattr(
        c, "model", copied(c.model, t / "a", config={"rms_norm_eps": 1e-3})
    ),
    "vocabulary": lambda c, t, m: setattr(c, "model", copied(c.model, t / "a", tokenizer=other_vocabulary)),
    "BOS": lambda c, t, m: setattr(
        c, "model", copied(c.model, t / "a", tokenizer_config={"bos_token": "</s>"})
    ),
    "EOS joins documents": lambda c, t, m: setattr(
        c, "model", copied(c.model, t / "a", tokenizer_config={"eos_token": "!"})
    ),
    "one letter of the texts": lambda c, t, m: setattr(
        c, "texts", written(t / "x.jsonl", rows(TEXT.replace("fox", "fix")))
    ),
    "running text, no rows": lambda c, t, m: setattr(c, "texts", written(t / "x.txt", TEXT)),
    "split": lambda c, t, m: setattr(c, "split", "report"),
    "length": lambda c, t, m: setattr(c, "length", 33),
    "samples": lambda c, t, m: setattr(c, "samples", 21),
    "seed of the drawing": lambda c, t, m: setattr(c, "draw", 1),
    "no sampled labels": lambda c, t, m: setattr(c, "sampled", False),
    "seed of the labels": lambda c, t, m: setattr(c, "label_seed", 1),
    "no single removals": lambda c, t, m: setattr(c, "singles", 0),
    "number of single removals": lambda c, t, m: setattr(c, "singles", 5),
    "gate": lambda c, t, m: m.setattr(calibrate, "gate_of", lambda loaded: "another"),
    "loss": lambda c, t, m: m.setattr(calibrate, "LOSS", "another"),
    "dtype of the gradients": lambda c, t, m: m.setattr(calibrate, "_dtype", lambda loaded: "bfloat16"),
    "format": lambda c, t, m: m.setattr(runs, "FORMAT", 2),
    "one token": lambda c, t, m: (
        lambda s: replace(s, ids=np.where(np.arange(s.ids.size).reshape(s.ids.shape) == 70, 9, s.ids))
    ),
    "one domain label": lambda c, t, m: lambda s: replace(s, domain=s.domain * 0, domains=("other",)),
    "which sample draws which labels": lambda c, t, m: lambda s: replace(s, index=s.index[::-1].copy()),
}


@pytest.fixture(scope="module")
def plain_key(tiny, text_file):
    return Case(tiny["llama"], text_file).key()


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_that_changes_rows_changes_the_runs_key(
    tiny, text_file, tmp_path, monkeypatch, plain_key, field
):
    case = Case(tiny["llama"], text_file)
    change = FIELDS[field](case, tmp_path, monkeypatch)
    assert case.key(*[change] if change else []) != plain_key


def test_domain_labels_of_a_file_change_the_key(tiny, tmp_path):
    case = Case(tiny["llama"], in_two_domains(tmp_path / "a.jsonl"))
    before = case.key()
    case.texts = in_two_domains(tmp_path / "b.jsonl", swapped=True)
    assert case.key() != before


def touched(path):
    for file in path.iterdir():
        os.utime(file, (1, 1))
    return path


def renamed_shard(folder):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    header = json.loads(
        (folder / "model-00001-of-00001.safetensors").read_bytes()[8:].split(b"}}")[0] + b"}}"
    )
    (folder / "model.safetensors.index.json").write_text(
        json.dumps(
            {
                "metadata": {},
                "weight_map": {k: "model-00001-of-00001.safetensors" for k in header if k != "__metadata__"},
            }
        )
    )
    return folder


IRRELEVANT = {
    "renamed and moved model": lambda c, t, m: setattr(
        c, "model", copied(c.model, t / "deep" / "other name")
    ),
    "touched model": lambda c, t, m: setattr(c, "model", touched(copied(c.model, t / "a"))),
    "name of the weight file": lambda c, t, m: setattr(c, "model", renamed_shard(copied(c.model, t / "a"))),
    "how it generates": lambda c, t, m: setattr(
        c, "model", copied(c.model, t / "a", generation_config={"top_k": 3})
    ),
    "name and packing of the text file": lambda c, t, m: setattr(c, "texts", packed(t / "y.jsonl.gz")),
    "threads": lambda c, t, m: torch.set_num_threads(torch.get_num_threads() + 1),
}


@pytest.mark.parametrize("what", IRRELEVANT)
def test_what_changes_no_row_leaves_the_key(tiny, text_file, tmp_path, monkeypatch, plain_key, what):
    case = Case(tiny["llama"], text_file)
    threads = torch.get_num_threads()
    try:
        IRRELEVANT[what](case, tmp_path, monkeypatch)
        assert case.key() == plain_key
    finally:
        torch.set_num_threads(threads)


def test_the_batch_is_not_in_the_key_of_a_run(tiny, text_file):
    loaded, case = load_model(str(tiny["llama"])), Case(tiny["llama"], text_file)
    keys = {calibrate.calibrate(loaded, case.sequences(loaded), batch=batch).key for batch in (1, 3, 20)}
    assert len(keys) == 1


def measured(place, **changes) -> dict[tuple, int]:
    """{store key: items} after a benchmark of one state."""
    request = {
        "texts": None,
        "states": [[1]],
        "sequences": 4,
        "length": 24,
        "tasks": False,
        "prompt": "",
        **changes,
    }
    place.mkdir(exist_ok=True)
    result = benchmark.run(request, Progress(place))
    return {
        m.key: m.items.tolist()
        for m in Results().of_model(result["model"])
        if m.key.metric not in ("tokens_per_second", "kl", "same")  # named as the loss beside them is
    }


RESULT_FIELDS = {
    "weights": lambda r, t: r.update(model=str(copied(r["model"], t / "m", weights=last_bit))),
    "config": lambda r, t: r.update(model=str(copied(r["model"], t / "m", config={"rms_norm_eps": 1e-3}))),
    "vocabulary": lambda r, t: r.update(model=str(copied(r["model"], t / "m", tokenizer=other_vocabulary))),
    "BOS": lambda r, t: r.update(
        model=str(copied(r["model"], t / "m", tokenizer_config={"bos_token": "</s>"}))
    ),
    "removed blocks": lambda r, t: r.update(states=[[2]]),
    "texts": lambda r, t: r.update(texts=str(written(t / "x.txt", TEXT.replace("fox", "fix")))),
    "length": lambda r, t: r.update(length=25),
}


@pytest.mark.parametrize("field", RESULT_FIELDS)
def test_a_measurement_is_never_taken_for_another(tiny, text_file, tmp_path, field):
    request = {"model": str(tiny["llama"]), "texts": str(text_file)}
    before = measured(tmp_path / "a", **request)
    RESULT_FIELDS[field](request, tmp_path)
    after = measured(tmp_path / "b", **request)
    new = {key: items for key, items in after.items() if key not in before}
    assert len(before) == 1 and len(new) == 1 and len(next(iter(new.values()))) == 4
    assert all(after.get(key, items) == items for key, items in before.items())


def test_measurements_are_told_apart_by_split_and_metric_and_shared_across_names(tiny, text_file, tmp_path):
    request = {"model": str(tiny["llama"]), "texts": str(text_file)}
    (key,) = measured(tmp_path / "a", **request)
    results = Results()
    for other in (
        replace(key, split="choose"),
        replace(key, metric="task:loss"),
        replace(key, settings="{}"),
    ):
        assert results.items(key) and not results.items(other)
    request = {
        "model": str(copied(tiny["llama"], tmp_path / "renamed")),
        "texts": str(written(tmp_path / "copy.jsonl", rows(TEXT))),
    }
    assert set(measured(tmp_path / "b", **request)) == {key}


def test_task_answers_belong_to_a_tokenizer_and_an_arithmetic(tiny, tmp_path, monkeypatch):
    from core.tasks.items import read_tasks

    monkeypatch.setattr(benchmark, "read_tasks", lambda: read_tasks()[:3])
    request = {"model": str(tiny["llama"]), "tasks": True}
    tasks = lambda found: {k for k in found if k.metric.startswith("task:")}  # noqa: E731
    before = tasks(measured(tmp_path / "a", **request))
    request["model"] = str(copied(tiny["llama"], tmp_path / "m", tokenizer=other_vocabulary))
    assert before and len(tasks(measured(tmp_path / "b", **request))) == 2 * len(before)
    on_gpu = {"dtype": "bfloat16", "device": "cuda"}
    monkeypatch.setattr("core.model.load.LoadedModel.arithmetic", lambda self: on_gpu)
    assert len(tasks(measured(tmp_path / "c", **request))) == 3 * len(before)


REQUEST = {"samples": 4, "length": 24, "seed": 0, "batch": 2, "sampled": True, "singles": 4}


def test_every_entry_of_a_request_names_another_job(tiny, text_file, no_worker):
    request = {
        "model": str(tiny["llama"]),
        "texts": str(text_file),
        "inputs": jobs.fingerprint(str(tiny["llama"])),
        **REQUEST,
    }
    changes = {
        "model": "demo",
        "texts": None,
        "inputs": {},
        "samples": 5,
        "length": 25,
        "seed": 1,
        "batch": 3,
        "sampled": False,
        "singles": 0,
    }
    assert set(changes) == set(request)
    first = jobs.start("calibrate", request).id
    # the order of entries is no difference
    assert jobs.start("calibrate", dict(reversed(request.items()))).id == first
    others = [jobs.start("calibrate", {**request, name: value}).id for name, value in changes.items()]
    assert len({first, jobs.start("prune", request).id, *others}) == len(others) + 2


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "merges.txt",
        "tokenizer.model",
        "chat_template.jinja",
    ],
)
def test_a_file_of_the_model_changed_behind_its_back_is_another_request(tiny, tmp_path, name):
    """Same size, and the time of modification set back."""
    folder = copied(tiny["llama"], tmp_path / "m")
    file = folder / name
    if not file.exists():
        file.write_bytes(b"some merges")
    before, times = jobs.fingerprint(str(folder)), os.stat(file)
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert jobs.fingerprint(str(folder)) != before
