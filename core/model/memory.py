"""What a calibration will need in memory, before any weight is read.

The model is built of fake tensors, which have shapes and no numbers, and one sample runs forward:
what autograd would keep of it is counted, each tensor once.
"""

import ctypes
import resource
import sys
from pathlib import Path

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoConfig

from core.model.load import Reader, auto_class, with_attention
from core.model.losses import TOKENS
from core.weights.find import find_weights

FLOAT = 4  # bytes
# bytes at once for a logit: itself and its gradient; with sampled labels, that twice and two copies of the
# distribution in float64
LOGIT, SAMPLED_LOGIT = 8, 28
GRAPH = 1 << 29  # bytes of the CPU's memory that are kept between forward and backward: more gain no speed


def peak_bytes() -> int:
    """The most memory that this process has had so far."""
    try:  # what the program that started this one had counts in ru_maxrss, but not here
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration, ValueError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def give_back() -> None:
    """Hand freed memory back to the system, where the C library is glibc: it keeps aligned pieces, as tensors
    are, and does not always use them again.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)


def calibration_bytes(
    source: str, batch: int, length: int, sampled: bool = False, checkpointed: bool = False
) -> int | None:
    """Peak bytes of this process for gradient rows (core.calibration.gradient_rows) of `batch` sequences of
    `length` tokens, on the CPU in float32, with as many of them at once as GRAPH holds.

    Within a factor 1.5 of what was measured beyond what the process has had before (tests/test_memory.py),
    where glibc returns what is freed (MALLOC_MMAP_THRESHOLD_=1000000): by default it kept up to four times as
    much of a checkpointed GPT-2. None where the model cannot be built without numbers: its own code,
    quantised weights, or steps that depend on values, such as the choice of experts. Errors: InputError for a
    missing, damaged or unsupported model.
    """
    files = find_weights(source)
    reader = auto_class(files.config, source)
    if files.method:
        return None
    config = AutoConfig.from_pretrained(files.folder, local_files_only=True)
    text = config.get_text_config(decoder=True)
    try:
        kept = _kept_bytes(reader, config, length)
    except Exception:  # of many kinds: what a fake tensor cannot do
        return None
    hidden = length * text.hidden_size * FLOAT
    gates = 2 * text.num_hidden_layers * hidden  # the outputs of both branches of a block
    inside = kept + gates
    # inputs of all blocks, the inside of one; a graph used twice keeps what was computed again
    if checkpointed and not sampled:
        inside = text.num_hidden_layers * hidden + inside // text.num_hidden_layers
    together = held(batch, inside)
    logits = min(TOKENS, together * length) * text.vocab_size * (SAMPLED_LOGIT if sampled else LOGIT)
    return peak_bytes() + files.stored().values * FLOAT + together * inside + logits


def held(batch: int, sample: int, room: float = GRAPH) -> int:
    """How many of a batch's sequences are computed at once, of which each keeps so many bytes."""
    return max(1, min(batch, int(room // max(1, sample))))


def _kept_bytes(reader: Reader, config, length: int) -> int:
    """Bytes that one sample keeps between forward and backward, without gates."""
    kept: dict[int, torch.UntypedStorage] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage
        return tensor

    with FakeTensorMode():
        model = with_attention(
            lambda attention: reader.from_config(config, attn_implementation=attention, dtype=torch.float32)
        )
        model.eval().requires_grad_(False)
        weights = {p.untyped_storage()._cdata for p in model.parameters()}
        model.get_input_embeddings().register_forward_hook(
            lambda _module, _args, output: output.requires_grad_()
        )
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            # alive, so that storages are
            logits = model(input_ids=torch.zeros(1, length, dtype=torch.long), use_cache=False).logits
        assert logits.requires_grad
        return sum(storage.nbytes() for key, storage in kept.items() if key not in weights)
