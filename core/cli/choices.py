"""Choices of blocks, as several commands take them."""

import argparse
from pathlib import Path

from core.compare.other_tools import read_states
from core.ising.units import Name, read_names


def add_choices(command: argparse.ArgumentParser) -> None:
    """--blocks and --states; `choices_of` reads them."""
    command.add_argument(
        "--blocks",
        action="append",
        metavar="LIST",
        help="a choice, for example 3,7-9, or with attention and FFN on their own 3,12a,13f; may be given "
        "several times",
    )
    command.add_argument(
        "--states",
        metavar="FILE",
        help='choices from a file: .json ([{"removed": [3, 7]}], or what states --json prints) or .csv '
        "(column removed)",
    )


def choices_of(args: argparse.Namespace) -> list[list[Name]]:
    """The original (nothing removed) first, then every state that is named, each once. Errors: InputError."""
    listed = [] if args.states is None else read_states(Path(args.states))
    named = (read_names(text) for text in args.blocks or [])
    return [list(state) for state in dict.fromkeys([(), *named, *listed])]
