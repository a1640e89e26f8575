"""Write a pruned model: `prune`, whichever way it goes, and `write_healed`."""

from collections.abc import Sequence
from pathlib import Path

from core.errors import InputError
from core.export import by_shard as by_files
from core.export import in_memory
from core.export.gguf import whole_blocks as of_gguf
from core.export.making import Report, made
from core.forms.record import Export, is_export_of, is_healed_of
from core.ising.units import Name
from core.model.load import LoadedModel
from core.model.places import Place
from core.store.folders import check_free
from core.store.named_models import place_of


def prune(
    source: str,
    removed: Sequence[Name],
    out: Path,
    *,
    form: str | None = None,
    provenance: dict | None = None,
    workshop: Path | None = None,
    remote_code: bool = False,
    replace: bool = False,
    by_shard: bool | None = None,
    report: Report = lambda done, total, message: None,
) -> Export:
    """Remove blocks, or attention or FFN of them, from `source` and write a folder of the pruned model.

    removed: blocks by number, branches by name ("12a"). form: of core.forms.names; None: where only
    whole blocks go, a checkpoint that loads as `source` does, by from_pretrained of its auto class; else the
    portable form. `workshop` is a folder on the disk of `out` to write in until it is verified; None: beside
    `out`. Weights keep the checkpoint's own type. remote_code: as in core.model.load.load_model; the code
    goes with the checkpoint. replace: an equal export that is at `out` is replaced once this one is verified.
    by_shard: whole blocks are removed by way of the files, in little memory, and quantised weights stay as
    they are; None: where the model does not fit in memory, or is quantised (core.export.by_shard.wanted).
    Otherwise quantised weights are written in bf16 (core.weights.quantised), which is larger.
    Errors: InputError for bad units, an existing `out`, or a model that cannot be pruned, or not in this
    form; RuntimeError when the written folder fails verification (it is then removed).
    """
    out = Path(out)
    if not (replace and is_export_of(out, source, removed, form)):
        check_free(out)
    check_beside(out, place_of(source).expanduser())
    if by_shard is None:
        by_shard = by_files.wanted(source, removed, form, remote_code)
    way = by_files if by_shard else in_memory
    if of_gguf.wanted(source, removed, form, remote_code):
        way = of_gguf
    making = way.pruned(source, removed, form, remote_code, report)
    return made(making, out, provenance=provenance, workshop=workshop, report=report)


def check_beside(out: Path, source: Path) -> None:
    """Errors: InputError where the export would lie in the folder of its own original."""
    if source.is_dir() and source.resolve() in out.resolve().parents:
        raise InputError(
            f"{str(out)!r} lies in the folder of the model that is pruned, which stays as it is; give "
            "another place."
        )


def write_healed(
    original: LoadedModel,
    student: LoadedModel,
    removed: Sequence[int],
    out: Path,
    *,
    healed: dict,
    places: Sequence[Place] = (),
    provenance: dict | None = None,
    workshop: Path | None = None,
    report: Report = lambda done, total, message: None,
) -> Export:
    """Write a student, `original` without its units `removed` and trained since, as `prune` writes a pruned
    model: verified in a fresh process against the student's own logits.

    places: what core.model.surgery.remove_blocks has left empty in blocks that stay: then it is written in
    the portable form. healed: how, which blockscape.json holds under that name, so that nobody takes it for
    the pruned model; an export of the same that is at `out` is replaced once this one is verified.
    Errors: as `prune`.
    """
    out = Path(out)
    if not is_healed_of(out, original.source, original.units.stored(removed), healed["asked"]):
        check_free(out)
    making = in_memory.healed(original, student, removed, places)
    told = {**(provenance or {}), "healed": healed}
    done = made(making, out, provenance=told, workshop=workshop, report=report)
    for p in student.model.parameters():
        p.data = p.data.float()
    return done
