"""`python -m core learn`."""

import argparse

from core import jobs
from core.cli.options import REMOVE, RUN, forwards, natural, positive
from core.cli.running import as_job
from core.spectrum.lowest import check_removed
from core.store.folders import find_run
from core.store.runs import load_run


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The options of the command."""
    command.add_argument("--run", required=True, **RUN)
    command.add_argument("--remove", **REMOVE)
    command.add_argument(
        "--budget",
        type=forwards,
        required=True,
        metavar="F",
        help="forwards over the choosing sequences, with gradient rows (2.3 each) and single removals "
        "counted in",
    )
    command.add_argument(
        "--sequences",
        type=positive,
        default=256,
        metavar="S",
        help="sequences to choose on, and to report on (default 256)",
    )
    command.add_argument("--seed", type=natural, default=0, help="which states are tried (default 0)")


def run(args: argparse.Namespace) -> dict:
    """The best state found, what it loses on unseen texts, and the curve of the search."""
    folder = find_run(args.run).absolute()
    run = load_run(folder)
    check_removed(args.remove, run.blocks)
    request = jobs.request_on(
        run, folder, remove=args.remove, budget=args.budget, sequences=args.sequences, seed=args.seed
    )
    return as_job("learn", request)
