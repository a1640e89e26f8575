"""Which blocks of a GGUF file have full attention, by llama.cpp's rules: its loaders hold periods that a file
need not say. Loads no torch.
"""

from pathlib import Path
from typing import NamedTuple

from core.weights.gguf_header import Header, read_array


class Pattern(NamedTuple):
    """Of an architecture whose blocks differ in their attention: every `period`-th has full attention.

    period_key: the entry of that period, which may be missing; array_key: the entry of a list that says it
    block by block, true where attention is not full; other: what that is, as transformers calls it.
    """

    period_key: str
    array_key: str
    period: int
    other: str


_SLIDING = "attention.sliding_window_pattern"  # a period, or a list
_RECURRENT = Pattern("full_attention_interval", "attention.recurrent_layers", 4, "linear_attention")
PATTERNS = {
    "gemma2": Pattern(_SLIDING, _SLIDING, 2, "sliding_attention"),
    "gemma3": Pattern(_SLIDING, _SLIDING, 6, "sliding_attention"),
    "qwen35": _RECURRENT,
    "qwen35moe": _RECURRENT,
}


def full_attention(path: Path, header: Header) -> list[bool] | None:
    """Whether each block of the stack has full attention, drafting blocks at its end left out; None: the
    architecture's blocks do not differ in that, or the file says it otherwise.
    """
    pattern = PATTERNS.get(header.architecture)
    if pattern is None:
        return None
    count = header.blocks - (header.own("nextn_predict_layers") or 0)
    said = read_array(path, header, f"{header.architecture}.{pattern.array_key}")
    if said is not None:
        return [not other for other in said[:count]]
    return periodic(header.own(pattern.period_key) or pattern.period, count)


def periodic(period: int, count: int) -> list[bool]:
    """Full attention in every `period`-th of so many blocks."""
    return [(n + 1) % period == 0 for n in range(count)]
