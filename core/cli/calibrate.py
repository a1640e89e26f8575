"""`python -m core calibrate`."""

import argparse
from pathlib import Path
from typing import Any

from core import jobs
from core.cli.options import (
    LENGTH,
    SEED,
    add_model,
    add_texts,
    batch_size,
    form_of,
    natural,
    positive,
    texts_of,
)
from core.cli.running import as_job, check_writable, together
from core.errors import InputError
from core.ranks import launched
from core.store.folders import find_run
from core.store.runs import check_run_place, load_run, save_run


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_model(command)
    add_texts(command)
    command.add_argument("--samples", type=positive, default=256, metavar="S", help="sequences (default 256)")
    command.add_argument("--length", **LENGTH)
    command.add_argument("--seed", **SEED)
    command.add_argument(
        "--batch",
        type=batch_size,
        default=16,
        metavar="B",
        help="sequences at once (default 16); auto: measured before the first row",
    )
    command.add_argument(
        "--checkpointed",
        action="store_true",
        help="compute activations inside blocks again in the backward: less memory, more time",
    )
    command.add_argument(
        "--sampled",
        action="store_true",
        help="also rows with labels sampled from the model (for the estimators h1 and hybrid)",
    )
    command.add_argument(
        "--singles",
        type=natural,
        default=0,
        metavar="S",
        help="also measure every single removal on S sequences of the choose split (for hybrid)",
    )
    command.add_argument(
        "--secants",
        type=natural,
        default=0,
        metavar="S",
        help="also rows with each block removed, on S sequences of the choose split (for secant)",
    )
    command.add_argument(
        "--pairs",
        type=natural,
        default=0,
        metavar="S",
        help="also measure pairs of the blocks that are cheapest alone, on S sequences of the choose split "
        "(for pairs); needs --singles",
    )
    command.add_argument(
        "--out",
        required=True,
        metavar="DIR",
        help="where the run is written; it is also registered in the store",
    )


def describe(result: dict) -> str:
    """A line for each entry; how a sequence starts is one line, too."""
    lines = {**result, "start": repr(result.get("start"))}
    return "\n".join(f"{key}: {value}" for key, value in lines.items())


def run(args: argparse.Namespace) -> dict | None:
    """The run: where it is, key, rows, blocks, dropped rows and seconds, how texts became sequences and how
    the first one starts; None on ranks that tell nothing.
    """
    out = Path(args.out)
    check_run_place(out)
    check_writable(out)
    unusual: dict[str, Any] = {"checkpointed": True} if args.checkpointed else {}
    unusual |= {name: getattr(args, name) for name in ("secants", "pairs") if getattr(args, name)}
    if args.pairs and not args.singles:
        raise InputError(
            f"--pairs {args.pairs} are of the blocks that are cheapest alone; give --singles, too."
        )
    request = jobs.request_of(
        args.model,
        texts_of(args),
        form=form_of(args),
        samples=args.samples,
        length=args.length,
        seed=args.seed,
        batch=args.batch,
        sampled=args.sampled,
        singles=args.singles,
        remote_code=args.trust_remote_code,
        **unusual,
    )
    done = together("calibrate", request) if launched() else as_job("calibrate", request)
    if done is None:
        return None
    save_run(load_run(find_run(done["key"])), out)
    return {"run": str(out), **done}
