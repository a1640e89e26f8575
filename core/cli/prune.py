"""`python -m core prune`."""

import argparse
from pathlib import Path

from core import jobs
from core.cli.chosen import Chosen, add_state, states_of
from core.cli.running import as_job, check_writable
from core.errors import InputError
from core.forms.commands import mergekit_command
from core.forms.names import GGUF, NATIVE, PARTIAL, PORTABLE, WHOLE, form_of
from core.forms.recipe import FILE, RECIPE, recipe_of
from core.ising.units import in_order
from core.store.folders import check_free
from core.store.named_models import place_of

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
        f"{', '.join(PARTIAL)} (default {PORTABLE}); {GGUF} without --blocks is a mere conversion; "
        f"{RECIPE}: a recipe for mergekit in place of weights",
    )
    command.add_argument(
        "--by-shard",
        action="store_true",
        help="whole blocks by way of the weight files, in little memory, quantised ones as they are; by "
        "itself where the model is quantised or does not fit",
    )
    command.add_argument("--out", required=True, metavar="DIR", help="a new folder")


def _recipe(chosen: Chosen, out: Path) -> dict:
    """A recipe in place of weights: what it is called, the command that builds the model, whether that was
    ever run, and why. Errors: InputError.
    """
    removed = in_order(chosen.removed)
    if parts := [name for name in removed if isinstance(name, str)]:
        raise InputError(
            f"{parts[0]!r} is a part of a block, and mergekit's slices are of whole ones; choose another "
            "format."
        )
    blocks = [name for name in removed if isinstance(name, int)]
    text, kind = recipe_of(place_of(chosen.model).expanduser(), chosen.model, blocks)
    check_writable(out)
    check_free(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / FILE).write_text(text, encoding="utf-8")
    command = mergekit_command(out / FILE, out / "model", kind)
    return {
        "out": str(out),
        "removed": blocks,
        "recipe": str(out / FILE),
        "command": command.command,
        "tested": command.tested,
        "note": command.why,
    }


def run(args: argparse.Namespace) -> dict:
    """Where the checkpoint is, and parameters, bytes, blocks, units and KV bytes before and after."""
    out = Path(args.out).absolute()
    as_it_is = args.format == GGUF and args.model and not (args.blocks or args.run)
    (chosen,) = [Chosen(args.model, ())] if as_it_is else states_of(args)
    if args.format == RECIPE:
        return _recipe(chosen, out)
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
