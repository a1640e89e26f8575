"""The next-token loss of each sample, in nats: one definition for calibration and evaluation."""

import torch
import torch.nn.functional as F


def token_losses(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """float32 [B, T-1]: negative log-likelihood of each next token; logits [B, T, V], ids [B, T]."""
    batch, length, vocabulary = logits.shape
    losses = F.cross_entropy(logits[:, :-1].float().reshape(-1, vocabulary), ids[:, 1:].reshape(-1), reduction="none")
    return losses.view(batch, length - 1)


def sample_losses(logits: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """float32 [B]: mean over each sample's real predicted tokens; mask bool [B, T] marks real tokens."""
    losses = token_losses(logits, ids)
    if mask is None:
        return losses.mean(dim=1)
    real = (mask[:, 1:] & mask[:, :-1]).to(losses.dtype)
    return (losses * real).sum(dim=1) / real.sum(dim=1)


def loss_gradient(logits: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """(losses float32 [B] as `sample_losses`, their gradient with respect to logits, [B, T, V]).

    In closed form, (softmax - one-hot) / predicted tokens: cheaper than autograd through the
    loss, which would copy the logits several times.
    """
    log_probabilities = torch.log_softmax(logits.detach().float(), dim=-1)
    targets = ids.roll(-1, dims=1)[..., None]  # the last position predicts nothing: weight 0
    weights = torch.ones(ids.shape) if mask is None else (mask & mask.roll(-1, dims=1)).float()
    weights[:, -1] = 0.0
    weights = weights / weights.sum(dim=1, keepdim=True)
    losses = -(log_probabilities.gather(-1, targets).squeeze(-1) * weights).sum(dim=1)
    gradient = log_probabilities.exp_()
    gradient.scatter_add_(-1, targets, torch.full(targets.shape, -1.0))
    return losses, gradient.mul_(weights[..., None]).to(logits.dtype)
