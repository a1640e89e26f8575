"""Train a student against its teacher within a budget: transformers' Trainer does the loop, the schedule,
accumulation, clipping and checkpoints.

Whatever ends a training, a worker that was killed goes on from its last checkpoint and arrives at the same
weights (CPU, one seed). All that decides is in what a checkpoint holds: whether to stop, and which weights
are best, is read from the Trainer's log.
"""

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import torch
from torch import nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import get_last_checkpoint

from core.errors import InputError
from core.heal.losses import distillation_loss
from core.heal.settings import Settings
from core.heal.student import keep, made_ready, merged, take
from core.heal.teacher import Padded, Teacher
from core.model.load import LoadedModel
from core.model.losses import sample_means, token_distances
from core.ranks import ALONE, Ranks
from core.texts import Sequences

Report = Callable[[int, int, str], None]
Note = Callable[[Mapping[str, float]], None]
_WHOLE, _PLAN, _BEST, _END = "whole", "plan.json", "best.safetensors", "end.json"
STATES, CHECKPOINTS = "teacher.npy", "checkpoints"
_LONG = 3  # evaluations in a row above the unhealed student: it diverges
_TIMED = 3  # steps


@dataclass(frozen=True)
class Held:
    """What a student is worth on sequences that no training sees, in nats a token."""

    kl: float
    loss: float


@dataclass(frozen=True)
class Trained:
    """What a training did. curve: a point a log line, {tokens, seconds} with loss of the training, or with kl
    and held_loss of the held-out sequences.
    """

    before: Held
    after: Held
    steps: int
    planned: int
    tokens: int
    seconds: float
    best_step: int
    stopped: str | None  # why before the budget's end, in a sentence
    curve: list[dict[str, float]] = field(default_factory=list)


class _Distillation(nn.Module):
    """What is trained, with the loss as its forward: what wraps it for several GPUs sees both. Always in
    evaluation mode: the teacher has no dropout, and the student will have none.
    """

    def __init__(self, model: nn.Module, student: LoadedModel, teacher: Teacher, settings: Settings):
        super().__init__()
        self.model = model
        self.heads = (student.head, teacher)
        self.settings = settings

    def train(self, mode: bool = True):
        return super().train(False)

    def forward(self, number, ids, scored, target):
        own, teacher = self.heads
        hidden = own.hidden(ids)
        heads = (own.logits, teacher.logits)
        return {"loss": distillation_loss(hidden, target, ids, scored, heads, self.settings)}


class _Healer(Trainer):
    """Trainer with our loss, our held-out figures, and checkpoints of what is trained alone."""

    def __init__(
        self, teacher: Teacher, judge: Callable[[], Held], tokens_after: Callable[[int], int], **arguments
    ):
        super().__init__(**arguments)
        self.teacher, self.judge, self.tokens_after = teacher, judge, tokens_after
        self.began, self.earlier = time.monotonic(), 0.0
        self.remove_callback(PrinterCallback)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        target = self.teacher.hidden(inputs["number"], inputs["ids"])
        found = model(**inputs, target=target)
        return (found["loss"], found) if return_outputs else found["loss"]

    def evaluate(self, *args, **kwargs):
        held = self.judge()
        found = {"kl": held.kl, "held_loss": held.loss}
        self.log(found)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, found)
        return found

    def log(self, logs, *args, **kwargs):
        seconds = self.earlier + time.monotonic() - self.began
        super().log({**logs, "tokens": self.tokens_after(self.state.global_step), "seconds": seconds})

    def _save(self, output_dir=None, state_dict=None):
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        keep(self.model, folder / "trained.safetensors")

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        take(self.model, Path(resume_from_checkpoint) / "trained.safetensors")
        log = json.loads((Path(resume_from_checkpoint) / "trainer_state.json").read_text())["log_history"]
        self.earlier = max((row.get("seconds", 0.0) for row in log), default=0.0)


