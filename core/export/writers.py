"""How each form is written, and proved in a fresh process. Names and words of them: form_names."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.errors import InputError
from core.export import nas
from core.export.gguf import deci
from core.export.making import Written
from core.export.verify import verify_elsewhere, verify_portable
from core.forms import names as form_names
from core.ising.units import BRANCH
from core.model import partial
from core.model.load import LoadedModel
from core.model.places import Place
from core.model.silence import silence
from core.model.surgery import check_expressed, check_native, divided, is_native, pass_on, remove_blocks


@dataclass(frozen=True)
class Form:
    """write: (the model, its units to remove, a new folder); prove: (the folder, the probe's file, whether
    its own code may run) -> finding; weights: a pattern of the files that hold them.
    """

    write: Callable[[LoadedModel, Sequence[int], Path], Written]
    prove: Callable[[Path, Path, bool], dict]
    check: Callable[[LoadedModel, Sequence[int]], object] = lambda loaded, units: None
    weights: str = "*.safetensors"


def _left(loaded: LoadedModel) -> Written:
    return Written(loaded.parameters(), sum(b.kv_bytes for b in loaded.blocks))


def _native(loaded: LoadedModel, units: Sequence[int], folder: Path) -> Written:
    remove_blocks(loaded, units)
    check_expressed(loaded)
    loaded.model.save_pretrained(folder)
    return _left(loaded)


def _as_it_is(loaded: LoadedModel, units: Sequence[int], folder: Path) -> Written:
    loaded.model.save_pretrained(folder)
    return _left(loaded)


def _portable(loaded: LoadedModel, units: Sequence[int], folder: Path) -> Written:
    whole, parts = divided(loaded, units)
    if parts and is_native(loaded, units):
        places = remove_blocks(loaded, units)
    else:  # numbers and config stay
        places = remove_blocks(loaded, [u for u in units if loaded.units.block[u] in parts]) if parts else []
        places += pass_on(loaded, whole) if whole else []
    partial.save(loaded.model, folder, places)
    return _left(loaded)


def healed_parts(places: Sequence[Place]) -> Form:
    """The portable form of a model that has lost these places already, and has learned since."""

    def write(loaded: LoadedModel, units: Sequence[int], folder: Path) -> Written:
        partial.save(loaded.model, folder, list(places))
        return _left(loaded)

    return Form(write, _proved_alone)


def _proved_alone(folder: Path, probe: Path, own_code: bool) -> dict:
    return verify_portable(folder, probe)


def _check_portable(loaded: LoadedModel, units: Sequence[int]) -> None:
    if loaded.own_code:
        raise InputError(
            f"{loaded.source!r} runs its own code, which the portable form cannot take along; choose the "
            f"form {form_names.SHAPES!r}."
        )


def _shapes(loaded: LoadedModel, units: Sequence[int], folder: Path) -> Written:
    silence(loaded, units)
    whole, _ = divided(loaded, units)
    if whole:
        gone = [unit for b in whole for unit in loaded.units.of_block[b]]
        remove_blocks(loaded, gone)
        check_expressed(loaded)
    loaded.model.save_pretrained(folder)
    return _left(loaded)


def _gguf(loaded: LoadedModel, units: Sequence[int], folder: Path) -> Written:
    names, loaded = loaded.units.stored(units), loaded.seen(BRANCH)
    units = loaded.units.state(names) or ()
    parts = [part for block in loaded.blocks for part in block.branches]
    kv_bytes = sum(part.kv_bytes for unit, part in enumerate(parts) if unit not in units)
    zeros = deci.zero_heads(loaded, deci.layout_of(loaded, units))
    return Written(deci.write(loaded, units, folder), kv_bytes + zeros)


def _nas(loaded: LoadedModel, units: Sequence[int], folder: Path) -> Written:
    config = nas.config_of(loaded, units)
    written = _portable(loaded, units, folder)
    nas.write(config, folder)
    return written


HEALED = Form(_as_it_is, verify_elsewhere)  # blocks are gone already, and what is left has learned since
FORMS: Mapping[str, Form] = {
    form_names.NATIVE: Form(_native, verify_elsewhere, check_native),
    form_names.PORTABLE: Form(_portable, _proved_alone, _check_portable),
    form_names.SHAPES: Form(_shapes, verify_elsewhere),
    form_names.GGUF: Form(_gguf, verify_elsewhere, deci.check, "*.gguf"),
    form_names.NAS: Form(_nas, _proved_alone, nas.check),
}
