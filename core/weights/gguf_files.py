"""A model in a GGUF file, or in the parts of a split one: read by transformers' loader, dequantised.

Config and tokenizer, which transformers makes from the file's header, are kept as a small folder of their own
(HOME/gguf/<digest>): reading 49,152 tokens takes seconds, and an export copies its tokenizer from there. Of a
small model the dequantised weights are kept there too: each job loads it anew, in a tenth of the time.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers
from transformers import AutoConfig, AutoTokenizer, GgufConfig
from transformers.integrations.gguf.gguf_config_mapping import GGUF_CONFIG_ARCHS
from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

from core.errors import InputError, first_line
from core.store import folders
from core.store.runs import file_sha256
from core.weights.files import Stored, WeightFiles
from core.weights.gguf_copy import parts_of, read_content, write_content
from core.weights.gguf_header import Damaged, Header, read_header
from core.weights.gguf_patterns import PATTERNS, full_attention

SUFFIX = ".gguf"
KEPT_BYTES = 2**30  # of dequantised weights; those of larger models are not worth the disk
_PLAIN = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}
# what transformers calls an architecture that ggml writes in another way
_WRITTEN = {
    "qwen2_moe": "qwen2moe",
    "qwen3_moe": "qwen3moe",
    "gpt_oss": "gpt-oss",
    "minimax_m2": "minimax-m2",
}
_BLOCK_COUNT = "block_count"
_FREQUENCIES = "rope_freqs.weight"


@dataclass(frozen=True, kw_only=True)
class GgufFiles(WeightFiles):
    """A model in GGUF. path: the whole file; header: what it says of itself, with its digest; parts: where it
    was split, all of them in order.
    """

    path: Path
    header: Header
    header_digest: str
    parts: tuple[Path, ...] = ()

    @property
    def place(self) -> Path:
        """The file."""
        return self.path

    @property
    def files(self) -> list[Path]:
        """The file as it was given, or its parts."""
        return list(self.parts) or [self.path]

    @property
    def method(self) -> None:
        """It is no method of safetensors."""

    def stored(self) -> Stored:
        """Read from the header."""
        sizes: dict[str, int] = {}
        for tensor in self.header.tensors.values():
            sizes[tensor.kind.name] = sizes.get(tensor.kind.name, 0) + tensor.numbers
        plain = all(name in _PLAIN for name in sizes)
        dtype = _PLAIN[max(sizes, key=sizes.__getitem__)] if plain and sizes else None
        return Stored(sum(sizes.values()), dtype, self.bytes)

    def written(self) -> torch.dtype:
        """Their own; of quantised ones float32: no half precision holds what they stand for exactly."""
        return self.stored().dtype or torch.float32

    @property
    def _kept(self) -> Path | None:
        """The folder of the dequantised weights, which a first load writes; None for too large a model."""
        if self.stored().values * torch.float32.itemsize > KEPT_BYTES:
            return None  # and its file is not hashed for it
        return self.folder / "float32" / hashlib.sha256("".join(self._weights).encode()).hexdigest()[:32]

    def block_bytes(self) -> list[int]:
        """Bytes of each block's tensors in the file."""
        found = [0] * self.header.blocks
        for name, tensor in self.header.tensors.items():
            if name.startswith("blk."):
                found[int(name.split(".")[1])] += tensor.bytes
        return found

    def arguments(self) -> dict[str, Any]:
        """What from_pretrained is told: weights become plain matrices, no kernel is fetched."""
        if (kept := self._kept) and kept.is_dir():
            return {"pretrained_model_name_or_path": kept, "use_safetensors": True}
        return {
            # not the file's own folder: what else lies there is none of this model
            "pretrained_model_name_or_path": self.folder,
            "gguf_file": str(self.path),
            "config": AutoConfig.from_pretrained(self.folder, local_files_only=True),
            "quantization_config": GgufConfig(dequantize=True),
        }

    def finish(self, model: Any) -> Any:
        """The model without the mark of its file: it is a plain one now."""
        model.config.__dict__.pop("quantization_config", None)
        on_cpu = all(p.device.type == "cpu" and p.dtype == torch.float32 for p in model.parameters())
        if on_cpu and (kept := self._kept) and not kept.is_dir():
            with suppress(OSError):  # no space: the next load takes its time too
                _whole(kept, model.save_pretrained)
        return model

    def digest(self) -> dict[str, str | list[str]]:
        """SHA-256 of the header and of the whole: the same by whatever name or path it is reached."""
        return {"config": self.header_digest, "weights": list(self._weights)}

    @cached_property
    def _weights(self) -> tuple[str, ...]:
        return tuple(sorted(map(file_sha256, self.files)))


