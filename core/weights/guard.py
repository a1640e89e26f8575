"""What a model folder may hold before anything reads it with more than a JSON parser: nothing that runs code,
unless asked for.

transformers follows keys of its JSON files to Python modules, kernels and quantisers,
some of them against trust_remote_code=False. So their raw JSON is searched here first,
at every depth. Weights are safetensors: a pickle is code.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from core.errors import InputError
from core.weights.quantised import check_method

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")
_CODE_KEYS = {
    "auto_map": "run its own code",
    "custom_pipelines": "run its own code",
    "custom_generate": "run its own code",
    "trust_remote_code": "run its own code",
    "use_kernels": "run compiled code from the hub",
    "kernel_config": "run compiled code from the hub",
}
_OPT_IN = ("auto_map", "trust_remote_code")  # what remote_code allows of these
_QUANTISED = ("quantization_config", "quantization")
_ATTENTION = ("eager", "sdpa")  # any other name may be fetched as a kernel


# what core.model.partial writes, and reads itself: the folder's copy is not run
PARTIAL = "blockscape_partial"
_PARTIAL_CODE = {
    "AutoConfig": "modeling_partial.PartialConfig",
    "AutoModelForCausalLM": "modeling_partial.PartialForCausalLM",
}


def is_partial(config: dict) -> bool:
    """Whether a raw config is of a portable checkpoint without parts of blocks."""
    return config.get("model_type") == PARTIAL and config.get("auto_map") == _PARTIAL_CODE


def check_folder(folder: Path, source: str, remote_code: bool = False, packed: bool = False) -> bool:
    """Whether the model folder runs its own code when it is loaded, which `remote_code` allows of Python
    files in it; packed: quantised weights are only copied, of whichever method.

    Errors: InputError, naming file and key, when it asks for code that is not allowed, has no safetensors, or
    quantised ones that cannot be read.
    """
    if (folder / "custom_generate").exists():
        raise InputError(
            f"{source!r} asks to run its own code (folder custom_generate), which Blockscape never does; "
            "remove that folder."
        )
    own_code = check_configs(folder, source, remote_code, packed)
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
                    f"{path.name} of {source!r} names the weight file {str(shard)[:80]!r}; only .safetensors "
                    "files in the same folder are read."
                )
    return own_code


def check_configs(folder: Path, source: str, remote_code: bool = False, packed: bool = False) -> bool:
    """Whether the JSON files of a folder lead to Python files in it. Errors: as `check_folder`."""
    configs = sorted(folder.glob("*config*.json"))
    return any([_check_json(path, source, remote_code, packed) for path in configs])


def read_object(path: Path, source: str) -> dict:
    """The JSON object in a file of a model. Errors: InputError when it is not one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"The {path.name} of {source!r} is not readable JSON ({error.__class__.__name__}); take it anew "
            "from the model's origin."
        ) from error
    if not isinstance(content, dict):
        raise InputError(
            f"The {path.name} of {source!r} is not a JSON object; take it anew from the model's origin."
        )
    return content


def _check_json(path: Path, source: str, remote_code: bool, packed: bool) -> bool:
    """Whether the file leads to code in its folder, allowed by remote_code."""
    content = read_object(path, source)
    runs = False
    for key, value in _entries(content):
        if not value:  # null, false, {} ask for nothing
            continue
        if is_partial(content) and value is content["auto_map"]:
            continue
        name, where = key.lower().lstrip("_"), f"{key} in {path.name}"
        if name in _OPT_IN and not remote_code:
            raise InputError(
                f"{source!r} asks to {_CODE_KEYS[name]} ({where}{_code_files(path.parent)}), which "
                "Blockscape does only on request; "
                f"read that code and give --trust-remote-code, or use a model of a built-in type."
            )
        if name == "auto_map":
            runs = True
            _check_references(value, path, where, source)
        elif name not in _OPT_IN and name in _CODE_KEYS:
            raise InputError(
                f"{source!r} asks to {_CODE_KEYS[name]} ({where}), which Blockscape never does; use a model "
                "of a built-in type."
            )
        if name in _QUANTISED and not packed:
            check_method(
                value if path.name == "config.json" and value is content.get("quantization_config") else None,
                where,
                source,
            )
        if "attn_implementation" in name and not _is_built_in(value):
            raise InputError(
                f"{source!r} asks for the attention {str(value)[:80]!r} ({where}), which may be code from "
                "the hub; set it to 'sdpa' or remove it."
            )
    return runs


def _code_files(folder: Path) -> str:
    """The Python files of a folder, in words."""
    names = sorted(path.name for path in folder.glob("*.py"))
    return f": {', '.join(names[:4])}{', ...' * (len(names) > 4)}" if names else ""


def _check_references(value, path: Path, where: str, source: str) -> None:
    """Errors: InputError for a reference to code that is no Python file of the folder: its hash could not be
    part of a run's key.
    """
    left = [value]
    while left:
        reference = left.pop()
        if isinstance(reference, (dict, list)):
            left += reference.values() if isinstance(reference, dict) else reference
        elif reference is not None:
            module = str(reference).partition(".")[0]
            if not module.isidentifier() or not (path.parent / f"{module}.py").is_file():
                raise InputError(
                    f"{source!r} names the code {str(reference)[:80]!r} ({where}), which is no Python file "
                    "in its folder; put the file there."
                )


def _is_built_in(value) -> bool:
    """Whether an attention setting (a name, a flag, or a dict of them by sub-model) stays within
    transformers.
    """
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
