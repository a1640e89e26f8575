"""A model without its weights: built from the config, each name on disk led to its place in it.

Every weight is one zero that is seen as the whole tensor, so that the model runs, in no memory, and its
blocks are found as those of a loaded one; products with zeros are not computed. What leads from names on disk
to names in memory is transformers' own (its renamings, and experts that are many on disk and one here).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import accelerate
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from transformers import AutoConfig, PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    WeightConverter,
    WeightRenaming,
    dot_natural_key,
    rename_source_key,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from core.blocks.description import describe_blocks
from core.blocks.structure import Branch, Structure, find_stack
from core.errors import InputError, first_line
from core.model.load import LoadedModel, auto_class, check_names, with_attention
from core.model.partial import PartialConfig, take_out
from core.weights.files import WeightFiles
from core.weights.find import find_weights
from core.weights.packed import check_copied, is_packed
from core.weights.shards import OnDisk, stored_tensors

# types of a header that PyTorch has under another name
DTYPES = {
    **{"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16},
    **{"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8},
    **{"BOOL": torch.bool, "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2},
}


class Names:
    """Where names on disk belong in a model."""

    def __init__(self, model: PreTrainedModel):
        """model: with its weights or without."""
        ways = get_model_conversion_mapping(model)
        self.renamings = [way for way in ways if isinstance(way, WeightRenaming)]
        self.converters = [way for way in ways if isinstance(way, WeightConverter)]
        self.prefix = model.base_model_prefix
        self.state = model.state_dict()
        self.modules = {name for name, module in model.named_modules() if module._parameters}

    def home(self, name: str) -> tuple[str, str | None]:
        """(its name in the model, the pattern of the converter that it goes through) of a name on disk; it
        need not be there: packed weights and their scales belong to a module.
        """
        home, pattern = rename_source_key(name, self.renamings, self.converters, self.prefix, self.state)
        if home not in self.state and name in self.state:
            home, pattern = name, None
        if home not in self.state and not self.owner(home):  # only what is there gets or loses the prefix
            added, _, bare = f"{self.prefix}.{home}", *home.partition(f"{self.prefix}.")[1:]
            home = next((h for h in (added, bare) if h and self.owner(h)), home)
        return home, pattern

    def owner(self, home: str) -> str:
        """The module or weight with parts that a name in the model belongs to; empty where there is none."""
        parts = home.split(".")
        above = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
        return next((name for name in above if name in self.state or name in self.modules), "")


@dataclass(frozen=True)
class Skeleton:
    """A model of zeros, and where the weights of its checkpoint are. Its states remove whole blocks."""

    loaded: LoadedModel
    tensors: dict[str, OnDisk]  # all that are on disk
    homes: dict[str, str]  # in the model, of those on disk that it takes
    dtype: torch.dtype  # of most of them; where they are quantised, what they are computed in
    quantised: bool

    @property
    def blocks(self) -> str:
        """The path of the list of blocks, with a dot behind it."""
        return f"{self.loaded.structure.path}."

    def block_of(self, home: str) -> int | None:
        """The block that a name in the model is of; None outside of them."""
        if not home.startswith(self.blocks):
            return None
        return int(home.removeprefix(self.blocks).partition(".")[0])

    def moved(self, home: str, number: int) -> str:
        """The name in the model of the same weight in another block."""
        return f"{self.blocks}{number}.{home.removeprefix(self.blocks).partition('.')[2]}"

    @cached_property
    def names(self) -> Names:
        """Of the model as it is now."""
        return Names(self.loaded.model)


def open_skeleton(source: str, remote_code: bool = False) -> Skeleton:
    """The model of `source`, a folder of safetensors with a config, without reading its weights.

    Errors: InputError for another kind of source, a damaged or cut file, weights that are not those of the
    config, and a model whose blocks are not found.
    """
    files = find_weights(source, remote_code, packed=True)
    if type(files) is not WeightFiles:
        raise InputError(
            f"{source!r} is no folder of safetensors with its own config.json, and only those are pruned "
            "shard by shard; leave that out."
        )
    check_copied(files.config, source)
    tensors, quantised = stored_tensors(files), is_packed(files.config, files.folder)
    try:
        model = hollow(files)
    except InputError:
        raise
    except Exception as error:  # of many kinds: what a config says and its class cannot be
        raise InputError(
            f"The model {source!r} cannot be built from its config ({first_line(error, 160)}); check it."
        ) from error
    if not quantised and not files.partial:
        _check_fit(model, tensors, source)
    dtype = _computed_in(files.config) if quantised else stored_dtype(tensors)
    with no_products():
        path, axis, _ = find_stack(model, source)
        count = len(model.get_submodule(path))  # type: ignore[arg-type]  # a list
        structure = Structure(path, axis, ((Branch("", "block"),),) * count)
        blocks = describe_blocks(model, structure, dtype.itemsize)
    homes = _packed_homes(model, tensors, f"{path}.", source) if quantised else _homes(model, tensors)
    loaded = LoadedModel(
        model,
        None,  # type: ignore[arg-type]  # it is not asked for
        source,
        files,
        structure,
        blocks,
        item_size=dtype.itemsize,
    )
    return Skeleton(loaded, tensors, homes, dtype, quantised)


def hollow(files: WeightFiles) -> PreTrainedModel:
    """The model of a folder in evaluation mode, all weights zero and in no memory, float32; its buffers are
    real. Errors: of many kinds, transformers' own.
    """
    reader, own_code = auto_class(files.config, files.source, files.own_code), files.own_code
    if files.partial:
        said = PartialConfig.from_pretrained(files.folder)
        config, gone = CONFIG_MAPPING[said.whole["model_type"]].from_dict(said.whole), said.removed
    else:
        config = AutoConfig.from_pretrained(files.folder, local_files_only=True, trust_remote_code=own_code)
        gone = []
    for own in (config, config.get_text_config(decoder=True)):
        vars(own).pop("quantization_config", None)  # plain modules, by whose names packed weights are called
    arguments = {"trust_remote_code": True} if own_code else {}
    with accelerate.init_empty_weights(include_buffers=False):
        model = with_attention(
            lambda attention: reader.from_config(
                config, attn_implementation=attention, dtype=torch.float32, **arguments
            )
        )
    model.tie_weights()  # the context has made each its own
    take_out(model, gone)
    model.set_experts_implementation("eager")  # grouped products take no zero seen as many
    zeros: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, p in module._parameters.items():
            if p is not None and p.is_meta:
                if id(p) not in zeros:
                    zeros[id(p)] = nn.Parameter(torch.zeros((), dtype=p.dtype).expand(p.shape), False)
                module._parameters[name] = zeros[id(p)]
    return model.eval().requires_grad_(False)


class no_products(TorchFunctionMode):  # noqa: N801 (a context, as torch.no_grad)
    """Inside the context, what a layer of zeros gives is zeros at once."""

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None):
        if func is nn.functional.linear and not any(args[1].stride()):
            return args[0].new_zeros(*args[0].shape[:-1], args[1].shape[0])
        return func(*args, **(kwargs or {}))


def _homes(model: PreTrainedModel, tensors: dict[str, OnDisk]) -> dict[str, str]:
    """{name on disk: name in the model} of what the model takes; what it leaves on disk is not there."""
    names, homes = Names(model), {}
    for name in sorted(tensors, key=dot_natural_key):  # as transformers goes through them
        home, _ = names.home(name)
        if home in names.state:
            homes[name] = home
    tied, names_of = getattr(model, "all_tied_weights_keys", {}), {home: name for name, home in homes.items()}
    for home, source in tied.items():  # copies of what they are tied to: saving the model leaves them out
        copy, other = names_of.get(home), names_of.get(source)
        if copy and other and tensors[copy].same(tensors[other]):
            del homes[copy]
    return homes


def _packed_homes(
    model: PreTrainedModel, tensors: dict[str, OnDisk], blocks: str, source: str
) -> dict[str, str]:
    """As `_homes`, of quantised weights: what belongs to a module, or to a block as a whole (scales of its
    cache); blocks: the path of their list, with a dot behind it.

    Errors: InputError for what belongs nowhere, and for a module of which nothing is there.
    """
    names, homes, there = Names(model), {}, set()
    count, left = len(model.get_submodule(blocks[:-1])), []  # type: ignore[arg-type]  # a list
    for name in sorted(tensors, key=dot_natural_key):
        home, _ = names.home(name)
        number = home.removeprefix(blocks).partition(".")[0] if home.startswith(blocks) else ""
        owner = names.owner(home)
        if owner or (number.isdigit() and int(number) < count):
            homes[name] = home
            there |= {owner, owner.rpartition(".")[0]}
        elif not number and not any(re.search(p, home) for p in _passed_over(model)):
            left.append(name)
    tied = getattr(model, "all_tied_weights_keys", {})
    lacking = [
        name
        for name, _ in model.named_parameters()
        if not {name, name.rpartition(".")[0]} & there and name not in tied
    ]
    for kind, wrong in (("unexpected", left), ("missing", lacking)):
        check_names({f"{kind}_keys": wrong}, source)
    return homes


def _passed_over(model: PreTrainedModel) -> set[str]:
    """Patterns of names that transformers passes over: heads that foretell several tokens, mostly."""
    return {*(model._keys_to_ignore_on_load_unexpected or ()), r"rotary_emb\.inv_freq"}


def _check_fit(model: PreTrainedModel, tensors: dict[str, OnDisk], source: str) -> None:
    """Errors: InputError where a tensor is missing, left over or of another shape, as transformers' own
    loading sees it, which is handed tensors without numbers.
    """
    if unknown := {t.dtype for t in tensors.values()} - {*DTYPES}:
        raise InputError(
            f"{source!r} has weights of the type {unknown.pop()!r}, which is not known here; convert them to "
            "BF16."
        )
    state = {name: torch.empty(t.shape, dtype=DTYPES[t.dtype], device="meta") for name, t in tensors.items()}
    try:
        read: Any = type(model).from_pretrained(  # a pair, which transformers does not declare
            None, config=model.config, state_dict=state, device_map={"": "meta"}, output_loading_info=True
        )
    except NotImplementedError:  # some huge tensors are converted as numbers alone; the proof loads them
        return
    except Exception as error:
        raise InputError(
            f"The weights of {source!r} do not fit its config ({first_line(error, 160)}); take both from the "
            "same place."
        ) from error
    check_names(read[1], source)


def _computed_in(config: dict) -> torch.dtype:
    """What a raw config says that packed weights are computed in; bf16 where it says nothing."""
    parts = [part for part in (config, config.get("text_config")) if isinstance(part, dict)]
    names = [str(part.get(name)) for part in parts for name in ("dtype", "torch_dtype")]
    types = (getattr(torch, name.removeprefix("torch."), None) for name in names)
    return next((dtype for dtype in types if isinstance(dtype, torch.dtype)), torch.bfloat16)


def stored_dtype(tensors: Mapping[str, OnDisk]) -> torch.dtype:
    """The type of most numbers on disk."""
    sizes: dict[str, int] = {}
    for t in tensors.values():
        sizes[t.dtype] = sizes.get(t.dtype, 0) + t.size
    return DTYPES[max(sizes, key=sizes.__getitem__)]
