"""`python -m core learn`."""

import argparse

from core.cli.lowest import add_rules, rules_of
from core.cli.searches import add_search, searched


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_search(
        command,
        "forwards over the choosing sequences, with gradient rows (2.3 each) and single removals counted in",
        counted=False,
    )
    add_rules(command)


def run(args: argparse.Namespace) -> dict:
    """The best state found, what it loses on unseen texts, and the curve of the search."""
    rules = rules_of(args)
    return searched("learn", args, **({"rules": rules} if rules else {}))