def open_gguf(path: Path, source: str) -> GgufFiles:
    """The model in a file, or in the split files that `path` is one of.

    Errors: InputError for what is no whole GGUF file of a kind that transformers reads.
    """
    parts = parts_of(path, source)
    whole = _joined(parts, source) if parts else path.absolute()
    header = _header(whole, source)
    digest = _digest(whole, header)
    told_apart = "-2" if header.architecture in PATTERNS else ""  # earlier ones went by the usual pattern
    folder = folders.home() / "gguf" / f"{digest[:32]}-{transformers.__version__}{told_apart}"
    if not folder.is_dir():
        _describe(whole, header, folder, source)
    return GgufFiles(source, folder, path=whole, header=header, header_digest=digest, parts=tuple(parts))


def _header(path: Path, source: str) -> Header:
    """Errors: InputError for a file that is damaged, or that the loader does not know."""
    header = _read(path, source)
    if unknown := sorted({t.kind for t in header.tensors.values()} - set(_quantisations())):
        raise InputError(
            f"{source!r} has tensors of the GGUF type {unknown[0].name}, which cannot be turned into plain "
            f"numbers here; these can: {', '.join(kind.name for kind in _quantisations())}."
        )
    known, named = header.architecture in architectures(), header.architecture[:40]
    if not known:
        raise InputError(
            f"{source!r} is a GGUF file of the architecture {named!r}, which transformers "
            f"{transformers.__version__} does not read; it reads {', '.join(architectures())}."
        )
    claimed = header.values.get(f"{header.architecture}.{_BLOCK_COUNT}")
    if claimed != header.blocks:
        raise _unreadable(source, path, f"says that it has {claimed} blocks and holds {header.blocks}")
    return header


def _read(path: Path, source: str) -> Header:
    """Errors: InputError for a file that is damaged."""
    try:
        return read_header(path)
    except Damaged as error:
        raise _unreadable(source, path, str(error)) from error
    except (OSError, ValueError) as error:
        raise _unreadable(source, path, f"cannot be read ({first_line(error, 100)})") from error


def _unreadable(source: str, path: Path, why: str) -> InputError:
    return InputError(f"The GGUF file {path.name!r} of {source!r} {why}; take it anew from its origin.")


def architectures() -> list[str]:
    """Of GGUF files that transformers reads, as the files name them."""
    known = {*GGUF_SUPPORTED_ARCHITECTURES, *GGUF_CONFIG_ARCHS} - {"general", "tokenizer"}
    return sorted(_WRITTEN.get(name, name) for name in known)


@cache
def _quantisations() -> list[gguf.GGMLQuantizationType]:
    """Types of tensors that the package gguf turns into numbers."""
    found = []
    for kind in gguf.GGMLQuantizationType:
        _, held = gguf.GGML_QUANT_SIZES[kind]
        try:
            gguf.dequantize(np.zeros((1, held), dtype=np.uint8), kind)
        except (NotImplementedError, ValueError, KeyError):
            continue
        found.append(kind)
    return found


def _digest(path: Path, header: Header) -> str:
    with open(path, "rb") as file:
        return hashlib.sha256(file.read(header.size)).hexdigest()


