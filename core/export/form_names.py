"""The forms in which a pruned model is written, as the app and the command line know them. Loads no torch."""

from collections.abc import Iterable
from typing import NamedTuple

from core.errors import InputError
from core.ising.units import Name


class FormName(NamedTuple):
    """A form in words."""

    title: str
    about: str  # what it is good for, in one or two sentences


NATIVE, PORTABLE, SHAPES, GGUF, NAS = "native", "portable", "shapes", "gguf", "nas"
WHOLE = FormName("a checkpoint of its own type", "It loads as the original does.")
# where attention or FFN went on its own: no type of checkpoint says that, so there are several ways
PARTIAL = {
    PORTABLE: FormName(
        "smaller, for transformers",
        "Only what is kept is written. It loads by AutoModelForCausalLM with trust_remote_code=True, or by "
        "the one Python file beside it.",
    ),
    SHAPES: FormName(
        "same shapes, for everything",
        "Attention and FFN stay as zeros: it loads wherever the original does, and saves no bytes, no cache "
        "and no time for them.",
    ),
    GGUF: FormName(
        "GGUF, for llama.cpp",
        "Llama models only, as llama.cpp's architecture deci: what is removed is left out, but for a tiny "
        "FFN of zeros where an attention stays alone.",
    ),
    NAS: FormName(
        "smaller, with a config for vLLM and TensorRT-LLM",
        "As the first, and beside it the config of nemotron-nas for Llama models, which was not run with "
        "either.",
    ),
}


def form_of(removed: Iterable[Name], asked: str | None = None) -> str:
    """The form that a state is written in, asked for or not. Errors: InputError."""
    if not any(isinstance(name, str) for name in removed):
        if asked not in (None, NATIVE):
            raise InputError(
                f"The form {asked[:40]!r} is for attention or FFN that goes on its own, and only whole "
                "blocks are removed here; leave the form out."
            )
        return NATIVE
    if asked is None:
        return PORTABLE
    if asked not in PARTIAL:
        raise InputError(f"There is no form {asked[:40]!r}; choose one of {', '.join(PARTIAL)}.")
    return asked
