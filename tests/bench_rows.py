"""What gradient rows cost: against a plain forward, one sample at a time, and torch.func, side by side in one
run.

    python -m tests.bench_rows [--only demo,llama,moe] [--repeats 7]

One thread. The actions of one model take turns and every ratio is of the same turn; the median over the turns
counts, of CPU time, and of wall time in brackets. Memory is what the graph keeps between forward and
backward, each storage once and no weights, and as a check the growth of the peak resident memory in a process
of its own. Prints each figure with its bar; exits with 1 when a bar is missed.

What was tried where the bars are missed. On the demo (64 wide, heads of 16) a third of the forward is
attention, whose backward is a kernel of 2 times the forward's time; matrix products double; norms, rotations
and activations touch memory that is no longer in the cache. Fused backwards written by hand for norm,
rotation and gated activation, all together, gained 4 %; gates without products 3 %, and blocks that add in
place refuse them; smaller pieces of the batch lost. None of that was kept. Samples one by one cost the same
products: on one thread that loop loses only what small operations cost, so the bar of a quarter needs a
device that a single sample leaves idle.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

from core.calibration.gradient_rows import gradient_rows, graph_bytes, made_up_ids
from core.model.load import LoadedModel, load_model, wrap
from core.model.memory import peak_bytes
from tests.bench import failed, figure, machine

BATCH, LENGTH = 16, 128
ROWS, SPARING, KEPT, ONE_BY_ONE = 2.5, 3.6, 0.25, 0.25  # bars
CLEAR = Path("/proc/self/clear_refs")


def random_llama() -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=512,
            intermediate_size=1408,
            num_hidden_layers=12,
            num_attention_heads=8,
            vocab_size=2048,
        )
    )


def random_moe() -> Qwen3MoeForCausalLM:
    config = Qwen3MoeConfig(
        hidden_size=128,
        intermediate_size=256,
        moe_intermediate_size=96,
        num_hidden_layers=8,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        num_experts=8,
        num_experts_per_tok=2,
        vocab_size=1024,
    )
    return Qwen3MoeForCausalLM(config)


MODELS: dict[str, tuple[str, Callable[[], LoadedModel]]] = {
    "demo": ("demo, 64 wide, 24 blocks", lambda: load_model("demo")),
    "llama": ("random Llama, 512 wide, 12 blocks", lambda: wrap(random_llama(), None, "random", None)),
    "moe": ("random Qwen3-MoE, 128 wide, 8 blocks", lambda: wrap(random_moe(), None, "random", None)),
}


def prepared(name: str) -> tuple[LoadedModel, torch.Tensor]:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    loaded = MODELS[name][1]()
    return loaded, made_up_ids(loaded, BATCH, LENGTH)


def vmapped_rows(loaded: LoadedModel, ids: torch.Tensor) -> torch.Tensor:
    """[B, N]: torch.func's own way to the same rows, vmap over samples of the gradient with respect to
    alpha.
    """

    def loss(alpha: torch.Tensor, sample: torch.Tensor) -> torch.Tensor:
        def scale(i: int):
            return lambda _m, _a, out: (
                (out[0] * alpha[i], *out[1:]) if isinstance(out, tuple) else out * alpha[i]
            )

        handles = [module.register_forward_hook(scale(i)) for i, _, module in loaded.branches()]
        try:
            logits = loaded.model(input_ids=sample[None], use_cache=False).logits[0, :-1]
            return F.cross_entropy(logits, sample[1:])
        finally:
            for handle in handles:
                handle.remove()

    return torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(torch.ones(len(loaded.blocks)), ids)


def no_vmap(loaded: LoadedModel, ids: torch.Tensor) -> str:
    """Why torch.func does not give the rows of this model; empty where it does."""
    rows, _, _ = gradient_rows(loaded, ids)
    try:
        apart = float((vmapped_rows(loaded, ids) - rows).norm() / rows.norm())
    except Exception as error:  # an operation without a batching rule, control flow on data
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0][:110]}"
    return "" if apart < 1e-4 else f"its rows are {apart:.1e} off"


def turns(actions: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[tuple[float, float]]]:
    """{action: (CPU, wall) seconds of each turn}, the actions one after the other in every turn; the first
    turn is not counted.
    """
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in actions}
    for turn in range(repeats + 1):
        for name, action in actions.items():
            cpu, wall = time.process_time(), time.perf_counter()
            action()
            spent = time.process_time() - cpu, time.perf_counter() - wall
            if turn:
                times[name].append(spent)
    return times


def peak_growth(name: str, checkpointed: bool) -> int:
    """Bytes by which the peak of resident memory grows over that of a forward, in this process."""
    loaded, ids = prepared(name)
    gradient_rows(loaded, ids[:1], checkpointed=checkpointed)
    with torch.no_grad():
        loaded.model(input_ids=ids, use_cache=False)
    CLEAR.write_text("5")  # the peak starts again from what is resident now
    before = peak_bytes()
    gradient_rows(loaded, ids, checkpointed=checkpointed)
    return peak_bytes() - before


def measured_apart(name: str, checkpointed: bool) -> int:
    """`peak_growth` of a fresh process."""
    command = [
        sys.executable,
        "-m",
        "tests.bench_rows",
        "--peak",
        name,
        *(["--checkpointed"] if checkpointed else []),
    ]
    return json.loads(
        subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    )


def bench(name: str, repeats: int) -> None:
    title = MODELS[name][0]
    loaded, ids = prepared(name)

    def forward():
        with torch.no_grad():
            loaded.model(input_ids=ids, use_cache=False)

    actions = {
        "forward": forward,
        "rows": lambda: gradient_rows(loaded, ids),
        "checkpointed": lambda: gradient_rows(loaded, ids, checkpointed=True),
        "one by one": lambda: [gradient_rows(loaded, sample[None]) for sample in ids],
    }
    why_not = no_vmap(loaded, ids)
    if not why_not:
        actions["vmap"] = lambda: vmapped_rows(loaded, ids)
    times = turns(actions, repeats)

    def ratio(what: str, over: str, bar: float | None) -> None:
        cpu, wall = (statistics.median(a[k] / b[k] for a, b in zip(times[what], times[over])) for k in (0, 1))
        figure(f"  {what} / {over}", cpu, bar, "x", f"({wall:.2f})")

    print(f"{title}, batch {BATCH} x {LENGTH}, {repeats} turns: CPU time (wall)")
    figure("  forward, CPU time", 1e3 * statistics.median(cpu for cpu, _ in times["forward"]), None, "ms")
    ratio("rows", "forward", ROWS)
    ratio("checkpointed", "forward", SPARING)
    ratio("rows", "one by one", ONE_BY_ONE)
    if why_not:
        print(f"  torch.func.vmap does not run on this model ({why_not})")
    else:
        ratio("rows", "vmap", None)
    plain, sparing = (BATCH * graph_bytes(loaded, LENGTH, on) for on in (False, True))
    figure("  kept for the backward", plain / 1e6, None, "MB")
    figure("  kept for the backward: checkpointed / plain", sparing / plain, KEPT, "x")
    if CLEAR.exists():
        plain, sparing = (measured_apart(name, on) for on in (False, True))
        figure("  growth of the peak resident memory", plain / 1e6, None, "MB")
        figure("  growth of the peak: checkpointed / plain", sparing / plain, None, "x")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(MODELS), help="comma-separated models")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--peak", choices=MODELS, help=argparse.SUPPRESS)  # in a process of its own
    parser.add_argument("--checkpointed", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak:
        print(peak_growth(args.peak, args.checkpointed))
        return 0
    print(machine())
    for name in args.only.split(","):
        bench(name, args.repeats)
    return failed()


if __name__ == "__main__":
    sys.exit(main())
