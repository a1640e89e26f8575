"""Sources -> rows: one reader a format.

Another format is one function and one entry of READERS. Files are streamed, whatever they hold: what cannot
be read is one sentence with the line, the reason and the remedy.

Data sets of the hub are read through `datasets`, Parquet files by pyarrow, which it stands on. Text files are
read here, by the decoders of the standard library. `datasets` (5.2) was tried on them and changes what people
wrote: its csv makes 7.0 of a text "007" and nothing of "NA" or "null", fills rows that are too short, and
knows no semicolons; its json makes nothing of NaN; neither names the line of what it cannot read. It also
takes a path for a pattern and a chain of addresses (`[`, `*`, `::`), and its import alone takes 0.6 s of the
processor.
"""

import csv
import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import NoReturn

from core.errors import InputError, first_line, quoted
from core.texts.files import lines
from core.texts.text_source import HUB, PACKINGS, TextSource

LINE_LIMIT = 2**20  # characters in a line of .jsonl or .csv
RUNNING = ".txt"  # the kind whose rows are running text
_PARQUET = ".parquet"  # the kind that packs by itself
JSON_LIMIT = 2**28  # characters of a .json, which is read as a whole

Row = Mapping[str, object]
Numbered = Iterator[tuple[str, Row | None]]  # where a row stands, as in "Line 7", and its columns; None: null


def rows_of(source: TextSource) -> Numbered:
    """The rows of a source as they are read: (where it stands, {column: value}).

    Errors: InputError for a file that does not exist, a format that nothing reads, and what its reader
    refuses.
    """
    if not source.is_hub:
        check_file(source)
    try:
        yield from READERS[source.kind](source)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(
            f"The text file {source.path!r} cannot be read ({first_line(error)}); check the path and "
            "the file."
        ) from error


def check_file(source: TextSource) -> None:
    """Errors: InputError for a local source whose file is not there, or of a format that nothing reads."""
    try:
        exists = source.file.is_file()
    except OSError:  # longer than a path may be
        exists = False
    formats = f"{', '.join(FILE_FORMATS[:-1])} or {FILE_FORMATS[-1]}"
    if not exists:
        raise InputError(f"No text file {quoted(source.path)}; give a {formats} file.")
    if source.kind not in FILE_FORMATS or (source.packing and source.kind == _PARQUET):
        raise InputError(
            f"The text file {source.path!r} ends in {source.file.suffix or 'nothing'}; {formats} can be "
            f"read, and all but {_PARQUET} also with {' or '.join(PACKINGS)} behind it."
        )


def _txt_rows(source: TextSource) -> Numbered:
    """Running text: one document, its lines as they stand; a limit is one of paragraphs."""
    found: list[str] = []
    begun = 0  # paragraphs
    for _, line in lines(source):
        begun += bool(line.strip()) and not (found and found[-1].strip())
        if begun > (source.limit or begun):
            break
        found.append(line)
    yield "Line 1", {source.column: "\n".join(found)}


def _jsonl_rows(source: TextSource) -> Numbered:
    """One object a line."""
    for number, line in lines(source, LINE_LIMIT):
        if line.strip():
            yield f"Line {number}", _row(_decoded(line, f"Line {number}", source, "write one object a line"))


def _json_rows(source: TextSource) -> Numbered:
    """The items of an array, of the only array of an object, or of values one behind the other.

    An item that is a string is a text.
    """
    text = _whole(source)
    try:
        values = _values(text)
    except (ValueError, RecursionError) as error:
        raise _no_json(error, "The text", source, "write an array of objects") from error
    if len(values) == 1 and isinstance(values[0], dict):
        arrays = [v for v in values[0].values() if isinstance(v, list) and v and isinstance(v[0], dict)]
        values = arrays[0] if len(arrays) == 1 and source.column not in values[0] else values
    elif len(values) == 1 and isinstance(values[0], list):
        values = values[0]
    for number, value in enumerate(values, 1):
        yield f"Item {number}", {source.column: value} if isinstance(value, str) else _row(value)


def _whole(source: TextSource) -> str:
    found, size = [], 0
    for _, line in lines(source, JSON_LIMIT):
        size += len(line) + 1
        if size > JSON_LIMIT:
            raise InputError(
                f"{source.path!r} has more than {JSON_LIMIT:,} characters in one piece; write .jsonl, one "
                "object a line."
            )
        found.append(line)
    return "\n".join(found).strip()


