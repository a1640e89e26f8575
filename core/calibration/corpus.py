"""Sources of texts, the model's own samples among them -> the sequences that a job works on."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

from core.calibration.own_samples import DOMAIN, first_token, own_key, own_sequences, own_words
from core.errors import InputError
from core.model.load import LoadedModel
from core.store import folders
from core.texts import Sequences, Texts, TextSource, pack, read_texts
from core.texts.documents import SPLITS, free_name
from core.texts.form import FORM
from core.texts.packing import shares, survey
from core.texts.sequences import joined
from core.texts.special_tokens import as_read
from core.texts.text_source import sources_of

Report = Callable[[int, int, str], None]


def form_of(asked: Mapping[str, str] | None) -> dict[str, str]:
    """{mode, template, bos} of a request that may name some of them. Errors: InputError for another name."""
    if unknown := set(asked or {}) - set(FORM):
        raise InputError(
            f"How texts become sequences has no option {min(unknown)!r}; there are {', '.join(FORM)}."
        )
    return {**FORM, **(asked or {})}


class Read(NamedTuple):
    """What a job may draw from: the texts, and the model's own samples, where they are asked for."""

    texts: Texts | None
    own: TextSource | None


def read_sources(asked) -> Read:
    """The sources asked for, as `read_texts` takes them, "own" among them.

    Errors: InputError, also for own samples named twice.
    """
    found = sources_of(asked)
    own, texts = [s for s in found if s.is_own], [s for s in found if not s.is_own]
    if len(own) > 1:
        raise InputError(f"The model's own samples are named {len(own)} times; name them once.")
    if own and any(s.weight is not None for s in found) and not any(s.share for s in found):
        raise InputError(
            "All text sources have the weight 0, so nothing would be drawn; give at least one more than 0."
        )
    if own and not any(s.share for s in texts):
        texts = []  # nothing of them would be drawn
    return Read(read_texts(texts, beside=bool(own)) if texts else None, own[0] if own else None)


def draw(
    loaded: LoadedModel,
    read: Read,
    split: str,
    length: int,
    samples: int,
    seed: int = 0,
    *,
    form: Mapping[str, str] | None = None,
    report: Report = lambda done, total, message: None,
) -> Sequences:
    """`samples` sequences of one split of the texts, and of the model's own samples where they are asked for.

    Own samples are a domain of their own. Their share is their weight among those of the sources; where
    nobody gave a weight, one part in as many as there are sources. They are kept in the store, so that every
    later job has the same ones. form: mode, template and bos of `pack`, for the texts; own samples are always
    whole.
    Errors: InputError, as `pack` and `own_sequences` say.
    """
    (texts, own), how = read, form_of(form)

    def packed(texts: Texts, count: int) -> Sequences:
        mode, template, bos = how["mode"], how["template"], how["bos"]
        return pack(
            texts, loaded.tokenizer, split, length, count, seed, mode=mode, template=template, bos=bos
        )

    if own is None:
        assert texts is not None  # read_sources has found one of the two
        return packed(texts, samples)
    if samples < 1:
        raise InputError(f"The number of samples must be at least 1, not {samples}.")
    counts = shares(samples, _shares(texts, own))
    parts = []
    if texts and counts[0]:
        parts.append(packed(texts, counts[0]))
    if counts[1]:
        drawn = _own(loaded, split, length, counts[1], seed, report)
        name = free_name(own.domain or DOMAIN, texts.domains if texts else ())
        parts.append(replace(drawn, domains=(name,), sources=(own,), form=how))
    return joined(parts) if len(parts) > 1 else parts[0]


def _shares(texts: Texts | None, own: TextSource | None) -> list[float]:
    return [sum(s.share for s in texts.sources) if texts else 0.0, own.share if own else 0.0]


def _own(loaded: LoadedModel, split: str, length: int, samples: int, seed: int, report: Report) -> Sequences:
    kept = folders.home() / "own" / own_key(loaded, split, length, seed)
    return own_sequences(loaded, split, length, samples, seed, report=report, checkpoint=kept)


def available(loaded: LoadedModel, read: Read, length: int, form: Mapping[str, str] | None = None) -> dict:
    """What `draw` can draw: domains {split: {domain: sequences of `length` tokens}} of the texts, and parts,
    what the weights divide the samples among: [{name, weight, have {split: sequences}, None: as many as
    anybody wants}]; empty: rows that are null or blank, and left out; start: of a sequence as the model reads
    it, special tokens visible; words: how texts become sequences.
    """
    texts, own = read
    if texts:
        domains, start, words = survey(texts, loaded.tokenizer, length, **form_of(form))
    else:
        first, called = first_token(loaded)
        domains = {split: {} for split in SPLITS}
        start, words = as_read([first], loaded.tokenizer), own_words(called)
    parts = []
    if texts and texts.weights:
        for name, weight in texts.weights.items():
            parts.append(
                {
                    "name": name,
                    "weight": weight,
                    "have": {split: counts[name] for split, counts in domains.items()},
                }
            )
    elif texts:
        every = {split: sum(counts.values()) for split, counts in domains.items()}
        parts.append({"name": "texts", "weight": _shares(texts, own)[0], "have": every})
    if own:
        parts.append({"name": own.domain or DOMAIN, "weight": own.share, "have": None})
    return {
        "domains": domains,
        "parts": parts,
        "empty": texts.empty if texts else 0,
        "start": start,
        "words": words,
    }
