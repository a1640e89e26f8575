"""The lowest states of a landscape, as several commands ask for them: estimator, mix, rules, patience."""

import argparse
from typing import Any

import numpy as np

from core.cli.options import BY, seconds
from core.cli.progress import Progress
from core.energy.mix import read_mix
from core.energy.sources import open_source
from core.ising.units import Units
from core.spectrum.constraints import Constraints, read_constraints
from core.spectrum.lowest import Spectrum, lowest_states
from core.spectrum.memory_budget import read_budget, with_budget
from core.store.folders import find_run


def add_landscape(command: argparse.ArgumentParser) -> None:
    """--keep, --go, --groups, --max-run, --fits, --time-limit, --estimator, --mix."""
    command.add_argument("--by", **BY)
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


def landscape_of(args: argparse.Namespace) -> tuple[np.ndarray, dict | None, Units, dict]:
    """(couplings of --run as --by sees it, its mix, its units, what is known of its model)."""
    source = open_source(find_run(args.run)).seen(args.by)
    mix = None if args.mix is None else source.check_mix(read_mix(args.mix))
    model: dict[str, Any] = source.run.meta["model"] if source.run else {}
    return source.couplings(args.estimator, mix), mix, source.units, model


def constraints_of(args: argparse.Namespace, units: Units, model: dict) -> Constraints:
    """The rules that are named. Errors: InputError."""
    fields = {"keep": args.keep, "remove": args.go, "groups": args.groups, "max_run": args.max_run}
    constraints = read_constraints({name: value or "" for name, value in fields.items()}, units)
    return constraints if args.fits is None else with_budget(model, read_budget(args.fits), constraints)


def searched_lowest(
    args: argparse.Namespace, H: np.ndarray, count: int, constraints: Constraints
) -> Spectrum:
    """The so many lowest states of --remove blocks, the search shown on stderr."""
    progress = Progress()

    def report(now) -> None:
        seconds = int(now.seconds)
        left = args.time_limit and max(0.0, args.time_limit - now.seconds)
        progress(seconds, max(seconds + 1, int(args.time_limit or 0)), f"{now.nodes:.2g} nodes", left)

    return lowest_states(
        H, args.remove, count, constraints=constraints, time_limit=args.time_limit, report=report
    )
