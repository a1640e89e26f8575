"""`python -m core race`."""

import argparse
import re
from pathlib import Path

from core.cli.lowest import add_landscape, landscape_of, searched_lowest
from core.cli.options import REMOVE, RUN, chance
from core.cli.searches import add_choosing, chosen
from core.compare.other_tools import read_states
from core.errors import InputError
from core.ising.units import Name, Units, written
from core.spectrum.lowest import check_removed
from core.store.folders import find_run
from core.store.results import KL, LOSS
from core.store.runs import load_run

LOWEST = 20  # states that race where none are named
_LOWEST = re.compile(r"lowest:([1-9][0-9]{0,3})")


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The options of the command."""
    command.add_argument("--run", required=True, **RUN)
    command.add_argument("--remove", **REMOVE)
    command.add_argument(
        "--states",
        metavar="WHICH",
        help=f"lowest:K, the K lowest in energy (default lowest:{LOWEST}, unless --blocks names some), or a "
        "file: .json or .csv, as benchmark takes it",
    )
    command.add_argument(
        "--blocks", action="append", metavar="LIST", help="a choice, for example 3,7-9; several times"
    )
    command.add_argument(
        "--delta",
        type=chance,
        default=0.05,
        metavar="P",
        help="the chance to lose the best state that is taken (default 0.05)",
    )
    add_choosing(command)
    add_landscape(command)


def run(args: argparse.Namespace) -> dict:
    """The winner, its ties with their losses on unseen texts, who left and when, and what it cost."""
    units = load_run(find_run(args.run)).seen(args.by).units
    check_removed(args.remove, len(units))
    states = [tuple(units.listed(units.parse(text))) for text in args.blocks or []]
    which = args.states or ("" if states else f"lowest:{LOWEST}")
    if lowest := _LOWEST.fullmatch(which):
        found = searched_lowest(args, landscape_of(args), int(lowest[1]))
        states += [tuple(units.listed(s)) for s in found.removed]
    elif which.startswith("lowest"):
        raise InputError(f"--states {which[:40]!r} is not lowest:K; give a K of 1 to 9999.")
    elif which:
        states += read_states(Path(which))
    states = list(dict.fromkeys(states))
    _check(states, units, args.remove)
    return chosen("race", args, states=[list(s) for s in states], delta=args.delta)


def _check(states: list[tuple[Name, ...]], units: Units, removed: int) -> None:
    """Before a model is loaded. Errors: InputError where the states are no race of M = `removed`."""
    found = {name: units.state(name) for name in states}
    for name, state in found.items():
        said = written(name)[:60] or "original"
        if state is None:
            raise InputError(
                f"The state {said!r} cannot be said of this run, seen by {units.by}; leave it out, or "
                "choose another --by."
            )
        if len(state) != removed:
            raise InputError(
                f"The state {said!r} removes {len(state)} {units.word}s, and this race is between states "
                f"that remove {removed}; leave it out."
            )
    if len(set(found.values())) < 2:
        raise InputError("A race needs two different states; give more by --blocks or --states.")


def describe(result: dict) -> str:
    """The race for a person."""
    ties, dropped = result["ties"], result["dropped"]
    head = (
        f"{len(ties)} states tie: {result['sequences']} sequences do not tell them apart."
        if len(ties) > 1
        else f"One state is left after {result['decided_at']} of {result['sequences']} sequences."
    )
    ruler = KL if KL in ties[0] else LOSS
    what = "KL" if ruler == KL else LOSS
    lines = [head, f"sequences  {what:>8}  {'above the winner':<29}  removed blocks"]
    for racer in [*ties, *dropped]:
        between = "" if racer["low"] is None else f" [{racer['low']:+.4f}, {racer['high']:+.4f}]"
        above = f"{racer['above']:+.4f}{between}"
        blocks = ",".join(map(str, racer["removed"]))
        lines.append(f"{racer['items']:>9}  {racer[ruler]:>8.4f}  {above:<29}  {blocks}")
    if ruler == KL:
        lines.append("KL to the original, nats a token")
    saved = f"It took {result['forwards']:.1f} forwards; measuring all takes {result['forwards_of_all']:.1f}."
    return "\n".join([*lines, saved])
