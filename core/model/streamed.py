"""Run a model whose weights stay on disk: a block at a time is in memory, in float32.

Of embeddings and the head rows are read as they are needed; what else is beside the blocks stays.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from core.model.head import forward_as
from core.model.load import LoadedModel
from core.model.memory import give_back
from core.model.skeleton import Skeleton

SMALL = 1 << 22  # values that may be here beside a block
Rows = Callable[[int, int], torch.Tensor]


@contextmanager
def streamed(skeleton: Skeleton) -> Iterator[LoadedModel]:
    """Inside the context the skeleton's model computes with its weights. Errors: those of reading them."""
    weights = _Weights(skeleton)
    model, blocks = skeleton.loaded.model, set(skeleton.loaded.modules)
    inside = {module for block in blocks for module in block.modules()}
    with ExitStack() as stack:
        stack.callback(lambda: weights.release(list(weights.held)))
        for path, module in model.named_modules():
            names = [f"{path}.{name}".lstrip(".") for name in _own(module)]
            if module in blocks:
                _bring(module, weights, [f"{path}.{name}" for name in _below(module)], stack)
            elif module not in inside and names:
                _beside_blocks(module, weights, path, names, stack)
        yield skeleton.loaded


def _beside_blocks(
    module: nn.Module, weights: "_Weights", path: str, names: list[str], stack: ExitStack
) -> None:
    """Weights that are no block's: small ones stay, of large plain ones rows are read as they are needed."""
    if sum(p.numel() for p in module._parameters.values() if p is not None) <= SMALL:
        weights.bring(names)
        return
    read = weights.rows(f"{path}.weight")
    if read and type(module) is nn.Linear:
        weights.bring([name for name in names if not name.endswith(".weight")])
        stack.enter_context(forward_as(module, lambda _: _product(module, read)))
    elif read and type(module) is nn.Embedding:
        stack.enter_context(forward_as(module, lambda _: _lookup(read)))
    else:
        _bring(module, weights, names, stack)


