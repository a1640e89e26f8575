"""Measure a model: loss and perplexity, multiple-choice tasks, tokens per second.

A removed set is measured on the loaded model by its gates (equal to the pruned,
reloaded model); every measure keeps the value of each item.
"""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch

from core.blocks.structure import probe_ids
from core.compare.comparison import Distance, distance_of
from core.errors import InputError
from core.model.gates import gated, keep_all, removal
from core.model.generation import by_itself
from core.model.load import LoadedModel
from core.model.losses import (
    kl_of_tokens,
    padded_batch,
    sample_losses,
    sample_means,
    token_distances,
    token_losses,
)
from core.tasks.items import TaskItem
from core.texts import Sequences
from core.texts.special_tokens import begins

Report = Callable[[int, int, str], None]


def _silent(done: int, total: int, message: str) -> None:
    pass


@torch.no_grad()
def sequence_losses(
    loaded: LoadedModel,
    ids: np.ndarray,
    removed: Sequence[int] = (),
    batch: int = 16,
    report: Report = _silent,
    mask: np.ndarray | None = None,
    scored: np.ndarray | None = None,
) -> np.ndarray:
    """float64 [S]: mean loss (nats) of each sequence of ids [S, T], with the blocks of `removed` gated off.

    mask, scored: bool [S, T], real tokens and those whose prediction counts, as in
    core.calibration.gradient_rows.
    """
    loaded.check_length(ids.shape[1])
    losses = []
    alpha = removal(loaded, removed) if len(removed) else None
    for start in range(0, len(ids), batch):
        tokens, counts = padded_batch(ids, mask, scored, slice(start, start + batch), loaded.device)
        hidden = _hidden(loaded, tokens, alpha)
        losses.append(sample_losses(hidden, tokens, counts, loaded.head.logits).double().cpu().numpy())
        report(min(start + batch, len(ids)), len(ids), "loss")
    return np.concatenate(losses)


@torch.no_grad()
def sequence_distances(
    loaded: LoadedModel,
    original: LoadedModel,
    sequences: Sequences,
    batch: int = 16,
    report: Report = _silent,
) -> tuple[np.ndarray, np.ndarray]:
    """(float64 [3, S]: loss, KL(original || model) and share of equal first choices of each sequence
    (core.model.losses.Distances), float32 [n]: the KL of every token that counts), of two models on the same
    tokens. The logits of both exist for a few tokens at a time.

    Errors: InputError, as `check_same_tokens`, or for sequences that one of them has no positions for.
    """
    check_same_tokens(loaded, original)
    values, tokens = [], []
    count = len(sequences.ids)
    for model in (loaded, original):
        model.check_length(sequences.ids.shape[1])
    for start in range(0, count, batch):
        part = slice(start, start + batch)
        ids, scored = padded_batch(sequences.ids, sequences.mask, sequences.scored, part, loaded.device)
        hidden = loaded.head.hidden(ids)
        first = original.head.hidden(ids.to(original.device)).to(loaded.device)
        theirs = _on(original, loaded.device)
        each = token_distances(hidden, first, ids, scored, loaded.head.logits, theirs)
        values.append(torch.stack(sample_means(each, ids, scored)).double().cpu().numpy())
        tokens += kl_of_tokens(each, ids, scored)
        report(min(start + batch, count), count, "loss and KL")
    return np.concatenate(values, axis=1), np.concatenate(tokens)


