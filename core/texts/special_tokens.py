"""What a tokenizer says of the begin and the end of a text: the BOS that it writes itself, and the token that
its model saw between documents.

An instruct model's EOS often ends a turn of a chat; in plain text the model has never seen it.
"""

from collections.abc import Sequence
from typing import Any

# tokens that stand between documents in pretraining; the first that a vocabulary has is taken
SEPARATORS = (
    "<|endoftext|>",
    "<|end_of_text|>",
    "<eos>",
    "</s>",
    "<\N{FULLWIDTH VERTICAL LINE}end\N{LOWER ONE EIGHTH BLOCK}of\N{LOWER ONE EIGHTH BLOCK}sentence"
    "\N{FULLWIDTH VERTICAL LINE}>",
    "<EOS_TOKEN>",
    "[EOS]",
)
# tokens that begin or end the turns of a chat, and no text
TURNS = (
    "<|im_start|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|eot|>",
    "<|end|>",
    "<|return|>",
    "<end_of_turn>",
    "<turn|>",
    "<|end_of_turn|>",
    "<|endofturn|>",
    "[|endofturn|]",
    "<|END_OF_TURN_TOKEN|>",
    "<|user|>",
)


def adds_bos(tokenizer: Any) -> bool:
    """Whether the tokenizer itself begins a text with its BOS when it is called."""
    first = tokenizer.bos_token_id
    return first is not None and list(tokenizer("x")["input_ids"][:1]) == [first]


def begins(tokenizer: Any) -> list[int]:
    """What the tokenizer itself writes before a text: its BOS, or nothing."""
    return [tokenizer.bos_token_id] if adds_bos(tokenizer) else []


def begins_unlike_before(tokenizer: Any) -> dict[str, str]:
    """For the settings of a measurement that begins as `begins` says: {} where it always did.

    Earlier measurements begin with the BOS wherever a tokenizer has one.
    """
    return {} if tokenizer.bos_token_id is None or adds_bos(tokenizer) else {"begins": "no BOS"}


def own_bos(tokenizer: Any) -> int | None:
    """The BOS that begins a text; None where there is none, or it begins the turns of a chat."""
    return None if tokenizer.bos_token in TURNS else tokenizer.bos_token_id


def separator(tokenizer: Any) -> str | None:
    """The token that the model saw between documents in pretraining, or None where that is not known.

    The EOS, unless it ends the turns of a chat: then the special token of the vocabulary that is known to
    separate documents.
    """
    eos = tokenizer.eos_token
    if eos is None or eos in SEPARATORS:
        return eos
    if eos not in TURNS and eos not in template_text(tokenizer):
        return eos
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    return next((token for token in SEPARATORS if token in special), None)


def as_read(ids: Sequence[int], tokenizer: Any, tokens: int = 48) -> str:
    """The first tokens of a sequence in words, special tokens visible: what the model reads."""
    return tokenizer.decode(
        [int(i) for i in ids[:tokens]], skip_special_tokens=False, clean_up_tokenization_spaces=False
    )


def template_text(tokenizer: Any) -> str:
    """The source of the tokenizer's chat template, of all where there are several; "" without one."""
    template = getattr(tokenizer, "chat_template", None)
    return "".join(template.values()) if isinstance(template, dict) else template or ""
