"""Remove blocks for real, or branches of them: fewer modules, renumbered, with a config that says so.

What is special of a type is data (core.blocks.architectures): what is a list with one entry a block is
sliced, what cannot be written in a native config is refused with the reason. A block that keeps a branch
stays, and the modules of its others go (core.model.places).
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch

from core.blocks.architectures import (
    BLOCK_NUMBERS,
    CYCLES,
    DEPTHS,
    FIRST_BLOCKS,
    INEXPRESSIBLE,
    LAST_BLOCK,
    OVER_ROOT_DEPTH,
    OWN_NUMBERS,
    PER_BLOCK_LISTS,
    PREDICTS_MORE,
    REFUSALS,
)
from core.blocks.description import Block
from core.blocks.structure import cache_argument, probe_ids
from core.errors import InputError, first_line
from core.ising.states import check_blocks
from core.model.gates import gated, removal
from core.model.load import LoadedModel
from core.model.partial import take_out
from core.model.places import Place, find_passed, find_places

# logits of a few tokens, of the largest: rounding alone; half precision may send a token to another expert
_CLOSE, _CLOSE_HALF = 1e-4, 0.1


def check_units(loaded: LoadedModel, removed: Sequence[int]) -> list[int]:
    """The sorted units to remove: blocks, or branches of a model that is seen by branch.

    Errors: InputError for unknown, doubled, no or all units.
    """
    units = list(check_blocks(removed, len(loaded.units)))
    if not units:
        raise InputError("No blocks to remove were given; name at least one, for example 3,7-9.")
    return units


def check_removal(loaded: LoadedModel, removed: Sequence[int]) -> list[int]:
    """As `check_units`, of units that can be removed and the others renumbered.

    Errors: InputError, as there, and for a refused structure.
    """
    units = check_units(loaded, removed)
    whole, _ = divided(loaded, units)
    for reason, holds in REFUSALS:
        if whole and holds(loaded.model.config, whole):
            raise InputError(
                f"{loaded.source!r} cannot be pruned natively: {reason}; write the portable form, or "
                "evaluate it with gates instead."
            )
    return units


def check_native(loaded: LoadedModel, removed: Sequence[int]) -> list[int]:
    """As `check_removal`, of units whose removal a config of the type can say. Errors: InputError, as there,
    with the reason.
    """
    units = check_removal(loaded, removed)
    whole, _ = divided(loaded, units)
    for reason, holds in INEXPRESSIBLE:
        if whole and holds(loaded.config, whole):
            raise InputError(
                f"{loaded.source!r} without {loaded.units.write(units)} is nothing that its type "
                f"({loaded.model.config.model_type!r}) can be: {reason}; write the portable form."
            )
    return units


def is_native(loaded: LoadedModel, removed: Sequence[int]) -> bool:
    """Whether `check_native` lets the units pass."""
    try:
        check_native(loaded, removed)
    except InputError:
        return False
    return True


def divided(loaded: LoadedModel, removed: Sequence[int]) -> tuple[list[int], dict[int, list[int]]]:
    """(blocks that go whole, {block that stays: numbers of its branches that go}) of a state."""
    gone, whole, partial = set(removed), [], {}
    for b, own in enumerate(loaded.units.of_block):
        if out := [k for k, unit in enumerate(own) if unit in gone]:
            if len(out) == len(own):
                whole.append(b)
            else:
                partial[b] = out
    return whole, partial


def remove_blocks(loaded: LoadedModel, removed: Sequence[int]) -> list[Place]:
    """Remove the units from the loaded model in place: modules, numbering and config. Gives what is left
    empty in blocks that stay, as core.model.partial.take_out finds it in a model of the new config.

    Errors: see `check_removal`, and InputError where a branch does not go: tried on a few tokens.
    """
    units = check_removal(loaded, removed)
    whole, partial = divided(loaded, units)
    places: list[Place] = []
    if partial:
        names, expected, usual = loaded.units.write(units), gated_logits(loaded, units), _cache_error(loaded)
        try:
            places = find_places(loaded, partial)
        except Exception as error:  # the type's own code asks for what is gone
            raise _refusal(loaded, names, f"it does not run ({first_line(error, 80)})") from error
        take_out(loaded.model, places)
        loaded.blocks = [_rest(block, partial.get(b, ())) for b, block in enumerate(loaded.blocks)]
    kept = [i for i in range(len(loaded.blocks)) if i not in set(whole)]
    _keep_blocks(loaded, kept)
    if partial:
        same_as_gated(loaded, expected, names, usual)
    return [_renumbered(place, loaded, kept) for place in places]


def pass_on(loaded: LoadedModel, blocks: Sequence[int]) -> list[Place]:
    """Whole blocks that pass on what they are given, in place: the others keep their numbers, and the config
    stays. Gives their places, as core.model.partial.take_out finds them in a model of that config.

    Errors: InputError where the model then is not the gated one: tried on a few tokens.
    """
    units = [unit for b in blocks for unit in loaded.units.of_block[b]]
    names, expected, usual = loaded.units.write(units), gated_logits(loaded, units), _cache_error(loaded)
    places = find_passed(loaded, blocks)
    take_out(loaded.model, places)
    loaded.blocks = [block for b, block in enumerate(loaded.blocks) if b not in set(blocks)]
    same_as_gated(loaded, expected, names, usual)
    return places


def _keep_blocks(loaded: LoadedModel, kept: list[int]) -> None:
    """These blocks alone, renumbered, and their config."""
    if len(kept) == len(loaded.blocks):
        return
    parent_path, _, name = loaded.structure.path.rpartition(".")
    blocks = torch.nn.ModuleList(loaded.modules[i] for i in kept)
    for number, block in enumerate(blocks):
        for module in block.modules():
            for attribute in OWN_NUMBERS:
                if hasattr(module, attribute):
                    setattr(module, attribute, number)
    setattr(loaded.model.get_submodule(parent_path), name, blocks)
    _say(loaded.config, kept, len(loaded.blocks))
    loaded.blocks = [loaded.blocks[i] for i in kept]


def _say(config, kept: Sequence[int], before: int) -> None:
    """The config of what is left of so many blocks."""
    own = vars(config)
    lists = {name: value for name, value in own.items() if isinstance(value, (list, tuple))}
    for name in {*PER_BLOCK_LISTS, *CYCLES} & {*lists}:
        values = list(lists[name])
        if name in CYCLES:
            values = [values[i % len(values)] for i in range(before)]
        setattr(config, name, [values[i] for i in kept])
    for name in {*BLOCK_NUMBERS} & {*lists}:
        setattr(config, name, [kept.index(i) for i in lists[name] if i in kept])
    for name in FIRST_BLOCKS:
        if own.get(name):
            setattr(config, name, sum(i < own[name] for i in kept))
    for name in LAST_BLOCK:
        if own.get(name):
            setattr(config, name, sum(i <= own[name] for i in kept) - 1)
    for name in OVER_ROOT_DEPTH:
        if own.get(name):
            setattr(config, name, own[name] * math.sqrt(len(kept) / before))
    for name in PREDICTS_MORE:
        if own.get(name):
            setattr(config, name, 0)
    differing = own.get("_heterogeneity_spec")  # what single blocks have otherwise, by their numbers
    for name in DEPTHS:
        if getattr(config, name, None) == before:
            setattr(config, name, len(kept))
    config.num_hidden_layers = len(kept)
    if differing is not None:
        by_number = differing.per_layer_overrides
        config.per_layer_config = {n: by_number[i] for n, i in enumerate(kept) if i in by_number}


def check_expressed(loaded: LoadedModel) -> None:
    """Errors: InputError where the config, after `remove_blocks`, builds another model than what is left."""
    config, model = loaded.model.config, loaded.model
    try:
        with torch.device("meta"):
            fresh = type(model)._from_config(config)
        now, then = ({n: tuple(p.shape) for n, p in m.state_dict().items()} for m in (model, fresh))
        wrong = min((f"another {n}" for n in {*now, *then} if now.get(n) != then.get(n)), default="")
    except Exception as error:  # what a type asks of its config
        wrong = f"nothing ({first_line(error, 120)})"
    if wrong:
        raise InputError(
            f"{loaded.source!r} without these blocks is nothing that its type ({config.model_type!r}) can "
            f"be: its config would make {wrong}; write the portable form."
        )


def _rest(block: Block, gone: Sequence[int]) -> Block:
    """What is described of a block without these branches."""
    if not gone:
        return block
    parts = tuple(part for k, part in enumerate(block.branches) if k not in gone)
    sums = {
        name: sum(getattr(part, name) for part in parts)
        for name in ("parameters", "active_parameters", "bytes", "kv_bytes")
    }
    return replace(block, kind=" + ".join(part.kind for part in parts), branches=parts, **sums)


def _renumbered(place: Place, loaded: LoadedModel, kept: Sequence[int]) -> Place:
    """A place of the whole model in the one of which these blocks were kept."""
    stack = f"{loaded.structure.path}."
    number, _, rest = place["path"].removeprefix(stack).partition(".")
    path = f"{stack}{kept.index(int(number))}.{rest}"
    layer = None if place["layer"] is None else loaded.model.get_submodule(path).layer_idx
    return {**place, "path": path, "layer": layer}


@torch.no_grad()
def gated_logits(loaded: LoadedModel, units: Sequence[int]) -> torch.Tensor:
    """[2, 5, V]: logits of a few tokens with the units gated off."""
    with gated(loaded, removal(loaded, units)):
        return loaded.model(input_ids=probe_ids(loaded.model), use_cache=False).logits


@torch.no_grad()
def _cache_error(loaded: LoadedModel) -> float:
    """How far the logits of a token behind cached ones are from those without a cache; 0 without a cache."""
    model, ids = loaded.model, probe_ids(loaded.model)
    cache = getattr(model(input_ids=ids[:, :-1], use_cache=True), "past_key_values", None)
    if cache is None:
        return 0.0
    given = {"attention_mask": torch.ones_like(ids), cache_argument(model): cache}
    last = model(input_ids=ids[:, -1:], use_cache=True, **given).logits[:, -1]
    return _apart(last, model(input_ids=ids, use_cache=False).logits[:, -1])


@torch.no_grad()
def same_as_gated(loaded: LoadedModel, expected: torch.Tensor, names: str, usual: float = 0.0) -> None:
    """Errors: InputError where the model without these units is not the gated one with the logits `expected`,
    or further from itself with its cache than the whole model was (usual).
    """
    model, wrong = loaded.model, ""
    close = _CLOSE if model.dtype == torch.float32 else _CLOSE_HALF
    try:
        logits = model(input_ids=probe_ids(model), use_cache=False).logits
        if _apart(logits, expected) > close:
            wrong = "its logits are not the gated model's"
        elif _cache_error(loaded) > max(close, 3 * usual):
            wrong = "its logits differ with and without cache"
    except Exception as error:  # as above
        wrong = f"it does not run ({first_line(error, 80)})"
    if wrong:
        raise _refusal(loaded, names, wrong)


def _refusal(loaded: LoadedModel, names: str, why: str) -> InputError:
    return InputError(
        f"{names} cannot be taken out of {loaded.source!r} (type {loaded.model.config.model_type!r}): {why}; "
        "measure it with gates, or remove whole blocks."
    )


def _apart(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest difference, of the largest value."""
    return float((a.float() - b.float()).abs().max() / b.float().abs().max())


@contextmanager
def without(loaded: LoadedModel, removed: Sequence[int]) -> Iterator[None]:
    """Inside the context the units are really removed from the loaded model; afterwards it is whole again.

    Equal to gates at 0, but what is removed costs nothing: for measuring speed and for many states in a row.
    Errors: see `remove_blocks`.
    """
    if not len(removed):
        yield
        return
    config, path = loaded.config, loaded.structure.path
    modules, blocks = loaded.modules, loaded.blocks
    said = dict(vars(config))  # lists in it are replaced, never changed
    numbers = [(m, a, getattr(m, a)) for m in modules.modules() for a in OWN_NUMBERS if hasattr(m, a)]
    inside = [(m, dict(m._modules)) for m in modules.modules() if m._modules]
    try:
        remove_blocks(loaded, removed)
        yield
    finally:
        parent, _, name = path.rpartition(".")
        setattr(loaded.model.get_submodule(parent), name, modules)
        for module, children in inside:
            module._modules.clear()
            module._modules.update(children)
        vars(config).clear()
        vars(config).update(said)
        for module, attribute, value in numbers:
            setattr(module, attribute, value)
        loaded.blocks = blocks
