"""Load a causal language model, alone or as the text part of one that also reads images.

core.blocks.structure finds its blocks.

Weights are read from safetensors or GGUF only; code from a model folder is run only on request.
"""

import gc
import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")

import torch
import transformers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)

from core.blocks.description import Block, describe_blocks, with_sizes
from core.blocks.structure import Branch, Structure, find_structure, input_device, reads_ahead
from core.errors import InputError
from core.ising.units import BLOCK, Units, units_of
from core.model.devices import Asked, place_here
from core.model.head import Head
from core.model.partial import PartialForCausalLM
from core.store.named_models import name_at
from core.weights.files import WeightFiles
from core.weights.find import find_weights

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
LOG = logging.getLogger(__name__)

_CAUSAL = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
Built = TypeVar("Built")
Reader = type[AutoModelForCausalLM] | type[AutoModelForImageTextToText]
_ATTENTION = ("sdpa", "eager")  # the first that a model has


@dataclass
class LoadedModel:
    """A model ready for gates: weights frozen, evaluation mode, where and in the type that core.model.devices
    says.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    source: str
    files: WeightFiles
    structure: Structure
    blocks: list[Block] = field(default_factory=list)
    by: str = BLOCK  # what a state removes here: core.ising.units
    item_size: int = 4  # bytes of a number, as the blocks count them

    @property
    def units(self) -> Units:
        """What a state removes: the blocks that are there, or their branches."""
        return units_of([[b.kind for b in block.branches] for block in self.blocks], self.by)

    def seen(self, by: str) -> "LoadedModel":
        """The same model, whose states remove blocks or branches."""
        if by == self.by:
            return self
        other = replace(self, by=by)
        if "head" in vars(self):  # tried once
            vars(other)["head"] = self.head
        return other

    @property
    def name(self) -> str:
        """What people call it."""
        return name_at(self.files.place) or Path(self.source).name

    @property
    def own_code(self) -> bool:
        """Whether Python files of its folder were run."""
        return self.files.own_code

    @property
    def modules(self) -> torch.nn.ModuleList:
        """The blocks that are there."""
        return self.structure.modules(self.model)

    @property
    def config(self) -> transformers.PreTrainedConfig:
        """Of the language model, where the model has other parts beside it."""
        return self.model.config.get_text_config(decoder=True)

    @cached_property
    def head(self) -> Head:
        """The model cut before its head, for losses in pieces; tried on a few tokens when first asked for."""
        return Head(self.model, self.structure.path)

    @property
    def device(self) -> torch.device:
        """Where token ids go."""
        return input_device(self.model)

    def branches(self) -> Iterator[tuple[int, Branch, torch.nn.Module]]:
        """(its unit, branch, sub-module) for every branch that writes to the residual stream."""
        units = self.units
        for own, block, module in zip(units.of_block, self.blocks, self.modules):
            for k, branch in enumerate(block.branches):
                yield own[min(k, len(own) - 1)], branch, module.get_submodule(branch.path)

    @property
    def max_length(self) -> int | None:
        """Positions the model has; None where it has no limit."""
        return getattr(self.config, "max_position_embeddings", None)

    def check_length(self, length: int) -> None:
        """Errors: InputError when sequences of `length` tokens do not fit the model."""
        if length < 2:
            raise InputError(f"A sequence length of {length} predicts no token; choose 2 or more.")
        if self.max_length and length > self.max_length:
            raise InputError(
                f"A sequence length of {length} is more than the {self.max_length} positions of "
                f"{self.source!r}; choose a smaller --length."
            )

    def digest(self) -> dict[str, str | list[str]]:
        """SHA-256 of the configuration, of every weight file and of the code that was run: the model's
        identity, whatever it is called.
        """
        return self.files.digest()

    def tokenizer_digest(self) -> str:
        """SHA-256 of the tokenizer: its vocabulary, rules, BOS and EOS decide what a sequence is."""
        # a tokenizer that is the folder's own code has none
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        rules = [
            backend.to_str() if backend else sorted(self.tokenizer.get_vocab().items()),
            self.tokenizer.bos_token_id,
            self.tokenizer.eos_token_id,
        ]
        return hashlib.sha256(repr(rules).encode()).hexdigest()

    def weights_bytes(self) -> int:
        """Of the weight files."""
        return self.files.bytes

    def arithmetic(self) -> dict[str, str]:
        """What numbers it computes in, where that is not float32 on the CPU: measurements of one kind are not
        another's.
        """
        dtype, device = str(next(self.model.parameters()).dtype).removeprefix("torch."), self.device.type
        return {} if (dtype, device) == ("float32", "cpu") else {"dtype": dtype, "device": device}

    def parameters(self) -> int:
        """How many there are now."""
        return sum(p.numel() for p in self.model.parameters())


def auto_class(config: dict, source: str, own_code: bool = False) -> Reader:
    """The auto class that reads a raw config with all its weights, those of a vision part too; own_code: its
    folder's may be run.

    Errors: InputError where it is of no model that transformers knows with a next-token loss.
    """
    model_type: Any = config.get("model_type")
    classes = config.get("architectures") or []
    for reader in (AutoModelForCausalLM, AutoModelForImageTextToText):
        if own_code and reader.__name__ in (config.get("auto_map") or {}):
            return reader
    text, vision = (
        names.get(model_type)
        for names in (MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)
    )
    if config.get("is_encoder_decoder") or not (text or vision):
        raise _not_causal(source, classes[0] if classes else "model", model_type)
    if vision and (vision in classes or not text):
        text = vision
    if classes and not any(str(c) == text or str(c).endswith(_CAUSAL) for c in classes):
        raise InputError(
            f"{source!r} is a {classes[0]} (type {model_type!r}), whose weights have no next-token head; "
            f"choose the checkpoint of a {text}."
        )
    return AutoModelForImageTextToText if text == vision else AutoModelForCausalLM


def _not_causal(source: str, name: str, model_type: str) -> InputError:
    return InputError(
        f"{source!r} is a {name} (type {model_type!r}), not a causal language model with a next-token loss "
        f"that transformers {transformers.__version__} knows; choose another."
    )


def load_model(
    source: str,
    device: str | None = None,
    dtype: Asked = None,
    remote_code: bool = False,
    tokenizer: bool = True,
) -> LoadedModel:
    """Load `source` (core.weights.find.find_weights) with frozen weights.

    device: "cpu", "cuda", "cuda:1"; None: the GPUs where there are any (core.model.devices). dtype: "auto"
    for the stored one; None: float32 on the CPU, on GPUs half precision where the weights are. What uses a
    GPU has not been run on one; its hooks have, with weights on the CPU and on disk. Quantised weights are
    turned into bf16 first (core.weights.quantised). remote_code: whether Python files of the model's folder
    may be run, where its config asks for them. tokenizer: False for what works on tokens alone, which then
    has none.
    Errors: InputError for a missing, damaged, incomplete or unsupported model, and for one that does not fit.
    """
    files = find_weights(source, remote_code)
    model, item_size = _read_model(files, device, dtype)
    reads = _read_tokenizer(files) if tokenizer else None
    gc.collect()
    loaded = wrap(model, reads, source, files, item_size)
    if reads_ahead(model):
        raise InputError(
            f"{source!r} (type {model.config.model_type!r}) sees later tokens when it reads text alone, so "
            "its next-token loss means nothing; choose another model."
        )
    return loaded


def _read_model(files: WeightFiles, device: str | None, dtype: Asked) -> tuple[PreTrainedModel, int]:
    """(model, bytes of a weight as stored), its weights checked. Errors: as `load_model`."""
    source, reader, stored = (
        files.source,
        auto_class(files.config, files.source, files.own_code),
        files.stored(),
    )
    placement = place_here(stored.values, stored.dtype, source, device, dtype)
    arguments = {**vars(placement), **files.arguments()}
    try:
        read: Any = with_attention(  # with the loading info a pair, which transformers does not declare
            lambda attention: (PartialForCausalLM if files.partial else reader).from_pretrained(
                **arguments, attn_implementation=attention, local_files_only=True, output_loading_info=True
            )
        )
        model, info = read
    except Exception as error:
        raise InputError(
            f"The model {source!r} cannot be loaded ({_first_line(error)}); check its config and weight "
            "files."
        ) from error
    _check_weights(model, info, source)
    model = files.finish(model)
    if files.method:  # from bf16, which an export would hold
        model.to(dtype=placement.dtype)
    if model.config.get_text_config(decoder=True).is_encoder_decoder:
        raise _not_causal(source, type(model).__name__, model.config.model_type)
    return model, stored.dtype.itemsize if stored.dtype else 2


def check_names(info: dict, source: str) -> None:
    """Errors: InputError for weights that are not those of the config; info: of loading."""
    wrong = {
        kind: sorted(map(str, info.get(f"{kind}_keys") or []))
        for kind in ("missing", "unexpected", "mismatched")
    }
    for kind, names in wrong.items():
        if names:
            raise InputError(
                f"The weights of {source!r} do not fit its config: {len(names)} {kind} tensors, the first "
                f"{names[0]}; take both from the same place."
            )


def _check_weights(model: PreTrainedModel, info: dict, source: str) -> None:
    """Errors: InputError for weights that are not those of the config, or not finite; info: of loading."""
    check_names(info, source)
    for name, p in model.named_parameters():
        if not p.is_meta and not torch.isfinite(p).all():  # meta: left outside the GPU until it is used
            raise InputError(
                f"The weights of {source!r} hold NaN or infinite values in {name}; take them anew from the "
                "model's origin."
            )


def _read_tokenizer(files: WeightFiles) -> PreTrainedTokenizerBase:
    """Errors: InputError."""
    try:
        return AutoTokenizer.from_pretrained(
            files.tokenizer_folder, trust_remote_code=files.own_code, local_files_only=True
        )
    except Exception as error:
        raise InputError(
            f"The tokenizer of {files.source!r} cannot be loaded ({_first_line(error)}); put tokenizer.json "
            "into the folder."
        ) from error


def with_attention(build: Callable[[str], Built]) -> Built:
    """What `build` makes with the first attention that the model has. Errors: those of `build`."""
    for attention in _ATTENTION[:-1]:
        try:
            return build(attention)
        except ValueError as error:
            if "scaled_dot_product_attention" not in str(error):
                raise
    return build(_ATTENTION[-1])


def wrap(
    model: PreTrainedModel, tokenizer, source: str, files: WeightFiles | None, item_size: int = 4
) -> LoadedModel:
    """A model at hand, its blocks found; files: None where it lies nowhere; item_size: bytes of a weight as
    stored.

    Errors: InputError for an unsupported structure.
    """
    model.eval().requires_grad_(False)
    structure = find_structure(model, source)
    blocks = describe_blocks(model, structure, item_size)
    files = files or WeightFiles(source, Path())
    if (stored := files.block_bytes()) is not None:
        blocks = [with_sizes(block, stored[block.index]) for block in blocks]
    return LoadedModel(model, tokenizer, source, files, structure, blocks, item_size=item_size)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:160].rstrip(".")
