"""A LoRA adapter: the model it was trained on, with the adapter merged into its weights by peft."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from core.errors import InputError, first_line, quoted
from core.store.runs import file_sha256
from core.weights.files import Stored, WeightFiles
from core.weights.guard import check_configs, read_object

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_TOKENIZER = "tokenizer_config.json"


@dataclass(frozen=True, kw_only=True)
class AdapterFiles(WeightFiles):
    """base: of the model it changes; adapter: its folder. `folder` is the base's."""

    base: WeightFiles
    adapter: Path

    @property
    def place(self) -> Path:
        """The adapter's folder."""
        return self.adapter

    @property
    def files(self) -> list[Path]:
        """The base's and the adapter's."""
        return [*self.base.files, self.adapter / WEIGHTS]

    @property
    def read(self) -> list[Path]:
        """As `files`, of what is read."""
        return [*self.base.read, self.adapter / WEIGHTS]

    @property
    def config(self) -> dict:
        """The base's."""
        return self.base.config

    @property
    def method(self):
        """The base's."""
        return self.base.method

    @property
    def tokenizer_folder(self) -> Path:
        """The adapter's, where it brings a tokenizer."""
        return self.adapter if (self.adapter / _TOKENIZER).is_file() else self.base.tokenizer_folder

    def stored(self) -> Stored:
        """Of the base: an adapter that is merged takes no place."""
        return self.base.stored()

    def written(self) -> torch.dtype:
        """float32: a merged weight is the sum of two, which half precision would round."""
        return torch.float32

    def arguments(self) -> dict[str, Any]:
        """The base's."""
        return self.base.arguments()

    def finish(self, model: Any) -> Any:
        """The base with the adapter merged. Errors: InputError where it does not fit the base."""
        from peft import PeftModel  # a second to load, and few models have one

        try:
            return PeftModel.from_pretrained(self.base.finish(model), self.adapter).merge_and_unload(
                safe_merge=True
            )
        except Exception as error:  # of many kinds: other shapes, unknown modules, NaN
            raise InputError(
                f"The adapter {self.source!r} cannot be merged into {self.base.source!r} "
                f"({first_line(error, 120)}); check that this is the model it was trained on."
            ) from error

    def digest(self) -> dict[str, str | list[str]]:
        """Of both: the base with another adapter is another model."""
        own, base = (self.adapter / CONFIG).read_bytes(), self.base.digest()
        weights = sorted([*base["weights"], file_sha256(self.adapter / WEIGHTS)])
        return {
            **base,
            "config": hashlib.sha256(str(base["config"]).encode() + own).hexdigest(),
            "weights": weights,
        }


def base_of(folder: Path, source: str) -> str:
    """What the adapter in a folder names as its base.

    Errors: InputError for one that is no LoRA, names none, or would have code run.
    """
    check_configs(folder, source)
    config = read_object(folder / CONFIG, source)
    kind, base = config.get("peft_type"), config.get("base_model_name_or_path")
    if kind != "LORA":
        raise InputError(
            f"{source!r} is an adapter of the type {quoted(kind)} and only LORA can be merged here; merge it "
            "into its model first, or give that model."
        )
    library = (config.get("auto_mapping") or {}).get("parent_library") or "transformers"
    if str(library).partition(".")[0] != "transformers":
        raise InputError(
            f"{source!r} asks to import the module {quoted(library)} (auto_mapping in {CONFIG}), which "
            "Blockscape never does; remove that entry."
        )
    if not (folder / WEIGHTS).is_file():
        raise InputError(
            f"The adapter {source!r} has no {WEIGHTS}; Blockscape reads only safetensors: save it anew with "
            "save_pretrained(..., safe_serialization=True) where you trust the file."
        )
    if not isinstance(base, str) or not base:
        raise InputError(
            f"The adapter {source!r} does not say which model it was trained on (base_model_name_or_path in "
            f"{CONFIG}); write its folder or hub id there."
        )
    return base
