"""Generating by a model's own distribution, whatever rules of generation came with it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from transformers import GenerationConfig, PreTrainedModel

_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")
# rules that generate follows beside what it is called with, and what they are where they do nothing
_RULES: Mapping[str, float | None] = {
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "min_length": 0,
    "min_new_tokens": 0,
    "guidance_scale": 1.0,
    "num_return_sequences": 1,
    **dict.fromkeys(("bad_words_ids", "suppress_tokens", "begin_suppress_tokens", "sequence_bias")),
    **dict.fromkeys(("forced_bos_token_id", "forced_eos_token_id", "exponential_decay_length_penalty")),
}


@contextmanager
def by_itself(model: PreTrainedModel) -> Iterator[None]:
    """Inside the context `generate` knows of the model's generation_config.json the special tokens alone: a
    repetition penalty there, as instruct models bring it, would make another distribution of the model's.
    """
    own = model.generation_config
    model.generation_config = GenerationConfig(**{name: getattr(own, name, None) for name in _TOKENS})
    try:
        yield
    finally:
        model.generation_config = own


def by_itself_unlike_before(model: PreTrainedModel) -> dict[str, str]:
    """For the name of what a model has generated `by_itself`: {} where it has no rules of its own.

    Earlier versions followed them.
    """
    own = model.generation_config
    found = (getattr(own, name, None) not in (None, usual) for name, usual in _RULES.items())
    return {"generated": "by the model's distribution"} if any(found) else {}