class _Watch(TrainerCallback):
    """Keeps the best weights, ends what gets no better, and tells how far it is."""

    def __init__(self, model: nn.Module, work: Path, settings: Settings, report: Report, note: Note):
        self.model, self.work, self.settings = model, work, settings
        self.report, self.note = report, note

    def on_train_begin(self, args, state, control, **_):
        for row in state.log_history:
            self.note(row)

    def on_step_end(self, args, state, control, **_):
        self.report(state.global_step, state.max_steps, _message(state.log_history))

    def on_log(self, args, state, control, **_):
        self.note(state.log_history[-1])
        if self.stopped(state):
            control.should_training_stop = True

    def on_evaluate(self, args, state, control, **_):
        *earlier, kl = _held_out(state.log_history)
        if not earlier and not math.isfinite(kl):
            raise InputError(
                "The pruned model's loss is no number before any training; choose another state to heal."
            )
        if kl < min(earlier, default=math.inf) and state.is_world_process_zero:
            keep(self.model, self.work / _BEST)

    def on_save(self, args, state, control, **_):
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if state.is_world_process_zero:
            (folder / _WHOLE).touch()  # a worker that is killed while it writes leaves none

    def stopped(self, state: TrainerState) -> str | None:
        """Why a training with this log ends before its budget does; None where it does not."""
        kls = _held_out(state.log_history)
        if not all(math.isfinite(row["loss"]) for row in state.log_history if "loss" in row):
            return "The training loss is no number any more: the learning rate is too high."
        if not all(map(math.isfinite, kls)):
            return "The held-out loss is no number any more: the learning rate is too high."
        if len(kls) > _LONG and min(kls[-_LONG:]) > kls[0]:
            return (
                f"The training makes it worse: {_LONG} times in a row the held-out KL was above the unhealed "
                f"{kls[0]:.4f}, last {kls[-1]:.4f}; choose a lower learning rate, or leave it as it is."
            )
        if kls and len(kls) - 1 - kls.index(min(kls)) >= self.settings.patience:
            return f"The held-out KL got no better in {self.settings.patience} evaluations in a row."
        return None


def _held_out(log: Sequence[Mapping]) -> list[float]:
    """Held-out KL of each evaluation so far."""
    return [row["kl"] for row in log if "kl" in row]


def _message(log: Sequence[Mapping]) -> str:
    """Where a training stands, in a few words."""
    last = next((row for row in reversed(log) if "kl" in row), None)
    tokens = f"{log[-1]['tokens'] / 1000:.0f}k tokens" if log else "starting"
    return f"healing, {tokens}" + (f", held-out KL {last['kl']:.4f}" if last else "")


@torch.no_grad()
def judged(student: LoadedModel, teacher: Teacher, held: Padded, batch: int = 16) -> Held:
    """KL to the teacher and next-token loss of the student on sequences: the mean over their tokens."""
    head, sums = student.head, torch.zeros(2, dtype=torch.float64)
    for start in range(0, len(held), batch):
        ids, scored = (t[start : start + batch].to(student.device) for t in (held.ids, held.scored))
        first = teacher.loaded.head.hidden(ids.to(teacher.loaded.device)).to(student.device)
        each = token_distances(head.hidden(ids), first, ids, scored, head.logits, teacher.logits)
        means = sample_means(each, ids, scored)
        sums += torch.stack([means.kl, means.loss]).double().sum(dim=1).cpu()
    return Held(*(sums / len(held)).tolist())


