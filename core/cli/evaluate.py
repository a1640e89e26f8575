"""`python -m core evaluate`."""

import argparse
import sys

from core import jobs
from core.cli.options import (
    LENGTH,
    REPORTED,
    SEED,
    add_model,
    add_texts,
    form_of,
    natural,
    positive,
    texts_of,
)
from core.cli.running import as_job
from core.errors import InputError
from core.store.named_models import is_demo
from core.tasks.items import BUNDLED
from core.tasks.presets import PRESETS, asked
from core.tasks.scores import title, todays, told


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_model(command)
    add_texts(command)
    command.add_argument("--sequences", **REPORTED)
    command.add_argument("--length", **LENGTH)
    command.add_argument("--seed", **SEED)
    command.add_argument("--batch", type=positive, default=16, help="sequences at once (default 16)")
    command.add_argument(
        "--against",
        metavar="M",
        help="the original, named like --model: how far the model is from it on the same tokens, as KL in "
        "nats a token and as the share of equal first choices; both are loaded",
    )
    command.add_argument("--no-tasks", action="store_true", help="loss and speed only")
    command.add_argument(
        "--tasks",
        action="append",
        metavar="TASK",
        help="instead of the bundled ones (the demo's), a task or group of lm-evaluation-harness, a local "
        "task file FILE.yaml, or NAME::data=FILE: the task over a local data file; "
        "may be given several times",
    )
    command.add_argument(
        "--preset",
        metavar="NAME",
        help=f"instead of the bundled ones, a protocol: {', '.join(PRESETS)}; quick-real asks 200 items each "
        "of five real tasks",
    )
    command.add_argument(
        "--data",
        metavar="DIR",
        help="a folder with the rows of every task in a file of its name, for example arc_easy.jsonl; for "
        "--tasks and --preset (default: the hub's)",
    )
    command.add_argument(
        "--shots",
        type=natural,
        metavar="K",
        help="examples before each item; for --tasks and --preset (default: theirs)",
    )
    command.add_argument(
        "--limit",
        type=positive,
        metavar="N",
        help="the first N items of each task; for --tasks and --preset (default: all)",
    )


def run(args: argparse.Namespace) -> dict:
    """Loss, perplexity, tasks and tokens per second; against another model, the distance to it."""
    harness = _harness_request(args)
    request = jobs.request_of(
        args.model,
        texts_of(args),
        (str(BUNDLED),),
        form_of(args),
        sequences=args.sequences,
        length=args.length,
        seed=args.seed,
        batch=args.batch,
        tasks=_toy_tasks(args, harness),
        against=args.against,
        remote_code=args.trust_remote_code,
    )
    done = as_job("evaluate", request)
    if harness is None:
        return done
    scores = as_job("harness", harness)
    (original,) = scores.pop("states")
    tasks = {name: todays(row) for name, row in original["tasks"].items()}
    return {**done, "tasks": tasks, "groups": original["groups"], **scores}


def _toy_tasks(args: argparse.Namespace, harness: dict | None) -> bool:
    """Whether the bundled tasks are asked: of the demo, whose world they are about, if none are named."""
    if args.no_tasks or harness is not None:
        return False
    if not is_demo(args.model):
        print(
            "No tasks are named, so none are asked; name some by --tasks or --preset: quick-real asks real "
            "ones, bundled the toy tasks of the demo's world.",
            file=sys.stderr,
        )
    return is_demo(args.model)


def describe(result: dict) -> str:
    """The result for a person: a line each, tasks with their metric and its interval."""
    lines = []
    for name, value in result.items():
        if name == "tasks":
            lines += [
                f"{title(task, row)}: {told(row)}"
                if "metric" in row
                else f"{task} acc (n = {row['n']}, chance {row['chance']:.2f}): {row['accuracy']:.3f}"
                for task, row in value.items()
            ]
        elif name in _DISTANCES:
            lines.append(f"{_DISTANCES[name]}: {_interval(value)}")
        elif value != {}:
            lines.append(f"{name}: {value}")
    return "\n".join(lines)


_DISTANCES = {"kl": "KL to the original, nats a token", "same": "same first choice as the original"}


def _interval(found: dict) -> str:
    """A mean with its 95 % interval, and the quantiles of the tokens where it has them."""
    ends = "" if found["low"] is None else f" [{found['low']:.4g}, {found['high']:.4g}]"
    tokens = f", median {found['median']:.4g}, 99 % {found['p99']:.4g}" if "median" in found else ""
    return f"{found['mean']:.4g}{ends}{tokens}"


def _harness_request(args) -> dict | None:
    """What is asked of lm-evaluation-harness; None where nothing is. Errors: InputError."""
    if not (args.tasks or args.preset):
        for option in ("shots", "limit", "data"):
            if getattr(args, option) is not None:
                raise InputError(f"--{option} needs --tasks or --preset; name one, or leave it out.")
        return None
    if args.no_tasks:
        raise InputError(
            f"--no-tasks and --{'tasks' if args.tasks else 'preset'} contradict each other; leave one out."
        )
    protocol, reads = asked(args.tasks or (), args.preset, args.shots, args.data)
    return jobs.request_of(
        args.model,
        reads=reads,
        states=[[]],
        preset=protocol.to_json(),
        limit=args.limit,
        batch=args.batch,
        remote_code=args.trust_remote_code,
    )
