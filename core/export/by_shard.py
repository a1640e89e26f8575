"""A pruned checkpoint by way of its files: tensors are copied under their new names, none is loaded.

The model is built without its weights (core.model.skeleton) and its blocks are removed by the same code as
those of a loaded one (core.model.surgery), which gives the config, and the block that each name is of
afterwards. Quantised weights are copied as they are, and their settings speak of what is left
(core.weights.packed). Memory is bounded by a piece of a tensor; the proof with logits takes a block.
"""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import GenerationConfig

from core.errors import InputError
from core.export.in_memory import check_whole
from core.export.making import Before, Making, Report, Written, beside
from core.export.verify import prove_elsewhere, verify_portable
from core.export.workshop import taken
from core.export.writers import FORMS
from core.forms.config_changes import differences
from core.forms.names import NATIVE, PORTABLE, form_of
from core.ising.units import Name
from core.model import partial
from core.model.devices import free_memory
from core.model.places import find_passed
from core.model.skeleton import Names, Skeleton, no_products, open_skeleton
from core.model.surgery import check_expressed, check_units, remove_blocks
from core.weights.files import SINGLE, WeightFiles
from core.weights.find import find_weights
from core.weights.packed import Renamed, is_packed, rewrite, rewrite_files
from core.weights.shards import OnDisk, write_index, write_tensors

WRITTEN = (NATIVE, PORTABLE)  # forms


@dataclass(frozen=True)
class Plan:
    """What goes where. After it is made, the skeleton's model is the pruned one."""

    skeleton: Skeleton
    kept: list[int]  # blocks
    form: str
    names: dict[str, str]  # {name on disk before: after}, of what stays
    places: list[dict]  # of a portable checkpoint: what its code leaves out
    config: dict  # before

    @property
    def size(self) -> int:
        """Bytes of all tensors that stay."""
        return sum(self.skeleton.tensors[name].size for name in self.names)

    def shards(self) -> list[list[tuple[str, OnDisk]]]:
        """(name, tensor) of each file that there will be, as the files of the source are cut."""
        files: dict[Path, list[tuple[str, OnDisk]]] = {}
        for before, tensor in self.skeleton.tensors.items():
            if before in self.names:
                files.setdefault(tensor.file, []).append((self.names[before], tensor))
        return list(files.values())


def plan_of(skeleton: Skeleton, removed: Sequence[int], form: str = NATIVE) -> Plan:
    """Remove the blocks from a skeleton. Errors: InputError for bad blocks, and for what cannot be written in
    this form, found before anything is.
    """
    loaded, config = skeleton.loaded, skeleton.loaded.model.config.to_dict()
    gone = check_units(loaded, removed)
    FORMS[form].check(loaded, gone)
    kept = [i for i in range(len(loaded.blocks)) if i not in set(gone)]
    if form == PORTABLE:
        with no_products():
            places = find_passed(loaded, gone)
        partial.take_out(loaded.model, places)
        loaded.blocks = [loaded.blocks[i] for i in kept]
        homes = {n: h for n, h in skeleton.homes.items() if skeleton.block_of(h) not in set(gone)}
        return Plan(skeleton, kept, form, {name: name for name in homes}, places, config)
    remove_blocks(loaded, gone)
    names = _renumbered(skeleton, kept)
    check_expressed(loaded)
    return Plan(skeleton, kept, form, names, [], config)


def _renumbered(skeleton: Skeleton, kept: Sequence[int]) -> dict[str, str]:
    """{name on disk before: after}: the one that leads to the same weight of the block's new number.

    Errors: InputError where no number in a name is its block's.
    """
    number, after = {b: n for n, b in enumerate(kept)}, Names(skeleton.loaded.model)
    found: dict[str, str] = {}
    for name, home in skeleton.homes.items():
        block = skeleton.block_of(home)
        if block is None:
            found[name] = name
        elif block in number:
            found[name] = _with_block(name, skeleton.moved(home, number[block]), number[block] - block, after)
    return found


def _with_block(name: str, home: str, by: int, names: Names) -> str:
    """A name on disk with its block's number moved, which may be counted in halves there."""
    parts = name.split(".")
    for step in (1, 2):
        for at, part in enumerate(parts):
            moved = int(part) + by * step if part.isdigit() else -1
            other = ".".join([*parts[:at], str(moved), *parts[at + 1 :]])
            if moved >= 0 and names.home(other)[0] == home:
                return other
    raise InputError(
        f"No number in the tensor's name {name} is that of its block; prune it in memory instead."
    )


def write_plan(plan: Plan, folder: Path, report: Report, shelf: Path | None = None) -> Written:
    """The checkpoint in a new folder, without its tokenizer; report: (bytes done, all bytes, message); shelf:
    a folder on the same disk in which files that are whole stay for who goes on after a kill.

    Errors: InputError for a source that is cut off in the middle; OSError where the disk is full.
    """
    folder.mkdir()
    loaded, done, shards = plan.skeleton.loaded, 0, plan.shards()
    names: dict[str, str] = {}

    def copied(size: int) -> None:
        nonlocal done
        done += size
        report(done, plan.size, f"copying file {number} of {len(shards)}")

    for number, tensors in enumerate(shards, 1):
        name = SINGLE if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        if shelf is None:
            write_tensors(folder / name, tensors, copied)
        else:
            _shelved(shelf / name, tensors, copied)
            taken(shelf / name, folder)
        names.update((tensor, name) for tensor, _ in tensors)
    if len(shards) > 1:
        write_index(folder, names, plan.size)
    _write_config(plan, folder)
    kv_bytes = sum(block.kv_bytes for block in loaded.blocks)
    changed = () if plan.places else tuple(differences(plan.config, loaded.model.config.to_dict()))
    return Written(loaded.parameters(), kv_bytes, changed)


