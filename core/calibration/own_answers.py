"""What the model answers to prompts, as texts that can be learned from (arXiv 2602.01997 heals by such)."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LogitsProcessorList

from core.calibration.gradient_rows import label_uniforms
from core.calibration.own_samples import Draw
from core.errors import InputError
from core.measure.chat import ends_of, is_chat
from core.model.generation import by_itself
from core.model.load import LoadedModel
from core.store.checkpoint import Checkpoint
from core.store.runs import canonical_key
from core.texts import Document, Sequences, Texts, read_texts
from core.texts.chat import asked_ids
from core.texts.documents import LOOKED_AT, check_text, limit_of, split_of
from core.texts.readers import rows_of
from core.texts.shapes import QUESTION, has_shape, question_of
from core.texts.text_source import COMPLETION, PROMPT, Asked, sources_of

SPLIT = "calibrate"
_LEAST = 16  # tokens of room for an answer
_CLOSE = 1e-3  # of the logits' spread: beyond that an answer behind padding is another one
_STEPS = 8  # of that trial
_SAID = (COMPLETION, "assistant")  # roles of what the model is to say itself
Turns = tuple[tuple[str, str], ...]


def read_prompts(asked: Asked) -> Texts:
    """As core.texts.read_texts, of one source; of rows that hold prompts, instructions or questions and no
    text, chat or answer that is known, these. Errors: InputError.
    """
    (source,) = sources_of(asked)
    if source.is_own:
        raise InputError(
            "What the model writes by itself holds no prompts to answer; name a file that does, or learn "
            "from 'own' itself."
        )
    if not source.names_no_column:
        return read_texts(source)
    first = [row for _, row in islice(rows_of(source), LOOKED_AT) if row]
    if any(has_shape(row, source) for row in first):
        return read_texts(source)
    asks = source
    if not any(map(question_of, first)):  # of a Parquet file columns are read that texts are made of
        asks = replace(source, column=QUESTION)
        if not any(question_of(row) for _, row in islice(rows_of(asks), LOOKED_AT) if row):
            return read_texts(source)
    rows = list(islice(rows_of(asks), limit_of(source)))
    found = [(place, question) for place, row in rows if row and (question := question_of(row))]
    for place, question in found:
        check_text(question, f"{place} of {source.path!r}")
    documents = tuple(Document(question, turns=((PROMPT, question),)) for _, question in found)
    return Texts(source.path, documents, (source,), None, len(rows) - len(documents))


def own_answers(
    loaded: LoadedModel,
    prompts: Texts,
    length: int,
    most: int,
    seed: int = 0,
    *,
    judged_on: Texts | None = None,
    batch: int = 16,
    report: Callable[[int, int, str], None] = lambda done, total, message: None,
    kept: Path | None = None,
) -> Sequences:
    """Prompts with what the model answers to them at temperature 1, one a sequence of at most `length`
    tokens, as the model read and wrote them; the answers alone count in the loss, with the token that ends
    them. All are of the split that is learned from.

    prompts: of a chat all before its last answer, of a prompt with its completion the prompt, else the text;
    those that leave no room are left out, and those that `judged_on` holds out of that split. most: prompts
    that are asked, drawn by the seed. kept: a folder of folders, each of what was answered to one choice of
    prompts; a later call goes on there.
    Errors: InputError where no prompt is left, or no answer says anything.
    """
    loaded.check_length(length)
    asked = _to_ask(prompts, judged_on)
    # without a template the answer has a line of its own
    begun = asked if is_chat(loaded) else [((PROMPT, _words(turns)), (COMPLETION, "")) for turns in asked]
    ids = [np.array(i, dtype=np.int64) for i in asked_ids(begun, loaded.tokenizer)]
    fit = [k for k, own in enumerate(ids) if len(own) and len(own) + _LEAST <= length]
    if not fit:
        raise InputError(
            f"No prompt of {prompts.source!r} leaves room for an answer within {length} tokens, the shortest "
            f"has {min(map(len, ids))}; raise the length, or give rows with shorter prompts."
        )
    chosen = np.random.default_rng(seed).permutation(fit)[:most].tolist()
    order = sorted(chosen, key=lambda k: len(ids[k]))  # alike in length, a batch holds little padding
    about = {"model": loaded.digest(), "tokenizer": loaded.tokenizer_digest(), "ends": ends_of(loaded)}
    asks = {"length": length, "seed": seed, "prompts": [ids[k].tolist() for k in order]}
    own = canonical_key({**about, **asks})
    saved = Checkpoint(kept and kept / own, {"batch": batch})
    said: dict[int, np.ndarray] = {}
    for some in _batches(loaded, {k: ids[k] for k in order}, saved.plan["batch"]):
        start = len(said)
        name = f"answers-{start}+{len(some)}"
        if name not in saved:
            report(start, len(order), "the original answers the prompts")
            numbers = list(range(start, start + len(some)))
            saved.put(name, {"ids": _answered(loaded, [ids[k] for k in some], numbers, length, seed)})
        said |= zip(some, (_ended(out, ends_of(loaded)) for out in saved[name]["ids"]))
    saved.flush()
    words = loaded.tokenizer.batch_decode([said[k].tolist() for k in chosen], skip_special_tokens=True)
    pairs = [(ids[k], said[k]) for k, answer in zip(chosen, words) if answer.strip()]
    return _sequences(loaded, prompts, pairs, length)


def _to_ask(prompts: Texts, judged_on: Texts | None) -> list[Turns]:
    """Each prompt once, but those of the splits that are not learned from. Errors: InputError for none."""
    others = [d for d in judged_on.documents if split_of(d) != SPLIT] if judged_on else []
    unseen = {_words(_asked(document)) for document in others}
    asked = [
        t for t in dict.fromkeys(map(_asked, prompts.documents)) if _words(t) and _words(t) not in unseen
    ]
    if not asked:
        raise InputError(
            f"All prompts of {prompts.source!r} are blank, or of texts that are held out to judge by; give "
            "others."
        )
    return asked


def _asked(document: Document) -> Turns:
    """What the model is to answer: the turns before the last that are not its own, or the text."""
    turns = list(document.turns or ((PROMPT, document.text),))
    while turns and turns[-1][0] in _SAID:
        turns.pop()
    return tuple(turns) or ((PROMPT, document.text),)


def _words(turns: Turns) -> str:
    """The turns as lines."""
    return "\n".join(text for _, text in turns if text)


def _ended(out: np.ndarray, ends: list[int]) -> np.ndarray:
    """int64 [T]: an answer up to its end, and with it."""
    (last,) = np.isin(out, ends).nonzero()
    return out[: last[0] + 1] if len(last) else out


def _sequences(
    loaded: LoadedModel, prompts: Texts, pairs: list[tuple[np.ndarray, np.ndarray]], length: int
) -> Sequences:
    """A prompt and its answer each. Errors: InputError where there are none."""
    if not pairs:
        raise InputError(
            f"The model says nothing to the prompts of {prompts.source!r}; give others, or learn from texts."
        )
    shape = len(pairs), length
    ids, mask, scored = np.zeros(shape, np.int64), np.zeros(shape, bool), np.zeros(shape, bool)
    for row, (prompt, answer) in enumerate(pairs):
        both = np.concatenate([prompt, answer])[:length]
        ids[row, : len(both)], mask[row, : len(both)] = both, True
        scored[row, len(prompt) : len(both)] = True
    chat = is_chat(loaded)
    return Sequences(
        ids=ids,
        index=np.arange(len(pairs), dtype=np.int64),
        domain=np.zeros(len(pairs), dtype=np.int16),
        domains=("answers",),
        split=SPLIT,
        source=f"answers to {prompts.source}",
        texts_sha256=hashlib.sha256(ids.tobytes()).hexdigest(),
        available=len(pairs),
        template=f"answered at temperature 1{' in the chat template' if chat else ''}",
        mask=mask,
        scored=scored,
        empty=prompts.empty,
        sources=prompts.sources,
        form={"mode": "documents", "template": "chat" if chat else "none", "bos": "auto"},
    )


def _batches(loaded: LoadedModel, ids: dict[int, np.ndarray], most: int) -> list[list[int]]:
    """The numbers of the prompts, at most so many at once; of equal length where the model takes padding for
    text. ids: by length.
    """
    pads = _pads(loaded, list(ids.values())[-1])
    alike = [list(own) for _, own in groupby(ids, key=lambda k: 0 if pads else len(ids[k]))]
    return [own[start : start + most] for own in alike for start in range(0, len(own), most)]


@torch.no_grad()
def _pads(loaded: LoadedModel, prompt: np.ndarray) -> bool:
    """Whether a prompt is answered behind padding as by itself: a trial of some steps on a part of one."""
    part = prompt[-(-len(prompt) // 2) :]
    if not len(part):
        return False
    try:
        alone, beside = (
            torch.stack(
                _generated(loaded, some, _STEPS, output_logits=True, return_dict_in_generate=True).logits
            )
            for some in ([part], [part, prompt])
        )
    except Exception:  # of many kinds: steps that take no mask
        return False
    close = max(_CLOSE, 16 * torch.finfo(alone.dtype).eps) * float(alone.float().std())
    steps = min(len(alone), len(beside))  # until it ends by itself
    return float((alone[:steps, 0] - beside[:steps, 0]).abs().max()) <= close


@torch.no_grad()
def _answered(
    loaded: LoadedModel, prompts: list[np.ndarray], numbers: list[int], length: int, seed: int
) -> np.ndarray:
    """int64 [B, T]: the answers, behind their end padded with it; numbers: of the prompts, each a stream of
    random numbers.
    """
    widest = max(map(len, prompts))
    # as far as the shortest may go: what does not end by itself is cut where the sequence ends
    room = min(length - min(map(len, prompts)), (loaded.max_length or 2 * length) - widest)
    draw = Draw(label_uniforms(np.array(numbers), length, seed), widest)
    out = _generated(loaded, prompts, room, logits_processor=LogitsProcessorList([draw]))
    return out[:, widest:].cpu().numpy()


def _generated(loaded: LoadedModel, prompts: list[np.ndarray], room: int, **how: Any) -> Any:
    """What `generate` gives of prompts, padded on the left, and so many tokens more at most."""
    widest, ends = max(map(len, prompts)), ends_of(loaded)
    filler = ends[0] if ends else 0
    ids = np.stack([np.pad(own, (widest - len(own), 0), constant_values=filler) for own in prompts])
    real = np.stack([np.arange(widest) >= widest - len(own) for own in prompts])
    with by_itself(loaded.model):
        return loaded.model.generate(  # type: ignore[operator]  # transformers hides it from type checkers
            torch.from_numpy(ids).to(loaded.device),
            attention_mask=torch.from_numpy(real).long().to(loaded.device),
            do_sample=False,
            num_beams=1,
            max_new_tokens=room,
            eos_token_id=ends or None,
            pad_token_id=filler,
            **how,
        )
