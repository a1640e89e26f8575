"""Evaluation protocols as data: what is asked, of which data, in what form, by which version of the harness.

A score means something only together with all of that, so every result carries its preset.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import InputError
from core.store.folders import ASSETS
from core.tasks.task_files import over_folder, parse_task

HARNESS = "0.4.13"  # of lm_eval; requirements.txt pins the same
BOS = ("tokenizer", "auto", "always", "never")
TEMPLATES = ("none", "chat")


@dataclass(frozen=True)
class Preset:
    """One protocol. `tasks`: as core.tasks.task_files.parse_task takes them.

    dataset, revision: what the harness's task file names (revision None: it names none, and the hub's newest
        is taken; the documents' digest is part of every measurement).
    metric: METRIC,FILTER, the one number that is quoted; others are kept too.
    shots: None leaves the task file's own.
    length: tokens of prompt and answer together, what is longer loses its beginning; None: what the model
        has.
    bos: tokenizer (what it adds by itself), auto (one first, if there is one), always or never.
    template: none, or chat (the tokenizer's chat template, examples as turns).
    metrics: {task: METRIC,FILTER} of tasks that are quoted by another one than `metric`.
    items: so many of each task, drawn with `seed`; None: all.
    """

    name: str
    tasks: tuple[str, ...]
    dataset: str = ""
    revision: str | None = None
    metric: str = ""
    shots: int | None = None
    length: int | None = None
    bos: str = "tokenizer"
    template: str = "none"
    harness: str = HARNESS
    metrics: Mapping[str, str] = field(default_factory=dict)
    items: int | None = None
    seed: int = 0

    def to_json(self) -> dict:
        """All of it, as results keep it beside their scores; what is as usual since is left out, so that a
        protocol of before is the same request.
        """
        usual: dict[str, Any] = {"metrics": {}, "items": None, "seed": 0}
        whole = {**asdict(self), "tasks": list(self.tasks)}
        return {name: value for name, value in whole.items() if name not in usual or value != usual[name]}

    @classmethod
    def from_json(cls, whole: dict) -> "Preset":
        """What `to_json` gave."""
        return cls(**{**whole, "tasks": tuple(whole["tasks"])})

    def quoted(self, task: str) -> str:
        """METRIC,FILTER that a task is quoted by; empty: its first."""
        return self.metrics.get(task, self.metric)

    def drawn(self, count: int, limit: int | None = None) -> list[int] | None:
        """Which of a task's `count` items are asked, sorted, at most `limit`; None: the protocol draws none.
        Fewer are a part of more.
        """
        if self.items is None:
            return None
        most = min(self.items, limit or self.items)
        return sorted(np.random.default_rng(self.seed).permutation(count)[:most].tolist())


# holds the longest of these prompts; one number for all, so that original and pruned model see the same text
_LENGTH = 4096
# The six benchmarks of arXiv 2602.00161. Data sets, metrics and filters are those of the harness's own task
# files. Shots are not read off the paper: arc_challenge 25, hellaswag 10, mmlu 5, winogrande 5 and gsm8k 5
# are those of the first Open LLM Leaderboard, which pruning papers quote; bbh 3 (with chains of thought) is
# the task files' own number, as is gsm8k's 5. With 8 fixed examples GSM8K is the harness's task gsm8k_cot.
PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            name="bundled",
            tasks=(str(ASSETS / "tasks" / "bundled.yaml"),),
            dataset="assets/demo/tasks.jsonl",
            metric="acc,none",
            shots=0,
            bos="auto",
        ),
        Preset("mmlu", ("mmlu",), "cais/mmlu", None, "acc,none", 5, _LENGTH),
        Preset("winogrande", ("winogrande",), "allenai/winogrande", None, "acc,none", 5, _LENGTH),
        Preset("gsm8k", ("gsm8k",), "openai/gsm8k", None, "exact_match,strict-match", 5, _LENGTH),
        Preset("bbh", ("bbh_cot_fewshot",), "SaylorTwift/bbh", None, "exact_match,get-answer", 3, _LENGTH),
        Preset("hellaswag", ("hellaswag",), "Rowan/hellaswag", None, "acc_norm,none", 10, _LENGTH),
        Preset("arc_challenge", ("arc_challenge",), "allenai/ai2_arc", None, "acc_norm,none", 25, _LENGTH),
        # small enough for a laptop: a thousand items, mostly short; quoted as pruning papers quote them
        Preset(
            name="quick-real",
            tasks=("arc_easy", "arc_challenge", "piqa", "winogrande", "openbookqa"),
            dataset="allenai/ai2_arc, baber/piqa, allenai/winogrande, allenai/openbookqa",
            metric="acc_norm,none",
            shots=0,
            metrics={"arc_easy": "acc,none", "winogrande": "acc,none"},
            items=200,
        ),
    )
}
PAPER = ("mmlu", "winogrande", "gsm8k", "bbh", "hellaswag", "arc_challenge")


def preset(name: str, shots: int | None = None) -> Preset:
    """The preset of this name; other shots make another protocol, and its name says so.

    Errors: InputError for an unknown name.
    """
    if name not in PRESETS:
        raise InputError(f"There is no preset {name[:60]!r}; choose one of {', '.join(PRESETS)}.")
    found = PRESETS[name]
    if shots in (None, found.shots):
        return found
    return replace(found, shots=shots, name=f"{name} ({shots} shots)")


def own(tasks: tuple[str, ...], shots: int | None = None) -> Preset:
    """The protocol of tasks that were named one by one: as the harness runs them when it is told no more."""
    return Preset("own", tasks, shots=shots)


def asked(
    tasks: Sequence[str], name: str | None, shots: int | None, data: str | None = None
) -> tuple[Preset, tuple[str, ...]]:
    """(the protocol, the files it reads) of tasks that were named, or of a preset.

    data: a folder with a file of rows for each task, as core.tasks.task_files.over_folder takes it.
    Errors: InputError.
    """
    if tasks and name:
        raise InputError(
            f"Either tasks or the preset {name[:40]!r} can be asked for, not both; leave one out."
        )
    protocol = preset(name, shots) if name else own(tuple(tasks), shots)
    parsed = [parse_task(text) for text in protocol.tasks]
    if data:
        parsed = over_folder(parsed, Path(data))
    protocol = replace(protocol, tasks=tuple(task.text() for task in parsed))
    return protocol, tuple(str(path) for task in parsed for path in task.reads())
