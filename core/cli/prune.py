"""`python -m core prune`."""

import argparse
from pathlib import Path

from core import jobs
from core.cli.options import add_model
from core.cli.running import as_job, check_writable
from core.export.form_names import PARTIAL, PORTABLE, form_of
from core.ising.units import read_names
from core.store.folders import check_free

# of the result
_TOLD = (
    *("out", "removed", "parameters", "bytes", "blocks", "units", "kv_bytes"),
    *("form", "note", "llama_cpp", "verified"),
)


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_model(command)
    command.add_argument(
        "--blocks", required=True, metavar="LIST", help="for example 3,7-9, or with parts of blocks 3,12a,13f"
    )
    command.add_argument(
        "--form",
        metavar="FORM",
        help=f"of a model without parts of blocks: {', '.join(PARTIAL)} (default {PORTABLE})",
    )
    command.add_argument("--out", required=True, metavar="DIR", help="a new folder")


def run(args: argparse.Namespace) -> dict:
    """Where the checkpoint is, and parameters, bytes, blocks, units and KV bytes before and after."""
    out, blocks = Path(args.out).absolute(), read_names(args.blocks)
    form_of(blocks, args.form)  # refused before anything is loaded
    request = jobs.request_of(
        args.model,
        blocks=list(blocks),
        out=str(out),
        zip=False,
        provenance={},
        remote_code=args.trust_remote_code,
        written=args.form,
    )
    if jobs.find("prune", request) is None:  # neither made nor under way: the folder must be free
        check_writable(out)
        check_free(out)
    done = as_job("prune", request)
    return {name: done[name] for name in _TOLD if name in done}
