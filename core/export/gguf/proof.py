"""The proof of a GGUF file that core.export.gguf.blocks has written, in a fresh process.

`python -m core.export.gguf.proof SOURCE FILE BLOCKS` is that process; it prints what `prove_gguf` returns.
It reads the file with other code than wrote it: the package gguf, transformers, and llama.cpp where that is
installed. llama.cpp multiplies quantised weights with rounded activations, so that of a quantised file its
tokens are not transformers'; the same numbers written as float32 must give them exactly.
"""

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from core.errors import InputError
from core.export.gguf import llama_cpp
from core.export.gguf.blocks import plan_gguf
from core.export.gguf.same import is_plain, same_bytes, write_float32
from core.export.verify import GREEDY_TOKENS, LOGITS_TOLERANCE, found_by, made_up_ids
from core.forms.names import TENSORS
from core.ising.states import block_list, parse_blocks
from core.measure.evaluation import greedy
from core.model.devices import free_memory
from core.model.gates import gated, removal
from core.model.load import LoadedModel, load_model
from core.weights.gguf_files import KEPT_BYTES

_TEXT = "The river rose in the night, and in the morning the whole village stood on the hill and looked down."
_LOSS_TOKENS = 12
_SLACK = 0.05  # nats a token, beside twice what quantised arithmetic costs the unpruned file


def prove_gguf(source_file: Path, file: Path, removed: Sequence[int]) -> dict:
    """That `file` is `source_file` without the blocks `removed`: {tensors: how many are the same bytes,
    difference: largest of a logit to the gated model's, llama_cpp: in words what that did, and with it
    quantised: nats a token that its arithmetic costs, of the whole file and of the pruned one}. Of a model
    that does not fit in memory the bytes alone are proved: difference is None, and proof says so.

    Errors: RuntimeError with what is wrong, or why it could not be proved.
    """
    asked = (str(source_file.absolute()), str(file.absolute()), block_list(removed))
    command = ["-m", "core.export.gguf.proof", *asked]
    return found_by(command, Path(__file__).resolve().parents[3], "GGUF file")


class _Seen(NamedTuple):
    """Of the unpruned file, joined where it was split: its model's logits with the blocks gated off, of `ids`
    [2, T]; and what each token of a text has cost it, whole.
    """

    place: Path
    ids: torch.Tensor
    logits: np.ndarray
    text: list[int]
    losses: list[float]


def prove(source_file: Path, file: Path, removed: Sequence[int]) -> dict:
    """What `prove_gguf` returns, found in this process, and problem: None. Errors: RuntimeError; InputError
    where a file cannot be loaded.
    """
    tensors = same_bytes(source_file, file, removed)
    if not _fits(plan_gguf(source_file, removed).parameters[0]):
        told = {"llama_cpp": _loads(file)}
        return {"problem": None, "tensors": tensors, "difference": None, "proof": TENSORS, **told}
    seen = _seen(load_model(str(source_file), device="cpu"), removed)
    with tempfile.TemporaryDirectory(dir=file.parent) as folder, _home(Path(folder, "home")):
        model: Any = load_model(str(file), device="cpu").model
        difference = _same_logits(model, seen)
        told = _in_llama_cpp(file, model, seen, Path(folder))
    return {"problem": None, "tensors": tensors, "difference": difference, **told}


def _fits(numbers: int) -> bool:
    """Whether memory takes so many in float32."""
    free = free_memory()
    return free is None or 4 * numbers <= free


def _loads(file: Path) -> str:
    """llama.cpp needs no more than the file."""
    if not llama_cpp.at_hand():
        return "not run here"
    llama_cpp.next_tokens(file, [1, 1], 1)
    return "loads it and continues"


@contextmanager
def _home(folder: Path) -> Iterator[None]:
    """What is read of a file that may not stay is kept elsewhere."""
    before = os.environ.get("BLOCKSCAPE_HOME")
    os.environ["BLOCKSCAPE_HOME"] = str(folder)
    try:
        yield
    finally:
        os.environ.pop("BLOCKSCAPE_HOME")
        if before is not None:
            os.environ["BLOCKSCAPE_HOME"] = before