def _product(module: nn.Linear, rows: Rows) -> Callable[[torch.Tensor], torch.Tensor]:
    """x W^T + b, some rows of W at a time."""

    def forward(x: torch.Tensor) -> torch.Tensor:
        step = max(1, SMALL // module.in_features)
        last = module.out_features
        parts = (rows(at, min(at + step, last)) for at in range(0, last, step))
        found = torch.cat([x @ part.T for part in parts], dim=-1)
        return found if module.bias is None else found + module.bias

    return forward


def _lookup(rows: Rows) -> Callable[[torch.Tensor], torch.Tensor]:
    """The rows of these ids."""

    def forward(ids: torch.Tensor) -> torch.Tensor:
        found, at = ids.unique(return_inverse=True)
        return torch.cat([rows(i, i + 1) for i in found.tolist()])[at]

    return forward


def largest_held(skeleton: Skeleton) -> int:
    """Bytes that the weights take that are in memory at once, at most, as `streamed` brings them: a block in
    float32, or what is beside the blocks and no plain matrix.
    """
    loaded, plain = skeleton.loaded, (nn.Linear, nn.Embedding)
    sizes = [sum(p.numel() for p in module.parameters()) for module in loaded.modules]
    inside = {module for block in loaded.modules for module in block.modules()}
    for module in loaded.model.modules():
        if module not in inside and type(module) not in plain:
            sizes += [p.numel() for p in module._parameters.values() if p is not None]
    return 4 * max(sizes)


def _own(module: nn.Module) -> list[str]:
    return [
        name
        for entries in (module._parameters, module._buffers)
        for name, value in entries.items()
        if value is not None and name not in module._non_persistent_buffers_set
    ]


def _below(module: nn.Module) -> list[str]:
    return [f"{path}.{name}".lstrip(".") for path, own in module.named_modules() for name in _own(own)]


def _bring(module: nn.Module, weights: "_Weights", names: list[str], stack: ExitStack) -> None:
    """The weights of these names are there while the module is called."""
    before = module.register_forward_pre_hook(lambda *_: weights.bring(names))
    behind = module.register_forward_hook(lambda *_: weights.release(names), always_call=True)
    for handle in (before, behind):
        stack.callback(handle.remove)


class _Weights:
    """Puts weights from disk into a model, and zeros back."""

    def __init__(self, skeleton: Skeleton):
        self.skeleton, self.model = skeleton, skeleton.loaded.model
        self.names = skeleton.names
        self.held: dict[str, Any] = {}  # what was in the place of a weight that is here now
        self.files: dict[Path, Any] = {}
        self.sources: dict[str, list[tuple[str, str | None]]] = {}
        for name, home in skeleton.homes.items():
            self.sources.setdefault(home, []).append((name, self.names.home(name)[1]))
        self.group = {home: home for home in self.sources}  # by what a weight is made together with
        for home, parts in self.sources.items():
            if parts[0][1] is not None:
                made = self._converted(
                    home, lambda name: torch.empty(self._on_disk(name).shape, device="meta")
                )
                self.group.update(dict.fromkeys(made, home))
        self.tied = getattr(self.model, "all_tied_weights_keys", {})

    def bring(self, names: list[str]) -> None:
        """These weights are in the model; what is tied to another comes from there."""
        made: dict[str, torch.Tensor] = {}
        for name in names:
            source = name if name in self.group else self.tied.get(name, "")
            if source not in self.group:
                continue  # a buffer that no file has
            if source not in made:
                made |= self._made(self.group[source])
            self._put(name, made[source].float() if made[source].is_floating_point() else made[source])

    def release(self, names: list[str]) -> None:
        """Zeros, in no memory, are in the place of these weights."""
        for name in names:
            if name in self.held:
                module, own, entries = self._place(name)
                entries[own] = self.held.pop(name)
        give_back()

    def rows(self, name: str) -> Rows | None:
        """Reads rows of a weight, from one to another, in float32; None where it is not on disk as it is."""
        source = name if name in self.group else self.tied.get(name, "")
        parts = self.sources.get(source, [])
        if len(parts) != 1 or parts[0][1] is not None:
            return None
        part = self._file(parts[0][0]).get_slice(parts[0][0])
        return lambda begin, end: part[begin:end].float()

    def _put(self, name: str, value: torch.Tensor) -> None:
        module, own, entries = self._place(name)
        if name not in self.held:
            self.held[name] = entries[own]
        is_parameter = entries is module._parameters
        entries[own] = nn.Parameter(value, requires_grad=False) if is_parameter else value

    def _place(self, name: str) -> tuple[nn.Module, str, dict]:
        path, _, own = name.rpartition(".")
        module = self.model.get_submodule(path)
        return module, own, module._parameters if own in module._parameters else module._buffers

    def _made(self, home: str) -> dict[str, torch.Tensor]:
        parts = self.sources[home]
        return {home: self._read(parts[0][0])} if parts[0][1] is None else self._converted(home, self._read)

    def _converted(self, home: str, read: Callable[[str], Any]) -> dict[str, torch.Tensor]:
        """What transformers makes of the tensors of a home, by names in the model."""
        parts = self.sources[home]
        converter = deepcopy(next(c for c in self.names.converters if parts[0][1] in c.source_patterns))
        for name, pattern in parts:
            converter.add_tensor(home, name, str(pattern), read(name))
        made = converter.convert(home, model=self.model, config=self.model.config)
        return {name: value[0] if isinstance(value, list) else value for name, value in made.items()}

    def _on_disk(self, name: str):
        return self.skeleton.tensors[name]

    def _read(self, name: str) -> torch.Tensor:
        return self._file(name).get_tensor(name)

    def _file(self, name: str) -> Any:
        """The open file that a name is in."""
        path = self._on_disk(name).file
        if path not in self.files:
            self.files[path] = safe_open(path, framework="pt", backend="pread")
        return self.files[path]
