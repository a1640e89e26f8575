"""`python -m core speed`."""

import argparse

from core import jobs
from core.cli.options import add_model, positive
from core.cli.running import as_job


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_model(command)
    command.add_argument(
        "--context", type=positive, required=True, metavar="T", help="tokens before the one that is timed"
    )


def run(args: argparse.Namespace) -> dict:
    """Milliseconds a token at the context, of the whole model and of one branch of each kind."""
    request = jobs.request_of(args.model, context=args.context, remote_code=args.trust_remote_code)
    return as_job("speed", request)


def describe(result: dict) -> str:
    """A line for the whole and one for each kind."""
    head = f"{result['milliseconds']:.3g} ms a token at {result['context']} tokens on {result['device']}"
    return "\n".join(
        [
            head,
            *(
                f"{k}: {one['milliseconds']:.3g} ms each, of {one['units']}"
                for k, one in result["kinds"].items()
            ),
        ]
    )
