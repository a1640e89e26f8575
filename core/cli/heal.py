"""`python -m core heal`."""

import argparse
import sys
from pathlib import Path

from core import jobs
from core.cli.chosen import add_state, state_of
from core.cli.options import LENGTH, REPORTED, SEED, add_texts, form_of, positive, texts_of
from core.cli.running import as_job, check_writable
from core.errors import InputError
from core.heal.settings import KL, METHODS, REPLACED, Settings
from core.store.folders import check_free
from core.store.named_models import is_demo

_TOLD = ("out", "curve", "parameters", "bytes", "blocks", "verified")


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_state(command)
    add_texts(command)
    command.add_argument("--method", default=KL, metavar="HOW", help=f"{', '.join(METHODS)} (default {KL})")
    command.add_argument(
        "--replace", metavar="HOW", help=f"before training, {' or '.join(REPLACED)} in place of plain removal"
    )
    command.add_argument("--minutes", type=float, metavar="T", help="budget of the training (default 5)")
    command.add_argument("--tokens", type=positive, metavar="N", help="budget in tokens instead")
    command.add_argument(
        "--rate", type=float, metavar="R", help="highest learning rate (default the method's)"
    )
    command.add_argument("--batch", type=positive, default=8, help="sequences a step (default 8)")
    command.add_argument("--accumulate", type=positive, default=1, help="batches a step (default 1)")
    command.add_argument("--temperature", type=float, default=1.0, help="of the KL (default 1)")
    command.add_argument("--next-token", type=float, default=0.0, metavar="W", help="weight of that loss")
    command.add_argument("--hidden", type=float, default=0.0, metavar="W", help="weight of hidden states")
    command.add_argument("--lora-rank", type=positive, default=16, metavar="R", help="(default 16)")
    command.add_argument(
        "--sequences", type=positive, metavar="S", help="to train on (default all there are, up to 4096)"
    )
    command.add_argument("--held", type=positive, default=32, metavar="S", help="to watch (default 32)")
    command.add_argument("--report", **REPORTED)
    command.add_argument("--length", **LENGTH)
    command.add_argument("--seed", **SEED)
    command.add_argument("--no-tasks", action="store_true", help="loss only: tasks are the demo's")
    command.add_argument("--prompt", metavar="TEXT", help="ask the three models this, too")
    command.add_argument("--out", required=True, metavar="DIR", help="a new folder; the curve is DIR.csv")


def run(args: argparse.Namespace) -> dict:
    """The losses of original, pruned and healed, the training, and where the checkpoint is."""
    settings = Settings(
        args.method,
        args.replace,
        **_budget(args),
        rate=args.rate,
        batch=args.batch,
        accumulate=args.accumulate,
        seed=args.seed,
        temperature=args.temperature,
        next_token=args.next_token,
        hidden=args.hidden,
        rank=args.lora_rank,
    )
    args.model, blocks = _state(args)
    out = Path(args.out).absolute()
    request = jobs.request_of(
        args.model,
        texts_of(args),
        (),
        form_of(args),
        blocks=blocks,
        settings=settings.to_json(),
        sequences=args.sequences,
        held=args.held,
        report=args.report,
        length=args.length,
        seed=args.seed,
        tasks=is_demo(args.model) and not args.no_tasks,
        prompt=args.prompt,
        out=str(out),
        zip=False,
        provenance={},
        remote_code=args.trust_remote_code,
    )
    if jobs.find("heal", request) is None:  # neither made nor under way: the folder must be free
        check_writable(out)
        check_free(out)
    done = as_job("heal", request)
    return {
        "removed": done["removed"],
        **{name: done[name] for name in ("table", "won", "training", "needs")},
        **({"replies": done["replies"]} if done["replies"] else {}),
        **{name: done[name] for name in _TOLD},
    }


def _budget(args: argparse.Namespace) -> dict:
    """{minutes, tokens} of a method that trains: 5 minutes where neither is given."""
    if METHODS.get(args.method) and METHODS[args.method].rate is None:
        if args.minutes or args.tokens:
            print(f"The method {args.method} trains nothing, so it has no budget.", file=sys.stderr)
        return {}
    given = {"minutes": args.minutes, "tokens": args.tokens}
    return given if any(v is not None for v in given.values()) else {"minutes": 5.0}


def _state(args: argparse.Namespace) -> tuple[str, list[int]]:
    """(the model, the blocks to remove). Errors: InputError."""
    chosen = state_of(args)
    if parts := [name for name in chosen.removed if isinstance(name, str)]:
        raise InputError(f"Healing takes whole blocks, and {parts[0]!r} is a part of one; name the block.")
    return chosen.model, [name for name in chosen.removed if isinstance(name, int)]


def describe(result: dict) -> str:
    """The table for a person, then the rest a line each."""
    lines = [f"{'':<9} {'loss':>8} {'perplexity':>11}  tasks"]
    for name, row in result["table"].items():
        tasks = ", ".join(f"{task} {own['accuracy']:.3f}" for task, own in row["tasks"].items())
        lines.append(f"{name:<9} {row['loss']:>8.4f} {row['perplexity']:>11.3f}  {tasks}")
    if result["won"] is not None:
        lines.append(f"{result['won']:.0%} of the increase came back")
    training = result["training"]
    lines.append(f"{training['tokens']:,} tokens, {training['seconds'] / 60:.1f} minutes")
    lines += [training["stopped"]] if training["stopped"] else []
    lines += [f"{name} answers: {text}" for name, text in result.get("replies", {}).items()]
    return "\n".join([*lines, *(f"{name}: {result[name]}" for name in _TOLD)])
