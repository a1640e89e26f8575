"""Whole blocks out of a GGUF file as an export: the file, its record and card, proved before it is ready."""

from collections.abc import Sequence
from pathlib import Path

from core.export.gguf.blocks import Cut, plan_gguf, write_gguf
from core.export.gguf.deci import FILE
from core.export.gguf.plan import cached_numbers
from core.export.gguf.proof import prove_gguf
from core.export.making import Before, Making, Report, Written
from core.export.workshop import taken
from core.forms.names import GGUF, form_of
from core.ising.units import Name
from core.store.named_models import name_at
from core.weights.find import find_weights
from core.weights.gguf_files import GgufFiles
from core.weights.gguf_patterns import PATTERNS


def wanted(source: str, removed: Sequence[Name], form: str | None, remote_code: bool = False) -> bool:
    """Whether a file stays GGUF and only whole blocks go. Errors: InputError where there is no such model."""
    whole = bool(removed) and all(isinstance(name, int) for name in removed)
    return whole and form == GGUF and isinstance(find_weights(source, remote_code, packed=True), GgufFiles)


def pruned(
    source: str, removed: Sequence[Name], form: str | None, remote_code: bool, report: Report
) -> Making:
    """Of `source`, a GGUF file, without these blocks. Errors: InputError, as core.export.gguf.blocks."""
    report(0, 1, "reading the header")
    files = find_weights(source, remote_code)
    assert isinstance(files, GgufFiles)
    gone = tuple(sorted(name for name in removed if isinstance(name, int)))
    first = files.files[0]  # a split file by any of its parts
    cut = plan_gguf(first, gone)
    kept = [b for b in range(cut.blocks[0]) if b not in gone]
    stored = files.stored().dtype
    item = stored.itemsize if stored else 2  # as core.model.load counts the cache of rounded weights
    numbers = cached_numbers(files.path, files.header)
    before = Before(
        source,
        name_at(files.place) or Path(source).name,
        gone,
        kept,
        cut.parameters[0],
        cut.bytes[0],
        cut.blocks[0],
        cut.blocks[0],
        len(gone),
        item * sum(numbers[: cut.blocks[0]]),
    )

    def write(folder: Path, report: Report, shelf: Path | None) -> Written:
        folder.mkdir()
        target = (shelf or folder) / FILE
        if not target.is_file():  # one that has its name is whole, as the proof will see
            write_gguf(first, gone, target, report)
        if shelf:
            taken(target, folder)
        changes = tuple((key, *change) for key, change in cut.changes.items())
        return Written(cut.parameters[1], item * sum(numbers[b] for b in kept), changes)

    def prove(checkpoint: Path, scratch: Path) -> dict:
        found = prove_gguf(first, checkpoint / FILE, gone)
        return {**found, "llama_cpp": found["llama_cpp"] + _caution(files.header.architecture, cut)}

    return Making(before, form_of(gone, form), write, prove, weights="*.gguf", item=item, size=cut.bytes[1])


def _caution(architecture: str, cut: Cut) -> str:
    """What is to be told of other versions of llama.cpp than the one that was tried."""
    pattern = PATTERNS.get(architecture)
    if pattern is None or f"{architecture}.{pattern.array_key}" not in cut.changes:
        return ""
    return " (before October 2026 it may pass over the list that says which blocks have full attention)"
