"""Calibration: texts -> A, the per-sample gradient of the loss with respect to the gates.

One batched forward and backward a batch, alpha of shape [batch, N], weights
frozen: row s of alpha's gradient is d loss_s / d alpha at alpha = 1. A is kept;
H0 and every other estimator is derived from it later (core.couplings).
"""

import logging
import os
import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
import transformers

import core
from core import runs
from core.checkpoint import Checkpoint
from core.errors import InputError
from core.evaluation import sequence_losses
from core.gates import gate_of, gated
from core.losses import loss_gradient
from core.models import LoadedModel
from core.runs import Rows, Run, Singles
from core.texts import Sequences

LOSS = "mean negative log-likelihood over predicted tokens, nats"
DTYPE = "float32"
DROPPED_LIMIT = 0.01
LOG = logging.getLogger(__name__)
Report = Callable[[int, int, str], None]


def gradient_rows(
    loaded: LoadedModel, ids: torch.Tensor, mask: torch.Tensor | None = None, sampled_uniforms: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, torch.Tensor] | None]:
    """Gate gradients of one batch: (rows float32 [B, N], losses float32 [B], the same for sampled labels or None).

    ids: int64 [B, T]; mask: bool [B, T], right padding only; sampled_uniforms:
    float64 [B, T] in [0, 1), the randomness of labels sampled from the model itself
    (inverse of the distribution function, so that a sample's labels do not depend on its batch).
    """
    alpha = torch.ones(len(ids), len(loaded.blocks), requires_grad=True)
    with gated(loaded, alpha), torch.enable_grad():
        attention_mask = None if mask is None else mask.long()
        logits = loaded.model(input_ids=ids, attention_mask=attention_mask, use_cache=False).logits
    losses, gradient = loss_gradient(logits, ids, mask)
    (rows,) = torch.autograd.grad(logits, alpha, gradient, retain_graph=sampled_uniforms is not None)
    if sampled_uniforms is None:
        return rows, losses, None
    labels = ids.clone()
    labels[:, 1:] = sample_labels(logits.detach()[:, :-1], sampled_uniforms[:, :-1])
    own_losses, gradient = loss_gradient(logits, labels, mask)
    (own_rows,) = torch.autograd.grad(logits, alpha, gradient)
    return rows, losses, (own_rows, own_losses)


