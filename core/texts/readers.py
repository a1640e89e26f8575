"""Sources -> rows: one reader a format.

Another format is one function and one entry of READERS. Files are streamed, whatever they hold: what cannot
be read is one sentence with the line, the reason and the remedy.
"""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from typing import NoReturn

from core.errors import InputError, first_line, quoted
from core.texts.text_source import HUB, TextSource, is_text

LINE_LIMIT = 2**20  # characters in a line of .jsonl or .csv

Row = Mapping[str, object]
Numbered = Iterator[tuple[str, Row]]  # where a row stands, as in "Line 7", and its columns


def rows_of(source: TextSource) -> Numbered:
    """The rows of a source as they are read: (where it stands, {column: value}).

    Errors: InputError for a file that does not exist, a format that nothing reads, and what its reader
    refuses.
    """
    if not source.is_hub:
        _check_file(source)
    try:
        yield from READERS[source.kind](source)
    except OSError as error:
        raise InputError(
            f"The text file {source.path!r} cannot be read ({first_line(error)}); check the path and "
            "the file."
        ) from error


def _check_file(source: TextSource) -> None:
    try:
        exists = source.file.is_file()
    except OSError:  # longer than a path may be
        exists = False
    formats = f"{', '.join(FILE_FORMATS[:-1])} or {FILE_FORMATS[-1]}"
    if not exists:
        raise InputError(f"No text file {quoted(source.path)}; give a {formats} file.")
    if source.kind not in FILE_FORMATS:
        raise InputError(
            f"The text file {source.path!r} ends in {source.file.suffix or 'nothing'}; {formats} can be read."
        )


def _lines(source: TextSource, limit: int = -1) -> Iterator[tuple[int, str]]:
    """(number, line without its end) of its file in UTF-8, whatever ends the lines.

    Errors: InputError for a line that is not UTF-8, has a NUL, or is longer than `limit` characters (-1: any
    length).
    """
    name = source.path
    # bytes that are not UTF-8 become lone surrogates, so that the line they are on can be told
    with open(source.file, encoding="utf-8-sig", errors="surrogateescape") as f:
        number = 0
        while line := f.readline(limit + 1 if limit >= 0 else -1):
            number += 1
            line = line.removesuffix("\n")
            if 0 <= limit < len(line):
                raise InputError(f"Line {number} of {name!r} is longer than {limit:,} characters; divide it.")
            if not is_text(line):
                bad = next(c for c in line if "\udc80" <= c <= "\udcff")
                raise InputError(
                    f"Line {number} of {name!r} is not UTF-8 (byte 0x{ord(bad) - 0xDC00:02x}); save the file "
                    "as UTF-8."
                )
            if "\0" in line:
                raise InputError(f"Line {number} of {name!r} has a NUL byte; save the file as plain UTF-8.")
            yield number, line


def _txt_rows(source: TextSource) -> Numbered:
    """Running text: one document, its lines as they stand; a limit is one of paragraphs."""
    lines: list[str] = []
    begun = 0  # paragraphs
    for _, line in _lines(source):
        begun += bool(line.strip()) and not (lines and lines[-1].strip())
        if begun > (source.limit or begun):
            break
        lines.append(line)
    yield "Line 1", {source.column: "\n".join(lines)}


def _jsonl_rows(source: TextSource) -> Numbered:
    """One object a line."""
    for number, line in _lines(source, LINE_LIMIT):
        if not line.strip():
            continue
        try:
            row = _JSON.decode(line)
        except (ValueError, RecursionError) as error:
            reason = "it nests too deeply" if isinstance(error, RecursionError) else first_line(error, 80)
            raise InputError(
                f"Line {number} of {source.path!r} is not JSON ({reason}); write one object a line."
            ) from error
        yield f"Line {number}", row if isinstance(row, dict) else {}


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object whose keys are all different: of two, Python would silently take the last."""
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {quoted(key)[:40]} is there twice")
        found[key] = value
    return found


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON number")


_JSON = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_number)


def _csv_rows(source: TextSource) -> Numbered:
    """Rows under a header, divided by commas, quoted by double quotes."""
    name = source.path
    csv.field_size_limit(LINE_LIMIT)
    reader = csv.reader((line + "\n" for _, line in _lines(source, LINE_LIMIT)), strict=True)
    header: list[str] | None = None
    try:
        for values in filter(None, reader):
            if header is None:
                header = values
                _check_columns(header, source)
            elif len(values) != len(header):
                raise InputError(
                    f"Line {reader.line_num} of {name!r} has {len(values)} fields and the header "
                    f"{len(header)}; quote fields that hold commas."
                )
            else:
                yield f"Line {reader.line_num}", dict(zip(header, values))
    except csv.Error as error:
        raise InputError(
            f'Line {reader.line_num} of {name!r} is not CSV ({first_line(error, 80)}); quote fields by " '
            'and " as "".'
        ) from error


def _parquet_rows(source: TextSource) -> Numbered:
    """Rows of a Parquet file, a few at a time, only the columns that are used; a null counts as absent."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(
            f"The text file {source.path!r} needs pyarrow to be read; install pyarrow, or save it as .jsonl."
        ) from error
    number = 0
    try:
        with pyarrow.parquet.ParquetFile(source.file) as parquet:
            columns = parquet.schema_arrow.names
            _check_columns(columns, source)
            for batch in parquet.iter_batches(
                batch_size=256, columns=[c for c in columns if c in source.columns]
            ):
                for row in batch.to_pylist():
                    number += 1
                    yield f"Row {number}", {key: value for key, value in row.items() if value is not None}
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise InputError(
            f"The text file {source.path!r} is no whole Parquet file ({first_line(error, 80)}, after row "
            f"{number}); write it anew."
        ) from error


def _hub_rows(source: TextSource) -> Numbered:
    """Rows of a hub dataset as they arrive: no more than is asked for, and only formats without code."""
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            f"The text source {source.path!r} needs datasets to be read; install datasets, or give a file."
        ) from error
    name = source.path.removeprefix(HUB)
    try:
        rows = datasets.load_dataset(
            name, source.config, split=source.split, revision=source.revision, streaming=True
        )
        for number, row in enumerate(rows, 1):
            yield f"Row {number}", {key: value for key, value in row.items() if value is not None}
    except Exception as error:  # offline, unknown, gated, half downloaded: each library below has its own
        raise InputError(
            f"The hub dataset {name!r} cannot be read ({type(error).__name__}: {first_line(error)}); check "
            "its name, config and split, that you may read it, and the connection."
        ) from error


def _check_columns(columns: list[str], source: TextSource) -> None:
    """Errors: InputError when two columns that are used have one name, or none holds texts."""
    if again := next((c for c in sorted(source.columns) if columns.count(c) > 1), None):
        raise InputError(f"{source.path!r} has two columns {again!r}; rename one.")
    if not (source.columns - {"domain"}) & set(columns):
        listed = ", ".join(c[:40] for c in columns[:8]) + (", ..." if len(columns) > 8 else "")
        raise InputError(
            f"{source.path!r} has no column {quoted(source.column)} but {listed!r}; name the one with the "
            "texts by column=."
        )


RUNNING = ".txt"  # the kind whose rows are running text, however few
READERS: dict[str, Callable[[TextSource], Numbered]] = {
    RUNNING: _txt_rows,
    ".jsonl": _jsonl_rows,
    ".csv": _csv_rows,
    ".parquet": _parquet_rows,
    HUB: _hub_rows,
}
FILE_FORMATS = tuple(kind for kind in READERS if kind != HUB)
