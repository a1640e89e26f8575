"""`python -m core states`."""

import argparse
import math

from core.cli.lowest import add_landscape, add_origin, asked_of, searched_lowest
from core.cli.options import positive
from core.energy.mix import mix_label


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_origin(command)
    command.add_argument(
        "--count", type=positive, default=20, metavar="K", help="states to list (default 20)"
    )
    add_landscape(command)


def run(args: argparse.Namespace) -> dict:
    """The states with rank and energy, and what is proved of the list."""
    asked = asked_of(args)
    found = searched_lowest(args, asked, args.count)
    return {
        "states": [
            {"removed": asked.units.listed(s), "energy": float(e), "rank": k}
            for k, (s, e) in enumerate(zip(found.removed, found.energies))
        ],
        "exact": found.exact,
        "lower_bound": None if math.isinf(found.lower_bound) else found.lower_bound,
        "level_cut": found.level_cut,
        "seconds": found.seconds,
        **({} if asked.estimator is None else {"estimator": asked.estimator}),
        **({} if asked.mix is None else {"mix": asked.mix}),
    }


def describe(result: dict) -> str:
    """The same result for a person."""
    proof = "exact" if result["exact"] else "not proved"
    mix = f", mix: {mix_label(result['mix'], 9)}" if "mix" in result else ""
    of = f", {result['estimator']}" if "estimator" in result else ""
    head = f" rank  energy  removed blocks ({proof}{of}, {result['seconds']:.2f} s{mix})"
    lines = [head]
    for state in result["states"]:
        removed = ",".join(map(str, state["removed"]))
        lines.append(f"{state['rank']:>5}  {state['energy']:.9g}  {removed}")
    return "\n".join(lines)
