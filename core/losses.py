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
