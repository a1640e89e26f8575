"""`python -m core benchmark`."""

import argparse

from core import jobs
from core.cli.choices import add_choices, choices_of
from core.cli.options import LENGTH, REPORTED, add_model, add_texts, form_of, texts_of
from core.cli.running import as_job, together
from core.errors import InputError
from core.ranks import launched
from core.tasks.items import BUNDLED


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_model(command)
    add_texts(command)
    add_choices(command)
    command.add_argument("--sequences", **REPORTED)
    command.add_argument("--length", **LENGTH)


def run(args: argparse.Namespace) -> dict | None:
    """The loss of every state, the original first; None on ranks that tell nothing."""
    states = choices_of(args)
    if len(states) == 1:
        raise InputError(
            "No state is named; give --blocks LIST, several times if you like, or --states FILE."
        )
    request = jobs.request_of(
        args.model,
        texts_of(args),
        (str(BUNDLED),),
        form_of(args),
        states=states,
        sequences=args.sequences,
        length=args.length,
        tasks=False,
        prompt="",
        speed=False,
        remote_code=args.trust_remote_code,
    )
    done = together("benchmark", request) if launched() else as_job("benchmark", request)
    return done and {name: done[name] for name in ("states", "sequences")}
