"""The next-token loss of each sample, in nats: one definition for calibration and evaluation.

`scored`, bool [B, T], marks the tokens whose prediction counts: real, with a real token before them,
and not part of a prompt. None: every token but the first.

Losses are of what a model gives before its head (`Head.hidden`), with `logits`, the head, applied to a few
tokens at a time: no more logits exist at once, and none of tokens whose prediction does not count.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

TOKENS = 256  # whose logits exist at once: fewer read the head's weights too often, more gain nothing

Logits = Callable[[torch.Tensor], torch.Tensor]  # hidden states [n, D] -> logits [n, V]


class Distances(NamedTuple):
    """Of each next token that counts, 0 of the others: float32 [B, T-1]; or the mean of each sample: [B]."""

    loss: torch.Tensor  # nats, negative log-likelihood
    kl: torch.Tensor  # nats, KL(original || this model) of the distributions of the token
    same: torch.Tensor  # 1 where both models' first choice is the same token, else 0


class Labelled(NamedTuple):
    """Losses of some labels, and what the hidden states have to do with them."""

    losses: torch.Tensor  # float32 [B]: mean over each sample's scored tokens
    gradient: torch.Tensor  # like the hidden states: of the sum of the losses


def as_they_are(hidden: torch.Tensor) -> torch.Tensor:
    """The head of what are logits already."""
    return hidden


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


def token_losses(
    hidden: torch.Tensor, ids: torch.Tensor, scored: torch.Tensor | None = None, logits: Logits = as_they_are
) -> torch.Tensor:
    """float32 [B, T-1]: negative log-likelihood of each next token that counts, 0 of the others; of hidden
    states [B, T, D] and ids [B, T].
    """
    flat = hidden.flatten(0, 1)
    places, targets = _predicting(ids, scored, hidden.device)
    losses = [
        F.cross_entropy(logits(flat[at]).float(), labels, reduction="none")
        for at, labels in zip(places.split(TOKENS), targets.split(TOKENS))
    ]
    found = torch.zeros(ids.numel(), device=hidden.device)
    return found.index_put((places,), torch.cat(losses)).view(ids.shape)[:, :-1]


def sample_losses(
    hidden: torch.Tensor, ids: torch.Tensor, scored: torch.Tensor | None = None, logits: Logits = as_they_are
) -> torch.Tensor:
    """float32 [B]: mean over each sample's scored tokens, of hidden states [B, T, D] and ids [B, T]."""
    return token_losses(hidden, ids, scored, logits).sum(dim=1) / _counts(ids, scored).to(hidden.device)


def token_distances(
    hidden: torch.Tensor,
    original: torch.Tensor,
    ids: torch.Tensor,
    scored: torch.Tensor | None = None,
    logits: Logits = as_they_are,
    original_logits: Logits | None = None,
) -> Distances:
    """Loss, and distance to the original on the same tokens, as llama.cpp's perplexity tool and EvoPress
    (arXiv 2410.14649) report it; hidden, original: hidden states [B, T, D] of both, with one head unless the
    original's own is given. The logits of both exist for TOKENS tokens at a time.
    """
    heads = (original_logits or logits, logits)
    flat, first = hidden.flatten(0, 1), original.flatten(0, 1)
    places, targets = _predicting(ids, scored, hidden.device)
    found = torch.zeros(3, ids.numel(), device=hidden.device)
    for at, labels in zip(places.split(TOKENS), targets.split(TOKENS)):
        log_p, log_q = (head(h[at]).float().log_softmax(dim=-1) for head, h in zip(heads, (first, flat)))
        found[0, at] = -log_q.gather(-1, labels[:, None]).squeeze(-1)
        found[2, at] = (log_p.argmax(dim=-1) == log_q.argmax(dim=-1)).float()
        found[1, at] = log_p.exp().mul_(log_p.sub_(log_q)).sum(dim=-1)
    return Distances(*found.view(3, *ids.shape)[:, :, :-1])


def sample_divergences(
    hidden: torch.Tensor,
    original: torch.Tensor,
    ids: torch.Tensor,
    scored: torch.Tensor | None = None,
    logits: Logits = as_they_are,
) -> torch.Tensor:
    """float32 [B]: Jensen-Shannon divergence (nats, at most ln 2) between what the model and the original say
    of each next token that counts, the mean over each sample's; hidden, original: as `token_distances`.
    """
    flat, first = hidden.flatten(0, 1), original.flatten(0, 1)
    places, _ = _predicting(ids, scored, hidden.device)
    found = torch.zeros(ids.numel(), device=hidden.device)
    for at in places.split(TOKENS):
        each = [logits(h[at]).float().log_softmax(dim=-1) for h in (first, flat)]
        middle = torch.logaddexp(*each) - math.log(2)
        apart = [F.kl_div(middle, own, reduction="none", log_target=True).sum(dim=-1) for own in each]
        found[at] = (apart[0] + apart[1]) / 2
    return found.view(ids.shape).sum(dim=1) / _counts(ids, scored).to(hidden.device)


