"""`python -m core behaviour`."""

import argparse

from core import jobs
from core.cli.choices import add_choices, choices_of
from core.cli.options import add_model, positive
from core.cli.running import as_job
from core.tasks.short_prompts import TOKENS


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_model(command)
    add_choices(command)
    command.add_argument(
        "--tokens", type=positive, default=TOKENS, metavar="T", help=f"of an answer (default {TOKENS})"
    )


def run(args: argparse.Namespace) -> dict:
    """Every short prompt answered by the original and every state, and what is wrong with the answers."""
    request = jobs.request_of(
        args.model, states=choices_of(args), tokens=args.tokens, remote_code=args.trust_remote_code
    )
    return as_job("behaviour", request)


def describe(result: dict) -> str:
    """A line a state for a person: what broke, and the share of prompts that are fine by each check."""
    lines = []
    for state in result["states"]:
        checks = ", ".join(f"{name} {change['pruned']:.2f}" for name, change in state["checks"].items())
        broken = f"broken: {', '.join(state['broken'])}" if state["broken"] else "as the original"
        removed = ",".join(map(str, state["removed"]))
        lines.append(f"without {removed}: {broken}; {checks}" if removed else f"original: {checks}")
    return "\n".join([*lines, f"shares of {len(result['prompts'])} prompts; --json has every answer"])
