"""What healing wins back of SmolLM2's loss on WikiText-2: trained on its valid part, judged on its test part.

`python -m tests.bench_heal_smollm2 heal --learn wikitext2-valid.txt --judge wikitext2-test.txt --seconds 1800
--rate 3e-4 --work DIR` heals once and keeps DIR/healing.json and the healed checkpoint DIR/model; killed, the
same command goes on. `--removed 12,13,14,16,17,18` heals another state, `--tokens` names the budget itself.
`--learn own` learns from what the original itself writes, `--learn answers:PROMPTS.jsonl` from what it
answers to prompts; both choose the checkpoint by the same held-out texts (`--held`).

`... tasks --data FOLDER --items N --work DIR` then asks the original, the pruned and the healed model the
first N items of each task of FOLDER/TASK.jsonl: DIR/tasks.json.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from core.calibration.corpus import draw, read_sources
from core.calibration.own_answers import own_answers, read_prompts
from core.calibration.own_samples import own_sequences
from core.heal.settings import TRAINED, Settings
from core.measure.harness import measure
from core.model.load import LoadedModel, load_model
from core.store.results import Results
from core.store.runs import canonical_key
from core.tasks.presets import Preset, asked
from tests.heal_runs import Bench, healed, tokens_within, won_back

MODEL, LENGTH = "smollm2", 128
REMOVED = "3,13,14,17,25,26"  # "learned" of docs/study-smollm2.md: the choice saw nothing of the test part
ANSWERS = "answers:"
LEARN, HELD, REPORT = 1086, 24, 256  # sequences; LEARN: all that the valid part's calibrate split has
TASKS = {"arc_easy": "acc,none", "piqa": "acc_norm,none", "lambada_openai": "acc,none"}


def bench_of(args: argparse.Namespace) -> tuple[Bench, float]:
    """The sequences, and the CPU seconds in which the original wrote those it writes itself."""
    loaded, valid, test = load_model(MODEL), read_sources([args.held]), read_sources([args.judge])
    began = time.process_time()
    if args.learn == "own":
        kept = args.work / "own"
        learn = own_sequences(
            loaded, "calibrate", LENGTH, args.sequences, args.seed, batch=32, checkpoint=kept
        )
    elif args.learn.startswith(ANSWERS):
        prompts = read_prompts(args.learn.removeprefix(ANSWERS))
        learn = own_answers(loaded, prompts, LENGTH, args.sequences, args.seed, kept=args.work / "answers")
    else:
        learn = draw(loaded, read_sources([args.learn]), "calibrate", LENGTH, args.sequences)
    took = time.process_time() - began
    held = draw(loaded, valid, "choose", LENGTH, HELD)
    return Bench(MODEL, learn, held, draw(loaded, test, "report", LENGTH, args.report)), took


def heal(args: argparse.Namespace) -> None:
    """Heal once, judge, keep."""
    settings = Settings(
        args.method, tokens=1, rate=args.rate, batch=args.batch, seed=args.seed, evaluations=args.evaluations
    )
    args.work.mkdir(parents=True, exist_ok=True)
    bench, wrote = bench_of(args)
    budget, removed = args.work / "tokens.json", removed_of(args)
    if args.tokens is None and not budget.exists():
        budget.write_text(json.dumps(tokens_within(bench, removed, settings, args.seconds)))
    settings = replace(settings, tokens=args.tokens or json.loads(budget.read_text()))
    student, row = healed(bench, removed, settings, args.work / "training")
    student.model.save_pretrained(args.work / "model")
    student.tokenizer.save_pretrained(args.work / "model")
    before, pruned = judged(bench, args.judged, removed)
    share, about = won_back(before, pruned, row["losses"])
    losses = {"original": before, "pruned": pruned, "losses": row["losses"]}
    asks = {"method": args.method, "rate": args.rate, "batch": args.batch, "seed": args.seed}
    found = {
        "removed": removed,
        **asks,
        "seconds": args.seconds,
        "wrote": wrote,
        "won": share,
        "about": about,
        **row,
        **{name: np.round(of, 4).tolist() for name, of in losses.items()},
    }
    (args.work / "healing.json").write_text(json.dumps(found))
    print({name: value for name, value in found.items() if name not in losses})


def removed_of(args: argparse.Namespace) -> tuple[int, ...]:
    """The state that is healed."""
    return tuple(map(int, args.removed.split(",")))


def judged(bench: Bench, earlier: Path | None, removed: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Losses [S] of the original and of the pruned model: measured, or of an earlier healing's file."""
    kept = json.loads(earlier.read_text()) if earlier else {"removed": None}
    original = load_model(MODEL)
    return (
        np.array(kept["original"]) if earlier else bench.losses(original),
        np.array(kept["pruned"]) if kept["removed"] == list(removed) else bench.losses(original, removed),
    )


def right(loaded: LoadedModel, state: tuple[int, ...], protocol: Preset, items: int) -> dict[str, str]:
    """{task: a 1 or 0 for each item} by the metric that is quoted."""
    measure(loaded, [state], protocol, items)
    found = {}
    for kept in Results().of_model(canonical_key(loaded.digest())):
        for task, metric in TASKS.items():
            if kept.key.metric == f"harness:{task}:{metric}" and kept.key.removed == state:
                found[task] = "".join(str(int(v)) for v in kept.values)
    return found


def tasks(args: argparse.Namespace) -> None:
    """Ask the three models, keep which items are right."""
    file = args.work / "tasks.json"
    found = json.loads(file.read_text()) if file.exists() else {}
    named, _ = asked(tuple(TASKS), None, 0, str(args.data))
    protocol = replace(named, metrics=TASKS)
    for name, source, state in (
        ("original", MODEL, ()),
        ("pruned", MODEL, removed_of(args)),
        ("healed", str(args.work / "model"), ()),
    ):
        if name not in found:
            found[name] = right(load_model(source), state, protocol, args.items)
            file.write_text(json.dumps(found))
            print(name, {task: (len(own), own.count("1") / len(own)) for task, own in found[name].items()})


def main() -> None:
    """Heal, or ask tasks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    own = commands.add_parser("heal")
    own.set_defaults(run=heal)
    own.add_argument("--learn", required=True, help="a text file, own, or answers:PROMPTS")
    own.add_argument("--held", required=True, help="a text file whose choose split chooses the checkpoint")
    own.add_argument("--judge", required=True, help="a text file whose report split judges")
    own.add_argument("--sequences", type=int, default=LEARN, help="to learn from")
    own.add_argument("--report", type=int, default=REPORT)
    own.add_argument("--judged", type=Path, help="a healing.json of the same judging sequences")
    budget = own.add_mutually_exclusive_group(required=True)
    budget.add_argument("--seconds", type=float, help="of CPU time")
    budget.add_argument("--tokens", type=int, help="to read, in place of a time")
    own.add_argument("--removed", default=REMOVED, help="blocks, with commas")
    own.add_argument("--method", default="kl", choices=TRAINED)
    own.add_argument("--rate", type=float, default=3e-4)
    own.add_argument("--batch", type=int, default=4)
    own.add_argument("--evaluations", type=int, default=8)
    own.add_argument("--seed", type=int, default=0)
    own.add_argument("--work", type=Path, required=True)
    own = commands.add_parser("tasks")
    own.set_defaults(run=tasks)
    own.add_argument("--data", type=Path, required=True)
    own.add_argument("--removed", default=REMOVED, help="blocks, with commas")
    own.add_argument("--items", type=int, default=300)
    own.add_argument("--work", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.run(args)


if __name__ == "__main__":
    main()
