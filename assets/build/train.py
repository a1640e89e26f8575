"""Train the bundled demo model from scratch: `python -m assets.build.train`.

A 24-block LlamaForCausalLM on the invented world, plainly (no grown or copied
blocks), from a fixed seed. Stops and resumes: everything lies in --work, and a
checkpoint is written every --save-every steps. Writes the model folder, the
held-out texts, the task items and the loss curve below --out.

`--preset study-a` and `study-b` train the two 16-block models of `core.choose.study`
the same way, from other seeds and corpora; they do not ship. `--preset deep` trains one
of 80 blocks, not for long: only its couplings by branch ship, for `tests.bench_targets`.
"""

import argparse
import itertools
import json
import logging
import os
import platform
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from assets.build.world import DOMAINS, TASK_FAMILIES, World

LOG = logging.getLogger(__name__)
VOCABULARY = 1024
LENGTH = 128  # tokens of a training sequence, BOS included
BATCH = 8
MODEL = dict(
    hidden_size=64,
    intermediate_size=176,
    num_attention_heads=4,
    num_key_value_heads=4,
    head_dim=16,
    vocab_size=VOCABULARY,
    max_position_embeddings=LENGTH,
    tie_word_embeddings=True,
    rms_norm_eps=1e-5,
    initializer_range=0.1,
    bos_token_id=0,
    eos_token_id=1,
    pad_token_id=2,
    attention_dropout=0.0,
)
TEXT_DOCUMENTS = 7000  # held-out documents that ship: about 400 k tokens before the split
ITEMS_PER_FAMILY = 150


@dataclass(frozen=True)
class Preset:
    """What tells one trained model from another: depth, length of training and every seed."""

    blocks: int
    tokens: int
    seed: int
    world: int
    corpus: int
    texts: int
    tokenizer: int


PRESETS = {
    "demo": Preset(blocks=24, tokens=6_500_000, seed=11, world=7, corpus=100, texts=200, tokenizer=300),
    "study-a": Preset(blocks=16, tokens=3_300_000, seed=21, world=7, corpus=101, texts=201, tokenizer=300),
    "study-b": Preset(blocks=16, tokens=3_300_000, seed=31, world=8, corpus=102, texts=202, tokenizer=302),
    "deep": Preset(blocks=80, tokens=819_200, seed=41, world=7, corpus=103, texts=203, tokenizer=300),
}


def train_tokenizer(world: World, seed: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE with single digits: no unknown characters, whole words for the world."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "</s>", "<pad>"],
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    texts = (text for text, _ in itertools.islice(world.documents(seed), 20_000))
    tokenizer.train_from_iterator(texts, trainer)
    # every training sequence begins with BOS, and so does what anybody else tokenizes
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        model_max_length=LENGTH,
        clean_up_tokenization_spaces=False,
    )


def corpus(world: World, seed: int, tokenizer: PreTrainedTokenizerFast, sequences: int) -> np.ndarray:
    """uint16 [sequences, LENGTH]: BOS, then documents joined by EOS."""
    need, stream = sequences * (LENGTH - 1), []
    documents, have = world.documents(seed), 0
    while have < need:
        texts = [text for text, _ in itertools.islice(documents, 5000)]
        for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]:
            stream.append(np.array([*ids, tokenizer.eos_token_id], dtype=np.uint16))
            have += len(stream[-1])
    tokens = np.concatenate(stream)[:need].reshape(sequences, LENGTH - 1)
    return np.concatenate([np.full((sequences, 1), tokenizer.bos_token_id, np.uint16), tokens], axis=1)


class Muon(torch.optim.Optimizer):
    """Momentum orthogonalised by Newton-Schulz, for the blocks' matrices (Jordan et al. 2024).

    In float32 and batched over matrices of one shape: torch.optim.Muon iterates in
    bfloat16, which this project's CPUs multiply about 100 times slower.
    """

    def __init__(self, parameters, lr: float, momentum: float = 0.95, weight_decay: float = 0.01):
        super().__init__(parameters, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[torch.Tensor]] = {}
            for p in group["params"]:
                by_shape.setdefault(p.shape, []).append(p)
            for shape, ps in by_shape.items():
                grads = torch.stack([p.grad for p in ps])
                state = self.state[ps[0]]
                buffer = state.setdefault("buffer", torch.zeros_like(grads))
                buffer.lerp_(grads, 1 - group["momentum"])
                x = grads.lerp(buffer, group["momentum"])
                wide = shape[0] <= shape[1]
                x = x if wide else x.mT
                x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
                for _ in range(5):
                    g = x @ x.mT
                    x = 3.4445 * x + (-4.7750 * g + 2.0315 * g @ g) @ x
                x = (x if wide else x.mT) * max(1.0, shape[0] / shape[1]) ** 0.5
                for p, update in zip(ps, x):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"])


def build_model(preset: Preset) -> LlamaForCausalLM:
    # 0.1 is about 1/sqrt(width): with the usual 0.02 a model this narrow had learned no in-context task after
    # 4 M tokens
    torch.manual_seed(preset.seed)
    return LlamaForCausalLM(LlamaConfig(num_hidden_layers=preset.blocks, **MODEL))


def optimizers(model) -> list[torch.optim.Optimizer]:
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if not (p.ndim == 2 and "embed" not in n)]
    return [Muon(matrices, lr=0.01), torch.optim.AdamW(others, lr=1e-2, betas=(0.9, 0.95), weight_decay=0.0)]