def train(
    student: LoadedModel,
    teacher: Teacher,
    removed: Sequence[int],
    settings: Settings,
    texts: Sequences,
    held: Sequences,
    work: Path,
    *,
    states_room: int = 0,
    states: Path | None = None,
    report: Report = lambda done, total, message: None,
    note: Note = lambda row: None,
    ranks: Ranks = ALONE,
) -> Trained:
    """Train the pruned student against its teacher, within the settings' budget; afterwards it is the best of
    what was seen on `held`, LoRA merged, frozen.

    removed: the blocks of the teacher that the student lacks. work: a folder of its own for checkpoints, from
    which the same call goes on. states_room: bytes that the teacher's hidden states may take on disk, where
    texts are read more than once: then they are computed once, into the file `states` (None: in work).
    report: steps done, of all; it may raise to end the work. note: gets every line of the log. ranks: each
    reads sequences of its own, as many a step, and all learn the same; the first keeps what is kept.
    Errors: InputError where the method trains nothing of this model, or where the first loss is no number.
    """
    assert settings.trains
    head = student.head  # tried without LoRA around
    data = Padded(texts)
    model = made_ready(student, removed, len(teacher.loaded.blocks), settings)
    module = _Distillation(model, student, teacher, settings)
    assert module.heads[0] is head
    unseen, end = Padded(held), work / _END
    judge = lambda: ranks.agree(judged(student, teacher, unseen) if ranks.rank == 0 else None)  # noqa: E731
    if ranks.agree(end.exists()):
        for row in json.loads(end.read_text())["curve"]:
            note({name: value for name, value in row.items() if value is not None})
    else:
        kept = states or work / STATES
        budget = _Budget(settings, teacher, data, ranks)
        steps = _planned(budget, module, judge, work / _PLAN, kept, states_room, report)
        healer = _Healer(
            teacher,
            judge,
            budget.tokens_after,
            model=module,
            args=_arguments(settings, steps, work, student.device.type == "cuda"),
            train_dataset=data,
            eval_dataset=unseen,
        )
        told = _trained(healer, _Watch(module, work, settings, report, note), work, ranks)
        if ranks.rank == 0:
            _write(end, told)
    found = ranks.agree(json.loads(end.read_text()) if ranks.rank == 0 else None)
    take(module, work / _BEST)
    merged(model)
    return _told(found)


@dataclass(frozen=True)
class _Budget:
    """What is to be spent, and on what."""

    settings: Settings
    teacher: Teacher
    data: Padded
    ranks: Ranks

    @property
    def batches(self) -> float:
        """Of each rank, of a reading of all sequences."""
        return len(self.data) / (self.settings.batch * self.ranks.world)

    @property
    def steps_a_reading(self) -> int:
        """A step holds no sequence twice: the last of a reading has what is left."""
        return math.ceil(math.ceil(self.batches) / self.settings.accumulate)

    def tokens_after(self, steps: int) -> int:
        """That all ranks have read together."""
        return round(steps * self.data.ids.numel() / self.steps_a_reading)


def _planned(
    budget: _Budget,
    module: _Distillation,
    judge: Callable[[], Held],
    path: Path,
    states: Path,
    states_room: int,
    report: Report,
) -> int:
    """Steps that the budget holds, decided once and kept in a file. Where they read the texts more than once,
    and there is room, the teacher's states are kept, which makes steps cheaper and minutes hold more of them.
    """
    teacher, data, ranks, began = budget.teacher, budget.data, budget.ranks, time.monotonic()
    plan = ranks.agree(json.loads(path.read_text()) if ranks.rank == 0 and path.exists() else None)

    def keep_states() -> None:
        if ranks.rank == 0:
            teacher.keep(states, data, report)
        ranks.agree(None)  # the others find them there
        teacher.keep(states, data, report)

    if plan is None:
        steps = _steps(budget, module, judge, began)
        fits = teacher.bytes_of(data) <= states_room
        plan = {"steps": steps, "states": fits and steps > budget.steps_a_reading}
        if plan["states"]:
            keep_states()
            plan["steps"] = _steps(budget, module, judge, began)
        if ranks.rank == 0:
            _write(path, plan)
    elif plan["states"]:
        keep_states()
    return plan["steps"]


