"""The command line: `python -m core calibrate | states | learn | benchmark | prune | evaluate | study`.

With --json one JSON object goes to stdout; progress and messages go to stderr.
Exit codes: 0 done, 2 bad input, 1 our fault, 130 cancelled; on failure the
object is {"error": "one sentence"}.
"""

import argparse
import json
import math
import os
import sys
import tempfile
import time
from pathlib import Path

from core.errors import InputError


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise InputError(f"{message[0].upper()}{message[1:]}; see '{self.prog} --help'.")


def _positive(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isascii() or not text.isdecimal() or len(text) > 9 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a whole number of at least 1")
    return int(text)


def _batch(text: str) -> int | None:
    """A whole number of at least 1; None for auto."""
    return None if text == "auto" else _positive(text)


def _seconds(text: str) -> float:
    """A number of seconds above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number of seconds above 0")
    return value


def _forwards(text: str) -> float:
    """A number of forwards above 0."""
    try:
        return _seconds(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(str(error).replace("seconds", "forwards")) from error


def _natural(text: str) -> int:
    """A whole number of at least 0."""
    return 0 if text == "0" else _positive(text)


class _Progress:
    """One line on stderr, rewritten on a terminal and at most every two seconds elsewhere."""

    def __init__(self):
        self.began = self.last = time.monotonic()
        self.live = sys.stderr.isatty()

    def __call__(self, done: int, total: int, message: str) -> None:
        now = time.monotonic()
        if done < total and now - self.last < (0.1 if self.live else 2.0):
            return
        self.last = now
        left = (now - self.began) / done * (total - done) if done else math.nan
        line = f"{message}: {done}/{total}" + (f", about {left:.0f} s left" if done and done < total else "")
        print(
            f"\r\033[K{line}" if self.live else line,
            end="" if self.live and done < total else "\n",
            file=sys.stderr,
            flush=True,
        )


def calibrate(args) -> dict | None:
    from core import jobs
    from core.ranks import launched
    from core.store.folders import home
    from core.store.runs import check_run_place, load_run, save_run

    out = Path(args.out)
    check_run_place(out)
    _check_writable(out)
    request = jobs.request_of(
        args.model,
        args.texts,
        form=_form(args),
        samples=args.samples,
        length=args.length,
        seed=args.seed,
        batch=args.batch,
        sampled=args.sampled,
        singles=args.singles,
        remote_code=args.trust_remote_code,
        **({"checkpointed": True} if args.checkpointed else {}),
    )
    done = _together("calibrate", request) if launched() else _as_job("calibrate", request)
    if done is None:
        return None
    save_run(load_run(home() / "runs" / done["key"]), out)
    return {"run": str(out), **done}


def _form(args) -> dict[str, str]:
    return {"mode": args.mode, "template": args.template, "bos": args.bos}


def _together(kind: str, request: dict) -> dict | None:
    """The job, done by the processes of this launch; None on all but rank 0."""
    from core import jobs, ranks

    with ranks.joined() as own:
        job = jobs.together(kind, own.agree(request), own, _Progress())
        if job is None:
            return None
        if job.active:
            raise InputError(
                f"Job {job.id} is already at work on this; wait for it, or cancel it in the app."
            )
        return _result(job)


def _check_writable(out: Path) -> None:
    """Before long work: can `out` be made? Errors: InputError."""
    parent = out.absolute().parent
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    try:
        tempfile.TemporaryDirectory(prefix=".blockscape-", dir=parent).cleanup()
    except OSError as error:
        raise InputError(
            f"--out {str(out)[:200]!r} cannot be written: {str(parent)[:200]!r} is no folder to write to; "
            "give another place."
        ) from error


def _as_job(kind: str, request: dict) -> dict:
    """Run a job to its end, showing its progress; Ctrl-C cancels it, and the same command resumes it."""
    from core import jobs

    job = jobs.start(kind, request)
    try:
        job = jobs.follow(job.id, _Progress())
    except KeyboardInterrupt:
        jobs.cancel(job.id)
        raise
    return _result(job)


def _result(job) -> dict:
    """What an ended job made. Raises what its end was."""
    if job.status == "cancelled":
        raise KeyboardInterrupt
    if job.status == "interrupted":
        raise RuntimeError(f"the worker of job {job.id} was killed; the same command resumes it")
    if job.status == "failed":
        raise InputError(job.error) if job.bad_input else RuntimeError(job.error)
    return job.result


def states(args) -> dict:
    from core.energy.mix import read_mix
    from core.energy.sources import open_source
    from core.ising.energies import read_matrix
    from core.spectrum.budget import read_budget, with_budget
    from core.spectrum.constraints import read_constraints
    from core.spectrum.lowest import lowest_states
    from core.store.folders import find_run

    if args.matrix and args.mix is not None:
        raise InputError(f"--mix {args.mix[:40]!r} needs --run: a bare matrix has no domains; leave it out.")
    if args.matrix and args.fits is not None:
        raise InputError(
            f"--fits {args.fits[:40]!r} needs --run: a bare matrix does not say what its blocks take; leave "
            "it out."
        )
    source = None if args.matrix else open_source(find_run(args.run))
    mix = None if args.mix is None else source.check_mix(read_mix(args.mix))
    H = source.couplings(args.estimator, mix) if source else read_matrix(args.matrix)
    fields = {"keep": args.keep, "remove": args.go, "groups": args.groups, "max_run": args.max_run}
    constraints = read_constraints(
        {name: value or "" for name, value in fields.items()}, len(H), source.kinds if source else ()
    )
    if args.fits is not None:
        constraints = with_budget(source.run.meta["model"], read_budget(args.fits), constraints)
    progress = _Progress()

    def report(now) -> None:
        seconds = int(now.seconds)
        progress(seconds, max(seconds + 1, int(args.time_limit or 0)), f"{now.nodes:.2g} nodes")

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


def prune(args) -> dict:
    from core import jobs
    from core.ising.states import parse_blocks
    from core.store.folders import check_free

    out, blocks = Path(args.out).absolute(), parse_blocks(args.blocks)
    request = jobs.request_of(
        args.model,
        blocks=list(blocks),
        out=str(out),
        zip=False,
        provenance={},
        remote_code=args.trust_remote_code,
    )
    if jobs.find("prune", request) is None:  # neither made nor under way: the folder must be free
        _check_writable(out)
        check_free(out)
    done = _as_job("prune", request)
    return {
        name: done[name]
        for name in ("out", "removed", "parameters", "bytes", "blocks", "kv_bytes", "verified")
    }


def evaluate(args) -> dict:
    from core import jobs
    from core.tasks.items import BUNDLED

    harness = _harness_request(args)
    request = jobs.request_of(
        args.model,
        args.texts,
        (str(BUNDLED),),
        _form(args),
        sequences=args.sequences,
        length=args.length,
        seed=args.seed,
        batch=args.batch,
        tasks=not args.no_tasks and harness is None,
        remote_code=args.trust_remote_code,
    )
    done = _as_job("evaluate", request)
    if harness is None:
        return done
    scores = _as_job("harness", harness)
    (original,) = scores.pop("states")
    return {**done, "tasks": original["tasks"], "groups": original["groups"], **scores}


def _harness_request(args) -> dict | None:
    """What is asked of lm-evaluation-harness; None where nothing is. Errors: InputError."""
    from core import jobs
    from core.tasks.presets import asked

    if not (args.tasks or args.preset):
        if args.shots is not None or args.limit is not None:
            raise InputError(
                f"--{'limit' if args.shots is None else 'shots'} needs --tasks or --preset; name one, or "
                "leave it out."
            )
        return None
    if args.no_tasks:
        raise InputError(
            f"--no-tasks and --{'tasks' if args.tasks else 'preset'} contradict each other; leave one out."
        )
    protocol, reads = asked(args.tasks or (), args.preset, args.shots)
    return jobs.request_of(
        args.model,
        reads=reads,
        states=[[]],
        preset=protocol.to_json(),
        limit=args.limit,
        batch=args.batch,
        remote_code=args.trust_remote_code,
    )


def benchmark(args) -> dict | None:
    from core import jobs
    from core.compare.other_tools import read_states
    from core.ising.states import parse_blocks
    from core.ranks import launched
    from core.tasks.items import BUNDLED

    listed = [] if args.states is None else read_states(Path(args.states))
    states = list(dict.fromkeys([(), *(parse_blocks(text) for text in args.blocks or []), *listed]))
    if len(states) == 1:
        raise InputError(
            "No state is named; give --blocks LIST, several times if you like, or --states FILE."
        )
    request = jobs.request_of(
        args.model,
        args.texts,
        (str(BUNDLED),),
        _form(args),
        states=[list(s) for s in states],
        sequences=args.sequences,
        length=args.length,
        tasks=False,
        prompt="",
        speed=False,
        remote_code=args.trust_remote_code,
    )
    done = _together("benchmark", request) if launched() else _as_job("benchmark", request)
    return done and {name: done[name] for name in ("states", "sequences")}


def learn(args) -> dict:
    from core import jobs
    from core.spectrum.lowest import check_removed
    from core.store.folders import find_run
    from core.store.runs import load_run

    folder = find_run(args.run).absolute()
    run = load_run(folder)
    check_removed(args.remove, run.blocks)
    request = jobs.request_on(
        run, folder, remove=args.remove, budget=args.budget, sequences=args.sequences, seed=args.seed
    )
    return _as_job("learn", request)


def _describe(command: str, result: dict) -> str:
    """The same result for a person."""
    if command == "states":
        from core.energy.mix import mix_label

        proof = "exact" if result["exact"] else "not proved"
        lines = [
            f"{s['rank']:>5}  {s['energy']:.9g}  {','.join(map(str, s['removed']))}" for s in result["states"]
        ]
        mix = f", mix: {mix_label(result['mix'], 9)}" if "mix" in result else ""
        return "\n".join([f" rank  energy  removed blocks ({proof}, {result['seconds']:.2f} s{mix})", *lines])
    return "\n".join(f"{key}: {value}" for key, value in result.items())


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m core",
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(function, about: str) -> argparse.ArgumentParser:
        command = commands.add_parser(function.__name__, help=about, description=about, allow_abbrev=False)
        command.set_defaults(function=function)
        command.add_argument("--json", action="store_true", help="print one JSON object on stdout")
        return command

    def add_model(command: argparse.ArgumentParser) -> None:
        command.add_argument(
            "--model", required=True, metavar="M", help="demo, a local model folder, or a hub id"
        )
        command.add_argument(
            "--trust-remote-code",
            action="store_true",
            help="run the Python files of the model's own folder; only for models you trust",
        )

    def add_texts(command: argparse.ArgumentParser) -> None:
        command.add_argument(
            "--texts",
            action="append",
            metavar="SOURCE",
            help="may be given several times: a .txt (documents separated by blank lines), .jsonl, .csv or "
            ".parquet file (column text), "
            "hub:OWNER/NAME, own (the model's own samples) or bundled (default); options behind it, as in "
            "FILE::column=story,domain=tales,weight=2,limit=1000, for a hub dataset also config, split and "
            "revision",
        )
        command.add_argument(
            "--mode",
            default="packed",
            metavar="HOW",
            help="packed (default), or documents: one document a sequence, padded on the right",
        )
        command.add_argument(
            "--template",
            default="none",
            metavar="T",
            help="none (default), or chat: prompts and chats in the tokenizer's chat template",
        )
        command.add_argument(
            "--bos",
            default="auto",
            metavar="B",
            help="one BOS first: auto (default; if there is one), always or never",
        )

    length = {"type": _positive, "default": 128, "metavar": "T", "help": "tokens a sequence (default 128)"}
    seed = {"type": _natural, "default": 0, "help": "which sequences are drawn (default 0)"}
    batch = {"type": _positive, "default": 16, "help": "sequences at once (default 16)"}

    c = add(calibrate, "Compute the per-sample gate gradients A of a model on texts and store the run.")
    add_model(c)
    add_texts(c)
    c.add_argument("--samples", type=_positive, default=256, metavar="S", help="sequences (default 256)")
    c.add_argument("--length", **length)
    c.add_argument("--seed", **seed)
    c.add_argument(
        "--batch",
        type=_batch,
        default=16,
        metavar="B",
        help="sequences at once (default 16); auto: measured before the first row",
    )
    c.add_argument(
        "--checkpointed",
        action="store_true",
        help="compute activations inside blocks again in the backward: less memory, more time",
    )
    c.add_argument(
        "--sampled",
        action="store_true",
        help="also rows with labels sampled from the model (for the estimators h1 and hybrid)",
    )
    c.add_argument(
        "--singles",
        type=_natural,
        default=0,
        metavar="S",
        help="also measure every single removal on S sequences of the choose split (for hybrid)",
    )
    c.add_argument(
        "--out",
        required=True,
        metavar="DIR",
        help="where the run is written; it is also registered in the store",
    )

    s = add(states, "List the lowest-energy states with exactly M blocks removed, exactly.")
    origin = s.add_mutually_exclusive_group(required=True)
    origin.add_argument("--run", metavar="DIR", help="a run folder, the start of a stored run's key, or demo")
    origin.add_argument("--matrix", metavar="FILE", help="a coupling matrix: .npy, .csv, or .npz with key H")
    s.add_argument("--remove", type=int, required=True, metavar="M", help="blocks to remove")
    s.add_argument("--count", type=_positive, default=20, metavar="K", help="states to list (default 20)")
    s.add_argument("--keep", metavar="LIST", help="blocks that stay, for example 0,23")
    s.add_argument("--go", metavar="LIST", help="blocks that go in every state")
    s.add_argument(
        "--groups",
        metavar="TEXT",
        help="exactly so many of each group, for example '0-11: 2; 12-23: 3', or of each kind of block: "
        "'attention: 2; MoE: 3'",
    )
    s.add_argument("--max-run", metavar="L", help="at most L consecutive blocks (1: no two neighbours)")
    s.add_argument(
        "--fits",
        metavar="BUDGET",
        help="what is left must fit, for example '24 GB at 8k context, batch 4' or '3B active'; for --run",
    )
    s.add_argument(
        "--time-limit",
        type=_seconds,
        metavar="S",
        help="seconds; then the states found so far and what is proved (exact: false)",
    )
    s.add_argument(
        "--estimator",
        default="h0",
        help="h0 (default), h1, hybrid, h0g (first-order term on), or the name of a learned landscape; for "
        "--run",
    )
    s.add_argument(
        "--mix",
        metavar="SHARES",
        help="weigh the domains of the texts, for example 'story=2, memory=1'; for --run; "
        "default: as sampled",
    )

    f = add(
        learn,
        "Find the best choice of M blocks within a budget of forwards: measured states correct the "
        "couplings.",
    )
    f.add_argument(
        "--run", required=True, metavar="DIR", help="a run folder, the start of a stored run's key, or demo"
    )
    f.add_argument("--remove", type=int, required=True, metavar="M", help="blocks to remove")
    f.add_argument(
        "--budget",
        type=_forwards,
        required=True,
        metavar="F",
        help="forwards over the choosing sequences, with gradient rows (2.3 each) and single removals "
        "counted in",
    )
    f.add_argument(
        "--sequences",
        type=_positive,
        default=256,
        metavar="S",
        help="sequences to choose on, and to report on (default 256)",
    )
    f.add_argument("--seed", type=_natural, default=0, help="which states are tried (default 0)")

    p = add(prune, "Remove blocks for real and write a checkpoint, verified in a fresh process.")
    add_model(p)
    p.add_argument("--blocks", required=True, metavar="LIST", help="for example 3,7-9")
    p.add_argument("--out", required=True, metavar="DIR", help="a new folder")

    b = add(
        benchmark,
        "Measure the loss of many choices of blocks in one job, the original first; under torchrun the ranks "
        "share them.",
    )
    add_model(b)
    add_texts(b)
    b.add_argument(
        "--blocks",
        action="append",
        metavar="LIST",
        help="a choice, for example 3,7-9; may be given several times",
    )
    b.add_argument(
        "--states",
        metavar="FILE",
        help='choices from a file: .json ([{"removed": [3, 7]}], or what states --json prints) or .csv '
        "(column removed)",
    )
    b.add_argument(
        "--sequences",
        type=_positive,
        default=128,
        metavar="S",
        help="sequences of the report split (default 128)",
    )
    b.add_argument("--length", **length)

    e = add(evaluate, "Measure loss, perplexity, the bundled tasks and tokens per second.")
    add_model(e)
    add_texts(e)
    e.add_argument(
        "--sequences",
        type=_positive,
        default=128,
        metavar="S",
        help="sequences of the report split (default 128)",
    )
    e.add_argument("--length", **length)
    e.add_argument("--seed", **seed)
    e.add_argument("--batch", **batch)
    e.add_argument("--no-tasks", action="store_true", help="loss and speed only")
    e.add_argument(
        "--tasks",
        action="append",
        metavar="TASK",
        help="instead of the bundled ones, a task or group of lm-evaluation-harness, a local "
        "task file FILE.yaml, or NAME::data=FILE: the task over a local data file; "
        "may be given several times",
    )
    e.add_argument(
        "--preset",
        metavar="NAME",
        help="instead of the bundled ones, a protocol: mmlu, winogrande, gsm8k, bbh, hellaswag, "
        "arc_challenge or bundled",
    )
    e.add_argument(
        "--shots",
        type=_natural,
        metavar="K",
        help="examples before each item; for --tasks and --preset (default: theirs)",
    )
    e.add_argument(
        "--limit",
        type=_positive,
        metavar="N",
        help="the first N items of each task; for --tasks and --preset (default: all)",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["study"]:  # a script of its own: hours, tables and figures
        from core.choose.study import main as study

        return study(argv[1:])
    as_json = "--json" in argv
    try:
        args = _parser().parse_args(argv)
        result = args.function(args)
    except InputError as error:
        return _fail(str(error), as_json, 2)
    except OSError as error:
        if error.filename is None:
            return _fail(f"Unexpected {type(error).__name__}: {error.strerror or error}.", as_json, 1)
        return _fail(
            f"{str(error.filename)[:200]!r} cannot be read or written ({error.strerror}); check the path.",
            as_json,
            2,
        )
    except KeyboardInterrupt:
        return _fail("Cancelled.", as_json, 130)
    except Exception as error:
        if os.environ.get("BLOCKSCAPE_DEBUG"):
            raise
        return _fail(
            f"Unexpected {type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else 'no message'} (set BLOCKSCAPE_DEBUG=1 for the "
            "traceback).",
            as_json,
            1,
        )
    if result is None:  # rank 0 of the launch tells it
        return 0
    try:
        print(json.dumps(result, allow_nan=False) if as_json else _describe(args.command, result), flush=True)
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _fail(sentence: str, as_json: bool, code: int) -> int:
    if as_json:
        print(json.dumps({"error": sentence}))
    else:
        print(f"error: {sentence}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
