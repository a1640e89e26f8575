"""Remove blocks for real: fewer modules, renumbered, with a config that says so.

What is special of a type is data (core.blocks.architectures): what is a list with one entry a block is
sliced, what cannot be written in a native config is refused with the reason.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from core.blocks.architectures import BLOCK_NUMBERS, OWN_NUMBERS, PER_BLOCK_LISTS, REFUSALS
from core.errors import InputError
from core.ising.states import check_blocks
from core.model.load import LoadedModel


def check_removal(loaded: LoadedModel, removed: Sequence[int]) -> list[int]:
    """The sorted blocks to remove.

    Errors: InputError for unknown, doubled, no or all blocks, or a refused structure.
    """
    blocks = list(check_blocks(removed, len(loaded.blocks)))
    if not blocks:
        raise InputError("No blocks to remove were given; name at least one, for example 3,7-9.")
    for reason, holds in REFUSALS:
        if holds(loaded.model.config, blocks):
            raise InputError(
                f"{loaded.source!r} cannot be pruned natively: {reason}; evaluate it with gates instead."
            )
    return blocks


def remove_blocks(loaded: LoadedModel, removed: Sequence[int]) -> None:
    """Remove the blocks from the loaded model in place: modules, numbering and config.

    Errors: see `check_removal`.
    """
    gone = set(check_removal(loaded, removed))
    kept = [i for i in range(len(loaded.blocks)) if i not in gone]
    parent_path, _, name = loaded.structure.path.rpartition(".")
    blocks = torch.nn.ModuleList(loaded.modules[i] for i in kept)
    for number, block in enumerate(blocks):
        for module in block.modules():
            for attribute in OWN_NUMBERS:
                if hasattr(module, attribute):
                    setattr(module, attribute, number)
    setattr(loaded.model.get_submodule(parent_path), name, blocks)
    config = loaded.config
    for attribute in PER_BLOCK_LISTS:
        values = vars(config).get(attribute)
        if isinstance(values, (list, tuple)):
            setattr(config, attribute, [values[i] for i in kept])
    for attribute in BLOCK_NUMBERS:
        values = vars(config).get(attribute)
        if isinstance(values, (list, tuple)):
            setattr(config, attribute, [kept.index(i) for i in values if i in kept])
    config.num_hidden_layers = len(kept)
    loaded.blocks = [loaded.blocks[i] for i in kept]


@contextmanager
def without(loaded: LoadedModel, removed: Sequence[int]) -> Iterator[None]:
    """Inside the context the blocks are really removed from the loaded model; afterwards it is whole again.

    Equal to gates at 0, but the removed blocks cost nothing: for measuring speed and for many states in a
    row.
    Errors: see `check_removal`.
    """
    if not len(removed):
        yield
        return
    config, path = loaded.config, loaded.structure.path
    modules, blocks = loaded.modules, loaded.blocks
    values = {a: vars(config).get(a) for a in (*PER_BLOCK_LISTS, *BLOCK_NUMBERS)}
    depth = getattr(config, "num_hidden_layers", None)
    numbers = [(m, a, getattr(m, a)) for m in modules.modules() for a in OWN_NUMBERS if hasattr(m, a)]
    remove_blocks(loaded, removed)
    try:
        yield
    finally:
        parent, _, name = path.rpartition(".")
        setattr(loaded.model.get_submodule(parent), name, modules)
        for attribute, value in values.items():
            if value is not None:
                setattr(config, attribute, value)
        if depth is not None:
            config.num_hidden_layers = depth
        for module, attribute, value in numbers:
            setattr(module, attribute, value)
        loaded.blocks = blocks
