"""The kinds of jobs: how each is called, what its requests are about, whether what it made is still there.

What a kind does is the function `run(request, progress)` of core/job_kinds/<kind>.py, which only the
worker loads. A new kind is an entry here and that module.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from core.energy.mix import mix_label
from core.errors import InputError
from core.forms.names import NATIVE
from core.forms.record import read_record
from core.store.runs import file_sha256, stored_run


@dataclass(frozen=True)
class Kind:
    """What the app and the command line know of a kind of job without loading what it does."""

    name: str  # in the list of jobs
    doing: str  # on the chip, while it runs
    about: Callable[[dict], str] = lambda request: ""  # a request in a few words, beside its model
    # whether what a done job made of a request is still there
    whole: Callable[[dict, dict], bool] = lambda request, result: True
    in_parts: bool = False  # whether its progress is told of one part after the other, not of all of it
    resumes: bool = True  # whether a worker goes on where an earlier one was stopped


def _run_is_stored(request: dict, result: dict) -> bool:
    try:
        stored_run(result["key"])
    except InputError:
        return False
    return True


def _spectrum_is_whole(request: dict, result: dict) -> bool:
    out = Path(result["out"])
    return out.is_file() and file_sha256(out) == out.stem  # the file's name is its digest


def _states(request: dict) -> str:
    return f"{len(request.get('states', []))} states"


def _budget(request: dict) -> str:
    return f"M = {request.get('remove')}, {request.get('budget')} forwards{_by(request)}"


def _race(request: dict) -> str:
    return f"M = {request.get('remove')}, {_states(request)}{_by(request)}"


def _by(request: dict) -> str:
    return f", by {request['ruler']}" if "ruler" in request else ""


def _samples(request: dict) -> str:
    return f"{request.get('samples')} samples of {request.get('length')} tokens"


def _without(request: dict) -> str:
    return "without " + ", ".join(map(str, request.get("blocks", [])))


def _healing(request: dict) -> str:
    asked, units = request.get("settings", {}), ("minutes", "tokens")
    budget = next((f"{asked[unit]:g} {unit}" for unit in units if asked.get(unit)), "")
    rounds = f"in {len(request['parts'])} rounds" if request.get("parts") else ""
    unusual = [f"{name} {value}" for name, value in asked.items() if name not in ("method", *units)]
    answers = Path(request["answers"].partition("::")[0]).name if "answers" in request else ""
    learn = f"from answers to {answers}" if answers else "from its own texts" if "learn" in request else ""
    prompt = f"asked {request['prompt'][:30]!r}" if request.get("prompt") else ""
    told = [_without(request), asked.get("method"), budget, rounds, *unusual, learn, prompt]
    return ", ".join(filter(None, told))


def _is_there(request: dict, result: dict) -> bool:
    """Whether the checkpoint that a result names, if it names one, is still there, and no other was written
    to its place.
    """
    if "out" not in result:
        return True
    record = read_record(Path(result["out"]))
    if record is None:
        return Path(result["out"]).exists()
    made = (request["model"], result["removed"], result.get("form", NATIVE), "won" in result)
    return made == (
        record.get("source"),
        record.get("removed"),
        record.get("form", NATIVE),
        "healed" in record,
    )


def _search(request: dict) -> str:
    source, removed, count = (request.get(name) for name in ("source", "removed", "count"))
    mix = f" · mix {mix_label(request['mix'])}" if request.get("mix") else ""
    m = "free" if removed is None else f"= {removed}"
    return f"{str(source)[:8]} · M {m} · {count} states{mix}"


KINDS = {
    "describe": Kind("Look at a model", "looking at a model"),
    "calibrate": Kind("Calibration", "calibrating", _samples, _run_is_stored),
    "benchmark": Kind("Benchmark", "benchmarking", _states),
    "evaluate": Kind("Evaluation", "evaluating"),
    "speed": Kind("Speed", "timing tokens", lambda request: f"at {request.get('context')} tokens"),
    "prune": Kind("Prune", "pruning", _without, _is_there),
    "push": Kind("Send to the hub", "sending to the hub", lambda request: f"to {request.get('repo')}"),
    "heal": Kind("Heal", "healing", _healing, _is_there, in_parts=True),
    "learn": Kind("Learned landscape", "learning the landscape", _budget),
    "race": Kind("Race", "racing states", _race),
    "peers": Kind("Other methods", "running other methods", _budget),
    "harness": Kind("Benchmarks", "running benchmarks", _states),
    "chat": Kind("Chat", "answering", _without),
    "behaviour": Kind("Behaviour", "asking short prompts", _states),
    "solve": Kind("Search", "searching", _search, _spectrum_is_whole, resumes=False),
}


def kind_of(kind: str) -> Kind:
    """The kind of this name; one that is not known, as of a job from a later version, says its name alone."""
    return KINDS.get(kind, Kind(kind, kind))


def about(kind: str, request: dict) -> str:
    """What a request is about, in a few words: its model, then what its kind says."""
    model = str(request.get("model", "")).rstrip("/").rsplit("/", 1)[-1]
    return " · ".join(filter(None, [model, kind_of(kind).about(request)]))
