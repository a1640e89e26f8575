"""`python -m core states`."""

import argparse
import math
import sys

from core.cli.options import REMOVE, RUN, positive, seconds
from core.cli.progress import Progress
from core.energy.mix import mix_label, read_mix
from core.energy.sources import open_source
from core.errors import InputError
from core.ising.matrix_files import read_matrix
from core.spectrum.constraints import read_constraints
from core.spectrum.lowest import lowest_states
from core.spectrum.memory_budget import read_budget, with_budget
from core.store.folders import find_run


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The options of the command."""
    origin = command.add_mutually_exclusive_group(required=True)
    origin.add_argument("--run", **RUN)
    origin.add_argument(
        "--matrix",
        metavar="FILE",
        help="a coupling matrix: .npy, .csv or .tsv, .npz with key H or sparse; a triangle is read as a QUBO",
    )
    command.add_argument("--remove", **REMOVE)
    command.add_argument(
        "--count", type=positive, default=20, metavar="K", help="states to list (default 20)"
    )
    command.add_argument("--keep", metavar="LIST", help="blocks that stay, for example 0,23")
    command.add_argument("--go", metavar="LIST", help="blocks that go in every state")
    command.add_argument(
        "--groups",
        metavar="TEXT",
        help="exactly so many of each group, for example '0-11: 2; 12-23: 3', or of each kind of block: "
        "'attention: 2; MoE: 3'",
    )
    command.add_argument("--max-run", metavar="L", help="at most L consecutive blocks (1: no two neighbours)")
    command.add_argument(
        "--fits",
        metavar="BUDGET",
        help="what is left must fit, for example '24 GB at 8k context, batch 4' or '3B active'; for --run",
    )
    command.add_argument(
        "--time-limit",
        type=seconds,
        metavar="S",
        help="seconds; then the states found so far and what is proved (exact: false)",
    )
    command.add_argument(
        "--estimator",
        default="h0",
        help="h0 (default), h1, hybrid, h0g (first-order term on), or the name of a learned landscape; for "
        "--run",
    )
    command.add_argument(
        "--mix",
        metavar="SHARES",
        help="weigh the domains of the texts, for example 'story=2, memory=1'; for --run; "
        "default: as sampled",
    )


def run(args: argparse.Namespace) -> dict:
    """The states with rank and energy, and what is proved of the list."""
    if args.matrix and args.mix is not None:
        raise InputError(f"--mix {args.mix[:40]!r} needs --run: a bare matrix has no domains; leave it out.")
    if args.matrix and args.fits is not None:
        raise InputError(
            f"--fits {args.fits[:40]!r} needs --run: a bare matrix does not say what its blocks take; leave "
            "it out."
        )
    mix, kinds = None, []
    model: dict = {}
    if args.matrix:
        H = read_matrix(args.matrix, lambda sentence: print(sentence, file=sys.stderr))
    else:
        source = open_source(find_run(args.run))
        mix = None if args.mix is None else source.check_mix(read_mix(args.mix))
        H, kinds = source.couplings(args.estimator, mix), source.kinds
        model = source.run.meta["model"] if source.run else {}
    fields = {"keep": args.keep, "remove": args.go, "groups": args.groups, "max_run": args.max_run}
    constraints = read_constraints({name: value or "" for name, value in fields.items()}, len(H), kinds)
    if args.fits is not None:
        constraints = with_budget(model, read_budget(args.fits), constraints)
    progress = Progress()

    def report(now) -> None:
        seconds = int(now.seconds)
        left = args.time_limit and max(0.0, args.time_limit - now.seconds)
        progress(seconds, max(seconds + 1, int(args.time_limit or 0)), f"{now.nodes:.2g} nodes", left)

    found = lowest_states(
        H, args.remove, args.count, constraints=constraints, time_limit=args.time_limit, report=report
    )
    return {
        "states": [
            {"removed": list(s), "energy": float(e), "rank": k}
            for k, (s, e) in enumerate(zip(found.removed, found.energies))
        ],
        "exact": found.exact,
        "lower_bound": None if math.isinf(found.lower_bound) else found.lower_bound,
        "level_cut": found.level_cut,
        "seconds": found.seconds,
        **({} if mix is None else {"mix": mix}),
    }


def describe(result: dict) -> str:
    """The same result for a person."""
    proof = "exact" if result["exact"] else "not proved"
    mix = f", mix: {mix_label(result['mix'], 9)}" if "mix" in result else ""
    head = f" rank  energy  removed blocks ({proof}, {result['seconds']:.2f} s{mix})"
    lines = [head]
    for state in result["states"]:
        removed = ",".join(map(str, state["removed"]))
        lines.append(f"{state['rank']:>5}  {state['energy']:.9g}  {removed}")
    return "\n".join(lines)
