"""`python -m core benchmark`."""

import argparse
from pathlib import Path

from core import jobs
from core.cli.options import LENGTH, REPORTED, add_model, add_texts, form_of
from core.cli.running import as_job, together
from core.compare.other_tools import read_states
from core.errors import InputError
from core.ising.states import parse_blocks
from core.ranks import launched
from core.tasks.items import BUNDLED


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_model(command)
    add_texts(command)
    command.add_argument(
        "--blocks",
        action="append",
        metavar="LIST",
        help="a choice, for example 3,7-9; may be given several times",
    )
    command.add_argument(
        "--states",
        metavar="FILE",
        help='choices from a file: .json ([{"removed": [3, 7]}], or what states --json prints) or .csv '
        "(column removed)",
    )
    command.add_argument("--sequences", **REPORTED)
    command.add_argument("--length", **LENGTH)


def run(args: argparse.Namespace) -> dict | None:
    """The loss of every state, the original first; None on ranks that tell nothing."""
    listed = [] if args.states is None else read_states(Path(args.states))
    states = list(dict.fromkeys([(), *(parse_blocks(text) for text in args.blocks or []), *listed]))
    if len(states) == 1:
        raise InputError(
            "No state is named; give --blocks LIST, several times if you like, or --states FILE."
        )
    request = jobs.request_of(
        args.model,
        args.texts,
        (str(BUNDLED),),
        form_of(args),
        states=[list(s) for s in states],
        sequences=args.sequences,
        length=args.length,
        tasks=False,
        prompt="",
        speed=False,
        remote_code=args.trust_remote_code,
    )
    done = together("benchmark", request) if launched() else as_job("benchmark", request)
    return done and {name: done[name] for name in ("states", "sequences")}