def _steps(budget: _Budget, module: _Distillation, judge: Callable[[], Held], began: float) -> int:
    """How many the budget holds: of minutes, as many as fit in beside the evaluations and what has passed
    since `began`, by the first rank's measured ones.
    """
    settings = budget.settings
    if settings.tokens is not None:
        return max(1, settings.tokens * budget.steps_a_reading // budget.data.ids.numel())
    assert settings.minutes is not None  # Settings has one of the two
    batches = budget.batches / budget.steps_a_reading
    step = batches * _step_seconds(module, budget.teacher, settings, budget.data)
    judged_from = time.monotonic()
    judge()
    now = time.monotonic()
    taken = now - began + (settings.evaluations + 1) * (now - judged_from)
    return budget.ranks.agree(max(1, int((60 * settings.minutes - taken) / step)))


def _step_seconds(module, teacher: Teacher, settings: Settings, data: Padded) -> float:
    """Of one batch forward and backward, the middle of a few behind a first; nothing is learned from it."""
    device = next(module.parameters()).device
    batch = torch.utils.data.default_collate([data[i % len(data)] for i in range(settings.batch)])
    inputs = {name: value.to(device) for name, value in batch.items()}
    times = []
    for _ in range(1 + _TIMED):
        began = time.monotonic()
        loss = module(**inputs, target=teacher.hidden(inputs["number"], inputs["ids"]))["loss"]
        loss.backward()
        loss.item()  # a GPU has come to its end
        module.zero_grad(set_to_none=True)
        times.append(time.monotonic() - began)
    return median(times[1:])


def _arguments(settings: Settings, steps: int, work: Path, gpu: bool) -> TrainingArguments:
    """transformers' own, of ours; gpu: whether the model is on one."""
    every = -(-steps // settings.evaluations)
    arguments = TrainingArguments(
        output_dir=str(work / CHECKPOINTS),
        max_steps=steps,
        per_device_train_batch_size=settings.batch,
        gradient_accumulation_steps=settings.accumulate,
        learning_rate=settings.peak_rate,
        lr_scheduler_type="cosine",
        warmup_steps=steps // 20,
        weight_decay=0.0,
        max_grad_norm=1.0,
        seed=settings.seed,
        data_seed=settings.seed,
        bf16=gpu,
        use_cpu=not gpu,
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,  # the newest may be cut off by a kill
        logging_steps=max(1, steps // 100),
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        log_level="error",
        remove_unused_columns=False,
        dataloader_pin_memory=gpu,
    )
    # of several GPUs a process takes its own: with all a step would be of more sequences, and replicas of
    # the student would ask the one teacher
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments


def _trained(healer: _Healer, watch: _Watch, work: Path, ranks: Ranks) -> dict:
    """What `end.json` says of the training, from its last whole checkpoint to its end."""
    healer.add_callback(watch)
    last = ranks.agree(_last_whole(work / CHECKPOINTS) if ranks.rank == 0 else None)
    state = TrainerState.load_from_json(str(Path(last) / TRAINER_STATE_NAME)) if last else None
    if state and (state.global_step >= state.max_steps or watch.stopped(state)):
        healer.state = state  # killed behind its end: not a step is left
        for row in state.log_history:
            watch.note(row)
    else:
        healer.args.eval_on_start = last is None  # the log of a checkpoint begins with it
        healer.train(resume_from_checkpoint=last)
    log = [_row(row) for row in healer.state.log_history]
    judgements = [row for row in log if "kl" in row]
    finite = [row for row in judgements if row["kl"] is not None]
    best = min(finite, key=lambda row: row["kl"])
    return {
        "before": [judgements[0]["kl"], judgements[0]["held_loss"]],
        "after": [best["kl"], best["held_loss"]],
        "steps": healer.state.global_step,
        "planned": healer.args.max_steps,
        "tokens": healer.tokens_after(healer.state.global_step),
        "seconds": log[-1]["seconds"],
        "best_step": best["step"],
        "stopped": watch.stopped(healer.state),
        "curve": log,
    }


def _row(row: Mapping) -> dict:
    """What the curve has of a line of the log; None for what is no number."""
    names = ("step", "tokens", "seconds", "loss", "kl", "held_loss")
    return {n: row[n] if math.isfinite(row[n]) else None for n in names if n in row}


def _told(found: Mapping) -> Trained:
    pairs = {name: Held(*found[name]) for name in ("before", "after")}
    return Trained(**{**found, **pairs})


def _last_whole(folder: Path) -> str | None:
    """The newest checkpoint that was written to its end; what was cut off is removed."""
    for path in folder.glob("checkpoint-*"):
        if not (path / _WHOLE).exists():
            shutil.rmtree(path)
    return get_last_checkpoint(str(folder)) if folder.is_dir() else None


def _write(path: Path, found: Mapping) -> None:
    staging = path.with_name(f".{path.name}")
    staging.write_text(json.dumps(found), encoding="utf-8")
    os.replace(staging, path)