def _values(text: str) -> list:
    """All values of a text, one behind the other."""
    found, place = [], 0
    while place < len(text):
        value, end = _JSON.raw_decode(text, place)
        found.append(value)
        place = _SPACE.match(text, end).end()  # type: ignore[union-attr]  # it matches anything
    return found


def _row(value: object) -> Row | None:
    return None if value is None else value if isinstance(value, dict) else {"": value}


def _decoded(text: str, where: str, source: TextSource, remedy: str) -> object:
    try:
        return _JSON.decode(text)
    except (ValueError, RecursionError) as error:
        raise _no_json(error, where, source, remedy) from error


def _no_json(error: Exception, where: str, source: TextSource, remedy: str) -> InputError:
    reason = "it nests too deeply" if isinstance(error, RecursionError) else first_line(error, 80)
    return InputError(f"{where} of {source.path!r} is not JSON ({reason}); {remedy}.")


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


_SPACE = re.compile(r"\s*")
_JSON = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_number)


_DIVIDERS = {",": "commas", ";": "semicolons", "\t": "tabs"}  # of equally many in the header, the first


def _csv_rows(source: TextSource) -> Numbered:
    """Rows under a header, divided by what divides the header, quoted by double quotes."""
    name = source.path
    csv.field_size_limit(LINE_LIMIT)
    text = (line + "\n" for _, line in lines(source, LINE_LIMIT))
    begun = []  # up to the header: blank lines before it count as lines
    for line in text:
        begun.append(line)
        if line.strip():
            break
    first = "".join(begun).strip("\n")
    divider = "\t" if source.kind == ".tsv" else max(_DIVIDERS, key=first.count)
    reader = csv.reader(chain(begun, text), strict=True, delimiter=divider)
    header: list[str] | None = None
    try:
        for values in filter(None, reader):
            if header is None:
                header = values
                _check_columns(header, source)
            elif len(values) != len(header):
                raise InputError(
                    f"Line {reader.line_num} of {name!r} has {len(values)} fields and the header "
                    f"{len(header)}; quote fields that hold {_DIVIDERS[divider]}."
                )
            else:
                yield f"Line {reader.line_num}", dict(zip(header, values))
    except csv.Error as error:
        raise InputError(
            f'Line {reader.line_num} of {name!r} is not CSV ({first_line(error, 80)}); quote fields by " '
            'and " as "".'
        ) from error


def _parquet_rows(source: TextSource) -> Numbered:
    """Rows of a Parquet file, a few at a time: only the columns that are used, or where there are none, those
    of words.
    """
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
            schema = parquet.schema_arrow
            _check_columns(schema.names, source)
            used = [c for c in schema.names if c in source.columns]
            if not set(used) - {"domain"} and source.names_no_column:
                used += [f.name for f in schema if str(f.type).removeprefix("large_") in _WORDS]
            for batch in parquet.iter_batches(batch_size=256, columns=used):
                for row in batch.to_pylist():
                    number += 1
                    yield f"Row {number}", row
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise InputError(
            f"The text file {source.path!r} is no whole Parquet file ({first_line(error, 80)}, after row "
            f"{number}); write it anew."
        ) from error


_WORDS = ("string", "string_view", "list<element: string>", "list<item: string>")  # types of pyarrow


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
            yield f"Row {number}", row
    except Exception as error:  # offline, unknown, gated, half downloaded: each library below has its own
        raise InputError(
            f"The hub dataset {name!r} cannot be read ({type(error).__name__}: {first_line(error)}); check "
            "its name, config and split, that you may read it, and the connection."
        ) from error


def _check_columns(columns: list[str], source: TextSource) -> None:
    """Errors: InputError when two columns that are used have one name."""
    if again := next((c for c in sorted(source.columns) if columns.count(c) > 1), None):
        raise InputError(f"{source.path!r} has two columns {again!r}; rename one.")


READERS: dict[str, Callable[[TextSource], Numbered]] = {
    RUNNING: _txt_rows,
    ".jsonl": _jsonl_rows,
    ".json": _json_rows,
    ".csv": _csv_rows,
    ".tsv": _csv_rows,
    _PARQUET: _parquet_rows,
    HUB: _hub_rows,
}
FILE_FORMATS = tuple(kind for kind in READERS if kind != HUB)
