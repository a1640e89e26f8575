"""`python -m core prune`."""

import argparse
from pathlib import Path

from core import jobs
from core.cli.options import add_model
from core.cli.running import as_job, check_writable
from core.ising.states import parse_blocks
from core.store.folders import check_free


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_model(command)
    command.add_argument("--blocks", required=True, metavar="LIST", help="for example 3,7-9")
    command.add_argument("--out", required=True, metavar="DIR", help="a new folder")


def run(args: argparse.Namespace) -> dict:
    """Where the checkpoint is, and parameters, bytes, blocks and KV bytes before and after."""
    out, blocks = Path(args.out).absolute(), parse_blocks(args.blocks)
    request = jobs.request_of(
        args.model,
        blocks=list(blocks),
        out=str(out),
        zip=False,
        provenance={},
        remote_code=args.trust_remote_code,
    )
    if jobs.find("prune", request) is None:  # neither made nor under way: the folder must be free
        check_writable(out)
        check_free(out)
    done = as_job("prune", request)
    return {
        name: done[name]
        for name in ("out", "removed", "parameters", "bytes", "blocks", "kv_bytes", "verified")
    }