def schedule(step: int, steps: int) -> float:
    """Warm up over 100 steps, hold, then fall linearly over the last 40 %."""
    return min(1.0, (step + 1) / 100, (steps - step) / (0.4 * steps))


def save_checkpoint(path: Path, payload: dict) -> None:
    torch.save(payload, path.with_suffix(".tmp"))
    os.replace(path.with_suffix(".tmp"), path)


def train(
    work: Path, tokens: int, save_every: int, stop_after: int | None, preset: Preset = PRESETS["demo"]
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast, dict] | None:
    world = World(preset.world)
    tokenizer = train_tokenizer(world, preset.tokenizer)
    work.mkdir(parents=True, exist_ok=True)
    steps = tokens // (BATCH * LENGTH)
    cache = work / f"corpus-{steps}.npy"
    if not cache.exists():
        LOG.info("generating %.1f M tokens", steps * BATCH * LENGTH / 1e6)
        np.save(cache, corpus(world, preset.corpus, tokenizer, steps * BATCH))
    data = np.load(cache, mmap_mode="r")

    model = build_model(preset)
    model.train()
    opts = optimizers(model)
    base = [[g["lr"] for g in o.param_groups] for o in opts]
    first, curve, seconds = 0, [], 0.0
    checkpoint = work / "checkpoint.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        if saved["steps"] != steps:
            raise SystemExit(
                f"{checkpoint} is for {saved['steps']} steps, not {steps}: give the same --tokens or another "
                "--work"
            )
        model.load_state_dict(saved["model"])
        for o, state in zip(opts, saved["optimizers"]):
            o.load_state_dict(state)
        first, curve, seconds = saved["step"], saved["curve"], saved["seconds"]
        LOG.info("resuming at step %d of %d", first, steps)

    began, recent = time.monotonic(), []
    for step in range(first, steps):
        for o, lrs in zip(opts, base):
            for group, lr in zip(o.param_groups, lrs):
                group["lr"] = lr * schedule(step, steps)
        ids = torch.from_numpy(data[step * BATCH : (step + 1) * BATCH].astype(np.int64))
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for o in opts:
            o.step()
        model.zero_grad(set_to_none=True)
        recent.append(loss.item())
        if (step + 1) % 100 == 0:
            curve.append([step + 1, round(sum(recent) / len(recent), 4)])
            spent = time.monotonic() - began
            LOG.info(
                "step %d/%d loss %.4f, %.0f tokens/s",
                step + 1,
                steps,
                curve[-1][1],
                (step + 1 - first) * BATCH * LENGTH / spent,
            )
            recent = []
        if (step + 1) % save_every == 0 or step + 1 == steps:
            save_checkpoint(
                checkpoint,
                dict(
                    step=step + 1,
                    steps=steps,
                    model=model.state_dict(),
                    optimizers=[o.state_dict() for o in opts],
                    curve=curve,
                    seconds=seconds + time.monotonic() - began,
                ),
            )
        if stop_after is not None and step + 1 >= stop_after:
            return None
    log = {
        "tokens": steps * BATCH * LENGTH,
        "steps": steps,
        "batch": BATCH,
        "length": LENGTH,
        "seed": preset.seed,
        "seconds": round(seconds + time.monotonic() - began),
        "threads": torch.get_num_threads(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "torch": torch.__version__,
        "parameters": sum(p.numel() for p in model.parameters()),
        "curve": curve,
    }
    return model, tokenizer, log


def write_outputs(
    out: Path, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, log: dict, preset: Preset
) -> None:
    world = World(preset.world)
    out.mkdir(parents=True, exist_ok=True)
    model.eval().save_pretrained(out / "model")
    tokenizer.save_pretrained(out / "model")
    with open(out / "texts.jsonl", "w", encoding="utf-8") as f:
        for text, domain in itertools.islice(world.documents(preset.texts), TEXT_DOCUMENTS):
            f.write(json.dumps({"text": text, "domain": domain}) + "\n")
    with open(out / "tasks.jsonl", "w", encoding="utf-8") as f:
        for family in TASK_FAMILIES:
            for item in world.items(family, ITEMS_PER_FAMILY):
                f.write(
                    json.dumps(
                        {
                            "task": item.family,
                            "context": item.context,
                            "options": item.options,
                            "answer": item.answer,
                        }
                    )
                    + "\n"
                )
    (out / "training.json").write_text(json.dumps(log, indent=1) + "\n", encoding="utf-8")
    assert set(DOMAINS) >= set(d for _, d in itertools.islice(world.documents(preset.texts), 100))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", choices=PRESETS, default="demo")
    parser.add_argument(
        "--work", type=Path, help="checkpoints and the tokenised corpus (default .build/PRESET)"
    )
    parser.add_argument("--out", type=Path, help="default: assets/demo for the demo, WORK/out for the others")
    parser.add_argument("--tokens", type=int, help="default: the preset's")
    parser.add_argument("--save-every", type=int, default=200, metavar="STEPS")
    parser.add_argument(
        "--stop-after", type=int, default=None, metavar="STEP", help="stop here; a later start resumes"
    )
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    torch.set_num_threads(args.threads)
    preset = PRESETS[args.preset]
    work = args.work or Path(".build") / args.preset
    out = args.out or (Path(__file__).parents[1] / "demo" if args.preset == "demo" else work / "out")
    done = train(work, args.tokens or preset.tokens, args.save_every, args.stop_after, preset)
    if done:
        write_outputs(out, *done, preset)
        LOG.info("wrote %s", out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
