"""One state of a model, as several commands ask for it: its blocks by number, or its rank in a run."""

import argparse
from dataclasses import dataclass

from core.cli.lowest import add_landscape, landscape_of, searched_lowest
from core.cli.options import RUN, positive
from core.errors import InputError
from core.ising.units import Name, read_names
from core.spectrum.lowest import check_removed
from core.store.folders import find_run
from core.store.runs import load_run


@dataclass(frozen=True)
class Chosen:
    """A model's source, what to remove of it by names, and the landscape that it was chosen in."""

    model: str
    removed: tuple[Name, ...]
    landscape: dict | None = None  # as a prune job's request has it


def add_state(command: argparse.ArgumentParser) -> None:
    """--model with --blocks, or --run with --remove and --rank, and what names its landscape."""
    command.add_argument("--model", metavar="M", help="the original, with --blocks; or a run, with --run")
    command.add_argument(
        "--trust-remote-code",
        action="store_true",
        help="run the Python files of the model's own folder; only for models you trust",
    )
    command.add_argument(
        "--blocks", metavar="LIST", help="for example 3,7-9, or with parts of blocks 3,12a,13f"
    )
    command.add_argument("--run", **RUN)
    command.add_argument("--remove", type=int, metavar="M", help="with --run: blocks (or units) to remove")
    command.add_argument(
        "--rank", type=positive, default=1, metavar="K", help="with --run: the K-th lowest state (default 1)"
    )
    add_landscape(command)


def state_of(args: argparse.Namespace) -> Chosen:
    """What the options of `add_state` name: the K-th that `states` lists for the same run, M, estimator and
    rules. Errors: InputError.
    """
    if args.blocks and args.model and not args.run:
        return Chosen(args.model, tuple(read_names(args.blocks)))
    if not args.run or args.blocks or args.model:
        raise InputError(
            "Which state is meant is not clear; give --model with --blocks, or --run with --remove (and "
            "--rank)."
        )
    folder = find_run(args.run)
    run = load_run(folder).seen(args.by)
    if args.remove is not None:
        check_removed(args.remove, len(run.units))
    asked = landscape_of(args)
    found = searched_lowest(args, asked, args.rank)
    if len(found.removed) < args.rank:
        raise InputError(
            f"There are {len(found.removed)} states; choose a --rank up to that, not {args.rank}."
        )
    landscape = {
        "run": str(folder),
        "by": args.by,
        "estimator": asked.estimator,
        **({} if asked.mix is None else {"mix": asked.mix}),
    }
    removed = run.units.stored(found.removed[args.rank - 1])
    return Chosen(run.meta["model"]["source"], removed, landscape)
