"""`python -m core push`."""

import argparse
from pathlib import Path

from core import jobs
from core.cli.running import as_job
from core.forms.hub import TOKEN


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The options of the command."""
    command.add_argument(
        "--folder", required=True, metavar="DIR", help="an export, as prune or heal wrote it"
    )
    command.add_argument(
        "--repo", required=True, metavar="OWNER/NAME", help=f"made where it is not there; {TOKEN} is its key"
    )
    command.add_argument(
        "--public", action="store_true", help="a new repository is private unless you say so"
    )


def run(args: argparse.Namespace) -> dict:
    """{"repo", "url" of the commit}."""
    folder = Path(args.folder).absolute()
    return as_job("push", jobs.push_request(folder, args.repo, args.public), jobs.redo)
