"""Removal by replacement: the block before a cut takes over what the cut's blocks did. No training, and no
parameter more than plain removal leaves.

`LINEAR`, as ReplaceMe (arXiv 2505.02819): a least-squares map T of what the last branch of that block writes,
folded into the linear layer that writes it. `MERGE`, as LaCo (arXiv 2402.11187): theta + sum of (theta of a
removed block - theta), over all its weights.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from core.blocks.structure import first_tensor, probe_ids, recorded, replace_first
from core.errors import InputError
from core.heal.settings import LINEAR
from core.heal.teacher import Padded
from core.model.gates import closed
from core.model.load import LoadedModel
from core.model.surgery import check_removal, remove_blocks
from core.texts import Sequences

Report = Callable[[int, int, str], None]
_BATCH = 16
_EXACT, _EXACT_HALF = 1e-3, 0.1  # of a number that is found by experiment, in float32 and below
_RIDGE = 1e-6  # towards no change, of the mean square of what is mapped: for directions that no text has


def cuts(removed: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(first, last) of each run of neighbours among the removed blocks, the lowest first."""
    ordered = sorted(removed)
    starts = [b for b in ordered if b - 1 not in set(ordered)]
    ends = [b for b in ordered if b + 1 not in set(ordered)]
    return zip(starts, ends)


def replace_blocks(
    student: LoadedModel,
    teacher: LoadedModel,
    removed: Sequence[int],
    how: str,
    texts: Sequences,
    report: Report = lambda done, total, message: None,
) -> None:
    """Remove the blocks from the student, a whole copy of the teacher, the block before each cut taking over.

    how: LINEAR or MERGE; texts: what LINEAR is fitted on, against the teacher, cut by cut from below, so that
    a later map also mends what an earlier one left. Errors: InputError where it does not fold, with the
    reason, and as core.model.surgery.check_removal; the student is then as it was.
    """
    runs = list(cuts(check_removal(student, removed)))
    for first, last in runs:
        if not first:
            raise InputError(
                f"Block {first} is the first one, so no block before it could take over what "
                f"{_words(first, last)} did; choose another state, or plain removal with distillation."
            )
    if how == LINEAR:
        writers = [_writer(student, first - 1) for first, _ in runs]
        for done, ((first, last), (writer, taken)) in enumerate(zip(runs, writers)):
            report(done, len(runs), f"fitting a linear map for {_words(first, last)}")
            _fold(writer, _fitted(student, teacher, removed, (first, last), taken, Padded(texts)))
    else:
        for first, last in runs:
            _check_alike(student, first, last)
        for first, last in runs:
            _merge(student, first, last)
    report(len(runs), len(runs), "replaced")
    remove_blocks(student, removed)


def _words(first: int, last: int) -> str:
    return f"block {first}" if first == last else f"blocks {first}-{last}"


@torch.no_grad()
def _writer(loaded: LoadedModel, block: int) -> tuple[nn.Linear | Conv1D, float]:
    """(the linear layer whose output the last branch of a block writes, how much of that the residual stream
    takes). Errors: InputError where none is.
    """
    branch, behind = loaded.blocks[block].branches[-1], loaded.modules[block]
    module = behind.get_submodule(branch.path)
    parts = {f"{branch.path}.{path}".strip("."): part for path, part in module.named_modules()}
    with recorded({**parts, "": behind}) as calls:
        loaded.model(input_ids=probe_ids(loaded.model), use_cache=False)
    outputs = {call.path: first_tensor(call.output) for call in calls}
    written = outputs[branch.path]
    taken = _taken(loaded, module, behind, written, outputs[""])
    for call in calls:
        own, layer = first_tensor(call.output), call.module
        if isinstance(layer, (nn.Linear, Conv1D)) and torch.equal(own.flatten(), written.flatten()):
            if taken is not None:
                return layer, taken
    raise InputError(
        f"A linear map does not fold into block {block} of {loaded.source!r}: what its "
        f"{branch.kind} writes is not the output of one linear layer, but normalised, scaled, summed with "
        "another's or of several experts; choose the method 'merge', or distillation."
    )