def _on(model: LoadedModel, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    """The model's head for hidden states that lie on another device."""
    return lambda hidden: model.head.logits(hidden.to(model.device)).to(device)


def check_same_tokens(loaded: LoadedModel, original: LoadedModel) -> None:
    """Errors: InputError where a token of one model is not the same token of the other."""
    sizes = [_vocabulary(m) for m in (loaded, original)]
    if sizes[0] != sizes[1] or loaded.tokenizer.get_vocab() != original.tokenizer.get_vocab():
        raise InputError(
            f"{loaded.source!r} and {original.source!r} do not have the same tokens ({sizes[0]} and "
            f"{sizes[1]} logits), so their distributions cannot be compared; name the model it was made from."
        )


@torch.no_grad()
def _vocabulary(loaded: LoadedModel) -> int:
    """How many logits a token has."""
    head, ids = loaded.head, probe_ids(loaded.model)
    return head.logits(head.hidden(ids).flatten(0, 1)[:1]).shape[-1]


def removal_increase(
    loaded: LoadedModel,
    ids: np.ndarray,
    states: Sequence[Sequence[int]],
    batch: int = 16,
    report: Report = _silent,
) -> np.ndarray:
    """float64 [K, S]: loss increase (nats) of each state on each sequence, against the full model."""
    total = (len(states) + 1) * len(ids)
    base = sequence_losses(loaded, ids, batch=batch)
    report(len(ids), total, "single removals")
    increase = []
    for k, state in enumerate(states):
        increase.append(sequence_losses(loaded, ids, state, batch) - base)
        report((k + 2) * len(ids), total, "single removals")
    return np.array(increase)


def _hidden(
    loaded: LoadedModel, ids: torch.Tensor, alpha: torch.Tensor | None, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """What the head is applied to (`Head.hidden`), with these gates."""
    head = loaded.head  # tried without gates
    with gated(loaded, alpha) if alpha is not None else nullcontext():
        return head.hidden(ids, None if mask is None else mask.long())


@torch.no_grad()
def option_scores(
    loaded: LoadedModel,
    items: Sequence[TaskItem],
    removed: Sequence[int] = (),
    batch: int = 64,
    report: Report = _silent,
) -> list[np.ndarray]:
    """For each item, float64 [options]: log-likelihood (nats) of each option after the context.

    The option's tokens are those after the longest common prefix of the tokenised
    context and context + option; one BOS first where the tokenizer itself writes one.
    """
    tokenizer = loaded.tokenizer
    head = begins(tokenizer)
    rows: list[tuple[list[int], int]] = []
    for item in items:
        context = tokenizer(item.context, add_special_tokens=False)["input_ids"]
        for option in item.options:
            whole = tokenizer(item.context + option, add_special_tokens=False)["input_ids"]
            shared = next(
                (i for i, (a, b) in enumerate(zip(context, whole)) if a != b), min(len(context), len(whole))
            )
            rows.append((head + whole, len(head) + shared))
    longest = max(len(ids) for ids, _ in rows)
    if loaded.max_length and longest > loaded.max_length:
        raise InputError(
            f"A task item takes {longest} tokens and {loaded.source!r} has {loaded.max_length} positions; "
            "skip the tasks with --no-tasks."
        )
    alpha = removal(loaded, removed) if len(removed) else None
    scores = np.empty(len(rows))
    order = sorted(range(len(rows)), key=lambda r: len(rows[r][0]))  # equal lengths together: little padding
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        width = max(len(rows[r][0]) for r in chosen)
        ids = torch.zeros(len(chosen), width, dtype=torch.long)
        mask, scored = (torch.zeros(len(chosen), width, dtype=torch.bool) for _ in range(2))
        for k, r in enumerate(chosen):
            tokens, first = rows[r]
            ids[k, : len(tokens)] = torch.tensor(tokens)
            mask[k, : len(tokens)] = True
            scored[k, first : len(tokens)] = True
        ids, mask, scored = (t.to(loaded.device) for t in (ids, mask, scored))
        losses = token_losses(_hidden(loaded, ids, alpha, mask), ids, scored, loaded.head.logits)
        # what overflows is as unlikely as can be: no option is chosen for it
        scores[chosen] = (
            (-losses.sum(dim=1).double()).nan_to_num(nan=-torch.inf, neginf=-torch.inf).cpu().numpy()
        )
        report(min(start + batch, len(order)), len(order), "tasks")
    ends = np.cumsum([len(item.options) for item in items])[:-1]
    return np.split(scores, ends)


def task_results(items: Sequence[TaskItem], scores: Sequence[np.ndarray]) -> dict[str, dict]:
    """{task: {accuracy, chance, n, correct (per item)}}; a tie between options counts as its share."""
    results: dict[str, dict] = {}
    for item, score in zip(items, scores):
        best = score == score.max()
        row = results.setdefault(item.task, {"correct": [], "chance": []})
        row["correct"].append(float(best[item.answer]) / best.sum())
        row["chance"].append(1 / len(item.options))
    return {
        task: {
            "accuracy": float(np.mean(row["correct"])),
            "chance": float(np.mean(row["chance"])),
            "n": len(row["correct"]),
            "correct": row["correct"],
        }
        for task, row in results.items()
    }


@torch.no_grad()
def tokens_per_second(loaded: LoadedModel, ids: np.ndarray, batch: int = 8, repeats: int = 3) -> float:
    """Tokens per second of a plain forward pass: the best of `repeats` over one batch, after a warm-up."""
    part = torch.from_numpy(ids[:batch]).to(loaded.device)

    def forward() -> None:
        # reading a number waits for a GPU
        loaded.model(input_ids=part, use_cache=False).logits[0, 0, 0].item()

    forward()
    best = math.inf
    for _ in range(repeats):
        began = time.perf_counter()
        forward()
        best = min(best, time.perf_counter() - began)
    return part.numel() / best


@torch.no_grad()
def greedy_tokens(
    loaded: LoadedModel, ids: torch.Tensor, count: int, removed: Sequence[int] = (), use_cache: bool = True
) -> torch.Tensor:
    """int64 [B, T + count]: greedy continuation of ids [B, T], with the blocks of `removed` gated off."""
    with gated(loaded, removal(loaded, removed) if len(removed) else keep_all(loaded)):
        return greedy(loaded.model, ids.to(loaded.device), count, use_cache).cpu()


def greedy(model, ids: torch.Tensor, count: int, use_cache: bool) -> torch.Tensor:
    """int64 [B, T + count]: exactly `count` greedy tokens, end-of-text ignored."""
    with by_itself(model):
        return model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            num_beams=1,
            min_new_tokens=count,
            max_new_tokens=count,
            use_cache=use_cache,
            pad_token_id=0,
        )


@dataclass(frozen=True)
class Evaluation:
    """What a model is worth; losses in nats."""

    loss: float
    loss_se: float
    sequences: int
    tokens: int  # predicted tokens
    losses: np.ndarray  # float64 [sequences]
    tasks: dict[str, dict]
    tokens_per_second: float
    distance: Distance | None = None  # to the original, where it was named

    def to_json(self) -> dict:
        """Without the losses and items themselves."""
        return {
            "loss": self.loss,
            "loss_se": None if math.isnan(self.loss_se) else self.loss_se,
            "perplexity": math.exp(min(self.loss, 700.0)),  # more is no float
            "sequences": self.sequences,
            "tokens": self.tokens,
            "tasks": {
                name: {k: row[k] for k in ("accuracy", "chance", "n")} for name, row in self.tasks.items()
            },
            "tokens_per_second": self.tokens_per_second,
            **(self.distance.to_json() if self.distance else {}),
        }


def evaluate(
    loaded: LoadedModel,
    sequences: Sequences,
    items: Sequence[TaskItem] = (),
    batch: int = 16,
    report: Report = _silent,
    original: LoadedModel | None = None,
) -> Evaluation:
    """Loss with its standard error over the sequences, distance to the original, task accuracies and speed.
    Errors: InputError, as `sequence_distances`.
    """
    distance = None
    if original is None:
        losses = sequence_losses(
            loaded, sequences.ids, batch=batch, report=report, mask=sequences.mask, scored=sequences.scored
        )
    else:
        (losses, kl, same), tokens = sequence_distances(loaded, original, sequences, batch, report)
        median, p99 = np.quantile(tokens, [0.5, 0.99]).tolist()  # of the tokens themselves, not of a grid
        distance = replace(distance_of(kl, same), median=median, p99=p99)
    tasks = task_results(items, option_scores(loaded, items, report=report)) if items else {}
    se = float(losses.std(ddof=1) / math.sqrt(len(losses))) if len(losses) > 1 else math.nan
    return Evaluation(
        float(losses.mean()),
        se,
        len(losses),
        sequences.predicted,
        losses,
        tasks,
        tokens_per_second(loaded, sequences.ids),
        distance,
    )
