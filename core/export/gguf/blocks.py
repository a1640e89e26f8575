"""Whole blocks taken out of a GGUF file of any quantisation. Loads no torch.

Tensors that stay are the file's own bytes under new numbers; entries that stay are, too, the tokenizer's
among them. Only what the file says of its blocks is written anew (core.export.gguf.plan).
"""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from core.errors import InputError, first_line
from core.export.gguf.plan import Plan, plan_of
from core.weights.gguf_copy import (
    Content,
    Piece,
    Report,
    entry,
    parts_of,
    read_content,
    start_of,
    write_content,
)
from core.weights.gguf_header import Damaged

PREFIX = "blk."  # of the tensors of a block; its number follows


class Cut(NamedTuple):
    """A file without blocks, before and after: blocks, numbers in tensors, bytes; and the entries that say
    something else, {name: (before, after)}, None where there was none.
    """

    blocks: tuple[int, int]
    parameters: tuple[int, int]
    bytes: tuple[int, int]
    changes: dict[str, tuple[Any, Any]]


def plan_gguf(source_file: Path, removed: Sequence[int]) -> Cut:
    """What `write_gguf` would write, from the header alone. Errors: InputError, as there."""
    return _planned(source_file, removed)[0]


def write_gguf(
    source_file: Path, removed: Sequence[int], file: Path, report: Report = lambda done, total, message: None
) -> Cut:
    """Write `source_file` (one part, where it was split into several) without blocks as `file`.

    removed: blocks by number, as the model has them. report: bytes done, bytes of all, what. It is written
    beside `file` under another name, and gets its own once it is whole and on the disk. Memory: the header,
    and a few megabytes. Errors: InputError for bad blocks, a source that is no whole GGUF file or of an
    architecture that is not known here, a removal that such a file cannot say, a `file` that is there or
    cannot be written.
    """
    cut, content = _planned(source_file, removed)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _check_place(file, cut.bytes[1])
        with _new(file) as out:
            write_content(out, *content, report)
    except Damaged as error:
        raise _unreadable(source_file, str(error)) from error
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise InputError(
            f"{str(file)!r} could not be written ({first_line(error)}) and nothing is left of it; "
            + (f"free {cut.bytes[1] / 1e9:.2f} GB there, or " if full else "")
            + "name another place."
        ) from error
    return cut


@contextmanager
def _new(file: Path) -> Iterator[BinaryIO]:
    """What becomes `file` if all goes well. A killed process leaves it under another name, and the next one
    writes over that. Errors: InputError where another process writes it now; OSError.
    """
    staging = file.with_name(f".{file.name}.part")
    with open(staging, "ab") as out:
        try:
            fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"{str(file)!r} is being written by another process; wait for it, or name another place."
            ) from error
        try:
            _check_free(file)  # the other process may have been about to end
            out.truncate(0)
            yield out
            out.flush()
            os.fsync(out.fileno())
            os.replace(staging, file)
        except BaseException:
            staging.unlink(missing_ok=True)
            raise
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _check_free(file: Path) -> None:
    if os.path.lexists(file):  # a link to nowhere is something, too
        raise InputError(f"{str(file)!r} already exists; name a new file for the pruned model.")


def _check_place(file: Path, needed: int) -> None:
    _check_free(file)
    if (free := shutil.disk_usage(file.parent).free) < needed:
        raise InputError(
            f"{str(file)!r} will take {needed / 1e9:.2f} GB and {free / 1e9:.2f} GB are free there; free "
            "some, or name another place."
        )


def _unreadable(source_file: Path, why: str) -> InputError:
    return InputError(f"The GGUF file {str(source_file)!r} {why}; take it anew from its origin.")


def _planned(source_file: Path, removed: Sequence[int]) -> tuple[Cut, Content]:
    """(what it comes to, all that is to be written)."""
    parts = parts_of(source_file, str(source_file)) or [source_file]
    try:
        whole = read_content(parts)
    except Damaged as error:
        raise _unreadable(source_file, str(error)) from error
    except (OSError, ValueError) as error:
        raise _unreadable(source_file, f"cannot be read ({first_line(error)})") from error
    header = replace(whole.header, tensors={piece.name: piece.tensor for piece in whole.pieces})
    plan = plan_of(parts[0], header, removed, str(source_file))
    entries = dict(whole.entries)
    for key, change in plan.changes.items():
        entries[key] = entry(key, change.kind, change.after)
    pieces = list(_left(whole.pieces, plan))
    return Cut(
        (plan.blocks, len(plan.kept)),
        (_numbers(whole.pieces), _numbers(pieces)),
        (sum(part.stat().st_size for part in parts), start_of(header, entries, pieces)[1]),
        {key: (change.before, change.after) for key, change in plan.changes.items()},
    ), Content(header, entries, pieces)


def _left(pieces: Sequence[Piece], plan: Plan) -> Iterator[Piece]:
    """The tensors that stay, in their order, their blocks renumbered."""
    new = {b: n for n, b in enumerate(plan.kept)}
    for piece in pieces:
        head, _, rest = piece.name.removeprefix(PREFIX).partition(".")
        if not piece.name.startswith(PREFIX) or not head.isdecimal():
            yield piece
        elif int(head) in new:
            yield piece._replace(name=f"{PREFIX}{new[int(head)]}.{rest}")


def _numbers(pieces: Sequence[Piece]) -> int:
    return sum(piece.tensor.numbers for piece in pieces)
