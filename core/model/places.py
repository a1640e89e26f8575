"""Where nothing is left of a block when one of its branches goes: found by watching the block run.

The branch's module goes with all that serves it alone. Where the module that holds it returns what it was
given once the branch is silent (some types add the residual inside), it passes that on; else it gives zeros.
Then every other module of the block is disturbed: one that changes nothing any more is not needed. A norm
that two branches read stays, the norm of one goes with it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from core.blocks.description import Part, block_number
from core.blocks.structure import Call, first_tensor, probe_ids, recorded, replace_first
from core.model.load import LoadedModel
from core.model.partial import take_out

Place = dict  # an entry of `removed` in a portable checkpoint's config: see core.model.partial.Removed


@torch.no_grad()
def find_places(loaded: LoadedModel, gone: Mapping[int, Sequence[int]]) -> list[Place]:
    """The places that the branches of `gone`, {block: numbers of its branches}, leave empty; paths from the
    model's root.
    """
    found = []
    for b, call in block_calls(loaded, gone).items():
        for place in _of_block(call, loaded.blocks[b].branches, gone[b]):
            found.append({**place, "path": f"{loaded.structure.path}.{b}.{place['path']}"})
    return found


@torch.no_grad()
def find_passed(loaded: LoadedModel, blocks: Sequence[int]) -> list[Place]:
    """The places of whole blocks that pass on what they are given, and keep their numbers; paths from the
    model's root.
    """
    found = []
    for b, call in sorted(block_calls(loaded, blocks).items()):
        output, kept = call.output, loaded.blocks[b].kv_bytes
        others = len(output) - 1 if isinstance(output, (tuple, list)) else None
        found.append(
            {
                "path": f"{loaded.structure.path}.{b}",
                "input": 0 if call.args else "hidden_states",
                "width": None,
                "rows": False,
                "form": None if others is None else type(output).__name__,
                "others": others or 0,
                "layer": block_number(call.module) if kept else None,
            }
        )
    return found


def block_calls(loaded: LoadedModel, blocks: Iterable[int]) -> dict[int, Call]:
    """How these blocks are called on a few tokens."""
    with torch.no_grad(), recorded({str(b): loaded.modules[b] for b in blocks}) as calls:
        loaded.model(input_ids=probe_ids(loaded.model), use_cache=False)
    return {int(call.path): call for call in calls}


def _of_block(block: Call, branches: Sequence[Part], gone: Sequence[int]) -> list[Place]:
    """The places of one block, paths within it."""
    modules = {path: module for path, module in block.module.named_modules() if path}
    silent = [branches[k].path for k in gone]
    kept = [b.path for k, b in enumerate(branches) if k not in gone]
    counts = any(branches[k].kv_bytes for k in gone)
    with _changed({modules[path]: torch.zeros_like for path in silent}):
        with _seen(modules, counts) as seen:
            expected = _run(block)
        places: list[Place] = []
        for path in silent:
            steps = path.split(".")
            outer = (".".join(steps[: n + 1]) for n in range(len(steps)))
            free = (seen[p][0] for p in outer if p in seen and not any(_within(other, p) for other in kept))
            places.append(next(p for p in free if p is not None and _fits(block, [*places, p], expected)))
    return places + _needless(block, {path: anything for path, (_, anything) in seen.items()}, places, kept)


def _fits(block: Call, places: list[Place], expected: torch.Tensor) -> bool:
    """Whether the block does the same with these places empty."""
    try:
        with emptied(block.module, places):
            return torch.equal(_run(block), expected)
    except Exception:  # it needs more of what the module returns
        return False


def _needless(
    block: Call, anything: Mapping[str, Place | None], places: list[Place], kept: list[str]
) -> list[Place]:
    """What serves nothing any more once these places are empty; anything: the place of each module whose
    output does not matter.
    """
    empty = [place["path"] for place in places]
    found: list[Place] = []
    with emptied(block.module, places):
        before = _run(block)
        for path, place in anything.items():
            parent = path.rpartition(".")[0]
            beside = parent == "" or any(_within(other, parent) for other in empty)
            if not (place and beside) or any(_related(path, other) for other in (*empty, *kept)):
                continue
            module = block.module.get_submodule(path)
            if next(module.parameters(), None) is not None:
                with _changed({module: _noise}):
                    if torch.equal(_run(block), before):
                        found.append(place)
    return found


@contextmanager
def _seen(
    modules: Mapping[str, nn.Module], counts: bool
) -> Iterator[dict[str, tuple[Place | None, Place | None]]]:
    """Inside the context, what can stand for each module that is called: where its output is needed, and
    where it is not. Told when the call ends: some types add to an output in place.
    """
    found: dict[str, tuple[Place | None, Place | None]] = {}

    def hook(path: str):
        def note(*call) -> None:
            found[path] = (_place(Call(path, *call), counts, True), _place(Call(path, *call), counts, False))

        return note

    handles = [module.register_forward_hook(hook(path), with_kwargs=True) for path, module in modules.items()]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _place(call: Call, counts: bool, needed: bool) -> Place | None:
    """What a module's place gives when it is empty; None where it gave neither zeros nor one of its inputs,
    though what it gives is needed.
    """
    hidden = first_tensor(call.output)
    given = {
        name: value
        for name, value in (*enumerate(call.args), *call.kwargs.items())
        if isinstance(value, torch.Tensor) and value.is_floating_point()
    }
    if not (isinstance(hidden, torch.Tensor) and hidden.is_floating_point()):
        return None
    zeros = not needed or not hidden.any()
    fits = _as_long if zeros else torch.equal
    source = next((n for n, v in given.items() if fits(v, hidden)), None)
    if source is None:
        return None
    output = call.output
    form = type(output).__name__ if isinstance(output, (tuple, list)) else None
    return {
        "path": call.path,
        "input": source,
        "width": hidden.shape[-1] if zeros else None,
        "rows": zeros and given[source].shape[:-1] != hidden.shape[:-1],  # tokens of all samples in one row
        "form": form,
        "others": len(output) - 1 if isinstance(output, (tuple, list)) else 0,
        "layer": block_number(call.module) if counts else None,
    }


def _as_long(given: torch.Tensor, hidden: torch.Tensor) -> bool:
    """Whether one is as many tokens as the other."""
    return given.shape[:-1] == hidden.shape[:-1] or (
        hidden.ndim == 2 < given.ndim and given.shape[:-1].numel() == len(hidden)
    )


@contextmanager
def emptied(root: nn.Module, places: Sequence[Place]) -> Iterator[None]:
    """Inside the context nothing is at these places."""
    paths = [place["path"] for place in places]
    held = [(p.rpartition("."), root.get_submodule(p)) for p in paths]
    take_out(root, places)
    try:
        yield
    finally:
        for (parent, _, name), module in held:
            setattr(root.get_submodule(parent), name, module)


def _within(path: str, parent: str) -> bool:
    return path == parent or path.startswith(f"{parent}.")


def _related(path: str, other: str) -> bool:
    return _within(path, other) or _within(other, path)


def _run(block: Call) -> torch.Tensor:
    return first_tensor(block.module(*block.args, **block.kwargs))


def _noise(hidden: torch.Tensor) -> torch.Tensor:
    return hidden + 1 + torch.arange(hidden.numel(), device=hidden.device).view(hidden.shape) % 7


@contextmanager
def _changed(changes: Mapping[nn.Module, object]) -> Iterator[None]:
    """Inside the context these modules return what a function makes of their hidden states."""

    def hook(change):
        def changed(_module, _args, output):
            hidden = first_tensor(output)
            floats = isinstance(hidden, torch.Tensor) and hidden.is_floating_point()
            return replace_first(output, change(hidden)) if floats else output

        return changed

    handles = [module.register_forward_hook(hook(change)) for module, change in changes.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
