"""The loss of a student against its teacher, logits in pieces."""

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from core.heal.settings import Settings
from core.model.losses import TOKENS, Logits, predicting


def distillation_loss(
    hidden: torch.Tensor,
    target: torch.Tensor,
    ids: torch.Tensor,
    scored: torch.Tensor | None,
    heads: tuple[Logits, Logits],
    settings: Settings,
) -> torch.Tensor:
    """float32 scalar: KL(teacher || student) in nats a token that counts, at the settings' temperature and
    times its square (arXiv 1503.02531), and, with their weights, the next-token loss and the squared distance
    of the hidden states as a share of the teacher's.

    hidden, target: what the heads (the student's, the teacher's) are applied to, [B, T, D] each; ids int64
    [B, T]; scored as core.model.losses has it. The logits of both exist for TOKENS tokens at a time, and
    again in the backward: none are kept.
    """
    own, original = heads
    flat, first = hidden.flatten(0, 1), target.flatten(0, 1)
    places, labels = predicting(ids, scored, hidden.device)

    def piece(h: torch.Tensor, t: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        logits = own(h).float()
        with torch.no_grad():
            p = (original(t).float() / settings.temperature).log_softmax(dim=-1)
        q = (logits / settings.temperature).log_softmax(dim=-1)
        found = settings.temperature**2 * F.kl_div(q, p, reduction="sum", log_target=True)
        if settings.next_token:
            found = found + settings.next_token * F.cross_entropy(logits, wanted, reduction="sum")
        return found

    total = hidden.new_zeros((), dtype=torch.float32)
    for at, wanted in zip(places.split(TOKENS), labels.split(TOKENS)):
        total = total + checkpoint(piece, flat[at], first[at], wanted, use_reentrant=False)
    if settings.hidden:
        theirs = first[places].float()
        apart = (flat[places].float() - theirs).square().sum() / theirs.square().sum()
        total = total + settings.hidden * apart * len(places)
    return total / len(places)
