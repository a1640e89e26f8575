"""The commands of `python -m core`, and how their results and failures are told.

With --json one JSON object goes to stdout, null in it for a number that is none; progress and messages go
to stderr. Exit codes: 0 done, 2 bad input, 1 our fault, 130 cancelled; on failure the object is
{"error": "one sentence"}.

A command is an entry of `COMMANDS` and a module of this room with `add_arguments(parser)`, `run(args)` and,
where its result is no plain table, `describe(result)`.
"""

import argparse
import importlib
import json
import keyword
import os
import sys
from types import ModuleType

from core.errors import InputError, JobError
from core.store.as_json import as_json

COMMANDS = {
    "calibrate": "Compute the per-sample gate gradients A of a model on texts and store the run.",
    "states": "List the lowest-energy states with exactly M blocks removed, exactly.",
    "learn": "Find the best choice of M blocks within a budget of forwards: measured states correct the "
    "couplings.",
    "landscape": "Find the lowest minima of a landscape and the barriers between them.",
    "peers": "Run other methods of choosing M blocks, on the same sequences and the same meter.",
    "race": "Find the best of some states, and all that cannot be told from it, without measuring each on "
    "everything.",
    "prune": "Remove blocks for real and write a checkpoint, verified in a fresh process.",
    "push": "Send an export to the Hugging Face hub.",
    "heal": "Win back what removing blocks costs: distillation from the original, a linear map or merged "
    "weights; writes a checkpoint.",
    "benchmark": "Measure the loss of many choices of blocks in one job, the original first; "
    "under torchrun the ranks share them.",
    "behaviour": "Ask short prompts: whether a model without blocks still ends, answers and keeps its "
    "language.",
    "evaluate": "Measure loss, perplexity, the bundled tasks and tokens per second.",
    "speed": "Measure milliseconds a token at a context, and what attention and FFN have of it; budgets of "
    "time read it.",
    "import": "Take results of other tools for a run's model, marked as such.",
}
_HELP = """The command line: `python -m core COMMAND`; `study` measures the learned landscape, in hours.

With --json one JSON object goes to stdout; progress and messages go to stderr.
Exit codes: 0 done, 2 bad input, 1 our fault, 130 cancelled; on failure the
object is {"error": "one sentence"}.
"""


class _Parser(argparse.ArgumentParser):
    """Wrong options are bad input like any other: one sentence, exit code 2."""

    def error(self, message):
        raise InputError(f"{message[0].upper()}{message[1:]}; see '{self.prog} --help'.")


def _module(command: str) -> ModuleType:
    """The module of a command; that of a word of Python itself has an underscore behind it."""
    return importlib.import_module(f"core.cli.{command}{'_' * keyword.iskeyword(command)}")


def _parser(named: str | None) -> argparse.ArgumentParser:
    """The parser; only the command that is named has its options, so that no other is imported."""
    parser = _Parser(
        prog="python -m core",
        allow_abbrev=False,
        description=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, about in COMMANDS.items():
        command = commands.add_parser(name, help=about, description=about, allow_abbrev=False)
        command.add_argument("--json", action="store_true", help="print one JSON object on stdout")
        if name == named:
            _module(name).add_arguments(command)
    return parser


def _describe(command: str, result: dict) -> str:
    """The same result for a person."""
    describe = getattr(_module(command), "describe", None)
    return describe(result) if describe else "\n".join(f"{key}: {value}" for key, value in result.items())


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["study"]:  # a script of its own: hours, tables and figures
        from core.choose.study import main as study

        return study(argv[1:])
    as_object = "--json" in argv
    try:
        named = next((word for word in argv if not word.startswith("-")), None)
        args = _parser(named).parse_args(argv)
        result = _module(args.command).run(args)
        told = "" if result is None else as_json(result) if as_object else _describe(args.command, result)
    except InputError as error:
        return _fail(str(error), as_object, 2)
    except JobError as error:
        return _fail(str(error), as_object, 1)
    except OSError as error:
        if error.filename is None:
            return _fail(f"Unexpected {type(error).__name__}: {error.strerror or error}.", as_object, 1)
        path, why = str(error.filename)[:200], error.strerror
        return _fail(f"{path!r} cannot be read or written ({why}); check the path.", as_object, 2)
    except KeyboardInterrupt:
        return _fail("Cancelled.", as_object, 130)
    except Exception as error:
        if os.environ.get("BLOCKSCAPE_DEBUG"):
            raise
        what = str(error).splitlines()[0] if str(error) else "no message"
        sentence = f"Unexpected {type(error).__name__}: {what} (set BLOCKSCAPE_DEBUG=1 for the traceback)."
        return _fail(sentence, as_object, 1)
    if result is None:  # rank 0 of the launch tells it
        return 0
    try:
        print(told, flush=True)
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _fail(sentence: str, as_object: bool, code: int) -> int:
    if as_object:
        print(json.dumps({"error": sentence}))
    else:
        print(f"error: {sentence}", file=sys.stderr)
    return code
