"""States of a model, as several commands ask for them: blocks by number, or ranks in a run."""

import argparse
from dataclasses import dataclass

import numpy as np

from core.cli.lowest import add_landscape, landscape_of, searched_lowest
from core.cli.options import RUN, natural
from core.errors import InputError
from core.ising.units import Name, read_names
from core.spectrum.lowest import check_removed
from core.store.folders import find_run
from core.store.runs import load_run


@dataclass(frozen=True)
class Chosen:
    """A model's source, and what to remove of it, in the order in which it is named.

    Of a state of a run also the landscape that it was chosen in, as a prune job's request has it; its rank
    from 0 on, its energy, and the couplings, float64 [N, N].
    """

    model: str
    removed: tuple[Name, ...]
    landscape: dict | None = None
    rank: int | None = None
    energy: float | None = None
    H: np.ndarray | None = None


def add_state(command: argparse.ArgumentParser, several: bool = False) -> None:
    """--model with --blocks, or --run with --remove and --rank, and what names its landscape; several: more
    than one rank may be named.
    """
    command.add_argument("--model", metavar="M", help="the original, with --blocks; or a run, with --run")
    command.add_argument(
        "--trust-remote-code",
        action="store_true",
        help="run the Python files of the model's own folder; only for models you trust",
    )
    command.add_argument(
        "--blocks", metavar="LIST", help="for example 3,7-9, or with parts of blocks 3,12a,13f"
    )
    command.add_argument("--run", **RUN)
    command.add_argument("--remove", type=int, metavar="M", help="with --run: blocks (or units) to remove")
    more = ", or several, 1,5,17: treated alike and compared" if several else ""
    command.add_argument(
        "--rank",
        type=_ranks if several else lambda text: [natural(text)],
        metavar="K",
        help=f"with --run: a state by its rank as states lists it (default 0, the lowest){more}",
    )
    add_landscape(command)


def _ranks(text: str) -> list[int]:
    """Ranks, each once, the lowest first."""
    return sorted({natural(part.strip()) for part in text.split(",")})


def states_of(args: argparse.Namespace) -> list[Chosen]:
    """What the options of `add_state` name, a rank as `states` lists it for the same run, M, estimator and
    rules. Errors: InputError.
    """
    if args.blocks and args.model and not args.run:
        read_names(args.blocks)  # as a whole: nothing twice
        if args.rank is not None or args.remove is not None:
            raise InputError(
                "--remove and --rank name a state of a run, and --blocks one by its blocks; leave either out."
            )
        return [Chosen(args.model, tuple(b for part in args.blocks.split(",") for b in read_names(part)))]
    if not args.run or args.blocks or args.model:
        raise InputError(
            "Which state is meant is not clear; give --model with --blocks, or --run with --remove (and "
            "--rank)."
        )
    folder = find_run(args.run)
    run = load_run(folder).seen(args.by)
    if args.remove is not None:
        check_removed(args.remove, len(run.units))
    asked = landscape_of(args)
    ranks = args.rank or [0]
    found = searched_lowest(args, asked, ranks[-1] + 1)
    if len(found.removed) <= ranks[-1]:
        raise InputError(
            f"There are {len(found.removed)} states, of rank 0 to {len(found.removed) - 1}; choose a --rank "
            f"among those, not {ranks[-1]}."
        )
    landscape = {
        "run": str(folder),
        "by": args.by,
        "estimator": asked.estimator,
        **({} if asked.mix is None else {"mix": asked.mix}),
    }
    return [
        Chosen(
            run.meta["model"]["source"],
            run.units.stored(found.removed[k]),
            landscape,
            k,
            float(found.energies[k]),
            asked.H,
        )
        for k in ranks
    ]
