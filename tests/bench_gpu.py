"""Gradient rows at the scale of real models, on a CUDA device: rows a second, share of the device's peak,
memory.

    python -m tests.bench_gpu [--only llama,qwen,nemotron] [--length 512]
    python -m tests.bench_gpu --scale 64        the same code on shapes 64 times smaller, on the CPU if need
    be

Models have the shapes of the published ones and random weights, made in bfloat16 on the device (float32 on a
CPU). The batch is the one that core.calibration.gradient_rows measures. The peak is what one large matrix
product reaches in the same type on the same device. The products counted for a row are 2 operations a token
for every weight that a token meets, forward and again backward to the activations: those of attention scores
and of scans are left out, and of the second forward of checkpointed blocks too, so the share is a lower
bound; on small shapes it means little. Only what ran is printed.
"""

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, NemotronHConfig, PreTrainedConfig, Qwen3Config

from core.calibration.gradient_rows import gradient_rows, made_up_ids, measure_batch
from core.errors import InputError
from core.model.load import LoadedModel, wrap
from tests.bench import machine

PATTERN = "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME"  # Mamba, MoE, attention
SHAPES: dict[str, tuple[str, type[PreTrainedConfig], dict]] = {
    "llama": (
        "Llama-3.1-8B",
        LlamaConfig,
        dict(
            hidden_size=4096,
            intermediate_size=14336,
            num_hidden_layers=32,
            num_attention_heads=32,
            num_key_value_heads=8,
            head_dim=128,
            vocab_size=128256,
            max_position_embeddings=131072,
            tie_word_embeddings=False,
        ),
    ),
    "qwen": (
        "Qwen3-14B",
        Qwen3Config,
        dict(
            hidden_size=5120,
            intermediate_size=17408,
            num_hidden_layers=40,
            num_attention_heads=40,
            num_key_value_heads=8,
            head_dim=128,
            vocab_size=151936,
            max_position_embeddings=40960,
            tie_word_embeddings=False,
        ),
    ),
    "nemotron": (
        "Nemotron-3-Nano-30B-A3B",
        NemotronHConfig,
        dict(
            hidden_size=2688,
            intermediate_size=1856,
            num_attention_heads=32,
            num_key_value_heads=2,
            head_dim=128,
            vocab_size=131072,
            max_position_embeddings=262144,
            tie_word_embeddings=False,
            mamba_num_heads=64,
            mamba_head_dim=64,
            n_groups=8,
            ssm_state_size=128,
            chunk_size=128,
            n_routed_experts=128,
            num_experts_per_tok=6,
            moe_intermediate_size=1856,
            moe_shared_expert_intermediate_size=3712,
            routed_scaling_factor=2.5,
        ),
    ),
}
# what --scale divides, and how small that may get; what is not here stays
SMALLEST = dict(
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    vocab_size=256,
    mamba_num_heads=4,
    mamba_head_dim=8,
    n_groups=2,
    ssm_state_size=8,
    chunk_size=16,
    n_routed_experts=8,
    num_experts_per_tok=2,
    moe_intermediate_size=16,
    moe_shared_expert_intermediate_size=32,
)


def configured(name: str, scale: int) -> PreTrainedConfig:
    """The config of a shape, its sizes divided by `scale` down to the smallest that still work."""
    _, config, sizes = SHAPES[name]
    small = (
        dict(sizes)
        if scale == 1
        else {field: _divided(value, scale, SMALLEST.get(field)) for field, value in sizes.items()}
    )
    if config is NemotronHConfig:
        small["hybrid_override_pattern"] = PATTERN[: max(len("MEMEM*"), len(PATTERN) // scale)]
    return config(**small)


def _divided(value: float, scale: int, least: int | None) -> float:
    """A multiple of the least, so that heads still divide into groups and rows stay aligned."""
    return value if least is None else max(1, value // scale // least) * least


def built(name: str, scale: int, device: torch.device) -> LoadedModel:
    """A model of a shape with random weights, made where it will run."""
    torch.manual_seed(0)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    with device:
        model = AutoModelForCausalLM.from_config(
            configured(name, scale), dtype=dtype, attn_implementation="sdpa"
        )
    return wrap(model, None, SHAPES[name][0], None, dtype.itemsize)


def seconds(action: Callable[[], object], device: torch.device, repeats: int = 3) -> float:
    """Median wall time of some runs after a first one."""
    spent = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        action()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        spent.append(time.perf_counter() - began)
    return statistics.median(spent[1:])


def matmul_peak(device: torch.device, size: int, dtype: torch.dtype) -> float:
    """Operations a second of one product of [size, size] matrices, the best of a few rounds."""
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))

    def products():
        for _ in range(10):
            a @ b

    return max(10 * 2 * size**3 / seconds(products, device) for _ in range(3))


def operations(loaded: LoadedModel, length: int) -> int:
    """Of one row: 2 a token for each weight that it meets in the blocks and the head, forward and
    backward.
    """
    met = (
        sum(block.active_parameters for block in loaded.blocks)
        + loaded.model.get_output_embeddings().weight.numel()
    )
    return 2 * 2 * met * length


def bench(name: str, scale: int, length: int, device: torch.device, peak: float) -> None:
    """Prints a line a way of computing rows.

    Errors: InputError and torch.OutOfMemoryError where the model does not fit.
    """
    began = time.perf_counter()
    loaded = built(name, scale, device)
    print(
        f"{SHAPES[name][0]}-shaped{f', sizes / {scale}' if scale > 1 else ''}: "
        f"{loaded.parameters() / 1e9:.3g} billion weights in {loaded.model.dtype},"
        f" {len(loaded.blocks)} blocks, made in {time.perf_counter() - began:.1f} s",
        flush=True,
    )
    for checkpointed in (False, True):
        batch = measure_batch(loaded, length, False, checkpointed)
        ids = made_up_ids(loaded, batch, length)
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        took = seconds(partial(gradient_rows, loaded, ids, checkpointed=checkpointed), device)
        share = batch * operations(loaded, length) / took / peak
        memory = (
            f", peak memory {torch.cuda.max_memory_allocated(device) / 1e9:.1f} GB"
            if device.type == "cuda"
            else ""
        )
        print(
            f"  {'checkpointed' if checkpointed else 'rows':<13} batch {batch:3d} x {length}: "
            f"{batch / took:8.2f} rows a second,"
            f" at least {100 * share:.1f} % of the peak{memory}",
            flush=True,
        )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(SHAPES), help="comma-separated shapes")
    parser.add_argument("--length", type=int, default=512, help="tokens a sequence")
    parser.add_argument(
        "--scale", type=int, default=1, help="divide all sizes by this; from 2 on also without CUDA"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args(argv)
    device = torch.device(args.device)
    if device.type != "cuda" and args.scale == 1:
        print(
            "There is no CUDA device here, so nothing is measured at real scale; --scale 64 runs the same "
            "code on the CPU."
        )
        return 0
    print(f"{torch.cuda.get_device_name(device) if device.type == 'cuda' else 'CPU'}; {machine()}")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    size = max(256, 8192 // args.scale)
    peak = matmul_peak(device, size, dtype)
    print(
        f"peak: {peak / 1e12:.3g} tera-operations a second, a product of {size} x {size} matrices in {dtype}"
    )
    for name in args.only.split(","):
        try:
            bench(name, args.scale, args.length, device, peak)
        except (InputError, torch.OutOfMemoryError) as error:
            print(f"  not measured: {str(error).splitlines()[0]}")
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return 0


if __name__ == "__main__":
    sys.exit(main())
