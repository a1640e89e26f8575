"""`python -m core prune`."""

import argparse
from pathlib import Path

from core import jobs
from core.cli.chosen import Chosen, add_state, states_of
from core.cli.running import as_job, check_writable
from core.forms.names import GGUF, NATIVE, PARTIAL, PORTABLE, WHOLE, form_of
from core.ising.units import in_order
from core.store.folders import check_free

# of the result
_TOLD = (
    *("out", "removed", "parameters", "bytes", "blocks", "units", "kv_bytes"),
    *("config", "form", "note", "llama_cpp", "proof", "verified"),
)


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_state(command)
    command.add_argument(
        "--format",
        metavar="FORM",
        help=f"{', '.join(WHOLE)} (default {NATIVE}); of a model without parts of blocks "
        f"{', '.join(PARTIAL)} (default {PORTABLE}); {GGUF} without --blocks is a mere conversion",
    )
    command.add_argument(
        "--by-shard",
        action="store_true",
        help="whole blocks by way of the weight files, in little memory, quantised ones as they are; by "
        "itself where the model is quantised or does not fit",
    )
    command.add_argument("--out", required=True, metavar="DIR", help="a new folder")


def run(args: argparse.Namespace) -> dict:
    """Where the checkpoint is, and parameters, bytes, blocks, units and KV bytes before and after."""
    out = Path(args.out).absolute()
    as_it_is = args.format == GGUF and args.model and not (args.blocks or args.run)
    (chosen,) = [Chosen(args.model, ())] if as_it_is else states_of(args)
    form_of(chosen.removed, args.format)  # refused before anything is loaded
    request = jobs.request_of(
        chosen.model,
        blocks=list(in_order(chosen.removed)),
        out=str(out),
        zip=False,
        provenance={},
        remote_code=args.trust_remote_code,
        written=args.format,
        landscape=chosen.landscape,
        by_shard=args.by_shard or None,
    )
    if jobs.find("prune", request) is None:  # neither made nor under way: the folder must be free
        check_writable(out)
        check_free(out)
    done = as_job("prune", request)
    return {name: done[name] for name in _TOLD if name in done}
