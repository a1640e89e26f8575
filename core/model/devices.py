"""Where a model's weights go and in which type: decided from numbers alone, before any weight is read.

On the CPU always float32: half precision is slow there and rounds the rows. On GPUs bf16 and fp16
stay as stored; a model that is larger than one GPU is spread over all of them, and over the CPU's
memory last (accelerate's device_map="auto").
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from core.errors import InputError
from core.ranks import launched

ROOM = 0.8  # of a GPU's free memory that weights may take; the rest is for activations
Asked = torch.dtype | Literal["auto"] | None  # of a type: "auto" is the stored one
_HALF = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Placement:
    """`from_pretrained` takes these three as they are."""

    dtype: torch.dtype
    device_map: dict[str, int] | str | None  # None: the CPU
    max_memory: dict[int | str, int] | None = None  # bytes that weights may take, by GPU number and "cpu"


def place(
    parameters: int,
    stored: torch.dtype | None,
    source: str,
    *,
    gpus: Mapping[int, int] | None = None,
    spread: bool = True,
    memory: int | None = None,
    dtype: Asked = None,
) -> Placement:
    """The placement of a model of so many parameters, stored in a type (None: quantised, which is computed in
    bf16).

    gpus: bytes free on each GPU that this process may use, by number, its own first; none for the CPU.
    spread: whether what does not fit its own GPU may go to the others and to the CPU. memory: bytes of the
    CPU's that are free, None where unknown. dtype: what the caller asks for, "auto" for the stored one.
    Errors: InputError when the weights do not fit, and for another word than "auto".
    """
    if isinstance(dtype, str) and dtype != "auto":
        raise InputError(
            f"There is no type {str(dtype)!r} to load {source!r} in; give a torch.dtype, or 'auto'."
        )
    wanted = (stored or torch.bfloat16) if isinstance(dtype, str) else dtype
    if not gpus:
        computed = wanted or torch.float32
        _check(
            source,
            parameters * computed.itemsize,
            memory,
            computed,
            "memory",
            "use a machine with more, or a smaller model",
        )
        return Placement(computed, None)
    computed = wanted or (torch.bfloat16 if stored is None else stored if stored in _HALF else torch.float32)
    needed = parameters * computed.itemsize
    room: dict[int | str, int] = {number: int(ROOM * free) for number, free in gpus.items()}
    own = next(iter(gpus))
    if needed <= room[own]:
        return Placement(computed, {"": own})
    if not spread:
        _check(
            source,
            needed,
            room[own],
            computed,
            f"GPU {own}",
            "name no device and start one process, which spreads the model over all",
        )
    most = {**room, "cpu": int(ROOM * (memory or 0))}
    _check(
        source,
        needed,
        sum(most.values()),
        computed,
        "memory on the GPUs and the CPU",
        "use a machine with more, or a smaller model",
    )
    return Placement(computed, "auto", most)


def usable_gpus(
    device: str | None, count: int, current: int, environment: Mapping[str, str] = os.environ
) -> list[int]:
    """Numbers of the GPUs that this process may use, the one it prefers first; none for the CPU.

    device: "cpu", "cuda", "cuda:1", or None for what fits; of `count` GPUs here, `current` is the process's
    own. A rank uses only its own (core.ranks.joined), and where GPUs are fewer than ranks all use the CPU:
    their rows must be of one type.
    Errors: InputError for a device that is not here.
    """
    named = re.fullmatch(r"cuda(?::(\d+))?", device or "cuda")
    if device == "cpu" or (device is None and not count):
        return []
    if not named or int(named[1] or 0) >= count:
        raise InputError(
            f"There is no device {device!r} here: choose "
            f"{', '.join(['cpu', *(f'cuda:{i}' for i in range(count))])}."
        )
    if named[1]:
        return [int(named[1])]
    if launched(environment):
        local, ranks = int(environment.get("LOCAL_RANK", "0")), int(environment.get("LOCAL_WORLD_SIZE", "1"))
        return [local] if count >= ranks else []
    return [current, *(i for i in range(count) if i != current)] if device is None else [current]


def place_here(
    parameters: int, stored: torch.dtype | None, source: str, device: str | None, dtype: Asked
) -> Placement:
    """`place` on this machine, as it is now. Errors: as there, and for a device that is not here."""
    count = torch.cuda.device_count()
    numbers = usable_gpus(device, count, torch.cuda.current_device() if count else 0)
    gpus = {number: torch.cuda.mem_get_info(number)[0] for number in numbers}
    spread = device is None and not launched()
    return place(parameters, stored, source, gpus=gpus, spread=spread, memory=free_memory(), dtype=dtype)


def _check(source: str, needed: int, free: int | None, dtype: torch.dtype, where: str, remedy: str) -> None:
    if free is not None and needed > free:
        name = str(dtype).removeprefix("torch.")
        raise InputError(
            f"{source!r} takes {needed / 1e9:.1f} GB in {name} and {free / 1e9:.1f} GB of {where} are free "
            f"for it; {remedy}."
        )


def free_memory() -> int | None:
    """Bytes of the CPU's memory that programs can still have; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return None