@torch.no_grad()
def _seen(loaded: LoadedModel, removed: Sequence[int]) -> _Seen:
    ids = made_up_ids(loaded.config.vocab_size, loaded.max_length)
    with gated(loaded, removal(loaded, removed)):
        logits = loaded.model(input_ids=ids, use_cache=False).logits.float().numpy()
    text = loaded.tokenizer(_TEXT)["input_ids"] if loaded.tokenizer else ids[0].tolist()
    text = text[: _LOSS_TOKENS + 1]
    return _Seen(loaded.files.place, ids, logits, text, llama_cpp.by_transformers(loaded.model, text))


@torch.no_grad()
def _same_logits(model: Any, seen: _Seen) -> float:
    """The largest difference. Errors: RuntimeError."""
    own = model(input_ids=seen.ids, use_cache=False).logits.float().numpy()
    difference = float(np.abs(own - seen.logits).max()) if own.shape == seen.logits.shape else float("inf")
    if not difference <= LOGITS_TOLERANCE * float(np.abs(seen.logits).max()):
        raise RuntimeError(f"its logits differ from the gated model's by {difference:.2g}")
    cached, plain = (greedy(model, seen.ids, GREEDY_TOKENS, use_cache) for use_cache in (True, False))
    if not torch.equal(cached, plain):
        raise RuntimeError("greedy tokens differ with and without cache")
    return difference


def _in_llama_cpp(file: Path, model: Any, seen: _Seen, folder: Path) -> dict:
    """What llama.cpp did with it, in words, and what its arithmetic costs. Errors: RuntimeError."""
    if not llama_cpp.at_hand():
        return {"llama_cpp": "not run here"}
    plain, words = is_plain(file), "loads it and continues"
    if sum(p.numel() for p in model.parameters()) * 4 <= KEPT_BYTES:
        words = "continues with the same tokens" + ("" if plain else " from the same numbers in float32")
        try:
            _check_exact(file, model, seen, folder)
        except RuntimeError:
            if _agrees(seen, folder):
                raise
            words = "continues with other tokens than transformers, as it does for the original"
    if plain:
        return {"llama_cpp": words}
    whole, pruned = (llama_cpp.log_probabilities(path, seen.text) for path in (seen.place, file))
    costs = [_apart(whole, seen.losses), _apart(pruned, llama_cpp.by_transformers(model, seen.text))]
    if not costs[1] <= 2 * costs[0] + _SLACK:
        raise RuntimeError(
            f"in llama.cpp its tokens are {costs[1]:.2g} nats off, and those of the original {costs[0]:.2g}"
        )
    return {"llama_cpp": words, "quantised": costs}


def _check_exact(file: Path, model: Any, seen: _Seen, folder: Path) -> None:
    """Of the same numbers in float32. Errors: RuntimeError."""
    exact = file
    if not is_plain(file):
        write_float32(file, exact := folder / "float32.gguf")
    llama_cpp.check_exact(exact, model, seen.ids[0].tolist(), GREEDY_TOKENS)


def _agrees(seen: _Seen, folder: Path) -> bool:
    """Whether the original is in llama.cpp what it is in transformers."""
    model = load_model(str(seen.place), device="cpu").model
    try:
        _check_exact(seen.place, model, seen, folder)
    except RuntimeError:
        return False
    return True


def _apart(found: Sequence[float], expected: Sequence[float]) -> float:
    return float(np.nanmean(np.abs(np.subtract(found, expected))))


if __name__ == "__main__":
    try:
        finding = prove(Path(sys.argv[1]), Path(sys.argv[2]), parse_blocks(sys.argv[3]))
    except (InputError, RuntimeError) as error:
        finding = {"problem": str(error).rstrip(".")}
    print(json.dumps(finding))
