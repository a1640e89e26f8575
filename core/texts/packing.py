"""Texts -> the sequences of a split, all of them or drawn by weight.

core.texts.layout makes all sequences of a split. Here they are counted, and drawn without repetition: each
domain in proportion to its weight where there are weights.
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from core.errors import InputError, is_weight
from core.texts.documents import SPLITS, Texts
from core.texts.form import Form
from core.texts.layout import Laid, laid_out
from core.texts.sequences import Sequences
from core.texts.special_tokens import as_read


def available(texts: Texts, tokenizer: Any, length: int, **form: str) -> dict[str, int]:
    """{split: how many sequences of `length` tokens it has}; mode, template and bos as in `pack`."""
    return {
        split: sum(own.values())
        for split, own in available_by_domain(texts, tokenizer, length, **form).items()
    }


def available_by_domain(texts: Texts, tokenizer: Any, length: int, **form: str) -> dict[str, dict[str, int]]:
    """{split: {domain: how many sequences of `length` tokens it has}}: what weights can draw from."""
    return survey(texts, tokenizer, length, **form).domains


class Survey(NamedTuple):
    """What texts give: sequences of each split and domain; the start of the first one as the model reads it,
    and how texts became sequences, in words.
    """

    domains: dict[str, dict[str, int]]
    start: str
    words: str


def survey(texts: Texts, tokenizer: Any, length: int, **form: str) -> Survey:
    """All sequences of all splits, counted and looked at; mode, template and bos as in `pack`."""
    how, found, start, words = Form(tokenizer, length, **form), {}, "", ""
    for split in SPLITS:
        laid = laid_out(texts, split, how)
        counts = np.bincount(laid.owner, minlength=len(texts.domains))
        found[split] = dict(zip(texts.domains, counts.tolist()))
        words = laid.words
        if len(laid.ids) and not start:
            real = slice(None) if laid.mask is None else laid.mask[0]
            start = as_read(laid.ids[0][real], tokenizer)
    return Survey(found, start, words)


def pack(
    texts: Texts,
    tokenizer: Any,
    split: str,
    length: int,
    samples: int,
    seed: int = 0,
    *,
    weights: Mapping[str, float] | None = None,
    mode: str = "packed",
    template: str = "none",
    bos: str = "auto",
) -> Sequences:
    """`samples` sequences of `length` tokens, drawn without repetition from one split.

    weights: {domain: share}; a domain that is not named gives nothing. None: the sources' own weights, and
        where they have none, all sequences are equally likely.
    mode: "packed", or "documents": one document a sequence, cut to `length` or padded on the right.
    template: "none": a chat is lines of plain text, all of them scored, and of a prompt with its completion
        the completion is. "chat": both are written by the tokenizer's chat template, and what the assistant
        says is scored, with the special token that ends it; other documents stay plain text.
    bos: "auto": one BOS first if the tokenizer itself writes one when it is called, or the chat template
        does; "always": refused if there is none; "never". A chat template's own BOS counts as that one.

    Errors: InputError when the split, or a domain with a weight, has fewer sequences than asked for, when the
    tokenizer lacks what was asked for, and when its chat template fails.
    """
    if samples < 1:
        raise InputError(f"The number of samples must be at least 1, not {samples}.")
    form = Form(tokenizer, length, mode, template, bos)
    weights = _checked(weights, texts) if weights is not None else texts.weights
    laid = laid_out(texts, split, form)
    _check_enough(laid, texts, split, length, samples)
    order = np.random.default_rng(seed).permutation(len(laid.ids))
    if weights is not None:
        asked = shares(samples, [weights.get(d, 0.0) for d in texts.domains])
        order = _by_weight(order, laid.owner, texts.domains, asked, split, length)
    order = order[:samples]
    return Sequences(
        ids=laid.ids[order],
        index=order.astype(np.int64),
        domain=laid.owner[order],
        domains=texts.domains,
        split=split,
        source=texts.source,
        texts_sha256=texts.sha256,
        available=len(laid.ids),
        template=laid.words,
        mask=None if laid.mask is None else laid.mask[order],
        scored=None if laid.scored is None else laid.scored[order],
        skipped=laid.skipped,
        content=texts.sha256,
        empty=texts.empty,
        sources=texts.sources,
        form={"mode": mode, "template": template, "bos": bos},
    )


def _check_enough(laid: Laid, texts: Texts, split: str, length: int, samples: int) -> None:
    if len(laid.ids) < samples:
        raise InputError(
            f"Too little text: the {split} split of {texts.source!r} gives {len(laid.ids)} sequences of "
            f"{length} tokens and {samples} were asked for"
            f"{f' ({laid.skipped} more have nothing to predict)' if laid.skipped else ''}: "
            f"{_found(texts, laid, split)}; add text, or ask for fewer or shorter sequences."
        )


def _found(texts: Texts, laid: Laid, split: str) -> str:
    """What was read, and what of it the split has."""
    running = sum(d.running for d in texts.documents)
    whole = len(texts.documents) - running
    read = [f"{whole:,} document{'s' * (whole != 1)}"] * bool(whole)
    read += [f"running text in {running:,} stretch{'es' * (running != 1)}"] * bool(running)
    return f"found were {' and '.join(read)}, of which {split} has {laid.tokens:,} tokens"


# weights -> how many sequences of which domain


def _checked(weights: Mapping[str, float], texts: Texts) -> Mapping[str, float]:
    for domain, weight in weights.items():
        if domain not in texts.domains:
            raise InputError(
                f"{texts.source!r} has no domain {domain!r} to weigh; there are "
                f"{', '.join(texts.domains[:20])}."
            )
        if not is_weight(weight):
            raise InputError(
                f"The weight of the domain {domain!r} must be a finite number of at least 0, not {weight!r}."
            )
    if not any(weights.values()):
        raise InputError(
            f"The weights of {texts.source!r} are all 0, so nothing would be drawn; give at least one more "
            "than 0."
        )
    return weights


def shares(samples: int, weights: list[float]) -> list[int]:
    """`samples` divided in proportion to the weights, by the largest remainder, the first of equal ones."""
    total = sum(map(Fraction, weights))
    exact = [Fraction(w) * samples / total for w in weights]
    whole = [int(e) for e in exact]
    for k in sorted(range(len(exact)), key=lambda k: whole[k] - exact[k])[: samples - sum(whole)]:
        whole[k] += 1
    return whole


def _by_weight(
    order: np.ndarray, owner: np.ndarray, domains: tuple[str, ...], shares: list[int], split: str, length: int
) -> np.ndarray:
    """Of every domain its share, the first in `order`; the order stays."""
    owned, drawn = owner[order], np.zeros(len(order), dtype=bool)
    for number, share in enumerate(shares):
        own = np.flatnonzero(owned == number)
        if len(own) < share:
            raise InputError(
                f"Too little text: the domain {domains[number]!r} gives {len(own)} sequences of {length} "
                f"tokens in the {split} split and its weight asks for {share}; add text, lower its weight, "
                "or ask for fewer or shorter sequences."
            )
        drawn[own[:share]] = True
    return order[drawn]
