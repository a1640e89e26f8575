"""Parts of a model's study: each is made once and kept in a file of its own, so that a study goes on where it
was stopped, and several processes may each make a share of it at the same time.
"""

import json
import os
import platform
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from core.choose.study_parts import kept_part
from core.errors import InputError
from core.model.load import LoadedModel

_SHARE = re.compile(r"(\d{1,3})/(\d{1,3})")


@dataclass(frozen=True)
class Parts:
    """The parts in `folder`, of which this process makes every `of`-th, from number `share` on."""

    folder: Path
    share: int = 0
    of: int = 1

    def make(self, parts: Mapping[str, Callable[[], object]]) -> bool:
        """Make those of this process's share that are not there; whether all are there now."""
        for number, (name, make) in enumerate(parts.items()):
            if number % self.of == self.share:
                kept_part(self.folder / f"{name}.json", make)
        return all((self.folder / f"{name}.json").exists() for name in parts)

    def one(self, name: str, make: Callable[[], object]):
        """What a part has found, whoever asks for it."""
        return kept_part(self.folder / f"{name}.json", make)

    def read(self, kind: str) -> dict:
        """{name: what it has found} of the parts whose names begin with `kind`, a minus behind it; the
        numbers in their names count.
        """
        found = sorted(self.folder.glob(f"{kind}-*.json"), key=lambda file: _natural(file.stem))
        return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in found}


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(piece), "") if piece.isdigit() else (-1, piece) for piece in re.split(r"(\d+)", name)]


def read_share(text: str) -> tuple[int, int]:
    """(which, of how many) of "1/8", the first is 1. Errors: InputError."""
    match = _SHARE.fullmatch(text.strip())
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise InputError(f"{text[:20]!r} is no share of the work; write 1/8 to 8/8 for eight processes.")
    return int(match[1]) - 1, int(match[2])


def machine_of(loaded: LoadedModel) -> str:
    """Where a model computes and in what, for a reader: "AMD EPYC, 2 cores, torch 2.13.0, float32"."""
    if loaded.device.type == "cuda":
        where = torch.cuda.get_device_name(loaded.device)
    else:
        where = f"{_processor()}, {os.cpu_count()} cores"
    dtype = str(next(loaded.model.parameters()).dtype).removeprefix("torch.")
    return f"{where}, torch {torch.__version__}, {dtype}"


def _processor() -> str:
    """What the system calls its processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def written(file: Path, content: object) -> None:
    """A JSON file in one line, whole or not at all."""
    staging = file.with_suffix(".part")
    staging.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")
    os.replace(staging, file)