def sample_labels(logits: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """int64 [B, T]: tokens drawn from softmax(logits [B, T, V]) by inverting its distribution function at `uniforms`."""
    distribution = torch.softmax(logits.double(), dim=-1).cumsum(dim=-1)
    drawn = torch.searchsorted(distribution, uniforms[..., None].contiguous(), right=True).squeeze(-1)
    return drawn.clamp(max=logits.shape[-1] - 1)


def label_uniforms(index: np.ndarray, length: int, seed: int) -> torch.Tensor:
    """float64 [B, length]: a stream of its own for each sample index."""
    return torch.from_numpy(np.stack([np.random.Generator(np.random.Philox(key=[seed, int(i)])).random(length) for i in index]))


def run_key(loaded: LoadedModel, sequences: Sequences, sampled: bool, singles: Sequences | None, seed: int) -> str:
    """SHA-256 over all that changes the run's arrays beyond rounding; the plan (batch, threads) is not in it."""
    return runs.canonical_key(
        {
            "format": runs.FORMAT,
            "model": loaded.digest(),
            "tokens": sequences.sha256,
            "index": sequences.index.tolist(),
            "domain": [sequences.domains[d] for d in sequences.domain],
            "gate": gate_of(loaded),
            "loss": LOSS,
            "dtype": DTYPE,
            "sampled": {"seed": seed} if sampled else None,
            "singles": singles.sha256 if singles else None,
        }
    )


def calibrate(
    loaded: LoadedModel,
    sequences: Sequences,
    *,
    batch: int = 16,
    sampled: bool = False,
    singles: Sequences | None = None,
    seed: int = 0,
    request: dict | None = None,
    checkpoint: Path | None = None,
    report: Report = lambda done, total, message: None,
) -> Run:
    """Gradient rows of all sequences, and optionally rows of sampled labels and measured single removals.

    With a `checkpoint` folder, what is computed is saved every two seconds, and a later
    call with the same arguments and folder goes on from there, with the batch and
    threads it began with: bit-identical to a run in one piece.
    A sequence whose rows (of the texts' labels or of sampled ones) are not finite is
    dropped from both and counted; so is one that makes a single removal's loss not
    finite. Errors: InputError for a bad length or batch, or when more than 1 % of the
    sequences are not finite.
    """
    loaded.check_length(sequences.ids.shape[1])
    if len(loaded.blocks) < 2:
        raise InputError(f"{loaded.source!r} has {len(loaded.blocks)} block; choosing which to remove needs at least 2.")
    if singles is not None and len(singles.ids) < 2:
        raise InputError("Single removals need at least 2 sequences for a standard error, not 1; give a larger --singles.")
    if batch < 1:
        raise InputError(f"The batch must be at least 1 sequence, not {batch}.")
    began, started = time.monotonic(), datetime.now(UTC)
    count, length = sequences.ids.shape
    n = len(loaded.blocks)
    total = count + (n + 1) * len(singles.ids) if singles else count
    key = run_key(loaded, sequences, sampled, singles, seed)
    saved = Checkpoint(checkpoint, {"batch": batch, "threads": torch.get_num_threads()}, key)
    if saved.damaged:
        LOG.warning("%d damaged checkpoint files were set aside; what they held is computed again", saved.damaged)
    batch = saved.plan["batch"]
    torch.set_num_threads(saved.plan["threads"])
    for start in range(0, count, batch):
        if f"rows-{start}" in saved:
            continue
        report(start, total, "gradient rows")
        ids = torch.from_numpy(sequences.ids[start : start + batch])
        uniforms = label_uniforms(sequences.index[start : start + batch], length, seed) if sampled else None
        a, loss, own = gradient_rows(loaded, ids, sampled_uniforms=uniforms)
        arrays = {"A": a.numpy(), "loss": loss.numpy()}
        saved.put(f"rows-{start}", {**arrays, "own_A": own[0].numpy(), "own_loss": own[1].numpy()} if own else arrays)
    parts = [saved[f"rows-{start}"] for start in range(0, count, batch)]
    joined = {field: np.concatenate([p[field] for p in parts]) for field in parts[0]}
    finite = np.isfinite(np.column_stack(list(joined.values()))).all(axis=1)
    dropped = _dropped(finite, sequences, "gradient rows")
    main = _rows(joined["A"], joined["loss"], sequences, finite)
    own = _rows(joined["own_A"], joined["own_loss"], sequences, finite) if sampled else None
    measured, dropped_singles = None, []
    if singles:
        for i in range(-1, n):  # -1: the full model
            if f"single-{i}" not in saved:
                report(count + (i + 1) * len(singles.ids), total, "single removals")
                saved.put(f"single-{i}", {"loss": sequence_losses(loaded, singles.ids, [i] if i >= 0 else [], batch)})
        losses = np.array([saved[f"single-{i}"]["loss"] for i in range(-1, n)])
        finite = np.isfinite(losses).all(axis=0)
        dropped_singles = _dropped(finite, singles, "losses with a block removed")
        increase = losses[1:, finite] - losses[0, finite]
        measured = Singles(increase.mean(axis=1), increase.std(axis=1, ddof=1) / np.sqrt(increase.shape[1]), increase.shape[1])
    saved.flush()
    report(total, total, "done")
    meta = {
        "key": key,
        "request": request or {},
        "model": {
            "name": loaded.name,
            "source": loaded.source,
            "type": loaded.model.config.model_type,
            **loaded.digest(),
            "parameters": loaded.parameters(),
            "bytes": loaded.weights_bytes(),
            "blocks": [b.to_json() for b in loaded.blocks],
        },
        "texts": {
            "source": sequences.source,
            "hash": sequences.texts_sha256,
            "split": sequences.split,
            "domains": list(sequences.domains),
            "template": sequences.template,
            "length": length,
            "available": sequences.available,
            "tokens": sequences.sha256,
        },
        "gate": gate_of(loaded),
        "loss": LOSS,
        "labels": ["data", "sampled"] if sampled else ["data"],
        "seed": seed,
        "dropped": dropped,
        "dropped_singles": dropped_singles,
        "plan": {**saved.plan, "ranks": 1, "dtype": DTYPE},
        "versions": {
            "blockscape": core.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "numpy": np.__version__,
        },
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "times": {"started": started.isoformat(timespec="seconds"), "seconds": round(time.monotonic() - began, 3)},
    }
    return Run(meta, main, own, measured)


def _dropped(finite: np.ndarray, sequences: Sequences, what: str) -> list[int]:
    """Indices of the sequences that are not finite. Errors: InputError when they are more than 1 %."""
    dropped = sequences.index[~finite].tolist()
    if len(dropped) > DROPPED_LIMIT * len(finite):
        raise InputError(
            f"{len(dropped)} of {len(finite)} {what} are not finite (the first is sequence {dropped[0]}), more than 1 %; "
            f"the model's weights overflow or are damaged: take them anew from the model's origin."
        )
    return dropped


def _rows(A: np.ndarray, loss: np.ndarray, sequences: Sequences, finite: np.ndarray) -> Rows:
    return Rows(A[finite], sequences.index[finite], sequences.domain[finite], loss[finite])
