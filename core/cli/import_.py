"""`python -m core import`."""

import argparse
from dataclasses import asdict
from pathlib import Path

from core.cli.options import RUN
from core.compare import other_tools
from core.compare.comparison import model_key
from core.ising.units import BRANCH
from core.store.folders import find_run
from core.store.runs import load_run


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The options of the command."""
    command.add_argument("--run", required=True, **RUN)
    command.add_argument(
        "--file",
        action="append",
        metavar="FILE",
        help="a results .json of lm-evaluation-harness, or a list of removed blocks with scores: .json "
        '([{"removed": [3, 7], "scores": {"mmlu": 0.61}}]) or .csv (column removed, every other numeric '
        "column a score); may be given several times; without it, what was imported is listed",
    )
    command.add_argument(
        "--blocks",
        metavar="LIST",
        help="the blocks that were removed from the model that a harness file is about (default: none)",
    )


def run(args: argparse.Namespace) -> dict:
    """How many scores are new, and all that are imported for the run's model."""
    run = load_run(find_run(args.run))
    units = run.units_by(BRANCH)
    removed = () if args.blocks is None else units.stored(units.parse(args.blocks))
    files = list(map(Path, args.file or []))
    # all are read before any is kept
    read = [other_tools.read_results(path, removed, units) for path in files]
    other_tools.check_used(removed, read)
    model = model_key(run)
    new = sum(other_tools.keep(model, path, rows) for path, rows in zip(files, read))
    return {"new": new, "imported": [asdict(row) for row in other_tools.kept(model)]}


def describe(result: dict) -> str:
    """The scores for a person, a line each."""
    lines = [f"{result['new']} new, {len(result['imported'])} imported scores"]
    for row in result["imported"]:
        removed = ",".join(map(str, row["removed"]))
        state = f"without {removed}" if removed else "original"
        lines.append(
            f"{state}: {row['task']} {row['metric']} {row['value']:.4g} ({row['tool']}, {row['source']})"
        )
    return "\n".join(lines)
