"""The forms in which a pruned model is written, as the app and the command line know them. Loads no torch."""

from collections.abc import Iterable
from typing import NamedTuple

from core.errors import InputError
from core.ising.units import Name


class FormName(NamedTuple):
    """A form in words."""

    title: str
    about: str  # what it is good for, in one or two sentences


NATIVE, PORTABLE, SHAPES, GGUF, NAS = "hf", "portable", "shapes", "gguf", "nas"
_OF_GGUF = "llama.cpp, Ollama and LM Studio run it."
WHOLE = {
    NATIVE: FormName(
        "Hugging Face checkpoint", "A checkpoint of its own type: it loads wherever the original does."
    ),
    GGUF: FormName(
        "GGUF file", f"{_OF_GGUF} From a GGUF file every tensor that stays is the file's own bytes."
    ),
    PORTABLE: FormName(
        "Portable, for transformers",
        "For types whose config cannot say that a block is gone: it loads by AutoModelForCausalLM with "
        "trust_remote_code=True, or by the one Python file beside it.",
    ),
}
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
# how an export was proved, in a fresh process
LOGITS, TENSORS = "logits", "tensors"
PROOFS = {
    LOGITS: "reloaded in a fresh process and verified: no tensor missing or left over, the gated model's "
    "logits, the same tokens with and without cache",
    TENSORS: "proved tensor by tensor in a fresh process: just the names and shapes that the config asks "
    "for, each the original's own bytes. It was not run here: it is too large for this machine's memory, or "
    "its weights are packed in a way that is not run here",
}


def forms_of(removed: Iterable[Name]) -> dict[str, FormName]:
    """The forms that a state may be written in, the usual one first."""
    return PARTIAL if any(isinstance(name, str) for name in removed) else WHOLE


def form_of(removed: Iterable[Name], asked: str | None = None) -> str:
    """The form that a state is written in, asked for or not. Errors: InputError."""
    forms = forms_of(removed)
    if asked is None:
        return next(iter(forms))
    if asked in forms:
        return asked
    if asked in PARTIAL:
        raise InputError(
            f"The form {asked[:40]!r} is for attention or FFN that goes on its own, and only whole blocks "
            f"are removed here; choose one of {', '.join(forms)}."
        )
    if asked in WHOLE:
        raise InputError(
            f"The form {asked[:40]!r} cannot say that attention or FFN went on its own; choose one of "
            f"{', '.join(forms)}."
        )
    raise InputError(f"There is no form {asked[:40]!r}; choose one of {', '.join(forms)}.")
