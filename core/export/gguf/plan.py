"""What a GGUF file says of its blocks, and what it must say once some are gone. Loads no torch.

llama.cpp's loaders know more than a file says: periods of attention (core.weights.gguf_patterns), and, for
two architectures, how attention is scaled, by the number of blocks alone. Whatever a file without these
blocks could not say is refused.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gguf import GGUFValueType

from core.errors import InputError
from core.ising.states import check_blocks
from core.weights.gguf_header import Header, read_array
from core.weights.gguf_patterns import PATTERNS, full_attention, periodic

# architectures of which it is known what belongs to a block, and whose files transformers reads, so that they
# can be proved. Left out: t5, whose first blocks hold what all share, and gemma4, whose blocks share keys
_ALIKE = (
    *("bloom", "falcon", "gpt2", "lfm2", "llama", "mamba", "minimax-m2", "nemotron", "phi3"),
    *("qwen2", "qwen2moe", "qwen3", "qwen3moe", "stablelm", "starcoder2"),
)
KNOWN = frozenset({*_ALIKE, *PATTERNS})
# arrays that have an entry of something else than a block
_NOT_OF_BLOCKS = ("rope.dimension_sections",)
_RECURRENT = ("qwen35", "qwen35moe")  # whose blocks without full attention keep no keys
# a number of blocks by which llama.cpp knows the largest model of a family, whose attention it then scales by
# the width of the model and not by that of a head
_SCALED_BY_COUNT = {"gemma2": 46, "gemma3": 62}
_COUNT, _DENSE, _DRAFTING = "block_count", "leading_dense_block_count", "nextn_predict_layers"


class Change(NamedTuple):
    """Of an entry: what it said (None: it was not there), what it must say; kind: of the numbers."""

    before: Any
    after: Any
    kind: int


class Plan(NamedTuple):
    """kept: blocks by their old numbers; blocks: of the stack before, drafting ones left out."""

    kept: list[int]
    blocks: int
    changes: dict[str, Change]


def plan_of(path: Path, header: Header, removed: Sequence[int], source: str) -> Plan:
    """How the header of a file (of the first part of a split one) changes without these blocks.

    header.tensors must hold the tensors of all parts. Errors: InputError for an architecture that is not
    known here, for damage, and for a removal that no file of this architecture can say.
    """
    arch = header.architecture
    if arch not in KNOWN:
        raise InputError(
            f"{source!r} is a GGUF file of the architecture {arch[:40]!r}, and what belongs to its blocks is "
            f"known only for {', '.join(sorted(KNOWN))}; llama-quantize --prune-layers takes blocks out of "
            "others, without a proof."
        )
    count, drafting = header.own(_COUNT), header.own(_DRAFTING) or 0
    if count != header.blocks or not isinstance(drafting, int) or not 0 <= drafting < count:
        raise InputError(
            f"The GGUF file {path.name!r} says that it has {count} blocks, {drafting} of them for drafting, "
            f"and holds {header.blocks}; take it anew from its origin."
        )
    blocks = count - drafting
    gone = set(check_blocks(removed, blocks))
    if not gone:
        raise InputError("No blocks to remove were given; name at least one, for example 3,7-9.")
    kept = [b for b in range(blocks) if b not in gone]
    changes = _arrays(path, header, kept, source) | _numbers(header, kept, gone)
    changes |= _pattern(path, header, kept)
    _check_count(header, blocks, len(kept), source)
    _check_kinds(path, header, kept, source)
    return Plan(kept, blocks, {f"{arch}.{name}": change for name, change in changes.items()})


def _arrays(path: Path, header: Header, kept: list[int], source: str) -> dict[str, Change]:
    """Every array with an entry for each block, without those that go."""
    changes, prefix = {}, f"{header.architecture}."
    for key, length in header.lengths.items():
        name = key.removeprefix(prefix)
        if name == key or length != header.blocks or name in _NOT_OF_BLOCKS:
            continue
        values = read_array(path, header, key)
        if values is None:
            raise InputError(
                f"{source!r} has a list of words for its blocks, {key[:60]!r}, which is not known here; "
                "export it as a Hugging Face folder."
            )
        changes[name] = Change(values, [values[b] for b in kept], header.spans[key].inner or 0)
    return changes


def _numbers(header: Header, kept: list[int], gone: set[int]) -> dict[str, Change]:
    """Counts of blocks; drafting ones, which predict from the whole stack, go with all that they have."""
    changes = {_COUNT: (header.blocks, len(kept))}
    if header.own(_DRAFTING):
        changes[_DRAFTING] = (header.own(_DRAFTING), 0)
    if dense := header.own(_DENSE):
        changes[_DENSE] = (dense, dense - sum(b < dense for b in gone))
    kinds = {name: header.spans[f"{header.architecture}.{name}"].kind for name in changes}
    return {name: Change(*pair, kinds[name]) for name, pair in changes.items() if pair[0] != pair[1]}


def _pattern(path: Path, header: Header, kept: list[int]) -> dict[str, Change]:
    """Which blocks have full attention, as a list where the usual period no longer says it."""
    full, pattern = full_attention(path, header), PATTERNS.get(header.architecture)
    if full is None or pattern is None or f"{header.architecture}.{pattern.array_key}" in header.lengths:
        return {}  # a list is one of the arrays
    left, said = [full[b] for b in kept], header.own(pattern.period_key)
    if left == periodic(said or pattern.period, len(left)):
        return {}
    before = said if pattern.array_key == pattern.period_key else None
    return {pattern.array_key: Change(before, [not own for own in left], GGUFValueType.BOOL)}


def _check_count(header: Header, before: int, after: int, source: str) -> None:
    special = _SCALED_BY_COUNT.get(header.architecture)
    heads, width = header.own("attention.head_count"), header.own("embedding_length")
    if special not in (before, after) or (heads and width // heads == header.own("attention.key_length")):
        return
    raise InputError(
        f"{source!r} has {before} blocks and would have {after}, and llama.cpp knows by {special} blocks of "
        f"{header.architecture} how attention is scaled; remove another number of blocks, or export a "
        "Hugging Face folder."
    )


def _check_kinds(path: Path, header: Header, kept: list[int], source: str) -> None:
    """llama.cpp asks for a block of each kind where an architecture has two: one without full attention, or
    it ends itself; and of a hybrid one with attention.
    """
    full = full_attention(path, header)
    if header.architecture == "lfm2":
        heads = read_array(path, header, "lfm2.attention.head_count_kv")
        full = [bool(count) for count in heads] if heads else None
    if full is None:
        return
    hybrid = header.architecture not in ("gemma2", "gemma3")
    for kind, has in (("with", full), ("without", [not own for own in full])):
        if any(has) and not any(has[b] for b in kept) and (hybrid or kind == "without"):
            raise InputError(
                f"Without these blocks {source!r} has none left {kind} full attention, and llama.cpp could "
                f"not run it; keep one of the blocks {[b for b, own in enumerate(has) if own]}."
            )


def cached_numbers(path: Path, header: Header) -> list[int]:
    """How many numbers of keys and values each block keeps of a token; 0 of a recurrent one."""
    heads, blocks = header.own("attention.head_count") or 0, header.blocks
    own = read_array(path, header, f"{header.architecture}.attention.head_count_kv")
    kv = own or [header.values.get(f"{header.architecture}.attention.head_count_kv", heads)] * blocks
    usual = header.own("embedding_length") // heads if heads else 0
    width = sum(header.own(f"attention.{name}_length") or usual for name in ("key", "value"))
    full = full_attention(path, header) if header.architecture in _RECURRENT else None
    return [kv[b] * width * has for b, has in enumerate(full or [True] * blocks)]
