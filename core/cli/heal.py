"""`python -m core heal`."""

import argparse
import sys
from pathlib import Path

from core import jobs
from core.cli.chosen import Chosen, add_state, states_of
from core.cli.options import LENGTH, REPORTED, SEED, add_texts, form_of, positive, texts_of
from core.cli.running import as_job, check_writable, together
from core.compare.healed import Healed, orders_of, won_in_words
from core.errors import InputError
from core.heal.parts import check_names, in_parts, share_of
from core.heal.settings import KL, METHODS, MINUTES, REPLACED, Settings
from core.ising.units import BLOCK, in_order
from core.ranks import launched
from core.store.folders import check_free
from core.store.named_models import is_demo

_TOLD = ("out", "curve", "parameters", "bytes", "blocks", "verified")


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_state(command, several=True)
    add_texts(command)
    instead = command.add_mutually_exclusive_group()
    instead.add_argument(
        "--learn",
        metavar="SOURCE",
        help="what it learns from, own for what the original writes (default what --texts names)",
    )
    instead.add_argument(
        "--answers",
        metavar="PROMPTS",
        help="learn from what the original answers to these: prompts, instructions or chats of rows, or what "
        "FILE::column=question names",
    )
    command.add_argument("--method", default=KL, metavar="HOW", help=f"{', '.join(METHODS)} (default {KL})")
    command.add_argument(
        "--rounds",
        type=positive,
        default=1,
        metavar="K",
        help="remove a part of the blocks, heal, remove the next, at one budget (default 1: all at once)",
    )
    command.add_argument(
        "--replace", metavar="HOW", help=f"before training, {' or '.join(REPLACED)} in place of plain removal"
    )
    command.add_argument(
        "--minutes", type=float, metavar="T", help=f"budget of the training (default {MINUTES:g})"
    )
    command.add_argument("--tokens", type=positive, metavar="N", help="budget in tokens instead")
    command.add_argument(
        "--rate",
        type=float,
        metavar="R",
        help="highest learning rate (default the method's; of kl a third for 10 M parameters or more)",
    )
    command.add_argument("--batch", type=positive, default=8, help="sequences a step (default 8)")
    command.add_argument("--accumulate", type=positive, default=1, help="batches a step (default 1)")
    command.add_argument("--temperature", type=float, default=1.0, help="of the KL (default 1)")
    command.add_argument("--next-token", type=float, default=0.0, metavar="W", help="weight of that loss")
    command.add_argument("--hidden", type=float, default=0.0, metavar="W", help="weight of hidden states")
    command.add_argument("--lora-rank", type=positive, default=16, metavar="R", help="(default 16)")
    command.add_argument(
        "--sequences",
        type=positive,
        metavar="S",
        help="to train on (default all there are, up to 4096; 256 of the model's own samples)",
    )
    command.add_argument("--held", type=positive, default=32, metavar="S", help="to watch (default 32)")
    command.add_argument("--report", **REPORTED)
    command.add_argument("--length", **LENGTH)
    command.add_argument("--seed", **SEED)
    command.add_argument("--no-tasks", action="store_true", help="loss only: tasks are the demo's")
    command.add_argument("--prompt", metavar="TEXT", help="ask the three models this, too")
    command.add_argument(
        "--out",
        required=True,
        metavar="DIR",
        help="a new folder; the curve is DIR.csv; of several states DIR/rank-K each",
    )


def run(args: argparse.Namespace) -> dict | None:
    """The losses of original, pruned and healed, the training, and where the checkpoint is; of several states
    those of each, and how they are ordered before and after; None on ranks that tell nothing.
    """
    settings = Settings(
        args.method,
        args.replace,
        **_budget(args),
        rate=args.rate,
        batch=args.batch,
        accumulate=args.accumulate,
        seed=args.seed,
        temperature=args.temperature,
        next_token=args.next_token,
        hidden=args.hidden,
        rank=args.lora_rank,
    )
    states = states_of(args)
    args.model = states[0].model
    out, texts = Path(args.out).absolute(), texts_of(args)
    several = len(states) > 1
    places = [out / f"rank-{state.rank}" if several else out for state in states]
    requests = [_request(args, texts, settings, *each) for each in zip(states, places)]
    for place, request in zip(places, requests):
        if jobs.find("heal", request) is None:  # neither made nor under way: the folder must be free
            check_writable(place)
            check_free(place)
    done = [together("heal", r) if launched() else as_job("heal", r) for r in requests]
    found = [_found(own) for own in done if own]
    if not found:
        return None
    return _compared(states, found) if several else found[0]


