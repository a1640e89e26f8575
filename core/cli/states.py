"""`python -m core states`."""

import argparse
import math
import sys
from pathlib import Path

from core.cli.landscape import Asked, add_landscape, landscape_of, searched_lowest
from core.cli.options import REMOVE, RUN, positive
from core.energy.mix import mix_label
from core.errors import InputError
from core.ising.matrix_files import read_matrix
from core.ising.units import BLOCK, whole


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The options of the command."""
    origin = command.add_mutually_exclusive_group(required=True)
    origin.add_argument("--run", **RUN)
    origin.add_argument(
        "--matrix",
        metavar="FILE",
        help="a coupling matrix: .npy, .csv or .tsv, .npz with key H or sparse; a triangle is read as a QUBO",
    )
    command.add_argument(
        "--remove",
        **{
            **REMOVE,
            "required": False,
            "help": "blocks (or units) to remove; may be left out where --fits or --groups say how much goes",
        },
    )
    command.add_argument(
        "--count", type=positive, default=20, metavar="K", help="states to list (default 20)"
    )
    add_landscape(command)


def run(args: argparse.Namespace) -> dict:
    """The states with rank and energy, and what is proved of the list."""
    if args.matrix and args.mix is not None:
        raise InputError(f"--mix {args.mix[:40]!r} needs --run: a bare matrix has no domains; leave it out.")
    if args.matrix and args.fits is not None:
        raise InputError(
            f"--fits {args.fits[:40]!r} needs --run: a bare matrix does not say what its blocks take; leave "
            "it out."
        )
    if args.matrix and args.by != BLOCK:
        raise InputError(
            f"--by {args.by} needs --run: a bare matrix does not say what its blocks are made of; leave it "
            "out."
        )
    if args.matrix:
        asked = _bare(Path(args.matrix))
    else:
        asked = landscape_of(args)
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


def _bare(file: Path) -> Asked:
    """The landscape of a matrix alone."""
    H = read_matrix(file, lambda sentence: print(sentence, file=sys.stderr))
    return Asked(H, whole(len(H)))


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
