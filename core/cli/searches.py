"""What the two searches on a run, `learn` and `peers`, have in common: their options and their request."""

import argparse

from core import jobs
from core.cli.options import BY, REMOVE, RUN, forwards, natural, positive
from core.cli.running import as_job
from core.errors import InputError
from core.spectrum.constraints import make_rules, read_constraints, removed_by_groups
from core.spectrum.lowest import check_removed
from core.spectrum.memory_budget import read_budget, with_budget
from core.store.folders import find_run
from core.store.results import LOSS, RULERS
from core.store.runs import Run, load_run
from core.texts.places import missing


def add_search(command: argparse.ArgumentParser, budget: str, counted: bool = True) -> None:
    """--run, --by, --remove (needed where `counted`), --budget (with this help), --seed and what
    `add_choosing` adds; `searched` reads them.
    """
    command.add_argument("--run", required=True, **RUN)
    command.add_argument("--by", **BY)
    command.add_argument("--remove", **{**REMOVE, "required": counted})
    command.add_argument("--budget", type=forwards, required=True, metavar="F", help=budget)
    add_choosing(command)
    command.add_argument("--seed", type=natural, default=0, help="which states are tried (default 0)")


def add_choosing(command: argparse.ArgumentParser) -> None:
    """--texts, --sequences and --ruler of what chooses on a run's own texts; `chosen` reads them."""
    command.add_argument(
        "--texts",
        action="append",
        metavar="FILE",
        help="where the run's texts lie now, if their files have moved, one for each in their order; the run "
        "remembers the place, and another content is refused",
    )
    command.add_argument(
        "--sequences",
        type=positive,
        default=256,
        metavar="S",
        help="sequences to choose on, and to report on (default 256)",
    )
    command.add_argument(
        "--ruler",
        choices=RULERS,
        default=LOSS,
        help="what the choice goes by: the loss (default), or kl, KL(original || pruned) in nats a token",
    )


def searched(kind: str, args: argparse.Namespace, **asked) -> dict:
    """What the search `kind` finds on the run, followed to its end; asked: what else its request says.
    Errors: InputError.
    """
    return chosen(kind, args, budget=args.budget, seed=args.seed, **asked)


def chosen(kind: str, args: argparse.Namespace, **asked) -> dict:
    """What the job `kind` chooses of the states of --remove on the run's texts, followed to its end; asked:
    what else its request says. Errors: InputError.
    """
    folder = find_run(args.run).absolute()
    run = load_run(folder).seen(args.by)
    if args.remove is not None:
        check_removed(args.remove, run.blocks)
    elif not {"groups", "fits"} & set(asked.get("rules", {})):
        raise InputError("Nothing says how much to remove; give --remove, --fits or --groups.")
    _check_rules(asked.get("rules", {}), run, args.remove)
    if not args.texts and (gone := missing(run)):
        raise InputError(
            f"The texts of the run {run.key[:8]} are no longer at {', '.join(gone)}; say by --texts where "
            "they lie now."
        )
    asked |= {"remove": args.remove, "sequences": args.sequences, "ruler": args.ruler}
    request = jobs.request_on(run, folder, args.texts, **asked)
    return as_job(kind, request)


def _check_rules(texts: dict[str, str], run: Run, removed: int | None) -> None:
    """Errors: InputError for rules that cannot be read, or that no state of M satisfies: before a model is
    loaded.
    """
    constraints = read_constraints(texts, run.units)
    if fits := texts.get("fits"):
        constraints = with_budget(run.meta["model"], read_budget(fits), constraints)
    elif removed is None:
        removed = removed_by_groups(constraints)
    make_rules(constraints, run.blocks, removed)
