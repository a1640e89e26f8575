"""Blocks removed from a checkpoint larger than one would load: memory, time, and the result of both ways.

    python -m tests.bench_shards [--gigabytes 3] [--keep FOLDER]

A random Llama in bf16, eight files, no tokenizer, is made in a temporary folder (with what is written of it
2.7 times its size on disk). Each step runs in a process of its own and tells its peak of resident memory, as
the system counts it (VmHWM), and of that what was there once everything was imported. Prints each figure with
its bar; exits with 1 when a bar is missed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig

from core.export.by_shard import plan_of, write_plan
from core.export.shard_proof import prove_by_shard
from core.model.load import LoadedModel
from core.model.memory import peak_bytes
from core.model.skeleton import open_skeleton
from core.model.surgery import remove_blocks
from core.store.runs import file_sha256
from tests.bench import failed, figure, machine

SHARDS, BLOCKS, WIDTH, INSIDE, VOCABULARY = 8, 30, 2048, 5632, 32000
BLOCK_VALUES = 2 * WIDTH * WIDTH + 2 * WIDTH * WIDTH // 2 + 3 * WIDTH * INSIDE
REMOVED = (3, 7, 8, 20, 28)
MEMORY = 1.5  # bar: of the largest file


def make(folder: Path, gigabytes: float) -> None:
    """The checkpoint, so many blocks that it has about this size; no more than a file of it in memory."""
    blocks = max(SHARDS + 1, round((gigabytes * 1e9 / 2 - 2 * VOCABULARY * WIDTH) / BLOCK_VALUES))
    config = LlamaConfig(
        hidden_size=WIDTH,
        intermediate_size=INSIDE,
        num_hidden_layers=blocks,
        num_attention_heads=16,
        num_key_value_heads=8,
        vocab_size=VOCABULARY,
        max_position_embeddings=4096,
        dtype="bfloat16",
        architectures=["LlamaForCausalLM"],
    )
    folder.mkdir(parents=True)
    config.save_pretrained(folder)
    with torch.device("meta"):
        shapes = {n: p.shape for n, p in AutoModelForCausalLM.from_config(config).named_parameters()}
    total = sum(shape.numel() for shape in shapes.values())
    generator, part, size, written, where = torch.Generator().manual_seed(0), {}, 0, 0, {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=generator, dtype=torch.bfloat16)
        part[name] = noise * 0.02 if len(shape) > 1 else 1 + noise * 0.02
        size += shape.numel()
        if size >= total / SHARDS or name == list(shapes)[-1]:
            written += 1
            file = f"model-{written:05}-of-{SHARDS:05}.safetensors"
            save_file(part, folder / file, metadata={"format": "pt"})
            where |= dict.fromkeys(part, file)
            part, size = {}, 0
    index = {"metadata": {"total_size": 2 * total}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def write(source: Path, out: Path) -> None:
    """Shard by shard."""
    write_plan(plan_of(open_skeleton(str(source)), REMOVED), out, lambda done, total, message: None)


def in_memory(source: Path, out: Path) -> None:
    """By the loaded model; the skeleton says where its blocks are, for half precision is slow here."""
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16)
    known = open_skeleton(str(source)).loaded
    remove_blocks(LoadedModel(model, None, str(source), known.files, known.structure, known.blocks), REMOVED)
    model.save_pretrained(out, max_shard_size="400MB")


def prove(source: Path, out: Path) -> None:
    """Tensor by tensor, then run a block at a time."""
    found = prove_by_shard(str(source), out, REMOVED)
    assert found["problem"] is None and found["proof"] == "logits", found


STEPS = {"make": make, "write": write, "in_memory": in_memory, "prove": prove}


def step(name: str, *arguments: object) -> dict[str, float]:
    """{peak: MB, imported: MB of it, seconds} of a step in a process of its own."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench_shards", "--step", name, *map(str, arguments)],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(done.stderr)
    return {**json.loads(done.stdout.splitlines()[-1]), "seconds": time.perf_counter() - began}


def run_step(name: str, arguments: list[str]) -> None:
    """What `step` starts."""
    AutoConfig.for_model("llama")  # what every step imports
    imported = peak_bytes()
    STEPS[name](Path(arguments[0]), float(arguments[1]) if name == "make" else Path(arguments[1]))
    print(json.dumps({"peak": peak_bytes() / 1e6, "imported": imported / 1e6}))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=3.0)
    parser.add_argument("--keep", type=Path, help="a folder to make everything in")
    parser.add_argument("--step", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        run_step(args.step[0], args.step[1:])
        return 0
    print(machine())
    with tempfile.TemporaryDirectory() as own:
        measure(args.keep or Path(own), args.gigabytes)
    return failed()


def measure(place: Path, gigabytes: float) -> None:
    """Every figure."""
    source, out, loaded = place / "source", place / "by-shard", place / "in-memory"
    if not source.exists():
        step("make", source, gigabytes)
    files = sorted(source.glob("*.safetensors"))
    largest = max(file.stat().st_size for file in files) / 1e6
    before = [file_sha256(file) for file in files]
    figure("the checkpoint", sum(f.stat().st_size for f in files) / 1e9, None, "GB", f"{len(files)} files")
    figure("the largest file", largest, None, "MB")
    for name, words in (("write", "written shard by shard"), ("prove", "proved: bytes, then logits")):
        found = step(name, source, out)
        figure(f"{words}, peak memory", found["peak"], MEMORY * largest if name == "write" else None, "MB")
        figure("  of it imports", found["imported"], None, "MB")
        figure(
            "  above imports, of the largest file", (found["peak"] - found["imported"]) / largest, MEMORY, "x"
        )
        figure("  time", found["seconds"], None, "s")
    found = step("in_memory", source, loaded)
    figure("in memory, peak", found["peak"], None, "MB")
    figure("  time", found["seconds"], None, "s")
    figure("tensors that differ from those by way of memory", other_tensors(out, loaded), 0, "")
    figure("source files that were touched", sum(a != file_sha256(f) for a, f in zip(before, files)), 0, "")


def other_tensors(one: Path, other: Path) -> int:
    """How many are in one folder alone, or not bit for bit the same."""
    a, b = (open_skeleton(str(folder)).tensors for folder in (one, other))
    return len({*a} ^ {*b}) + sum(not a[name].same(b[name]) for name in {*a} & {*b})


if __name__ == "__main__":
    sys.exit(main())
