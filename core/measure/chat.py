"""A model answers: in its chat template where its tokenizer has one, else by going on from the prompt."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from transformers import TextStreamer

from core.errors import InputError
from core.model.generation import by_itself
from core.model.surgery import without
from core.texts.chat import asked_ids
from core.texts.special_tokens import template_text

Turn = tuple[str, str]  # role (user or assistant), what was said


@dataclass(frozen=True)
class Reply:
    """What a model said."""

    text: str
    ended: bool  # by itself, not by the limit
    tokens: int
    seconds: float


def is_chat(loaded) -> bool:
    """Whether the tokenizer has a chat template."""
    return bool(template_text(loaded.tokenizer))


def ends_of(loaded) -> list[int]:
    """The tokens with which the model ends what it says."""
    own = loaded.model.generation_config.eos_token_id
    own = loaded.tokenizer.eos_token_id if own is None else own
    return [own] if isinstance(own, int) else list(own or ())


def reply(
    loaded,
    turns: Sequence[Turn],
    removed: Sequence[int] = (),
    *,
    tokens: int = 64,
    temperature: float = 0.0,
    seed: int = 0,
    heard: Callable[[int, str], None] = lambda count, text: None,
) -> Reply:
    """What the model says next, with the blocks of `removed` gone: at most `tokens` tokens, greedy at
    temperature 0, else sampled from all of the vocabulary by the seed.

    turns: the last one is the user's; without a chat template it is gone on from by itself.
    heard(tokens so far, the text that they add) is told while the model speaks.
    Errors: InputError where nothing was asked, it does not fit the model, or the template fails.
    """
    tokenizer = loaded.tokenizer
    if not turns[-1][1].strip():
        raise InputError("Nothing was asked; write what the model is to answer.")
    (ids,) = asked_ids([turns if is_chat(loaded) else turns[-1:]], tokenizer)
    room = min(tokens, (loaded.max_length or math.inf) - len(ids))
    if room < 1:
        raise InputError(
            f"The chat so far has {len(ids):,} tokens and {loaded.source!r} has {loaded.max_length:,} "
            "positions; begin a new one, or ask something shorter."
        )
    ends = ends_of(loaded)
    sampling = {"temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {}
    torch.manual_seed(seed)
    began = time.monotonic()
    with without(loaded, removed), by_itself(loaded.model), torch.no_grad():
        out = loaded.model.generate(
            torch.tensor([ids], device=loaded.device),
            do_sample=bool(temperature),
            num_beams=1,
            max_new_tokens=int(room),
            eos_token_id=ends or None,
            pad_token_id=tokenizer.pad_token_id or 0,
            streamer=_Listener(tokenizer, heard),
            **sampling,
        )[0, len(ids) :].tolist()
    said = tokenizer.decode(out, skip_special_tokens=True)
    return Reply(said, bool(out) and out[-1] in ends, len(out), time.monotonic() - began)


class _Listener(TextStreamer):
    """Passes on each stretch of text as soon as no later token can change it."""

    def __init__(self, tokenizer, heard: Callable[[int, str], None]):
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self.heard, self.count = heard, -1  # the prompt comes first

    def put(self, value) -> None:
        self.count += 1
        if self.count:
            self.heard(self.count, "")  # a token may add no text yet
        super().put(value)

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        self.heard(self.count, text)
