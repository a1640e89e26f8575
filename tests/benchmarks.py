"""The section Benchmarks of docs/smollm2.md; the page shows the command.

Every row of three tasks that others publish for the model, and what the rounding of its weights to 4 bits
costs. Answers are kept in the store, so it goes on where it was stopped; two busy cores take an hour.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from core.cli.progress import Progress
from core.measure.evaluation import sequence_losses
from core.measure.harness import measure
from core.model.load import LoadedModel, load_model
from core.tasks.presets import Preset, asked
from core.tasks.scores import called, told

PAGE = Path(__file__).resolve().parents[1] / "docs" / "smollm2.md"
# lm-evaluation-harness, 0 shots, the original weights: the baseline of this model's card
CARD = "https://huggingface.co/lldois/SmolLM2-135M-Reasoning-SLERP-Champion"
PUBLISHED = {
    "arc_easy": ("acc,none", 0.5412),
    "arc_challenge": ("acc_norm,none", 0.2773),
    "piqa": ("acc_norm,none", 0.6692),
}
WINDOWS, LENGTH, DRAWS = 24, 256, 2  # of texts, for the cost of rounding
_BLOCK, _LEVELS = 32, 15  # of Q4_1: 32 weights share a scale and a least value, 16 levels


def scores(loaded: LoadedModel, data: str, limit: int | None) -> dict[str, dict]:
    """{task: row as core.tasks.scores says} of the tasks over the rows in a folder."""
    asks = Preset("published", tuple(PUBLISHED), shots=0, metrics={t: m for t, (m, _) in PUBLISHED.items()})
    named, _ = asked(asks.tasks, None, 0, data)
    protocol = Preset(asks.name, named.tasks, shots=0, metrics=asks.metrics)
    return measure(loaded, [()], protocol, limit, report=Progress())["states"][0]["tasks"]


@contextmanager
def rounded_again(model: torch.nn.Module, seed: int) -> Iterator[float]:
    """The model with one more error of rounding to Q4_1 on each weight that has one; gives their share.

    A weight that lies on 16 levels, as Q4_1 leaves it, is moved by at most half a level, uniformly.
    """
    generator, kept, moved, total = torch.Generator().manual_seed(seed), {}, 0, 0
    parameters = dict(model.named_parameters())
    for name, weight in parameters.items():
        total += weight.numel()
        if weight.ndim != 2 or weight.shape[1] % _BLOCK:
            continue
        blocks = weight.data.reshape(-1, _BLOCK)
        least = blocks.min(1, keepdim=True).values
        step = (blocks.max(1, keepdim=True).values - least) / _LEVELS
        place = (blocks - least) / step.clamp(min=1e-12)
        if (place - place.round()).abs().max() > 0.02:  # it was rounded otherwise, more finely
            continue
        kept[name], moved = weight.data.clone(), moved + weight.numel()
        noise = torch.rand(blocks.shape, generator=generator) - 0.5
        weight.data += (noise * step).reshape(weight.shape)
    try:
        yield moved / total
    finally:
        for name, before in kept.items():
            parameters[name].data.copy_(before)


def rounding(loaded: LoadedModel, texts: Path) -> tuple[float, float, float, float]:
    """(loss of the file's windows, its increase under one more rounding, standard error over windows, share
    of the weights), nats.
    """
    ids = loaded.tokenizer(texts.read_text(encoding="utf-8"), add_special_tokens=False)["input_ids"]
    starts = np.linspace(0, len(ids) - LENGTH, WINDOWS).astype(int)
    windows = np.array([ids[start : start + LENGTH] for start in starts])
    base, increases = sequence_losses(loaded, windows, batch=4), []
    for seed in range(DRAWS):
        with rounded_again(loaded.model, seed) as moved:
            share = moved
            increases.append(sequence_losses(loaded, windows, batch=4) - base)
    increase = np.mean(increases, axis=0)
    return float(base.mean()), float(increase.mean()), float(increase.std(ddof=1) / WINDOWS**0.5), share


def broken_goals(data: str) -> str:
    """A sentence where the rows of PIQA have a line break behind the goal, which moves their scores."""
    lines = (Path(data) / "piqa.jsonl").read_text(encoding="utf-8").splitlines()
    goals = [json.loads(line)["goal"] for line in lines]
    ends = sum(goal.endswith("\n") for goal in goals)
    if not ends:
        return ""
    return f" In the rows of PIQA used here {ends} of {len(goals)} goals end in a line break of their own."


def section(rows: dict[str, dict], cost: tuple[float, float, float, float] | None) -> str:
    """The section as it stands on the page."""
    lines = ["| task | metric | items | measured, with its 95 % interval | published | within |"]
    lines.append("|---|---|---|---|---|---|")
    gaps, variances = [], []
    for task, (metric, published) in PUBLISHED.items():
        row = rows[task]
        within = "yes" if row["low"] <= published <= row["high"] else "no"
        lines.append(f"| {task} | {called(metric)} | {row['n']} | {told(row)} | {published:.3f} | {within} |")
        gaps.append(row["value"] - published)
        variances.append(row["se"] ** 2)
    gap, error = 100 * np.mean(gaps), 100 * np.sqrt(sum(variances)) / len(gaps)
    text = (
        "The unpruned model on local rows, 0 shots, by lm-evaluation-harness's own task files. Published: "
        f"the baseline row of [this model card]({CARD}), also lm-evaluation-harness with 0 shots, of the "
        "original weights.\n\n"
        + "\n".join(lines)
        + f"\n\nOver the three tasks: {gap:+.1f} ± {error:.1f} points "
        "(standard error of our side alone)."
    )
    if cost is None:
        return text
    loss, increase, se, share = cost
    return text + (
        f" The file rounds {100 * share:.0f} % of the weights to 4 bits (Q4_1), and the original weights are "
        "not at hand to compare with. What the rounding may cost was therefore measured by doing it once "
        "more: every such weight moved at random by up to half a level, which has the size of the error that "
        f"is there. On {WINDOWS} windows of {LENGTH} tokens of a text file the loss of {loss:.3f} nats grows "
        f"by {increase:.3f} ± {se:.3f} ({DRAWS} draws). To second order the first rounding cost as much, "
        "which makes a gap of this size plausible: figures of this file are not those of the original model."
    )


def write(text: str, limit: int | None = None) -> None:
    """Put the section on the page, whose other sections stay."""
    page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else "# SmolLM2-135M-Instruct\n"
    head = "## Benchmarks\n"
    command = COMMAND if limit is None else COMMAND.replace("FILE", f"FILE --limit {limit}")
    own = f"{head}\n{command}\n{text}\n"
    if head in page:
        page = re.sub(rf"{head}.*?(?=^## |\Z)", lambda _: own + "\n", page, flags=re.DOTALL | re.MULTILINE)
    else:
        page = f"{page.rstrip()}\n\n{own}"
    PAGE.write_text(page.rstrip() + "\n", encoding="utf-8")


COMMAND = """```sh
# not run by the tests: it takes an hour, and the rows of three benchmarks
python -m tests.benchmarks --model smollm2 --data DIR --texts FILE
```
"""


def main() -> int:
    """Measure, and write the section."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="as for python -m core evaluate")
    parser.add_argument("--data", required=True, help="a folder with arc_easy.jsonl and so on")
    parser.add_argument("--texts", type=Path, help="a text file, for the cost of rounding to 4 bits")
    parser.add_argument("--limit", type=int, help="the first N items of each task (default: all)")
    args = parser.parse_args()
    loaded = load_model(args.model)
    cost = rounding(loaded, args.texts) if args.texts else None
    print(f"rounding: {cost}", file=sys.stderr)
    write(section(scores(loaded, args.data, args.limit), cost) + broken_goals(args.data), args.limit)
    return 0


if __name__ == "__main__":
    sys.exit(main())
