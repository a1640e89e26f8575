"""The model's own samples as texts: calibration without any data.

Token t of sample k is drawn by inverting the distribution function at a random number of its own
(core.model.losses.sample_labels), so that a sample does not depend on its batch beyond rounding. Rounding can
decide a token, and all behind it: on another machine a few samples are others. So what is drawn is kept, and
that of a shipped run ships.
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
from core.model.generation import by_itself, by_itself_unlike_before
from core.model.load import LoadedModel
from core.model.losses import sample_labels
from core.store import folders
from core.store.checkpoint import Checkpoint
from core.store.runs import canonical_key
from core.texts import Sequences
from core.texts.documents import SPLITS
from core.texts.special_tokens import adds_bos, separator

DOMAIN = "own"
# numbers of samples: no text has so many, no two splits share one
_FIRST = {split: (k + 1) << 40 for k, split in enumerate(SPLITS)}


class Draw(LogitsProcessor):
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
    `checkpoint`, named by `own_key`, and a later call goes on from there, for more samples too. Errors:
    InputError for a model without such a token.
    """
    loaded.check_length(length)
    called = first_token(loaded)[1]
    index = _FIRST[split] + np.arange(samples, dtype=np.int64)
    saved = Checkpoint(checkpoint, {"batch": batch})
    if checkpoint is not None and not saved.items:
        for name, ids in shipped(checkpoint.name).items():
            saved.put(name, {"ids": ids})
    batch, parts = saved.plan["batch"], []
    for start in range(0, samples, batch):
        count = min(batch, samples - start)
        # a part of a batch goes by another name: a later call may want all of it
        whole, name = f"own-{start}", f"own-{start}" + (f"+{count}" if count < batch else "")
        if whole not in saved and name not in saved:
            report(start, samples, "sampling the model's own texts")
            saved.put(name, {"ids": _drawn(loaded, index[start : start + count], length, seed)})
        parts.append(saved[whole if whole in saved else name]["ids"][:count])
    saved.flush()
    ids = np.concatenate(parts)
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


def _drawn(loaded: LoadedModel, index: np.ndarray, length: int, seed: int) -> np.ndarray:
    """int64 [S, length]: the samples of these numbers."""
    first = first_token(loaded)[0]
    head = torch.full((len(index), 1), first, device=loaded.device)
    with by_itself(loaded.model):
        out = loaded.model.generate(  # type: ignore[operator]  # transformers hides it from type checkers
            head,
            attention_mask=torch.ones_like(head),
            do_sample=False,
            num_beams=1,
            min_new_tokens=length - 1,
            max_new_tokens=length - 1,
            eos_token_id=None,
            pad_token_id=first,
            logits_processor=LogitsProcessorList([Draw(label_uniforms(index, length, seed), 1)]),
        )
    return out.cpu().numpy()


def own_key(loaded: LoadedModel, split: str, length: int, seed: int) -> str:
    """The name of a model's own samples, however many there are."""
    return canonical_key(
        {
            "model": loaded.digest(),
            "tokenizer": loaded.tokenizer_digest(),
            "first": first_token(loaded)[0],
            "split": split,
            "length": length,
            "seed": seed,
            **by_itself_unlike_before(loaded.model),
        }
    )


def shipped(key: str) -> dict[str, np.ndarray]:
    """{group of a checkpoint: ids int64 [S, length]} of the own samples that ship under this key."""
    found: dict[str, np.ndarray] = {}
    for run in folders.shipped_runs().values():
        file = run.parent / folders.OWN_SAMPLES
        if file.is_file():
            with np.load(file, allow_pickle=False) as arrays:
                own = [name for name in arrays.files if name.startswith(key)]
                found |= {name.partition("|")[2]: arrays[name].astype(np.int64) for name in own}
    return found
