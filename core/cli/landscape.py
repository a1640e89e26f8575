"""`python -m core landscape`: minima, barriers, and what noise would show as well."""

import argparse
from pathlib import Path

from core.cli.lowest import (
    add_landscape,
    add_origin,
    asked_of,
    constraints_of,
    removed_of,
    reporter,
    tell_excess,
)
from core.cli.options import positive
from core.errors import InputError
from core.shape import MOVES, barrier_tree, lowest_minima
from core.shape.valleys import MOST
from core.view.tree_files import tree_csv, tree_graphml, tree_svg, tree_table

FILES = (".csv", ".svg", ".graphml")


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_origin(command)
    command.add_argument(
        "--minima", type=positive, default=20, metavar="L", help="lowest minima to find (default 20)"
    )
    command.add_argument(
        "--moves",
        choices=tuple(MOVES),
        default="swap",
        help="; ".join(f"{name}: {about}" for name, about in MOVES.items()) + " (default swap)",
    )
    command.add_argument(
        "--most",
        type=positive,
        default=MOST,
        metavar="K",
        help=f"states that are listed at most in search of them (default {MOST})",
    )
    command.add_argument(
        "--out",
        action="append",
        default=[],
        metavar="FILE",
        help=f"also write the tree, by its ending {', '.join(FILES)}; may be given several times",
    )
    add_landscape(command)


def run(args: argparse.Namespace) -> dict:
    """The minima in order of energy, and the merges of their tree."""
    for name in args.out:
        if Path(name).suffix not in FILES:
            raise InputError(f"--out {name[:80]!r} ends in none of {', '.join(FILES)}; name one of them.")
        if not Path(name).absolute().parent.is_dir():  # told before the search, not after it
            raise InputError(
                f"--out {name[:80]!r} is in a folder that does not exist; make it, or name another."
            )
    asked = asked_of(args)
    constraints, removed = constraints_of(args, asked), removed_of(args, asked)
    found = lowest_minima(
        asked.H,
        removed,
        args.minima,
        constraints=constraints,
        moves=args.moves,
        units=asked.units,
        most=args.most,
        time_limit=args.time_limit,
        report=reporter(args),
    )
    tell_excess(found.valleys.spectrum, removed, constraints, asked)
    tree = barrier_tree(found.valleys)
    table = tree_table(tree, asked.units, found.count)
    for name in args.out:
        file, kind = Path(name), Path(name).suffix
        text = (
            tree_csv(table)
            if kind == ".csv"
            else tree_graphml(table)
            if kind == ".graphml"
            else tree_svg(tree, asked.units)
        )
        file.write_text(text, encoding="utf-8")
    return {
        **table,
        "complete": found.complete,
        "says": found.why,
        "moves": args.moves,
        **({} if asked.estimator is None else {"estimator": asked.estimator}),
        **({} if asked.mix is None else {"mix": asked.mix}),
        **({"out": args.out} if args.out else {}),
    }


def describe(result: dict) -> str:
    """The same result for a person."""
    joins = {j: (i, e) for i, j, e in result["barriers"]}
    lines = [f"   #   rank  energy        basin  barrier       to  removed blocks ({result['says']})"]
    for k, m in enumerate(result["minima"]):
        to, barrier = joins.get(k, (None, None))
        up = f"{barrier:<12.9g}  {to:>3}" if barrier is not None else f"{'-':<12}  {'-':>3}"
        removed = ",".join(map(str, m["removed"]))
        lines.append(f"{k:>4}  {m['rank']:>5}  {m['energy']:<12.9g}  {m['basin']:>5}  {up}  {removed}")
    return "\n".join(lines)
