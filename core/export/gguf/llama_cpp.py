"""A real llama.cpp, where the package xllamacpp is installed (it is not required): what it makes of a GGUF
file, computing as exactly as it can.
"""

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from core.measure.evaluation import greedy

LLAMA_CPP = "xllamacpp"
_LIKELIEST = 2000  # tokens whose probabilities are asked for: those of all take half a second a place
_EXACT = 1e-2  # nats; ggml looks GELU up in a table of half precision, which alone costs 2e-3


def at_hand() -> bool:
    """Whether it is installed."""
    return importlib.util.find_spec(LLAMA_CPP) is not None


class Next(NamedTuple):
    """What it goes on with after some tokens: the token (None: one that is no whole letter is not told), and
    the logarithms of the probabilities of the likeliest.
    """

    token: int | None
    likely: dict[int, float]


def next_tokens(path: Path, ids: Sequence[int], start: int) -> list[Next]:
    """After ids[:start], ids[:start + 1], ... and all but the last of `ids`."""
    server = _server(path)
    return [_next(server, ids[:k]) for k in range(start, len(ids))]


def log_probabilities(path: Path, ids: Sequence[int]) -> list[float]:
    """Of each token of `ids` after the first, given those before it; NaN of one that it does not tell."""
    found = next_tokens(path, ids, 1)
    return [after.likely.get(token, float("nan")) for token, after in zip(ids[1:], found)]


@torch.no_grad()
def by_transformers(model: Any, ids: Sequence[int]) -> list[float]:
    """What `log_probabilities` says, of a model of transformers."""
    given = torch.tensor([list(ids)])
    scores = model(input_ids=given, use_cache=False).logits[0, :-1].float().log_softmax(dim=-1)
    return scores.gather(1, given[0, 1:, None])[:, 0].tolist()


def check_exact(path: Path, model: Any, ids: Sequence[int], count: int) -> None:
    """That a file in float32 continues `ids` with the greedy tokens of `model`, as likely as there.

    Errors: RuntimeError with the first that is another.
    """
    own = greedy(model, torch.tensor([list(ids)]), count, use_cache=False)[0].tolist()
    expected, found = by_transformers(model, own)[-count:], next_tokens(path, own, len(ids))
    for k, (token, cost, after) in enumerate(zip(own[len(ids) :], expected, found, strict=True)):
        if after.token not in (None, token):
            raise RuntimeError(f"llama.cpp continues with the token {after.token} at place {k}, not {token}")
        if after.token is not None and not abs(after.likely[token] - cost) <= _EXACT:
            raise RuntimeError(
                f"in llama.cpp the token at place {k} costs {-after.likely[token]:.5g} nats, not {-cost:.5g}"
            )


def _server(path: Path) -> Any:
    llama: Any = importlib.import_module(LLAMA_CPP)
    asked = llama.CommonParams()
    asked.model.path, asked.n_ctx, asked.n_gpu_layers, asked.n_parallel = str(path), 256, 0, 1
    asked.cpuparams.n_threads = asked.cpuparams_batch.n_threads = torch.get_num_threads()
    # by itself it keeps the cache in half precision
    asked.cache_type_k = asked.cache_type_v = llama.ggml_type.GGML_TYPE_F32
    asked.flash_attn_type = llama.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    return llama.Server(asked)


def _next(server: Any, ids: Sequence[int]) -> Next:
    asked = {"n_predict": 1, "temperature": 0.0, "stream": False, "logprobs": _LIKELIEST}
    said = server.handle_completions({"prompt": list(ids), **asked})
    told = (said["choices"][0].get("logprobs") or {}).get("content", [])
    likely = {t["id"]: t["logprob"] for t in told[0]["top_logprobs"]} if told else {}
    return Next(told[0]["id"] if told else None, likely)
