"""The next-token loss of each sample, in nats: one definition for calibration and evaluation.

`scored`, bool [B, T], marks the tokens whose prediction counts: real, with a real token before them,
and not part of a prompt. None: every token but the first.
"""

import numpy as np
import torch
import torch.nn.functional as F


def token_losses(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """float32 [B, T-1]: negative log-likelihood of each next token; logits [B, T, V], ids [B, T]."""
    # a sample at a time: its logits stay in the cache, and nothing the size of all logits is copied
    return torch.stack(
        [F.cross_entropy(own[:-1].float(), labels[1:], reduction="none") for own, labels in zip(logits, ids)]
    )


def right_padded(
    ids: torch.Tensor, mask: torch.Tensor | None, scored: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(ids, scored), [B, T] each, with the real tokens (mask; None: all are) of each sample moved to the
    front.

    A causal model does not see what comes after a token: then no attention mask and no positions are
    needed, and padding on either side gives the same.
    """
    if mask is None:
        return ids, scored
    real = mask.clone()  # a token that is predicted, with something to predict it from
    real[:, 0] = False
    real[:, 1:] &= mask[:, :-1]
    order = (~mask).to(torch.int8).argsort(dim=1, stable=True)
    return ids.gather(1, order), (real if scored is None else scored & real).gather(1, order)


def padded_batch(
    ids: np.ndarray, mask: np.ndarray | None, scored: np.ndarray | None, part: slice, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """`right_padded` of some rows of arrays [S, T], on a device."""
    own = (None if a is None else torch.from_numpy(a[part]).to(device) for a in (mask, scored))
    return right_padded(torch.from_numpy(ids[part]).to(device), *own)


def sample_losses(
    logits: torch.Tensor, ids: torch.Tensor, scored: torch.Tensor | None = None
) -> torch.Tensor:
    """float32 [B]: mean over each sample's scored tokens."""
    losses = token_losses(logits, ids)
    if scored is None:
        return losses.mean(dim=1)
    counts = scored[:, 1:].to(losses.dtype)
    return (losses * counts).sum(dim=1) / counts.sum(dim=1)


def loss_gradient(
    logits: torch.Tensor, ids: torch.Tensor, scored: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """(losses float32 [B] as `sample_losses`, their gradient with respect to logits, [B, T, V]).

    In closed form, (softmax - one-hot) / scored tokens: cheaper than autograd through the
    loss, which would copy the logits several times.
    """
    log_probabilities = torch.log_softmax(logits.detach(), dim=-1, dtype=torch.float32)
    targets = ids.roll(-1, dims=1)[..., None]  # the last position predicts nothing: weight 0
    weights = torch.ones_like(ids, dtype=torch.float32) if scored is None else scored.roll(-1, dims=1).float()
    weights[:, -1] = 0.0
    weights = weights / weights.sum(dim=1, keepdim=True)
    losses = -(log_probabilities.gather(-1, targets).squeeze(-1) * weights).sum(dim=1)
    gradient = log_probabilities.exp_()
    gradient.scatter_add_(-1, targets, torch.full_like(targets, -1.0, dtype=torch.float32))
    return losses, gradient.mul_(weights[..., None]).to(logits.dtype)
