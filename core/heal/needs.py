"""What a healing takes in memory and on disk, told before it begins. Loads no torch."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from core.errors import InputError
from core.heal.settings import KL, LORA, SEAMS, Settings
from core.weights.gguf_header import read_header

FLOAT = 4  # bytes
_PIECE = 256  # tokens whose logits exist at once: core.model.losses.TOKENS
_LOGITS = 6  # float32 copies of a piece's logits at once: both models', their logarithms, gradients
STATES_ROOM = 2 << 30  # bytes that kept hidden states of the original may take


@dataclass(frozen=True)
class Sizes:
    """Of a model and of what a state leaves of it: parameters and shapes."""

    teacher: int
    kept: tuple[int, ...]  # parameters of each kept block
    rest: int  # of what is no block
    hidden: int
    vocabulary: int

    @property
    def student(self) -> int:
        """Parameters that are left."""
        return sum(self.kept) + self.rest


@dataclass(frozen=True)
class Needs:
    """Bytes: memory at its peak, disk while it trains, of which states are kept hidden states; trained:
    parameters that learn.
    """

    memory: int
    disk: int
    states: int
    trained: int


def seams(removed: Sequence[int], blocks: int) -> list[int]:
    """Numbers, in the pruned model, of the blocks beside each cut; removed: of the `blocks` that there were.

    Where a cut is at an end of the model only the block on its other side is there.
    """
    gone = set(removed)
    kept = [b for b in range(blocks) if b not in gone]
    return [i for i, b in enumerate(kept) if b - 1 in gone or b + 1 in gone]


def widths_of(place: Path) -> tuple[int, int] | None:
    """(hidden size, words in the vocabulary) of a folder with a config or of a GGUF file; None where neither
    says them.
    """
    try:
        if place.is_file():
            header = read_header(place)
            named = {key.rpartition(".")[2]: value for key, value in header.values.items()}
            return named["embedding_length"], header.lengths["tokenizer.ggml.tokens"]
        config = json.loads((place / "config.json").read_text(encoding="utf-8"))
        config = config.get("text_config", config)
        hidden = next(config[n] for n in ("hidden_size", "n_embd", "d_model") if n in config)
        return hidden, config["vocab_size"]
    except (OSError, ValueError, KeyError, StopIteration):
        return None


def needs_of_state(
    own: Sequence[int],
    parameters: int,
    hidden: int,
    vocabulary: int,
    parts: Sequence[Sequence[int]],
    settings: Settings,
    length: int,
    sequences: int,
    exported: int = 0,
    lost: Mapping[int, int] | None = None,
) -> Needs:
    """What it takes to heal a state, in its most demanding round.

    own: parameters of each block of the model; parameters: of all of it; parts: the blocks that each round
    removes, a single one of a state that goes at once; lost: {block that stays: parameters of what goes of
    it}; the rest as `needs`.
    """
    found: list[Needs] = []
    gone: list[int] = []
    for part in parts:
        gone = [*gone, *part]
        kept = tuple(p - (lost or {}).get(b, 0) for b, p in enumerate(own) if b not in gone)
        sizes = Sizes(parameters, kept, parameters - sum(own), hidden, vocabulary)
        beside = seams(gone, len(own))
        found.append(needs(sizes, settings, beside, length, sequences, exported, len(parts)))
    return Needs(*(max(values) for values in zip(*map(astuple, found))))


def needs(
    sizes: Sizes,
    settings: Settings,
    seam_blocks: list[int],
    length: int,
    sequences: int,
    exported: int = 0,
    rounds: int = 1,
) -> Needs:
    """What a healing on `sequences` of `length` tokens takes, on the CPU in float32; within a factor of 1.5
    of what was measured (tests/heal/test_needs.py).

    seam_blocks: numbers of the kept blocks beside cuts (`seams`); exported: bytes of the
    checkpoint that is written in the end; rounds: of which each keeps its best weights. Of a block a token
    leaves about 8 hidden states and what its matrices put out for the backward; nothing is kept below the
    lowest block that learns.
    """
    depth = len(sizes.kept)
    trained, reached = {
        KL: (sizes.student, depth),
        # of a matrix a x b rank (a + b), at most 2 rank ab / the smaller side
        LORA: (2 * settings.rank * sum(sizes.kept) // sizes.hidden, depth),
        SEAMS: (sum(sizes.kept[b] for b in seam_blocks), depth - min(seam_blocks, default=depth)),
    }.get(settings.method, (0, 0))
    tokens = settings.batch * length
    of_block = 8 * sizes.hidden + 1.4 * max(sizes.kept, default=0) / sizes.hidden
    inside = int(tokens * reached * of_block) * FLOAT
    logits = min(_PIECE, tokens) * sizes.vocabulary * FLOAT * _LOGITS
    weights = (sizes.teacher + sizes.student) * FLOAT
    states = sequences * length * sizes.hidden * FLOAT if settings.trains else 0
    states = states if states <= STATES_ROOM else 0
    memory = weights + 3 * trained * FLOAT + inside + logits + (1 << 28)  # Python and its libraries
    if settings.method == LORA:
        memory += trained * FLOAT
    # checkpoints of weights and AdamW's two moments, the third of which is written before the first goes, and
    # the best weights
    disk = (9 + rounds) * trained * FLOAT + states + exported
    return Needs(memory, disk, states, trained)


def check_room(found: Needs, loaded: int, free: int | None, folder: Path) -> None:
    """Errors: InputError where the memory that is free (None: not known) or the disk of `folder` does not
    hold it; loaded: bytes of the needed memory that are taken already. What lies in the folder is this
    healing's own, of before it was killed.
    """
    if free is not None and found.memory - loaded > free:
        raise InputError(
            f"Healing takes {found.memory / 1e9:.1f} GB of memory and {(free + loaded) / 1e9:.1f} GB are "
            "free for it; choose the method 'seams' or 'lora', a smaller batch, or shorter sequences."
        )
    own = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    room = shutil.disk_usage(folder).free + own
    if found.disk > room:
        raise InputError(
            f"Healing takes {found.disk / 1e9:.1f} GB of disk and {room / 1e9:.1f} GB are free at "
            f"{str(folder)!r}; free some, or set BLOCKSCAPE_HOME to a larger disk."
        )
