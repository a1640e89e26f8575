"""The model's own samples as texts: calibration without any data.

Token t of sample k is drawn by inverting the distribution function at a random number of its own
(core.model.losses.sample_labels), so that a sample does not depend on its batch beyond rounding.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LogitsProcessor, LogitsProcessorList

from core.calibration.gradient_rows import label_uniforms
from core.errors import InputError
from core.model.load import LoadedModel
from core.model.losses import sample_labels
from core.store.checkpoint import Checkpoint
from core.texts import Sequences
from core.texts.documents import SPLITS
from core.texts.special_tokens import adds_bos, separator

DOMAIN = "own"
# numbers of samples: no text has so many, no two splits share one
_FIRST = {split: (k + 1) << 40 for k, split in enumerate(SPLITS)}


class _Drawn(LogitsProcessor):
    """Leaves one token: the one that the next random number of each sequence draws."""

    def __init__(self, uniforms: torch.Tensor, start: int):
        self.uniforms, self.start = uniforms, start

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        step = input_ids.shape[1] - self.start
        token = sample_labels(scores[:, None], self.uniforms[:, step : step + 1].to(scores.device))
        return torch.full_like(scores, -torch.inf).scatter_(1, token, 0.0)


def first_token(loaded: LoadedModel) -> tuple[int, str]:
    """(the token that own samples begin with, what it is called): the BOS if the tokenizer itself writes one,
    else what separated documents in pretraining, since a document begins behind it, else the EOS.

    Errors: InputError for a tokenizer that has none of them.
    """
    tokenizer: Any = loaded.tokenizer
    if adds_bos(tokenizer):
        return tokenizer.bos_token_id, "BOS"
    between = separator(tokenizer)
    if between is not None and between != tokenizer.eos_token:
        return tokenizer.convert_tokens_to_ids(between), between
    for token, called in ((tokenizer.eos_token_id, "EOS"), (tokenizer.bos_token_id, "BOS")):
        if token is not None:
            return token, called
    raise InputError(
        f"The tokenizer of {loaded.source!r} has neither BOS nor EOS to begin its own samples with; give "
        "texts."
    )


def own_words(called: str) -> str:
    """How own samples came about, as runs and measurements keep it; called: their first token."""
    return f"sampled from the model at temperature 1; one {called} first"


@torch.no_grad()
def own_sequences(
    loaded: LoadedModel,
    split: str,
    length: int,
    samples: int,
    seed: int = 0,
    batch: int = 16,
    report: Callable[[int, int, str], None] = lambda done, total, message: None,
    checkpoint: Path | None = None,
) -> Sequences:
    """`samples` sequences of `length` tokens drawn from the model at temperature 1, after the token that
    `first_token` says.

    Text that ends goes on after EOS, as packed documents do. What is drawn is kept in the folder
    `checkpoint`, and a later call goes on from there. Errors: InputError for a model without such a token.
    """
    loaded.check_length(length)
    first, called = first_token(loaded)
    index = _FIRST[split] + np.arange(samples, dtype=np.int64)
    saved = Checkpoint(checkpoint, {"batch": batch})
    batch = saved.plan["batch"]
    steps = {f"own-{start}": start for start in range(0, samples, batch)}
    for name, start in steps.items():
        if name in saved:
            continue
        report(start, samples, "sampling the model's own texts")
        uniforms = label_uniforms(index[start : min(start + batch, samples)], length, seed)
        head = torch.full((len(uniforms), 1), first, device=loaded.device)
        out = loaded.model.generate(  # type: ignore[operator]  # transformers hides it from type checkers
            head,
            attention_mask=torch.ones_like(head),
            do_sample=False,
            num_beams=1,
            min_new_tokens=length - 1,
            max_new_tokens=length - 1,
            eos_token_id=None,
            pad_token_id=first,
            logits_processor=LogitsProcessorList([_Drawn(uniforms, 1)]),
        )
        saved.put(name, {"ids": out.cpu().numpy()})
    saved.flush()
    ids = np.concatenate([saved[name]["ids"] for name in steps])
    return Sequences(
        ids=ids,
        index=index,
        domain=np.zeros(samples, dtype=np.int16),
        domains=(DOMAIN,),
        split=split,
        source=DOMAIN,
        texts_sha256=hashlib.sha256(ids.tobytes()).hexdigest(),
        available=samples,
        template=own_words(called),
    )
