"""A model of which attentions, FFNs or whole blocks are left out. Needs torch and transformers, nothing else.

This file goes with every such checkpoint as it stands, as modeling_partial.py. There

    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_pretrained(FOLDER, trust_remote_code=True)

loads it, or `load(FOLDER)` of this file, which runs no code that the folder names. The model that comes back
is one of transformers' own classes with fewer modules: generate, devices and types are as ever.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import MethodType
from typing import Any

import torch
import transformers
from torch import nn
from transformers.cache_utils import DynamicLayer

MODEL_TYPE = "blockscape_partial"  # unknown elsewhere: nothing fills what is missing with random weights
FILE = "modeling_partial.py"


def _tokens(layer) -> int:
    """How many a layer of the cache holds: DynamicLayer says 0 where they have no size."""
    return 0 if layer.keys is None else layer.keys.shape[-2]


class Removed(nn.Module):
    """Stands where a module was: no weights, nothing computed, nothing kept of a token."""

    place: dict
    layer_idx: int | None

    def __init__(self, module: nn.Module, place: dict):
        """module: what was there; place: an entry of `removed` in config.json."""
        super().__init__()
        plain = (int, float, str, bool, type(None))  # the block may ask for them
        self.__dict__.update(
            {k: v for k, v in vars(module).items() if isinstance(v, plain) and not k.startswith("_")}
        )
        self.__dict__.update({"place": place, "layer_idx": place["layer"]})

    def forward(self, *args, **kwargs):
        """Zeros, or its input where the module had added to that, in the form that the module returned."""
        place = self.place
        at = place["input"]
        given = args[at] if isinstance(at, int) else kwargs[at]
        if place["layer"] is not None:
            self._count(given, (*args, *kwargs.values()))
        width = place["width"]
        rows = given.shape[:-1]
        rows = (rows.numel(),) if place["rows"] else rows
        hidden = given if width is None else given.new_zeros(*rows, width)
        form = {"tuple": tuple, "list": list}.get(place["form"])
        return hidden if form is None else form([hidden] + [None] * place["others"])

    def _count(self, given: torch.Tensor, arguments: tuple) -> None:
        """An entry without bytes: the cache counts tokens by its layers."""
        cache = next((a for a in arguments if hasattr(a, "get_seq_length")), None)
        cache = getattr(cache, "self_attention_cache", cache)
        if cache is not None:
            layers, at = cache.layers, self.layer_idx or 0
            layers.extend(DynamicLayer() for _ in range(at + 1 - len(layers)))  # some caches grow as they go
            if getattr(type(layers[at]), "get_seq_length", None) is DynamicLayer.get_seq_length:
                layers[at].get_seq_length = MethodType(_tokens, layers[at])
            nothing = given.new_empty(given.shape[0], 1, given.shape[1], 0)
            cache.update(nothing, nothing, at)

    def extra_repr(self) -> str:
        """What print(model) says of it."""
        return f"layer_idx={self.layer_idx}" if self.place["layer"] is not None else ""


def take_out(model: nn.Module, removed: Sequence[dict]) -> None:
    """Put nothing where the places of `removed` are."""
    for place in removed:
        parent, _, name = place["path"].rpartition(".")
        own = model.get_submodule(parent)
        setattr(own, name, Removed(getattr(own, name), place))


class PartialConfig(transformers.PreTrainedConfig):
    """whole: the config of the class that the model is of; removed: the places that hold nothing."""

    model_type = MODEL_TYPE

    def __init__(self, whole: dict | None = None, removed: list[dict] | None = None, **others):
        super().__init__(**others)
        self.whole, self.removed = whole or {}, removed or []


class PartialForCausalLM:
    """What config.json names for transformers' auto classes."""

    config_class = PartialConfig

    @classmethod
    def register_for_auto_class(cls, auto_class=None):
        """The config names it already."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *_, config=None, **options):
        """See `load`."""
        return load(pretrained_model_name_or_path, config, **options)


def load(folder, config: PartialConfig | None = None, **options):
    """The model of a folder or hub id; options: of from_pretrained.

    Errors: RuntimeError where a tensor is missing or left over.
    """
    config = config or PartialConfig.from_pretrained(folder)
    native: Any = getattr(transformers, config.whole["architectures"][0])
    removed = config.removed

    class Partial(native):
        """The model's own class, without the places of `removed`."""

        def __init__(self, config, *args, **others):
            super().__init__(config, *args, **others)
            take_out(self, removed)

        def save_pretrained(self, save_directory, *args, **others):
            """As the class's own, with the config that says what is removed."""
            super().save_pretrained(save_directory, *args, **others)
            say(Path(save_directory), removed)

    # transformers renames tensors for classes of its own alone
    Partial.__name__, Partial.__module__ = native.__name__, native.__module__
    asked = options.pop("output_loading_info", False)
    own = native.config_class.from_dict(config.whole)
    model, info = Partial.from_pretrained(folder, config=own, output_loading_info=True, **options)
    wrong = sorted(str(name) for kind in ("missing", "unexpected") for name in info[f"{kind}_keys"])
    if wrong:
        raise RuntimeError(f"{len(wrong)} tensors are missing or left over, the first {wrong[0]}.")
    return (model, info) if asked else model


def save(model, folder, removed: list[dict]) -> None:
    """Write a model from which `take_out` took these places."""
    model.save_pretrained(folder)
    say(Path(folder), removed)


def say(folder: Path, removed: list[dict]) -> None:
    """Beside weights and the config of their class, put the config that this file reads, and this file."""
    place = folder / "config.json"
    whole = json.loads(place.read_text(encoding="utf-8"))
    names = {"AutoConfig": "PartialConfig", "AutoModelForCausalLM": "PartialForCausalLM"}
    config = {
        "model_type": MODEL_TYPE,
        "auto_map": {auto: f"{Path(FILE).stem}.{name}" for auto, name in names.items()},
        "architectures": whole["architectures"],
        "whole": whole,
        "removed": removed,
    }
    place.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    if Path(__file__).resolve() != (folder / FILE).resolve():
        shutil.copyfile(__file__, folder / FILE)
