"""A pruned model by way of the loaded one: in each form, and a healed one as it is."""

import gc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from core.errors import InputError
from core.export.making import Before, Making, Report, Written, beside
from core.export.verify import made_up_ids
from core.export.writers import FORMS, HEALED, Form, healed_parts
from core.forms.config_changes import differences
from core.forms.names import GGUF, NATIVE, PORTABLE, SHAPES, form_of
from core.ising.units import BLOCK, BRANCH, Name
from core.model.gates import gated, removal
from core.model.load import LoadedModel, load_model
from core.model.memory import give_back
from core.model.places import Place
from core.model.surgery import check_units, divided


def pruned(
    source: str, removed: Sequence[Name], form: str | None, remote_code: bool, report: Report
) -> Making:
    """Of `source` without these blocks and branches; without any, where the form is another than its own.
    Errors: InputError for bad units, or a model that cannot be pruned, or not in this form.
    """
    report(0, 4, "loading")
    loaded, units = _asked(_loaded(source, None, remote_code, form), removed, form)
    named = form_of(loaded.units.stored(units), form)
    check_whole(loaded)
    how = FORMS[named]
    how.check(loaded, units)
    before = _before(loaded, units, source)
    report(1, 4, "reference logits")
    probe = _probe(loaded, units)
    dtype = loaded.files.stored().wider or loaded.files.written()
    if dtype != loaded.model.dtype:
        report(1, 4, "loading in the checkpoint's own type")
        del loaded
        loaded, _ = _asked(_loaded(source, dtype, remote_code, form), removed, form)
    return _making(loaded, units, named, how, before, probe)


def check_whole(loaded: LoadedModel) -> None:
    """Errors: InputError for a model that lacks parts of blocks already."""
    if loaded.files.partial:
        raise InputError(
            f"{loaded.source!r} lacks parts of blocks already, which a second removal would forget; take the "
            "model that it was made from."
        )


def _loaded(source: str, dtype: torch.dtype | None, remote_code: bool, form: str | None) -> LoadedModel:
    """The model on the CPU. Its tokenizer is asked for by GGUF alone, which holds it."""
    return load_model(source, device="cpu", dtype=dtype, remote_code=remote_code, tokenizer=form == GGUF)


def healed(
    original: LoadedModel, student: LoadedModel, removed: Sequence[int], places: Sequence[Place] = ()
) -> Making:
    """Of a student, `original` without its units `removed` and trained since, whose weights are rounded to
    the checkpoint's own type; places: as core.export.write.write_healed has them.
    """
    before, dtype = _before(original, removed, original.source), original.files.written()
    with torch.no_grad():  # the weights alone: positions are computed in float32, whatever those are in
        for p in student.model.parameters():
            p.data = p.data.to(dtype).float()
    probe = _probe(student, ())
    for p in student.model.parameters():
        p.data = p.data.to(dtype)
    form, how = (PORTABLE, healed_parts(places)) if places else (NATIVE, HEALED)
    return _making(student, (), form, how, before, probe)


def _making(
    loaded: LoadedModel,
    units: Sequence[int],
    form: str,
    how: Form,
    before: Before,
    probe: dict[str, np.ndarray],
) -> Making:
    own_code, size = loaded.own_code, _size(loaded, units, form)
    held = [loaded]  # until it is written: the proof, in another process, needs the memory

    def write(folder: Path, report: Report, shelf: Path | None) -> Written:
        loaded = held.pop()
        config = loaded.model.config.to_dict()
        report(2, 4, f"writing about {size / 1e9:.2g} GB")
        written = how.write(loaded, units, folder)
        return replace(
            written, config=tuple(differences(config, loaded.model.config.to_dict())) if units else ()
        )

    def prove(checkpoint: Path, scratch: Path) -> dict:
        gc.collect()
        give_back()
        np.savez(scratch / "probe.npz", ids=probe["ids"], logits=probe["logits"])
        return how.prove(checkpoint, scratch / "probe.npz", own_code)

    return Making(before, form, write, prove, beside(loaded.files), how.weights, loaded.item_size, size)


def _size(loaded: LoadedModel, units: Sequence[int], form: str) -> int:
    """Bytes of the weights that are written, about."""
    own = [b.parameters for b in loaded.blocks]
    if loaded.by != BLOCK:
        own = [part.parameters for b in loaded.blocks for part in b.branches]
    gone = 0 if form == SHAPES else sum(own[unit] for unit in units)
    return (loaded.parameters() - gone) * next(loaded.model.parameters()).element_size()


def _asked(loaded: LoadedModel, removed: Sequence[Name], form: str | None) -> tuple[LoadedModel, list[int]]:
    """(the model by branch where a part of a block goes alone, else by block; its units of these names).
    Errors: InputError.
    """
    if not removed and form == GGUF:  # a mere conversion
        return loaded.seen(BLOCK), []
    if any(isinstance(name, str) for name in removed):
        branches = loaded.seen(BRANCH)
        state = branches.units.parse(",".join(map(str, removed)))
        removed = branches.units.stored(state)
        if any(isinstance(name, str) for name in removed):
            return branches, check_units(branches, state)
    loaded = loaded.seen(BLOCK)
    return loaded, check_units(loaded, [name for name in removed if isinstance(name, int)])


def _before(loaded: LoadedModel, units: Sequence[int], source: str) -> Before:
    whole, _ = divided(loaded, units)
    return Before(
        source,
        loaded.name,
        loaded.units.stored(units),
        [i for i in range(len(loaded.blocks)) if i not in whole],
        loaded.parameters(),
        loaded.weights_bytes(),
        len(loaded.blocks),
        len(loaded.units),
        len(units),
        sum(b.kv_bytes for b in loaded.blocks),
    )


def _probe(loaded: LoadedModel, units: Sequence[int]) -> dict[str, np.ndarray]:
    """{ids, logits} of the model with the units gated off: what the checkpoint must give."""
    ids = made_up_ids(loaded.config.vocab_size, loaded.max_length)
    with torch.no_grad(), gated(loaded, removal(loaded, units)):
        logits = loaded.model(input_ids=ids, use_cache=False).logits.float()
    return {"ids": ids.numpy(), "logits": logits.numpy()}
