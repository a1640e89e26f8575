"""Load a causal language model, alone or as the text part of one that also reads images.

core.blocks.structure finds its blocks.

Weights are read from safetensors only; code from a model folder is run only on request.
"""

import gc
import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
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

from core.blocks.description import Block, describe_blocks
from core.blocks.structure import Branch, Structure, find_structure, input_device, reads_ahead
from core.errors import InputError
from core.model.devices import Asked, place_here, stored_weights
from core.model.guard import check_folder, read_object
from core.model.head import Head
from core.model.quantised import quantisation, reading
from core.store.folders import DEMO
from core.store.runs import file_sha256

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
LOG = logging.getLogger(__name__)

_CAUSAL = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
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
    folder: Path
    structure: Structure
    blocks: list[Block] = field(default_factory=list)
    own_code: bool = False  # whether Python files of its folder were run

    @property
    def name(self) -> str:
        """What people call it."""
        return "demo" if self.folder == DEMO / "model" else Path(self.source).name

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
        """(position among the blocks that are there, branch, sub-module) for every branch that writes to the
        residual stream.
        """
        for i, (block, module) in enumerate(zip(self.blocks, self.modules)):
            for branch in block.branches:
                yield i, branch, module.get_submodule(branch.path)

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
        config = hashlib.sha256((self.folder / "config.json").read_bytes()).hexdigest()
        weights = sorted(file_sha256(path) for path in self.folder.glob("*.safetensors"))
        code = sorted(file_sha256(path) for path in self.folder.glob("*.py")) if self.own_code else None
        return {"config": config, "weights": weights, **({"code": code} if code else {})}

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
        return sum(path.stat().st_size for path in self.folder.glob("*.safetensors"))

    def arithmetic(self) -> dict[str, str]:
        """What numbers it computes in, where that is not float32 on the CPU: measurements of one kind are not
        another's.
        """
        dtype, device = str(next(self.model.parameters()).dtype).removeprefix("torch."), self.device.type
        return {} if (dtype, device) == ("float32", "cpu") else {"dtype": dtype, "device": device}

    def parameters(self) -> int:
        """How many there are now."""
        return sum(p.numel() for p in self.model.parameters())


def resolve_source(source: str, remote_code: bool = False) -> Path:
    """The local folder of `demo`, a path, or a hub id (downloaded or taken from the local cache), with its
    Python files on request.

    Errors: InputError when there is no such model.
    """
    if source == "demo":
        return DEMO / "model"
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if "\0" in source or source.startswith((".", "/", "~")) or source.count("/") > 1 or folder.exists():
        raise InputError(
            f"No model folder {source!r}; give a folder with config.json and .safetensors files, a hub id, "
            "or 'demo'."
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(source, allow_patterns=[*_FILES, *(["*.py"] if remote_code else [])]))
    except HFValidationError as error:
        raise InputError(
            f"{source!r} is neither a model folder nor a valid hub id; give a folder, an id such as "
            "'owner/name', or 'demo'."
        ) from error
    except Exception as error:  # offline, unknown, private, gated: the hub client has a class for each
        raise InputError(
            f"Model {source!r} is no local folder and could not be had from the hub "
            f"({type(error).__name__}); "
            f"check the name and the connection, or give a folder or 'demo'."
        ) from error


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
    source: str, device: str | None = None, dtype: Asked = None, remote_code: bool = False
) -> LoadedModel:
    """Load `source` (`demo`, a folder or a hub id) with frozen weights.

    device: "cpu", "cuda", "cuda:1"; None: the GPUs where there are any (core.model.devices). dtype: "auto"
    for the stored one; None: float32 on the CPU, on GPUs half precision where the weights are. What uses a
    GPU has not been run on one; its hooks have, with weights on the CPU and on disk. Quantised weights are
    turned into bf16 first (core.model.quantised). remote_code: whether Python files of the model's folder may
    be run, where its config asks for them.
    Errors: InputError for a missing, damaged, incomplete or unsupported model, and for one that does not fit.
    """
    folder = resolve_source(source, remote_code)
    if not (folder / "config.json").is_file():
        raise InputError(
            f"The folder {source!r} has no config.json, so it is not a Hugging Face model; give the folder "
            "that holds config.json and the weights."
        )
    own_code = check_folder(folder, source, remote_code)
    config = read_object(folder / "config.json", source)
    model, item_size = _read_model(folder, config, source, device, dtype, own_code)
    tokenizer = _read_tokenizer(folder, source, own_code)
    gc.collect()
    loaded = wrap(model, tokenizer, source, folder, item_size)
    loaded.own_code = own_code
    if reads_ahead(model):
        raise InputError(
            f"{source!r} (type {model.config.model_type!r}) sees later tokens when it reads text alone, so "
            "its next-token loss means nothing; choose another model."
        )
    return loaded


def _read_model(
    folder: Path, config: dict, source: str, device: str | None, dtype: Asked, own_code: bool
) -> tuple[PreTrainedModel, int]:
    """(model, bytes of a weight as stored), its weights checked. Errors: as `load_model`."""
    reader = auto_class(config, source, own_code)
    method = quantisation(config)
    stored = stored_weights(folder, source, method.packed if method else None)
    placement = place_here(stored.values, None if method else stored.dtype, source, device, dtype)
    arguments = {
        **vars(placement),
        **({"dtype": torch.bfloat16} if method else {}),
        **reading(method),
        "trust_remote_code": own_code,
    }
    try:
        read: Any = with_attention(  # with the loading info a pair, which transformers does not declare
            lambda attention: reader.from_pretrained(
                folder,
                **arguments,
                attn_implementation=attention,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
        )
        model, info = read
        if method:  # from bf16, which an export would hold
            model.to(dtype=placement.dtype)
    except Exception as error:
        raise InputError(
            f"The model {source!r} cannot be loaded ({_first_line(error)}); check its config and weight "
            "files."
        ) from error
    _check_weights(model, info, source)
    if model.config.get_text_config(decoder=True).is_encoder_decoder:
        raise _not_causal(source, type(model).__name__, model.config.model_type)
    return model, 2 if method or not stored.dtype else stored.dtype.itemsize


def _check_weights(model: PreTrainedModel, info: dict, source: str) -> None:
    """Errors: InputError for weights that are not those of the config, or not finite; info: of loading."""
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
    for name, p in model.named_parameters():
        if not p.is_meta and not torch.isfinite(p).all():  # meta: left outside the GPU until it is used
            raise InputError(
                f"The weights of {source!r} hold NaN or infinite values in {name}; take them anew from the "
                "model's origin."
            )


def _read_tokenizer(folder: Path, source: str, own_code: bool) -> PreTrainedTokenizerBase:
    """Errors: InputError."""
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=own_code, local_files_only=True)
    except Exception as error:
        raise InputError(
            f"The tokenizer of {source!r} cannot be loaded ({_first_line(error)}); put tokenizer.json into "
            "the folder."
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


def wrap(model: PreTrainedModel, tokenizer, source: str, folder: Path, item_size: int = 4) -> LoadedModel:
    """A model at hand, its blocks found; item_size: bytes of a weight as stored.

    Errors: InputError for an unsupported structure.
    """
    model.eval().requires_grad_(False)
    structure = find_structure(model, source)
    return LoadedModel(
        model, tokenizer, source, folder, structure, describe_blocks(model, structure, item_size)
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:160].rstrip(".")
