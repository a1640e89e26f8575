"""A real llama.cpp, where the package xllamacpp is installed (it is not required): what it makes of a GGUF
file, computing as exactly as it can.
"""

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

LLAMA_CPP = "xllamacpp"


def at_hand() -> bool:
    """Whether it is installed."""
    return importlib.util.find_spec(LLAMA_CPP) is not None


def continued(path: Path, ids: Sequence[int], count: int) -> list[int]:
    """The greedy tokens of llama.cpp, up to where it ends by itself."""
    return [token["id"] for token in _asked(_server(path), ids, count, 1)]


def log_probabilities(path: Path, ids: Sequence[int], vocabulary: int) -> list[float]:
    """Of each token of `ids` after the first, given those before it; vocabulary: number of tokens."""
    server, found = _server(path), []
    for k in range(1, len(ids)):
        all_of_them = _asked(server, ids[:k], 1, vocabulary)[0]["top_logprobs"]
        found.append(next(t["logprob"] for t in all_of_them if t["id"] == ids[k]))
    return found


def _server(path: Path) -> Any:
    llama: Any = importlib.import_module(LLAMA_CPP)
    asked = llama.CommonParams()
    asked.model.path, asked.n_ctx, asked.n_gpu_layers, asked.n_parallel = str(path), 256, 0, 1
    asked.cpuparams.n_threads = asked.cpuparams_batch.n_threads = torch.get_num_threads()
    # by itself it keeps the cache in half precision
    asked.cache_type_k = asked.cache_type_v = llama.ggml_type.GGML_TYPE_F32
    asked.flash_attn_type = llama.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    return llama.Server(asked)


def _asked(server: Any, ids: Sequence[int], count: int, alternatives: int) -> list[dict]:
    """Its tokens, with the likeliest of each place."""
    said = server.handle_completions(
        {
            "prompt": list(ids),
            "n_predict": count,
            "temperature": 0.0,
            "stream": False,
            "logprobs": alternatives,
        }
    )
    return (said["choices"][0].get("logprobs") or {}).get("content", [])