def _request(
    args: argparse.Namespace, texts: list[str], settings: Settings, state: Chosen, out: Path
) -> dict:
    """What the job of one state is asked. Errors: InputError for more rounds than blocks."""
    return jobs.request_of(
        args.model,
        texts,
        (),
        form_of(args),
        blocks=list(in_order(state.removed)),
        **_rounds(args, state, settings),
        settings=settings.to_json(),
        learn=args.learn,
        answers=args.answers,
        sequences=args.sequences,
        held=args.held,
        report=args.report,
        length=args.length,
        seed=args.seed,
        tasks=is_demo(args.model) and not args.no_tasks,
        prompt=args.prompt,
        out=str(out),
        zip=False,
        provenance={},
        remote_code=args.trust_remote_code,
    )


def _found(done: dict) -> dict:
    """What the command tells of a job's result."""
    return {
        "removed": done["removed"],
        **{name: done[name] for name in ("table", "won", "training", "needs")},
        **({"replies": done["replies"]} if done["replies"] else {}),
        **{name: done[name] for name in _TOLD},
    }


def _compared(states: list[Chosen], found: list[dict]) -> dict:
    """{states: what is told of each, its rank and energy first; orders: core.compare.healed.Orders}."""
    healed = []
    for state, own in zip(states, found):
        original, before, after = (own["table"][name]["loss"] for name in ("original", "pruned", "healed"))
        healed.append(Healed(tuple(own["removed"]), original, before, after, state.energy, state.rank))
    told = [{"rank": s.rank, "energy": s.energy, **own} for s, own in zip(states, found)]
    return {"states": told, "orders": orders_of(healed).to_json()}


def _budget(args: argparse.Namespace) -> dict:
    """{minutes, tokens} of a method that trains: MINUTES where neither is given."""
    if METHODS.get(args.method) and METHODS[args.method].rate is None:
        if args.minutes or args.tokens:
            print(f"The method {args.method} trains nothing, so it has no budget.", file=sys.stderr)
        return {}
    given = {"minutes": args.minutes, "tokens": args.tokens}
    return given if any(v is not None for v in given.values()) else {"minutes": MINUTES}


def _rounds(args: argparse.Namespace, state: Chosen, settings: Settings) -> dict:
    """{parts} of a state that goes in several rounds. Errors: InputError where it cannot be healed so."""
    if args.rounds > 1 and args.by != BLOCK:
        raise InputError(
            f"Rounds take whole blocks, so --by {args.by} is not for them; leave one of the two out."
        )
    check_names(state.removed, settings, args.rounds)
    if args.rounds == 1:
        return {}
    share_of(settings, args.rounds, 0)
    blocks = [name for name in state.removed if isinstance(name, int)]
    return {"parts": in_parts(blocks, args.rounds, state.H)}


def describe(result: dict) -> str:
    """The table for a person, then the rest a line each."""
    if "states" in result:
        return _side_by_side(result)
    lines = [f"{'':<9} {'loss':>8} {'perplexity':>11}  tasks"]
    for name, row in result["table"].items():
        tasks = ", ".join(f"{task} {own['accuracy']:.3f}" for task, own in row["tasks"].items())
        lines.append(f"{name:<9} {row['loss']:>8.4f} {row['perplexity']:>11.3f}  {tasks}")
    if result["won"] is not None:
        lines.append(won_in_words(result["won"]))
    training = result["training"]
    if training["steps"]:
        lines.append(f"{training['tokens']:,} tokens, {training['seconds'] / 60:.1f} minutes")
    lines += [training["stopped"]] if training["stopped"] else []
    lines += [f"{name} answers: {text}" for name, text in result.get("replies", {}).items()]
    return "\n".join([*lines, *(f"{name}: {result[name]}" for name in _TOLD)])


def _side_by_side(result: dict) -> str:
    """A line a state, then how the orders agree."""
    places = result["orders"]["places"]
    original = result["states"][0]["table"]["original"]["loss"]
    lines = [f"the original: {original:.4f} nats; in brackets the place in that order"]
    lines.append(f"{'rank':>5} {'energy':>14} {'pruned':>12} {'healed':>12}  removed blocks")
    for k, own in enumerate(result["states"]):
        values = {
            "energy": f"{own['energy']:.6g}",
            "before": f"{own['table']['pruned']['loss']:.4f}",
            "after": f"{own['table']['healed']['loss']:.4f}",
        }
        cells = [f"{value} ({places[name][k]})" for name, value in values.items()]
        blocks = ",".join(map(str, own["removed"]))
        lines.append(f"{own['rank']:>5} {cells[0]:>14} {cells[1]:>12} {cells[2]:>12}  {blocks}")
    for pair, value in result["orders"]["spearman"].items():
        lines.append(f"Spearman of {pair}: {value:.2f}")
    return "\n".join([*lines, *(f"{own['out']}, verified" for own in result["states"])])
