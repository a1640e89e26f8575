"""What a model folder may hold before anything reads it with more than a JSON parser: nothing that runs code.

transformers follows keys of its JSON files to Python modules, kernels and quantisers,
some of them against trust_remote_code=False. So their raw JSON is searched here first,
at every depth. Weights are safetensors: a pickle is code.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from core.errors import InputError

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")
_CODE_KEYS = {
    "auto_map": "run its own code",
    "custom_pipelines": "run its own code",
    "custom_generate": "run its own code",
    "trust_remote_code": "run its own code",
    "use_kernels": "run compiled code from the hub",
    "kernel_config": "run compiled code from the hub",
}
_QUANTISED = ("quantization_config", "quantization")
_ATTENTION = ("eager", "sdpa")  # any other name may be fetched as a kernel


def check_folder(folder: Path, source: str) -> None:
    """Errors: InputError, naming file and key, when the model folder asks for code, has no safetensors or quantised ones."""
    if (folder / "custom_generate").exists():
        raise InputError(f"{source!r} asks to run its own code (folder custom_generate), which Blockscape never does; remove that folder.")
    for path in sorted(folder.glob("*config*.json")):
        _check_json(path, source)
    if not any(folder.glob("*.safetensors")):
        pickles = sorted(p.name for pattern in _PICKLES for p in folder.glob(pattern))
        found = f"only {pickles[0]}, a pickle that can run code" if pickles else "no .safetensors weights"
        raise InputError(
            f"The folder {source!r} has {found}; Blockscape reads only safetensors: convert with "
            f"AutoModelForCausalLM.from_pretrained(...).save_pretrained(...) where you trust the file."
        )
    for path in sorted(folder.glob("*.safetensors.index.json")):
        shards = read_object(path, source).get("weight_map")
        for shard in shards.values() if isinstance(shards, dict) else [shards]:
            if not isinstance(shard, str) or Path(shard).name != shard or not shard.endswith(".safetensors"):
                raise InputError(
                    f"{path.name} of {source!r} names the weight file {str(shard)[:80]!r}; only .safetensors files in the same folder are read."
                )


def read_object(path: Path, source: str) -> dict:
    """The JSON object in a file of a model. Errors: InputError when it is not one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"The {path.name} of {source!r} is not readable JSON ({error.__class__.__name__}); take it anew from the model's origin."
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"The {path.name} of {source!r} is not a JSON object; take it anew from the model's origin.")
    return content


def _check_json(path: Path, source: str) -> None:
    for key, value in _entries(read_object(path, source)):
        if not value:  # null, false, {} ask for nothing
            continue
        name = key.lower().lstrip("_")
        if name in _CODE_KEYS:
            raise InputError(
                f"{source!r} asks to {_CODE_KEYS[name]} ({key} in {path.name}), which Blockscape never does; use a model of a built-in type."
            )
        if name in _QUANTISED:
            raise InputError(
                f"{source!r} has quantised weights ({key} in {path.name}), which this version does not support; take the unquantised model."
            )
        if "attn_implementation" in name and not _is_built_in(value):
            raise InputError(
                f"{source!r} asks for the attention {str(value)[:80]!r} ({key} in {path.name}), which may be code from the hub; set it to 'sdpa' or remove it."
            )


def _is_built_in(value) -> bool:
    """Whether an attention setting (a name, a flag, or a dict of them by sub-model) stays within transformers."""
    if isinstance(value, dict):
        return all(_is_built_in(v) for v in value.values())
    return value is None or isinstance(value, bool) or value in _ATTENTION


def _entries(content: dict) -> Iterator[tuple[str, object]]:
    """Every key and value, at every depth."""
    left = [content]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            yield from value.items()
            left += value.values()
        elif isinstance(value, list):
            left += value
