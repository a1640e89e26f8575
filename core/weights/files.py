"""What every format of weights answers: which files, what they hold, who they are, how they are read."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from core.errors import InputError
from core.store.runs import file_sha256
from core.weights.guard import is_partial, read_object
from core.weights.quantised import Method, quantisation

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
# types of a safetensors header that PyTorch has under another name
_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True)
class Stored:
    """What the weight files hold."""

    values: int
    dtype: torch.dtype | None  # of most values; None: not one that a model computes in
    bytes: int
    # that every number fits in, where they are not all of one type that a model computes in
    wider: torch.dtype | None = None


@dataclass(frozen=True)
class WeightFiles:
    """A model on disk; this class is of safetensors in a folder with config.json.

    source: what the model was asked for by. folder: of config and tokenizer. own_code: whether Python files
    of the folder are run.
    """

    source: str
    folder: Path
    own_code: bool = False

    @property
    def place(self) -> Path:
        """The folder or file that was found under the name."""
        return self.folder

    @property
    def files(self) -> list[Path]:
        """The files that hold weights."""
        return sorted(self.folder.glob("*.safetensors"))

    @property
    def read(self) -> list[Path]:
        """Those of them that transformers reads: the single one, else the ones of the index; what else lies
        there, such as consolidated.safetensors, is none of the model. Errors: InputError where one is
        missing.
        """
        single, index = self.folder / SINGLE, self.folder / INDEX
        if single.is_file() or not index.is_file():
            return [single] if single.is_file() else self.files
        shards = sorted(set(read_object(index, self.source).get("weight_map", {}).values()))
        for name in shards:
            if not (self.folder / name).is_file():
                raise InputError(
                    f"{self.source!r} lacks its weight file {name}, which {INDEX} names; take it anew from "
                    "the model's origin."
                )
        return [self.folder / name for name in shards]

    @property
    def tokenizer_folder(self) -> Path:
        """Where the tokenizer's files are."""
        return self.folder

    @cached_property
    def config(self) -> dict:
        """The raw config, of a portable checkpoint that of its class. Errors: InputError."""
        own = read_object(self.folder / "config.json", self.source)
        return own.get("whole", {}) if is_partial(own) else own

    @property
    def partial(self) -> bool:
        """Whether it is a checkpoint without parts of blocks, as core.model.partial reads it."""
        config = self.folder / "config.json"
        return config.is_file() and is_partial(read_object(config, self.source))

    @property
    def method(self) -> Method | None:
        """How the safetensors are quantised; None where they are not."""
        return quantisation(self.config)

    def stored(self) -> Stored:
        """Read from the headers of the files. Errors: InputError for a damaged one, and as `read`."""
        packed: Mapping[str, int] = self.method.packed if self.method else {}
        values: dict[str, int] = {}
        types: set[str] = set()
        for path in self.read:
            try:
                with safe_open(path, framework="pt") as file:
                    for name in file.keys():  # noqa: SIM118 (no mapping)
                        part = file.get_slice(name)
                        size = math.prod(part.get_shape()) * packed.get(part.get_dtype(), 1)
                        values[part.get_dtype()] = values.get(part.get_dtype(), 0) + size
                        types |= set() if name.endswith("inv_freq") else {part.get_dtype()}  # computed anew
            except (SafetensorError, OSError) as error:
                raise InputError(
                    f"The model {self.source!r} cannot be loaded ({path.name}: {error}); take its weight "
                    "files anew."
                ) from error
        most = max(values, key=values.__getitem__, default="")
        dtype = None if self.method else _DTYPES.get(most)
        own = {_DTYPES[name] for name in types if name in _DTYPES}
        wider = max(own | {torch.float32}, key=lambda t: t.itemsize) if len(own) > 1 else None
        return Stored(sum(values.values()), dtype, self.bytes, None if self.method else wider)

    def written(self) -> torch.dtype:
        """The type of the weights that an export holds: their own, of quantised ones bf16."""
        return self.stored().dtype or torch.bfloat16

    def block_bytes(self) -> list[int] | None:
        """Bytes of each block as stored, where they are not all of one type; None where they are."""
        return None

    def arguments(self) -> dict[str, Any]:
        """What from_pretrained is told, beside where weights go and in which type."""
        # quantised ones are turned into bf16, which is what an export holds (core.weights.quantised)
        dtype = {"dtype": torch.bfloat16} if self.method else {}
        return {
            "pretrained_model_name_or_path": self.folder,
            "use_safetensors": True,
            "trust_remote_code": self.own_code,
            **dtype,
            **_reading(self.method),
        }

    def finish(self, model: Any) -> Any:
        """The model that was asked for, from what was read."""
        return model.dequantize() if self.method and self.method.later else model

    def digest(self) -> dict[str, str | list[str]]:
        """SHA-256 of the configuration, of every weight file and of the code that was run: the model's
        identity, whatever it is called.
        """
        config = hashlib.sha256((self.folder / "config.json").read_bytes()).hexdigest()
        weights = sorted(file_sha256(path) for path in self.files)
        code = sorted(file_sha256(path) for path in self.folder.glob("*.py")) if self.own_code else None
        return {"config": config, "weights": weights, **({"code": code} if code else {})}

    @property
    def bytes(self) -> int:
        """Of the weight files that are read."""
        return sum(path.stat().st_size for path in self.read)


def _reading(method: Method | None) -> dict:
    """What from_pretrained is told of quantised weights."""
    import transformers

    if method is None or method.later:
        return {}
    return {"quantization_config": getattr(transformers, method.config)(dequantize=True)}
