"""`python -m core learn`."""

import argparse

from core.cli.searches import add_search, searched


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_search(
        command,
        "forwards over the choosing sequences, with gradient rows (2.3 each) and single removals counted in",
    )


def run(args: argparse.Namespace) -> dict:
    """The best state found, what it loses on unseen texts, and the curve of the search."""
    return searched("learn", args)
