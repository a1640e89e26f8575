"""What a real vocabulary costs: rows against a plain forward, memory above the weights, single removals.

    python -m tests.bench_vocabulary [--model NAME] [--repeats 5]

The model is SmolLM2-135M-Instruct (`smollm2`) where it can be had, else a random Llama of its shape: 30
blocks, 576 wide, 49 152 tokens. One thread; the actions take turns and every ratio is of the same turn, of
CPU time (and of wall time in brackets). Memory is the growth of the peak resident memory over what is
resident once the weights are read, each task in a process of its own, 128 tokens a sequence. Prints each
figure with its bar; exits with 1 when a bar is missed.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from core.calibration.gradient_rows import at_once, gradient_rows, made_up_ids
from core.errors import InputError
from core.measure.evaluation import sequence_losses
from core.measure.state_losses import Forwards, open_forwards, singles_order
from core.model.gates import gated
from core.model.load import LoadedModel, load_model, wrap
from core.model.losses import sample_losses
from core.model.memory import peak_bytes
from core.texts import Sequences
from tests.bench import failed, figure, machine
from tests.bench_rows import CLEAR, turns

BATCH, LENGTH = 16, 128
ROWS, MEMORY, ROWS_APART, LOSS_APART = 2.5, 1.5, 2e-6, 1e-5  # bars: forwards, GB, of the norm, nats
SHAPE = dict(
    hidden_size=576,
    intermediate_size=1536,
    num_hidden_layers=30,
    num_attention_heads=9,
    num_key_value_heads=3,
    vocab_size=49152,
    max_position_embeddings=8192,
    tie_word_embeddings=True,
)


def opened(name: str) -> LoadedModel:
    """The model of this name; where it cannot be had, a random one of SmolLM2's shape."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    try:
        return load_model(name, device="cpu")
    except InputError:
        return wrap(LlamaForCausalLM(LlamaConfig(**SHAPE)), None, "random", None)


def made_up(loaded: LoadedModel, count: int) -> Sequences:
    index = np.arange(count)
    ids = made_up_ids(loaded, count, LENGTH).numpy()
    return Sequences(ids, index, np.zeros_like(index), ("made up",), "choose", "made up", "", count, "none")


def rows(loaded: LoadedModel, ids: torch.Tensor, sampled: bool = False) -> None:
    """As core.calibration.calibrate does: as many sequences at once as memory holds."""
    for part in ids.split(at_once(loaded, *ids.shape)):
        uniforms = torch.rand(part.shape, dtype=torch.float64) if sampled else None
        gradient_rows(loaded, part, sampled_uniforms=uniforms)


def learning(loaded: LoadedModel) -> None:
    """What learning does on 32 sequences, until more hidden states are there than are kept."""
    meter = open_forwards(loaded, made_up(loaded, 2 * BATCH), keep=False)
    block = 0
    meter.measure((), 0)
    while len(meter.prefixes) < meter.room and block < meter.blocks - 1:
        meter.measure((block,), 0)
        block += 1
    meter.measure((1, 3), len(meter.chunks) - 1)


TASKS: dict[str, tuple[str, Callable[[LoadedModel], object]]] = {
    "evaluate": (
        "losses, 16 x 128",
        lambda loaded: sequence_losses(loaded, made_up(loaded, BATCH).ids, batch=BATCH),
    ),
    "rows": ("rows, 16 x 128", lambda loaded: rows(loaded, made_up_ids(loaded, BATCH, LENGTH))),
    "sampled": (
        "rows of sampled labels too, 16 x 128",
        lambda loaded: rows(loaded, made_up_ids(loaded, BATCH, LENGTH), True),
    ),
    "learn": ("learning, 32 x 128", learning),
}


def growth(name: str, task: str) -> int:
    """Bytes by which the peak of resident memory grows over the weights, in this process."""
    loaded = opened(name)
    assert loaded.head.pieces
    CLEAR.write_text("5")  # the peak starts again from what is resident now
    before = peak_bytes()
    TASKS[task][1](loaded)
    return peak_bytes() - before