def _taken(
    loaded: LoadedModel, branch: nn.Module, block: nn.Module, written: torch.Tensor, after: torch.Tensor
) -> float | None:
    """The number that what a branch has written is multiplied by before the residual stream behind the block
    takes it up: 1 of most types, residual_multiplier of Granite; None where it is no such number.
    """
    more = float(after.float().norm() / written.float().norm())  # to be seen beside what is on the stream
    louder = branch.register_forward_hook(
        lambda _module, _args, output: replace_first(output, first_tensor(output) * (1 + more))
    )
    with louder, recorded({"": block}) as calls:
        loaded.model(input_ids=probe_ids(loaded.model), use_cache=False)
    added = (first_tensor(calls[0].output).float() - after.float()).flatten()
    own = more * written.float().flatten()
    if len(added) != len(own):
        return None
    share = float(added @ own / (own @ own))
    exact = _EXACT if after.dtype == torch.float32 else _EXACT_HALF
    if not float((added - share * own).norm()) <= exact * float(added.norm()):
        return None
    return 1.0 if abs(share - 1) < exact else share


@torch.no_grad()
def _fitted(
    student: LoadedModel,
    teacher: LoadedModel,
    removed: Sequence[int],
    cut: tuple[int, int],
    taken: float,
    texts: Padded,
) -> torch.Tensor:
    """float64 [D, D], T of the least |written T + rest - wanted|: written, what the residual stream takes of
    what the last branch before the cut writes; rest, what else is on it there; wanted, the teacher's behind
    the cut.
    """
    first, last = cut
    before = student.modules[first - 1]
    branch = before.get_submodule(student.blocks[first - 1].branches[-1].path)
    behind = teacher.modules[last]
    size = student.config.hidden_size
    squares = torch.zeros(size, size, dtype=torch.float64)
    products = torch.zeros_like(squares)
    heads = student.head, teacher.head  # tried on a few tokens, before anything is recorded
    with closed(student, removed):
        for start in range(0, len(texts), _BATCH):
            ids, real = (t[start : start + _BATCH] for t in (texts.ids, texts.real))
            with recorded({"written": branch, "after": before}) as own:
                heads[0].hidden(ids.to(student.device))
            with recorded({"wanted": behind}) as theirs:
                heads[1].hidden(ids.to(teacher.device))
            seen = {call.path: _rows(call.output, real) for call in (*own, *theirs)}
            seen["written"] *= taken
            rest = seen["after"] - seen["written"]
            squares += seen["written"].T @ seen["written"]
            products += seen["written"].T @ (seen["wanted"] - rest)
    ridge = _RIDGE * squares.diagonal().mean() * torch.eye(size, dtype=torch.float64)
    return torch.linalg.solve(squares + ridge, products + ridge)


def _rows(output, real: torch.Tensor) -> torch.Tensor:
    """float64 [n, D]: the hidden states of the real tokens."""
    hidden = first_tensor(output)
    return hidden.reshape(-1, hidden.shape[-1]).cpu()[real.flatten()].double()


@torch.no_grad()
def _fold(writer: nn.Linear | Conv1D, T: torch.Tensor) -> None:
    """The layer's output times T [D, D], by its own weights."""
    weight = writer.weight.double().cpu()
    folded = T.T @ weight if isinstance(writer, nn.Linear) else weight @ T
    writer.weight.copy_(folded)
    if writer.bias is not None:
        writer.bias.copy_(writer.bias.double().cpu() @ T)


def _check_alike(loaded: LoadedModel, first: int, last: int) -> None:
    """Errors: InputError where the blocks of a cut have not the weights of the one before."""
    shapes = [
        {name: p.shape for name, p in loaded.modules[b].named_parameters()}
        for b in range(first - 1, last + 1)
    ]
    for block, own in zip(range(first, last + 1), shapes[1:]):
        if own != shapes[0]:
            raise InputError(
                f"Block {block} of {loaded.source!r} is not built as block {first - 1}, which its weights "
                "would be merged into; choose the method 'linear', or distillation."
            )


@torch.no_grad()
def _merge(loaded: LoadedModel, first: int, last: int) -> None:
    """Block first - 1 with the differences of the cut's blocks to it added."""
    others = [dict(loaded.modules[b].named_parameters()) for b in range(first, last + 1)]
    for name, p in loaded.modules[first - 1].named_parameters():
        own = p.detach().clone()
        for other in others:
            p.add_(other[name].to(p.device) - own)
