"""What options of several commands mean: kinds of numbers, models, texts."""

import argparse
import math
import sys
from typing import Any

from core.ising.units import BLOCK, VIEWS
from core.jobs.requests import default_texts
from core.texts.text_source import BUNDLED_NAME


def positive(text: str) -> int:
    """A whole number of at least 1."""
    return _whole(text, 1)


def natural(text: str) -> int:
    """A whole number of at least 0."""
    return _whole(text, 0)


def _whole(text: str, least: int) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 9 or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a whole number of at least {least}")
    return int(text)


def batch_size(text: str) -> int | None:
    """A whole number of at least 1; None for auto."""
    return None if text == "auto" else positive(text)


def seconds(text: str) -> float:
    """A number of seconds above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number of seconds above 0")
    return value


def forwards(text: str) -> float:
    """A number of forwards above 0."""
    try:
        return seconds(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(str(error).replace("seconds", "forwards")) from error


def chance(text: str) -> float:
    """A chance above 0 and up to a half."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 0.5:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a chance above 0 and up to 0.5")
    return value


LENGTH: dict[str, Any] = {
    "type": positive,
    "default": 128,
    "metavar": "T",
    "help": "tokens a sequence (default 128)",
}
SEED: dict[str, Any] = {"type": natural, "default": 0, "help": "which sequences are drawn (default 0)"}
RUN: dict[str, Any] = {
    "metavar": "DIR",
    "help": "a run folder, the start of a stored run's key, smollm2 or demo",
}
BY: dict[str, Any] = {
    "choices": VIEWS,
    "default": BLOCK,
    "help": "what a state removes: block, whole blocks (default), or branch, attention and FFN on their own",
}
REMOVE: dict[str, Any] = {
    "type": int,
    "required": True,
    "metavar": "M",
    "help": "blocks (or units) to remove",
}
REPORTED: dict[str, Any] = {
    "type": positive,
    "default": 128,
    "metavar": "S",
    "help": "sequences of the report split (default 128)",
}


def add_model(command: argparse.ArgumentParser) -> None:
    """--model and --trust-remote-code."""
    command.add_argument(
        "--model", required=True, metavar="M", help="smollm2, demo, a model folder, a .gguf file, or a hub id"
    )
    command.add_argument(
        "--trust-remote-code",
        action="store_true",
        help="run the Python files of the model's own folder; only for models you trust",
    )


def add_texts(command: argparse.ArgumentParser) -> None:
    """--texts, and how sequences are made of them; `form_of` reads the latter."""
    command.add_argument(
        "--texts",
        action="append",
        metavar="SOURCE",
        help="may be given several times: a .txt (running text), or a .jsonl, .json, .csv, .tsv or .parquet "
        "file (column text, chats or instructions), also .gz or .zst, "
        "hub:OWNER/NAME, own (the model's own samples; the default), or bundled (the demo's world, and its "
        "default); options behind it, as in "
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
        help="one BOS first: auto (default; if the tokenizer itself writes one), always or never",
    )


def texts_of(args: argparse.Namespace) -> list[str]:
    """The texts that are named, or the model's default ones, which are told."""
    if args.texts:
        return args.texts
    taken = default_texts(args.model)
    what = "those of the demo's world" if taken == BUNDLED_NAME else "the model's own samples"
    print(f"No texts are named, so {what} are taken ({taken}); name others by --texts.", file=sys.stderr)
    return [taken]


def form_of(args: argparse.Namespace) -> dict[str, str]:
    """How sequences are made of the texts, as core.texts takes it."""
    return {"mode": args.mode, "template": args.template, "bos": args.bos}
