"""What the model answers to prompts, as texts that can be learned from (arXiv 2602.01997 heals by such)."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LogitsProcessorList

from core.calibration.gradient_rows import label_uniforms
from core.calibration.own_samples import Draw
from core.errors import InputError
from core.measure.chat import ends_of, is_chat
from core.model.load import LoadedModel
from core.store.checkpoint import Checkpoint
from core.store.runs import canonical_key
from core.texts import Document, Sequences, Texts, pack, read_texts
from core.texts.chat import asked_ids
from core.texts.packing import available
from core.texts.readers import rows_of
from core.texts.text_source import COMPLETION, PROMPT, Asked, sources_of

SPLIT = "calibrate"
_LEAST = 16  # tokens of room for an answer
_COLUMNS = (PROMPT, "instruction", "question")  # of rows that hold no answers, or call them otherwise
_SAID = (COMPLETION, "assistant")  # roles of what the model is to say itself
Turns = tuple[tuple[str, str], ...]


def read_prompts(asked: Asked) -> Texts:
    """As core.texts.read_texts, of one source; of rows with prompts or questions and nothing else that is
    known, these. Errors: InputError.
    """
    try:
        return read_texts(asked)
    except InputError:
        (source,) = sources_of(asked)
        if not source.names_no_column or source.is_own:
            raise
        row = next((row for _, row in rows_of(source) if row), {})
        column = next((name for name in _COLUMNS if isinstance(row.get(name), str)), None)
        if column is None:
            raise
        return read_texts(replace(source, column=column))


def own_answers(
    loaded: LoadedModel,
    prompts: Texts,
    length: int,
    most: int,
    seed: int = 0,
    *,
    batch: int = 16,
    report: Callable[[int, int, str], None] = lambda done, total, message: None,
    kept: Path | None = None,
) -> Sequences:
    """Prompts with what the model answers to them at temperature 1, one a sequence of at most `length`
    tokens; the answers alone count in the loss. All are of the split that is learned from.

    prompts: of a chat all before its last answer, of a prompt with its completion the prompt, else the text;
    those that leave no room are left out. most: prompts that are asked, drawn by the seed. kept: a folder of
    folders, each of what was answered to one choice of prompts; a later call goes on there.
    Errors: InputError where no prompt leaves room, or no answer says anything.
    """
    loaded.check_length(length)
    asked = list(dict.fromkeys(_asked(document) for document in prompts.documents))
    # without a template the answer has a line of its own, here as in what is learned
    begun = asked if is_chat(loaded) else [(*turns, (COMPLETION, "")) for turns in asked]
    ids = [np.array(i, dtype=np.int64) for i in asked_ids(begun, loaded.tokenizer)]
    fit = [k for k, own in enumerate(ids) if len(own) + _LEAST <= length]
    if not fit:
        raise InputError(
            f"No prompt of {prompts.source!r} leaves room for an answer within {length} tokens, the shortest "
            f"has {min(map(len, ids))}; raise the length, or give rows with shorter prompts."
        )
    chosen = np.random.default_rng(seed).permutation(fit)[:most]
    order = sorted(chosen.tolist(), key=lambda k: len(ids[k]))  # alike in length, a batch holds no padding
    about = {"model": loaded.digest(), "tokenizer": loaded.tokenizer_digest(), "length": length, "seed": seed}
    own = canonical_key({**about, "prompts": [ids[k].tolist() for k in order]})
    saved = Checkpoint(kept and kept / own, {"batch": batch})
    batch, said = saved.plan["batch"], list[str]()
    for start in range(0, len(order), batch):
        name, some = f"answers-{start}", order[start : start + batch]
        if name not in saved:
            report(start, len(order), "the original answers the prompts")
            saved.put(name, {"ids": _answered(loaded, [ids[k] for k in some], some, length, seed)})
        said += loaded.tokenizer.batch_decode(saved[name]["ids"], skip_special_tokens=True)
    saved.flush()
    role = "assistant" if is_chat(loaded) else COMPLETION
    documents = tuple(
        Document("\n".join([*(text for _, text in asked[k]), words]), "answers", turns, SPLIT)
        for k, words in zip(order, map(str.strip, said))
        if words and (turns := (*asked[k], (role, words)))
    )
    return _packed(loaded, replace(prompts, documents=documents, weights=None), length)


def _asked(document: Document) -> Turns:
    """What the model is to answer: the turns before the last that are not its own, or the text."""
    turns = list(document.turns or ((PROMPT, document.text),))
    while turns and turns[-1][0] in _SAID:
        turns.pop()
    return tuple(turns) or ((PROMPT, document.text),)


def _packed(loaded: LoadedModel, texts: Texts, length: int) -> Sequences:
    """One document a sequence. Errors: InputError where nothing is to be predicted."""
    how: dict[str, Any] = {"mode": "documents", "template": "chat" if is_chat(loaded) else "none"}
    count = available(texts, loaded.tokenizer, length, **how)[SPLIT] if texts.documents else 0
    if not count:
        raise InputError(
            f"The model says nothing to the prompts of {texts.source!r}; give others, or learn from texts."
        )
    found = pack(texts, loaded.tokenizer, SPLIT, length, count, **how)
    return replace(found, source=f"answers to {texts.source}")


@torch.no_grad()
def _answered(
    loaded: LoadedModel, prompts: list[np.ndarray], numbers: list[int], length: int, seed: int
) -> np.ndarray:
    """int64 [B, T]: the answers, behind their end padded with it; numbers: of the prompts, each a stream of
    random numbers.
    """
    widest, ends = max(map(len, prompts)), ends_of(loaded)
    # as far as the shortest may go: what does not end by itself is cut where the sequence ends
    room = min(length - min(map(len, prompts)), (loaded.max_length or 2 * length) - widest)
    filler = ends[0] if ends else 0
    ids = np.stack([np.pad(own, (widest - len(own), 0), constant_values=filler) for own in prompts])
    real = np.stack([np.arange(widest) >= widest - len(own) for own in prompts])
    uniforms = label_uniforms(np.array(numbers), length, seed)
    out = loaded.model.generate(  # type: ignore[operator]  # transformers hides it from type checkers
        torch.from_numpy(ids).to(loaded.device),
        attention_mask=torch.from_numpy(real).long().to(loaded.device),
        do_sample=False,
        num_beams=1,
        max_new_tokens=room,
        eos_token_id=ends or None,
        pad_token_id=filler,
        logits_processor=LogitsProcessorList([Draw(uniforms, widest)]),
    )
    return out[:, widest:].cpu().numpy()