def _shelved(file: Path, tensors: Sequence[tuple[str, OnDisk]], copied: Callable[[int], None]) -> None:
    """The file of these tensors, if it is not there: what has its name is whole, as the proof will see."""
    if file.is_file():
        copied(sum(tensor.size for _, tensor in tensors))
        return
    file.parent.mkdir(exist_ok=True)
    staging = file.with_name(f".{file.name}")
    write_tensors(staging, tensors, copied)
    os.replace(staging, file)


def _write_config(plan: Plan, folder: Path) -> None:
    """config.json as saving the model would write it, generation_config.json, and how weights are packed."""
    loaded, files = plan.skeleton.loaded, plan.skeleton.loaded.files
    model, config = loaded.model, loaded.model.config
    for own in [config, *(getattr(config, name, None) for name in config.sub_configs)]:
        if own is not None:
            own.dtype = str(plan.skeleton.dtype).removeprefix("torch.")
    config.architectures = [type(model).__name__]
    config.save_pretrained(folder)
    if model.can_generate():
        given = (files.folder / "generation_config.json").is_file()
        own = GenerationConfig.from_pretrained(files.folder) if given else model.generation_config
        own.save_pretrained(folder)
    if plan.skeleton.quantised:
        renamed = _renamed(plan)
        place = folder / "config.json"
        raw = json.loads(place.read_text(encoding="utf-8"))
        rewrite(raw, files.config, renamed)
        place.write_text(json.dumps(raw, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        rewrite_files(files.folder, folder, loaded.source, renamed)
    if plan.form == PORTABLE:
        partial.say(folder, plan.places)


def _renamed(plan: Plan) -> Renamed:
    """The names of modules on disk, before and after."""
    modules: dict[str, str | None] = {}
    inside: list[tuple[list[str], int]] = []
    for before, home in plan.skeleton.homes.items():
        parts, after = before.split("."), plan.names.get(before, "").split(".")
        if (block := plan.skeleton.block_of(home)) is not None:
            inside.append((parts, block))
        for n in range(1, len(parts)):
            name = ".".join(parts[:n])
            modules[name] = modules.get(name) or ".".join(after[:n]) or None
    first, block = inside[0]
    stacks = (first[:at] for at, part in enumerate(first) if part == str(block))
    stack = next(s for s in stacks if all(p[: len(s) + 1] == [*s, str(b)] for p, b in inside))
    numbers = {b: b if plan.form == PORTABLE else n for n, b in enumerate(plan.kept)}
    return Renamed(modules, ".".join(stack), numbers)


def wanted(source: str, removed: Sequence[Name], form: str | None, remote_code: bool = False) -> bool:
    """Whether a removal goes by way of the files without being asked to: weights that are quantised, of
    several types, which a loaded model has not, or more than memory takes. Errors: InputError where there is
    no such model.
    """
    if any(isinstance(name, str) for name in removed) or form_of(removed, form) not in WRITTEN:
        return False
    files = find_weights(source, remote_code, packed=True)
    if type(files) is not WeightFiles or files.partial:
        return False
    if is_packed(files.config, files.folder):
        return True
    stored = files.stored()
    return stored.wider is not None or not _fits_memory(stored.values)


def _fits_memory(values: int) -> bool:
    """Whether so many numbers fit in memory in float32."""
    free = free_memory()
    return free is None or 4 * values <= free


def pruned(
    source: str, removed: Sequence[Name], form: str | None, remote_code: bool, report: Report
) -> Making:
    """Of `source`, a folder of safetensors, without these blocks. Errors: InputError, as `open_skeleton` and
    `plan_of`, and for parts of blocks.
    """
    form = form_of(removed, form)
    blocks = [name for name in removed if isinstance(name, int)]
    if len(blocks) < len(removed) or form not in WRITTEN:
        raise InputError(
            f"Shard by shard, whole blocks are removed, and written in the form {' or '.join(WRITTEN)}; "
            "leave that out for parts of blocks and for other forms."
        )
    report(0, 1, "reading the headers")
    skeleton = open_skeleton(source, remote_code)
    loaded, files = skeleton.loaded, skeleton.loaded.files
    check_whole(loaded)
    count, parameters, size = len(loaded.blocks), loaded.parameters(), files.bytes
    kv_bytes = sum(block.kv_bytes for block in loaded.blocks)
    plan = plan_of(skeleton, blocks, form)
    gone = tuple(sorted(blocks))
    before = Before(source, loaded.name, gone, plan.kept, parameters, size, count, count, len(gone), kv_bytes)

    def prove(checkpoint: Path, scratch: Path) -> dict:
        probe = scratch / "probe.npz"
        found = prove_elsewhere(files.folder, checkpoint, gone, probe, remote_code)
        if form == PORTABLE and probe.is_file() and _fits_memory(parameters):
            found |= verify_portable(checkpoint, probe)
        return found

    return Making(
        before,
        form,
        lambda folder, report, shelf: write_plan(plan, folder, report, shelf),
        prove,
        beside(files),
        item=loaded.item_size,
        size=plan.size,
    )