def sample_means(each: Distances, ids: torch.Tensor, scored: torch.Tensor | None = None) -> Distances:
    """Of `token_distances`, [B] each: the mean over each sample's scored tokens."""
    counts = _counts(ids, scored).to(each.loss.device)
    return Distances(*(d.sum(dim=1) / counts for d in each))


def kl_of_tokens(each: Distances, ids: torch.Tensor, scored: torch.Tensor | None = None) -> list[np.ndarray]:
    """Of `token_distances`: float32 [n], nats, of the n tokens of each sample that count."""
    counts = torch.ones_like(ids, dtype=torch.bool) if scored is None else scored
    return [kl[c].cpu().numpy() for kl, c in zip(each.kl, counts[:, 1:].to(each.kl.device))]


def loss_gradients(
    hidden: torch.Tensor,
    ids: torch.Tensor,
    scored: torch.Tensor | None = None,
    logits: Logits = as_they_are,
    uniforms: torch.Tensor | None = None,
) -> list[Labelled]:
    """The losses, as `sample_losses`, and their gradient; with `uniforms`, float64 [B, T], behind them those
    of labels that are sampled from the model (`sample_labels`).

    The gradient with respect to logits is had in closed form, softmax - one-hot: cheaper than autograd
    through the loss, which would copy the logits several times.
    """
    flat = hidden.detach().flatten(0, 1)
    places, targets = _predicting(ids, scored, hidden.device)
    counts = _counts(ids, scored).to(hidden.device)
    drawn = None if uniforms is None else uniforms.to(hidden.device).flatten()[places]
    kinds = 1 if drawn is None else 2
    losses = torch.zeros(kinds, ids.numel(), device=hidden.device)
    gradients = torch.zeros(kinds, *flat.shape, dtype=flat.dtype, device=hidden.device)
    for start in range(0, len(places), TOKENS):
        piece = slice(start, start + TOKENS)
        at = places[piece]
        with torch.enable_grad():
            inner = flat[at].requires_grad_()
            outer = logits(inner)
        values = outer.detach()
        own = [] if drawn is None else [sample_labels(values, drawn[piece])]
        probabilities = torch.softmax(values, dim=-1, dtype=torch.float32)
        # of the largest, whose logarithm is exact where others round to 0
        most, likeliest = values.max(dim=-1)
        total = most.float() - probabilities.gather(-1, likeliest[:, None]).squeeze(-1).log()
        for kind, labels in enumerate([targets[piece], *own]):
            losses[kind, at] = total - values.gather(-1, labels[:, None]).squeeze(-1).float()
            gradient = probabilities if kind == kinds - 1 else probabilities.clone()
            gradient[torch.arange(len(at), device=at.device), labels] -= 1.0
            (found,) = torch.autograd.grad(
                outer, inner, gradient.to(outer.dtype), retain_graph=kind < kinds - 1
            )
            gradients[kind, at] = found / counts[at // ids.shape[1]][:, None].to(found.dtype)
    means = losses.view(kinds, *ids.shape).sum(dim=2) / counts
    return [Labelled(mean, own.view(hidden.shape)) for mean, own in zip(means, gradients)]


def sample_labels(logits: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """int64 [...]: tokens drawn from softmax(logits [..., V]) by inverting its distribution function at
    `uniforms` [...].
    """
    distribution = torch.softmax(logits.double(), dim=-1).cumsum(dim=-1)
    drawn = torch.searchsorted(distribution, uniforms[..., None].contiguous(), right=True).squeeze(-1)
    return drawn.clamp(max=logits.shape[-1] - 1)


def _predicting(
    ids: torch.Tensor, scored: torch.Tensor | None, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """(places among all tokens from which a token that counts is predicted, those tokens), int64 [n] each."""
    counts = torch.ones_like(ids, dtype=torch.bool) if scored is None else scored.clone()
    counts[:, 0] = False  # nothing predicts it
    behind = counts.flatten().nonzero().squeeze(-1)
    return (behind - 1).to(device), ids.flatten()[behind].to(device)


def _counts(ids: torch.Tensor, scored: torch.Tensor | None) -> torch.Tensor:
    """float32 [B]: how many tokens of each sample count."""
    if scored is None:
        return torch.full((len(ids),), ids.shape[1] - 1.0, device=ids.device)
    return scored[:, 1:].sum(dim=1).float()
