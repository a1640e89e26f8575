"""The lowest states of a landscape, as several commands ask for them: estimator, mix, rules, patience."""

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from core.cli.options import BY, REMOVE, RUN, seconds
from core.cli.progress import Progress
from core.energy.couplings import ESTIMATORS
from core.energy.mix import read_mix
from core.energy.sources import open_source
from core.errors import InputError
from core.ising.matrix_files import read_matrix
from core.ising.units import BLOCK, Units, whole
from core.landscape.wording import excess
from core.spectrum.constraints import Constraints, read_constraints, removed_by_groups
from core.spectrum.lowest import Spectrum, lowest_states
from core.spectrum.memory_budget import read_budget, with_budget
from core.store.folders import find_run

BEST = "best"  # --estimator: the couplings that the app opens on


def add_origin(command: argparse.ArgumentParser) -> None:
    """--run or --matrix, and --remove."""
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


def add_landscape(command: argparse.ArgumentParser) -> None:
    """--by, the rules, --time-limit, --estimator, --mix."""
    command.add_argument("--by", **BY)
    add_rules(command)
    command.add_argument(
        "--time-limit",
        type=seconds,
        metavar="S",
        help="seconds; then the states found so far and what is proved (exact: false)",
    )
    command.add_argument(
        "--estimator",
        default="h0",
        help=f"{', '.join(ESTIMATORS)} (default h0, the paper's); {BEST}: what the app opens on, of those "
        "that the run has data for the ones that order measured states best; or the name of a learned "
        "landscape; for --run",
    )
    command.add_argument(
        "--mix",
        metavar="SHARES",
        help="weigh the domains of the texts, for example 'story=2, memory=1'; for --run; "
        "default: as sampled",
    )


def add_rules(command: argparse.ArgumentParser) -> None:
    """--keep, --go, --groups, --max-run, --fits; `rules_of` reads them."""
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
        help="what is left must fit, for example '24 GB at 8k context, batch 4', '3B active', or shares of "
        "the original, 'weights 80 %%, kv 60 %%, time at 8k 75 %%' (time: once speed measured it); for --run",
    )


def rules_of(args: argparse.Namespace) -> dict[str, str]:
    """The texts of the rules that are named, as core.spectrum.constraints.read_constraints takes them, and of
    a budget.
    """
    fields = {"keep": args.keep, "remove": args.go, "groups": args.groups, "max_run": args.max_run}
    return {name: text for name, text in {**fields, "fits": args.fits}.items() if text}


@dataclass(frozen=True)
class Asked:
    """The landscape that the options name."""

    H: np.ndarray  # float64 [N, N]
    units: Units  # what a state removes
    estimator: str | None = None  # by name; None of a bare matrix
    mix: dict | None = None
    model: Mapping[str, Any] = field(default_factory=dict)  # what is known of it


def landscape_of(args: argparse.Namespace) -> Asked:
    """That of --run, as --by sees it. Errors: InputError."""
    source = open_source(find_run(args.run)).seen(args.by)
    mix = None if args.mix is None else source.check_mix(read_mix(args.mix))
    estimator = source.default if args.estimator == BEST else args.estimator
    model = source.run.meta["model"] if source.run else {}
    return Asked(source.couplings(estimator, mix), source.units, estimator, mix, model)


def asked_of(args: argparse.Namespace) -> Asked:
    """The landscape of --run or --matrix. Errors: InputError, also for options that a bare matrix lacks."""
    if not args.matrix:
        return landscape_of(args)
    for option, given, why in (
        ("--mix", args.mix, "has no domains"),
        ("--fits", args.fits, "does not say what its blocks take"),
        ("--by", None if args.by == BLOCK else args.by, "does not say what its blocks are made of"),
    ):
        if given is not None:
            raise InputError(f"{option} {given[:40]!r} needs --run: a bare matrix {why}; leave it out.")
    H = read_matrix(Path(args.matrix), lambda sentence: print(sentence, file=sys.stderr))
    return Asked(H, whole(len(H)))


def constraints_of(args: argparse.Namespace, asked: Asked) -> Constraints:
    constraints = read_constraints(rules_of(args), asked.units)
    return constraints if args.fits is None else with_budget(asked.model, read_budget(args.fits), constraints)


def searched_lowest(args: argparse.Namespace, asked: Asked, count: int) -> Spectrum:
    """The so many lowest states of --remove blocks within the rules that are named, the search shown on
    stderr. Errors: InputError.
    """
    constraints, removed = constraints_of(args, asked), removed_of(args, asked)
    found = lowest_states(
        asked.H, removed, count, constraints=constraints, time_limit=args.time_limit, report=reporter(args)
    )
    tell_excess(found, removed, constraints, asked)
    return found


def tell_excess(found: Spectrum, removed: int | None, constraints: Constraints, asked: Asked) -> None:
    """A line on stderr where M is left free and far too much goes."""
    told = excess(constraints, found.removed[0], asked.units) if removed is None and len(found.x) else None
    if told:
        print(f"{told[1]} Give --remove {told[0]}, or try another estimator.", file=sys.stderr)


def removed_of(args: argparse.Namespace, asked: Asked) -> int | None:
    """M; None where a budget says how much goes. Errors: InputError where nothing does."""
    constraints = constraints_of(args, asked)
    if args.remove is None and not constraints.budgeted:
        return _removed_by(args, constraints)
    return args.remove


def reporter(args: argparse.Namespace) -> Callable:
    """Shows a search on stderr."""
    progress = Progress()

    def report(now) -> None:
        seconds = int(now.seconds)
        left = args.time_limit and max(0.0, args.time_limit - now.seconds)
        progress(seconds, max(seconds + 1, int(args.time_limit or 0)), f"{now.nodes:.2g} nodes", left)

    return report


def _removed_by(args: argparse.Namespace, constraints: Constraints) -> int:
    """M, where groups say it: what they remove together, and what goes in every state. Errors: InputError
    where nothing does.
    """
    if args.fits is not None and not constraints.groups:
        raise InputError(
            f"The whole model fits the budget {args.fits[:80]!r}, so it does not say how much to remove; "
            "give --remove, or a smaller budget."
        )
    if not constraints.groups:
        raise InputError("Nothing says how much to remove; give --remove, --fits or --groups.")
    return removed_by_groups(constraints)
