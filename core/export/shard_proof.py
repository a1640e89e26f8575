"""Prove a checkpoint that was written from files, without loading it: a process of its own.

`python -m core.export.shard_proof SOURCE FOLDER BLOCKS PROBE [--trust-remote-code]` prints what
`prove_by_shard` finds, as JSON.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from core.errors import InputError
from core.export.verify import compare, made_up_ids
from core.forms.names import LOGITS, TENSORS
from core.model.devices import free_memory
from core.model.gates import gated, removal
from core.model.load import LoadedModel, load_model
from core.model.skeleton import Skeleton, open_skeleton
from core.model.streamed import largest_held, streamed
from core.weights.shards import OnDisk

TOKENS = 2  # greedy ones, one of them behind cached ones: each reads all weights again
ROOM = 0.8  # of the free memory that a block may take


def prove_by_shard(
    source: str, folder: Path, removed: Sequence[int], probe: Path | None = None, remote_code: bool = False
) -> dict:
    """{problem: a sentence or None, difference: the largest of a logit or None, proof: of
    core.forms.names.PROOFS, tensors: how many were compared} of a folder that is `source` without these
    blocks.

    Its config must ask for just the names and shapes that are there, and each tensor must be the source's own
    bytes: that of the block with its number before, which transformers' names say, not the writer's. Then it
    is run, a block at a time in memory where that fits: its logits must be those of the source with these
    blocks gated off, and its greedy tokens the same with and without cache. probe: a file that these logits
    are left in, for another process. Errors: InputError.
    """
    before, after = open_skeleton(source, remote_code), open_skeleton(str(folder), remote_code)
    found = {"problem": None, "difference": None, "proof": TENSORS, "tensors": len(after.homes)}
    problem = _other_tensor(before, after, removed)
    if problem:
        return {**found, "problem": problem}
    free = free_memory()
    if before.quantised:
        ran = _ran_whole(source, folder, removed, remote_code)
    elif free is not None and largest_held(before) > ROOM * free:
        ran = None
    else:
        ran = _ran_by_block(before, after, removed, probe)
    return found if ran is None else {**found, **ran, "proof": LOGITS}


def _by_home(skeleton: Skeleton) -> dict[str, list[OnDisk]]:
    """{name in the model: what is on disk of it, in order}."""
    found: dict[str, list[OnDisk]] = {}
    for name, home in skeleton.homes.items():
        found.setdefault(home, []).append(skeleton.tensors[name])
    return found


def _other_tensor(before: Skeleton, after: Skeleton, removed: Sequence[int]) -> str | None:
    """What is not as it has to be, in words."""
    gone, files = set(removed), after.loaded.files
    count = len(before.loaded.blocks)
    kept = [b for b in range(count) if b not in gone]
    numbers = {b: b if files.partial else n for n, b in enumerate(kept)}
    expected: dict[str, list[OnDisk]] = {}
    for home, tensors in _by_home(before).items():
        block = before.block_of(home)
        if block is None:
            expected[home] = tensors
        elif block in numbers:
            expected[before.moved(home, numbers[block])] = tensors
    there = _by_home(after)
    if odd := sorted({*expected} ^ {*there}):
        return f"{len(odd)} tensors are missing or left over, the first {odd[0]}"
    for home, tensors in expected.items():
        own = there[home]
        if len(own) != len(tensors) or not all(a.same(b) for a, b in zip(tensors, own)):
            return f"{home} is not what the original has there"
    return None


@torch.no_grad()
def _gated(loaded: LoadedModel, removed: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """(tokens, the logits of the model with these blocks gated off)."""
    ids = made_up_ids(loaded.config.vocab_size, loaded.max_length)
    with gated(loaded, removal(loaded, removed)):
        return ids, loaded.model(input_ids=ids, use_cache=False).logits.float()


def _ran_by_block(before: Skeleton, after: Skeleton, removed: Sequence[int], probe: Path | None) -> dict:
    """What running both says, a block at a time in memory."""
    with streamed(before) as loaded:
        ids, expected = _gated(loaded, removed)
    if probe:
        np.savez(probe, ids=ids.numpy(), logits=expected.numpy())
    with streamed(after) as loaded:
        return compare(loaded.model, ids, expected, TOKENS)


def _ran_whole(source: str, folder: Path, removed: Sequence[int], remote_code: bool) -> dict | None:
    """What running both says, loaded as plain matrices; None where the original cannot be, or does not fit.
    Errors: InputError where only what was written cannot.
    """
    try:
        loaded = load_model(source, device="cpu", remote_code=remote_code, tokenizer=False)
    except InputError:
        return None
    ids, expected = _gated(loaded, removed)
    del loaded
    loaded = load_model(str(folder), device="cpu", remote_code=remote_code, tokenizer=False)
    return compare(loaded.model, ids, expected, TOKENS)


if __name__ == "__main__":
    try:
        blocks = [int(block) for block in sys.argv[3].split(",")]
        finding = prove_by_shard(
            sys.argv[1], Path(sys.argv[2]), blocks, Path(sys.argv[4]), "--trust-remote-code" in sys.argv[5:]
        )
    except (InputError, RuntimeError) as error:
        finding = {"problem": str(error).rstrip("."), "difference": None}
    print(json.dumps(finding))
