"""How the KL of single tokens is distributed, for its median and 99 % over all tokens of many sequences: a
histogram of each measured sequence, in HOME/results.sqlite beside the sequence's mean.

The grid is geometric, _DECADE bins to a factor of ten from LOWEST nats on, so a quantile read from it is
within 4.2 % of the token's own; what is below LOWEST counts as 0, and the last bin all from 118 nats on. The
bins of n tokens are stored as n + BINS bits, a one for each token and a zero for each step to the next
bin: 48 bytes for 127 tokens.
"""

import base64
import json
from collections.abc import Iterable

import numpy as np

from core.ising.units import Name, name_text, read_name
from core.store.results import Key, Results
from core.store.runs import canonical_key

LOWEST = 1e-7  # nats: float32 tells no smaller KL from 0
_DECADE, BINS = 28, 256


def packed(kl: np.ndarray) -> str:
    """The histogram of the KL of tokens, nats, float [n]."""
    kl = np.nan_to_num(kl, nan=np.inf, posinf=np.inf)  # of logits that overflow: the last bin
    steps = np.floor(_DECADE * np.log10(np.maximum(kl, LOWEST / 2) / LOWEST)) + 1
    bins = np.sort(steps.clip(0, BINS - 1).astype(int))
    bits = np.zeros(len(bins) + BINS, dtype=bool)
    bits[bins + np.arange(len(bins))] = True
    return base64.b64encode(np.packbits(bits).tobytes()).decode()


def unpacked(text: str) -> np.ndarray:
    """int64 [BINS]: how many tokens each bin of a `packed` histogram holds."""
    bits = np.unpackbits(np.frombuffer(base64.b64decode(text), dtype=np.uint8))
    places = np.flatnonzero(bits)
    return np.bincount(places - np.arange(len(places)), minlength=BINS)


def quantile(counts: np.ndarray, share: float) -> float:
    """The KL, nats, that this share of the tokens does not exceed: the middle of its bin."""
    ends = np.cumsum(counts)
    at = int(np.searchsorted(ends, share * ends[-1]))
    return 0.0 if at == 0 else LOWEST * 10 ** ((at - 0.5) / _DECADE)


def median_and_99(texts: Iterable[str]) -> tuple[float, float] | None:
    """Of all tokens of some histograms together; None without any."""
    counts = sum((unpacked(text) for text in texts), np.zeros(BINS, dtype=int))
    return (quantile(counts, 0.5), quantile(counts, 0.99)) if counts.any() else None


def _source(key: Key) -> str:
    """Names the histograms of all states that were measured like this one."""
    named = {"model": key.model, "data": key.data, "split": key.split, "settings": json.loads(key.settings)}
    return "token kl " + canonical_key(named)[:16]


def put_token_kl(results: Results, key: Key, found: dict[int, str]) -> None:
    """Keep {item: histogram} of the state of `key`, beside the means that are kept under it."""
    state = name_text(key.removed)
    results.put_responses(_source(key), {f"{state}:{item}": text for item, text in found.items()})


def token_kl(results: Results, key: Key) -> dict[tuple[Name, ...], dict[int, str]]:
    """{state: {item: histogram}} of all that differs from `key` in the removed blocks alone."""
    found: dict[tuple[Name, ...], dict[int, str]] = {}
    for request, text in results.responses(_source(key)).items():
        state, _, item = request.partition(":")
        found.setdefault(read_name(state), {})[int(item)] = text
    return found