def _describe(path: Path, header: Header, folder: Path, source: str) -> None:
    """Writes config and tokenizer of a file into a folder, whole or not at all. Errors: InputError."""

    def write(staging: Path) -> None:
        config = AutoConfig.from_pretrained(staging, gguf_file=str(path))
        _scale_positions(config, path, header)
        _tell_blocks_apart(config, path, header)
        config.save_pretrained(staging)
        AutoTokenizer.from_pretrained(staging, gguf_file=str(path)).save_pretrained(staging)

    try:
        _whole(folder, write)
    except Exception as error:  # transformers and tokenizers have one for each of their assumptions
        raise _unreadable(
            source, path, f"has no config or tokenizer to read ({first_line(error, 120)})"
        ) from error


def _scale_positions(config: Any, path: Path, header: Header) -> None:
    """Rotary positions as the file scales them, which transformers' loader mostly passes over:
    without this a Llama 3.1 would be another model.

    rope_freqs.weight divides each frequency, as longrope's factors do; rope.scaling.* are linear or yarn.
    """
    rope = getattr(config, "rope_parameters", None)
    if not rope or rope.get("rope_type", "default") != "default" or "rope_theta" not in rope:
        return
    prefix = f"{header.architecture}.rope.scaling."
    asked = {key.removeprefix(prefix): v for key, v in header.values.items() if key.startswith(prefix)}
    length = asked.get("original_context_length") or config.max_position_embeddings
    if factors := header.tensors.get(_FREQUENCIES):
        start = header.size + factors.start
        divide = np.fromfile(path, dtype="<f4", count=int(np.prod(factors.shape)), offset=start).tolist()
        scaled = {"rope_type": "longrope", "short_factor": divide, "long_factor": divide, "factor": 1.0}
        rope |= {**scaled, "attention_factor": 1.0, "original_max_position_embeddings": length}
    elif asked.get("type") in ("linear", "yarn"):
        rope |= {"rope_type": asked["type"], "factor": asked.get("factor", 1.0)}
        if asked["type"] == "yarn":
            rope |= {"original_max_position_embeddings": length}
    elif asked.get("type") not in (None, "none"):
        raise ValueError(f"its positions are scaled in a way not known here, {str(asked['type'])[:20]!r}")


def _tell_blocks_apart(config: Any, path: Path, header: Header) -> None:
    """Which blocks have full attention, where the file has another pattern than the type's usual one, which
    transformers' loader passes over.
    """
    full = full_attention(path, header)
    if full is not None and len(getattr(config, "layer_types", None) or ()) == len(full):
        other = PATTERNS[header.architecture].other
        config.layer_types = ["full_attention" if own else other for own in full]


def _whole(folder: Path, write: Callable[[Path], None]) -> None:
    """A folder as `write` fills it, whole or absent, whoever else writes it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".", dir=folder.parent))
    try:
        write(staging)
        if not folder.exists():
            os.replace(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


# files that were split


def _joined(parts: list[Path], source: str) -> Path:
    """The parts as one file, which transformers needs: kept in HOME/gguf, made once for as long as none is
    written anew.
    """
    known = [(_digest(p, _read(p, source)), p.stat().st_size, p.stat().st_mtime_ns) for p in parts]
    digest = hashlib.sha256(repr(known).encode()).hexdigest()[:32]
    folder = folders.home() / "gguf" / f"{digest}-joined"
    if not folder.is_dir():
        needed = sum(part.stat().st_size for part in parts)
        folder.parent.mkdir(parents=True, exist_ok=True)
        if (free := shutil.disk_usage(folder.parent).free) < needed:
            raise InputError(
                f"The split GGUF file {source!r} is joined before it is read, which takes {needed / 1e9:.1f} "
                f"GB in {str(folder.parent)!r} and {free / 1e9:.1f} GB are free; free some, or join it "
                "elsewhere."
            )
        try:
            _whole(folder, lambda staging: _join(parts, staging / "joined.gguf"))
        except Damaged as error:
            raise _unreadable(source, parts[0], f"cannot be joined ({first_line(error, 100)})") from error
    return folder / "joined.gguf"


def _join(parts: list[Path], out: Path) -> None:
    """Writes the entries of the first part and the tensors of all, as they are."""
    content = read_content(parts)
    with open(out, "wb") as file:
        write_content(file, *content, lambda done, total, message: None)