def growth_apart(name: str, task: str) -> int:
    """`growth` of a fresh process."""
    command = [sys.executable, "-m", "tests.bench_vocabulary", "--model", name, "--peak", task]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout.splitlines()[-1])


def autograd(loaded: LoadedModel, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(rows, losses) of whole logits through torch's own cross entropy."""
    alpha = torch.ones(len(ids), len(loaded.blocks), requires_grad=True)
    with gated(loaded, alpha):
        logits = loaded.model(input_ids=ids, use_cache=False).logits
    losses = sample_losses(logits, ids)
    return torch.autograd.grad(losses.sum(), alpha)[0], losses.detach()


def ratios(loaded: LoadedModel, repeats: int) -> None:
    ids = made_up_ids(loaded, 4, LENGTH)
    uniforms = torch.rand(ids.shape, dtype=torch.float64)

    def forward():
        with torch.no_grad():
            loaded.model(input_ids=ids, use_cache=False)

    times = turns(
        {
            "forward": forward,
            "losses": lambda: sequence_losses(loaded, ids.numpy()),
            "rows": lambda: gradient_rows(loaded, ids),
            "rows of sampled labels too": lambda: gradient_rows(loaded, ids, sampled_uniforms=uniforms),
        },
        repeats,
    )
    figure("forward of 4 x 128, CPU time", statistics.median(cpu for cpu, _ in times["forward"]), None, "s")
    for what, bar in (("losses", None), ("rows", ROWS), ("rows of sampled labels too", None)):
        cpu, wall = (
            statistics.median(a[k] / b[k] for a, b in zip(times[what], times["forward"])) for k in (0, 1)
        )
        figure(f"{what} / forward", cpu, bar, "x", f"({wall:.2f})")
    found, losses, _ = gradient_rows(loaded, ids)
    expected, plain = autograd(loaded, ids)
    apart = float(((found - expected).norm(dim=1) / expected.norm(dim=1)).max())
    figure("rows against plain autograd, 1e-6 of the norm", 1e6 * apart, 1e6 * ROWS_APART, "")
    figure(
        "losses against whole logits, 1e-6 nats",
        1e6 * float((losses - plain).abs().max()),
        1e6 * LOSS_APART,
        "",
    )


def singles(loaded: LoadedModel) -> None:
    """All single removals on 4 sequences, against as many whole forwards: executed blocks and CPU time."""
    sequences = made_up(loaded, 4)
    meter: Forwards = open_forwards(loaded, sequences, keep=False, memory=0)
    began = time.process_time()
    for state in singles_order(meter.units):
        meter.whole(state)
    shared = time.process_time() - began
    began = time.process_time()
    sequence_losses(loaded, sequences.ids)
    one = time.process_time() - began
    bar = meter.blocks / 2 + 1
    figure(f"all {meter.blocks} single removals, executed", meter.forwards, bar, "forwards")
    figure("the same in CPU time, heads and all", shared / one, None, "forwards")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smollm2", help="a model (default smollm2)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peak", choices=TASKS, help=argparse.SUPPRESS)  # in a process of its own
    args = parser.parse_args()
    if args.peak:
        print(growth(args.model, args.peak))
        return 0
    print(machine())
    loaded = opened(args.model)
    real = "random weights" if loaded.source == "random" else loaded.source
    tokens, weights = loaded.config.vocab_size, loaded.parameters() / 1e6
    print(f"{real}: {len(loaded.blocks)} blocks, {tokens} tokens, {weights:.0f} M weights")
    ratios(loaded, args.repeats)
    singles(loaded)
    del loaded
    if CLEAR.exists():
        for task, (title, _) in TASKS.items():
            figure(f"memory above the weights: {title}", growth_apart(args.model, task) / 1e9, MEMORY, "GB")
    return failed()


if __name__ == "__main__":
    sys.exit(main())
