"""Where texts come from: sources -> documents with domains.

A source is a local .txt, .jsonl, .csv or .parquet file, the bundled texts, a hub
dataset that the user names, or the model's own samples (core.calibration.corpus). Files are streamed,
whatever they hold: what cannot be read is one sentence with the line, the reason and the remedy.
"""

import csv
import hashlib
import json
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import groupby, islice
from pathlib import Path

from core.errors import InputError
from core.store.folders import DEMO

BUNDLED = DEMO / "texts.jsonl"
BUNDLED_NAME = "bundled"
# how documents become sequences unless somebody says else (core.texts.sequences)
FORM = {"mode": "packed", "template": "none", "bos": "auto"}
OWN = "own"  # the model's own samples: they are no documents
HUB = "hub:"
HUB_LIMIT = 10_000  # documents read of a hub dataset that names no limit: some never end
LINE_LIMIT = 2**20  # characters in a line of .jsonl or .csv
DOMAIN_LIMIT = 2**15 - 1  # what a run's int16 can number
PROMPT, COMPLETION = "prompt", "completion"  # the roles of a prompt and what follows it; a chat has its own

Row = Mapping[str, object]
Numbered = Iterator[tuple[str, Row]]  # ("Line 7", {column: value})


@dataclass(frozen=True)
class Document:
    """A text; where it is a prompt and its completion, or a chat, `turns` holds (role, content) and `text`
    their lines.
    """

    text: str
    domain: str = "text"
    turns: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Source:
    """One place texts come from.

    path: a local file, "bundled", "hub:OWNER/NAME", or "own": what the model itself writes.
    column: where the text is; while it is the default, rows may hold `messages`, or `prompt` and `completion`
        (or `response`) instead.
    domain: of all its documents; None: the column `domain`, and where there is none the file's stem (for a
    .txt or
        .jsonl alone: "text").
    weight: its share of the sequences drawn, against those of the other sources; None: no say. A source of
    several
        domains divides it equally among them.
    config, split, revision: of a hub dataset only.
    limit: documents read at most; None: all, of a hub dataset HUB_LIMIT.

    Errors: InputError for any value that cannot be.
    """

    path: str
    column: str = "text"
    domain: str | None = None
    weight: float | None = None
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    limit: int | None = None

    def __post_init__(self):
        for name, value in vars(self).items():
            right, what = _FIELDS[name]
            if not (value is None and name in _OPTIONAL) and not right(value):
                raise InputError(
                    f"The {name} of the text source {_short(self.path)} must be {what}, not {_short(value)}."
                )
        foreign = (
            ()
            if self.is_hub
            else ("column", "config", "limit", "revision", "split")
            if self.is_own
            else ("config", "revision", "split")
        )
        if named := next((n for n in foreign if getattr(self, n) != _DEFAULTS[n]), None):
            what = "the model's own samples" if self.is_own else "no hub dataset"
            raise InputError(
                f"The text source {_short(self.path)} is {what} and has no {named}; leave {named} out."
            )

    @property
    def is_hub(self) -> bool:
        return self.path.startswith(HUB)

    @property
    def is_own(self) -> bool:
        return self.path == OWN

    @property
    def share(self) -> float:
        """Its weight; without one among others that have one it counts once."""
        return 1.0 if self.weight is None else self.weight

    @property
    def stem(self) -> str:
        """The name its documents go by where nothing names them."""
        return self.path.removeprefix(HUB) if self.is_hub else Path(self.path).stem

    def __str__(self) -> str:
        """As the command line writes it; what `parse_source` reads."""
        options = [f"{name}={str(value).removesuffix('.0')}" for name, value in self.to_json().items()]
        return "::".join(filter(None, [self.path, ",".join(options[1:])]))

    def to_json(self) -> dict:
        """{field: value} of all that is not the default; equal sources give equal objects."""
        return {name: value for name, value in vars(self).items() if value != _DEFAULTS.get(name)}

    @classmethod
    def from_json(cls, data: object) -> "Source":
        """What `to_json` gave, or a string as `parse_source` takes it. Errors: InputError."""
        if isinstance(data, str):
            return parse_source(data)
        if not isinstance(data, Mapping) or "path" not in data:
            raise InputError(f"A text source must be an object with a path, not {_short(data)}.")
        _known(data, data["path"])
        return cls(**data)


def _is_word(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip()) and _is_text(value)


def _is_path(value: object) -> bool:
    return _is_word(value) and (
        not value.startswith(HUB) or re.fullmatch(r"hub:(\w[\w.-]*/)?\w[\w.-]*", value) is not None
    )


def is_weight(value: object) -> bool:
    """Whether it can be a weight: a finite number of at least 0."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= sys.float_info.max


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= sys.maxsize


_WORD = (_is_word, "a word")
_FIELDS = {
    "path": (_is_path, "a file, bundled, own, or hub:OWNER/NAME"),
    "column": _WORD,
    "domain": _WORD,
    "weight": (is_weight, "a finite number of at least 0"),
    "config": _WORD,
    "split": _WORD,
    "revision": _WORD,
    "limit": (_is_count, "a whole number of at least 1"),
}
_DEFAULTS = {f.name: f.default for f in fields(Source) if f.name != "path"}
_OPTIONAL = {name for name, default in _DEFAULTS.items() if default is None}
_NUMBERS = {"weight": float, "limit": int}
_PAIR = r"\w+=[^,]*"
_WITH_OPTIONS = re.compile(rf"(?P<path>.*)::(?P<options>{_PAIR}(,{_PAIR})*)", re.DOTALL)


def parse_source(text: str) -> Source:
    """A source as the command line writes it: PATH, or PATH::key=value,key=value.

    Only the last `::` divides, and only where key=value pairs follow: all else belongs to the path.
    Errors: InputError for an unknown or repeated key, or a value that cannot be.
    """
    found = _WITH_OPTIONS.fullmatch(text)
    if not found:
        return Source(text)
    path, pairs = found["path"], [pair.split("=", 1) for pair in found["options"].split(",")]
    _known([key for key, _ in pairs], path)
    for k, (key, value) in enumerate(pairs):
        if key in dict(pairs[:k]):
            raise InputError(
                f"The text source {_short(path)} names {key} again, as {_short(value)}; name it once."
            )
    return Source(path, **{key: _number(key, value) for key, value in pairs})


def _number(key: str, value: str) -> str | float | int:
    try:
        return _NUMBERS.get(key, str)(value)
    except ValueError:  # the source's own check says what it must be
        return value


def _known(keys: Iterable[str], path: object) -> None:
    for key in keys:
        if key not in _FIELDS:
            raise InputError(
                f"The text source {_short(path)} has no option {_short(key)}; there are "
                f"{', '.join(_DEFAULTS)}."
            )


def _short(value: object) -> str:
    """A value as a sentence can quote it."""
    quoted = repr(value)
    return quoted if len(quoted) <= 200 else quoted[:197] + "..."


Asked = Source | str | Path | Mapping


@dataclass(frozen=True)
class Texts:
    """Documents of all sources, in their order."""

    source: str
    documents: tuple[Document, ...]
    sources: tuple[Source, ...] = ()
    weights: Mapping[str, float] | None = None  # {domain: its share}; None: nobody gave a weight

    @property
    def domains(self) -> tuple[str, ...]:
        return tuple(sorted({d.domain for d in self.documents}))

    @property
    def sha256(self) -> str:
        """Of domains, texts and turns, in their order."""
        digest = hashlib.sha256()
        for d in self.documents:
            digest.update(json.dumps([d.domain, d.text, *([d.turns] if d.turns else [])]).encode())
        return digest.hexdigest()


def read_texts(sources: Asked | Sequence[Asked] | None = None, beside: bool = False) -> Texts:
    """Documents of one source or several; None: the bundled texts. beside: they stand beside something that
    is no text.

    A string is read as `parse_source` does, a Path is a path whatever it holds, an object is what `to_json`
    gave.

    Domains are unique across sources: a source whose domains have no name of their own and meet one
    that is taken gets "-2", "-3" and so on behind them.
    Errors: InputError for what cannot be read, has no text, or names one domain twice.
    """
    asked = sources_of(sources)
    if any(s.is_own for s in asked):
        raise InputError(
            f"The text source {OWN!r} stands for what a model writes, and no model is given here; name texts."
        )
    named = [s.domain for s in asked if s.domain]
    if again := next((d for d in named if named.count(d) > 1), None):
        raise InputError(f"Two text sources have the domain {_short(again)}; give each a domain of its own.")
    if any(s.weight is not None for s in asked) and not any(s.share for s in asked):
        raise InputError(
            "All text sources have the weight 0, so nothing would be drawn; give at least one more than 0."
        )
    taken = set(named)
    documents: list[Document] = []
    weights: dict[str, float] = {}
    for source in asked:
        own = _read(source, alone=len(asked) == 1 and not beside)
        names = {d: d if source.domain else free_name(d, taken) for d in dict.fromkeys(d.domain for d in own)}
        taken.update(names.values())
        documents += (
            [Document(d.text, names[d.domain], d.turns) for d in own]
            if any(k != v for k, v in names.items())
            else own
        )
        weights |= dict.fromkeys(names.values(), source.share / len(names))
    if len(weights) > DOMAIN_LIMIT:
        raise InputError(
            f"The texts have {len(weights):,} domains and at most {DOMAIN_LIMIT:,} can be told apart; name "
            "one by domain=."
        )
    weighted = any(s.weight is not None for s in asked)
    return Texts(" + ".join(s.path for s in asked), tuple(documents), asked, weights if weighted else None)


def sources_of(asked: Asked | Sequence[Asked] | None) -> tuple[Source, ...]:
    """The sources that are asked for; None: the bundled texts.

    Errors: InputError for none, or what cannot be one.
    """
    listed = (
        [BUNDLED_NAME]
        if asked is None
        else [asked]
        if isinstance(asked, Path | str | Source | Mapping)
        else asked
    )
    if not (found := tuple(map(_source, listed))):
        raise InputError("No text source is named; give at least one.")
    return found


def _source(asked: Asked) -> Source:
    return (
        asked
        if isinstance(asked, Source)
        else Source(str(asked))
        if isinstance(asked, Path)
        else Source.from_json(asked)
    )


def free_name(name: str, taken: Collection[str]) -> str:
    """The name, or where it is taken the first of name-2, name-3... that is not."""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    return free


def _read(source: Source, alone: bool) -> list[Document]:
    """All documents of one source; blank ones are left out."""
    if source.is_hub:
        rows, suffix = _hub_rows(source), HUB
    else:
        file = BUNDLED if source.path == BUNDLED_NAME else Path(source.path)
        suffix = file.suffix.lower()
        rows = _file_rows(file, suffix, source)
    # a file alone has always been called so, and its hash with it
    unnamed = "text" if alone and suffix in (".txt", ".jsonl") else source.stem
    limit = HUB_LIMIT if source.is_hub and source.limit is None else source.limit
    found = (_document(row, source, place, unnamed) for place, row in rows)
    documents = list(islice((d for d in found if d), limit))
    if not documents:
        raise InputError(
            f"The text source {source.path!r} has no text; give a file with documents separated by blank "
            "lines, or rows of texts."
        )
    return documents


# rows: what a format holds, as (place, {column: value})


def _file_rows(file: Path, suffix: str, source: Source) -> Numbered:
    name = source.path
    try:
        exists = file.is_file()
    except OSError:  # longer than a path may be
        exists = False
    if not exists:
        raise InputError(f"No text file {_short(name)}; give a {_ALL_FORMATS} file.")
    if suffix not in READERS:
        raise InputError(
            f"The text file {name!r} ends in {file.suffix or 'nothing'}; {_ALL_FORMATS} can be read."
        )
    try:
        yield from READERS[suffix](file, source)
    except OSError as error:
        raise InputError(
            f"The text file {name!r} cannot be read ({_first_line(error)}); check the path and the file."
        ) from error


def _lines(file: Path, name: str, limit: int = -1) -> Iterator[tuple[int, str]]:
    """(number, line without its end) of a UTF-8 file, whatever ends its lines.

    Errors: InputError for a line that is not UTF-8, has a NUL, or is longer than `limit` characters (-1: any
    length).
    """
    # bytes that are not UTF-8 become lone surrogates, so that the line they are on can be told
    with open(file, encoding="utf-8-sig", errors="surrogateescape") as f:
        number = 0
        while line := f.readline(limit + 1 if limit >= 0 else -1):
            number += 1
            line = line.removesuffix("\n")
            if 0 <= limit < len(line):
                raise InputError(f"Line {number} of {name!r} is longer than {limit:,} characters; divide it.")
            if (
                (bad := next((c for c in line if "\udc80" <= c <= "\udcff"), None))
                if not _is_text(line)
                else None
            ):
                raise InputError(
                    f"Line {number} of {name!r} is not UTF-8 (byte 0x{ord(bad) - 0xDC00:02x}); save the file "
                    "as UTF-8."
                )
            if "\0" in line:
                raise InputError(f"Line {number} of {name!r} has a NUL byte; save the file as plain UTF-8.")
            yield number, line


def _txt_rows(file: Path, source: Source) -> Numbered:
    """Documents are what blank lines separate."""
    for is_text, group in groupby(_lines(file, source.path), key=lambda numbered: numbered[1] != ""):
        if is_text:
            lines = list(group)
            yield f"Line {lines[0][0]}", {source.column: "\n".join(line for _, line in lines)}


def _jsonl_rows(file: Path, source: Source) -> Numbered:
    for number, line in _lines(file, source.path, LINE_LIMIT):
        if not line.strip():
            continue
        try:
            row = _JSON.decode(line)
        except (ValueError, RecursionError) as error:
            reason = "it nests too deeply" if isinstance(error, RecursionError) else _first_line(error, 80)
            raise InputError(
                f"Line {number} of {source.path!r} is not JSON ({reason}); write one object a line."
            ) from error
        yield f"Line {number}", row if isinstance(row, dict) else {}


def _unique(pairs: list[tuple[str, object]]) -> dict:
    """An object whose keys are all different: of two, Python would silently take the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        again = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"the key {_short(again)[:40]} is there twice")
    return found


def _no_number(word: str):
    raise ValueError(f"{word} is no JSON number")


_JSON = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_number)


def _csv_rows(file: Path, source: Source) -> Numbered:
    """Rows under a header, divided by commas, quoted by double quotes."""
    name = source.path
    csv.field_size_limit(LINE_LIMIT)
    reader = csv.reader((line + "\n" for _, line in _lines(file, name, LINE_LIMIT)), strict=True)
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
            f'Line {reader.line_num} of {name!r} is not CSV ({_first_line(error, 80)}); quote fields by " '
            'and " as "".'
        ) from error


def _parquet_rows(file: Path, source: Source) -> Numbered:
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
        with pyarrow.parquet.ParquetFile(file) as parquet:
            columns = parquet.schema_arrow.names
            _check_columns(columns, source)
            for batch in parquet.iter_batches(
                batch_size=256, columns=[c for c in columns if c in _used(source)]
            ):
                for row in batch.to_pylist():
                    number += 1
                    yield f"Row {number}", {key: value for key, value in row.items() if value is not None}
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise InputError(
            f"The text file {source.path!r} is no whole Parquet file ({_first_line(error, 80)}, after row "
            f"{number}); write it anew."
        ) from error


READERS: dict[str, Callable[[Path, Source], Numbered]] = {
    ".txt": _txt_rows,
    ".jsonl": _jsonl_rows,
    ".csv": _csv_rows,
    ".parquet": _parquet_rows,
}
_ALL_FORMATS = f"{', '.join(list(READERS)[:-1])} or {list(READERS)[-1]}"


def _hub_rows(source: Source) -> Numbered:
    """Rows of a hub dataset as they arrive: only formats without code, and only what was asked for is
    downloaded.
    """
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
            f"The hub dataset {name!r} cannot be read ({type(error).__name__}: {_first_line(error)}); check "
            "its name, config and split, "
            f"that you may read it, and the connection."
        ) from error


def _first_line(error: Exception, length: int = 160) -> str:
    text = (getattr(error, "strerror", None) or str(error)).strip() or type(error).__name__
    return text.splitlines()[0][:length].rstrip(".")


def _used(source: Source) -> set[str]:
    return {source.column, "domain", *(_INSTEAD if source.column == _DEFAULTS["column"] else ())}


def _check_columns(columns: list[str], source: Source) -> None:
    """Errors: InputError when two columns that are used have one name, or none holds texts."""
    if again := next((c for c in sorted(_used(source)) if columns.count(c) > 1), None):
        raise InputError(f"{source.path!r} has two columns {again!r}; rename one.")
    if not (_used(source) - {"domain"}) & set(columns):
        listed = ", ".join(c[:40] for c in columns[:8]) + (", ..." if len(columns) > 8 else "")
        raise InputError(
            f"{source.path!r} has no column {_short(source.column)} but {listed!r}; name the one with the "
            "texts by column=."
        )


# documents: what a row says


_INSTEAD = ("messages", PROMPT, COMPLETION, "response")


def _document(row: Row, source: Source, place: str, unnamed: str) -> Document | None:
    """The document of a row; None when it is blank. Errors: InputError for a row without a text."""
    where = f"{place} of {source.path!r}"
    value = row.get(source.column)
    turns: tuple[tuple[str, str], ...] = ()
    if isinstance(value, str):
        text = value.strip()
    else:
        turns = _turns(row, source, where)
        text = "\n".join(content for _, content in turns if content)
    domain = source.domain or str(row.get("domain", unnamed))
    if not _is_text(text + domain + "".join(role for role, _ in turns)):
        raise InputError(f"{where} holds a lone surrogate, which is no text; remove it.")
    return Document(text, domain, turns) if text else None


def _turns(row: Row, source: Source, where: str) -> tuple[tuple[str, str], ...]:
    """(role, content) of a row that is a chat, or a prompt and its completion."""
    default = source.column == _DEFAULTS["column"]
    chat = row.get("messages") if default else row.get(source.column)
    if isinstance(chat, list):
        for number, message in enumerate(chat, 1):
            if not (
                isinstance(message, dict)
                and all(isinstance(message.get(key), str) for key in ("role", "content"))
            ):
                raise InputError(
                    f"{where} has messages, and number {number} is no object with a role and a content in "
                    "words; write both."
                )
        return tuple((m["role"], m["content"].strip()) for m in chat)
    prompt, completion = row.get(PROMPT), row.get(COMPLETION, row.get("response"))
    if default and isinstance(prompt, str) and isinstance(completion, str):
        return ((PROMPT, prompt.strip()), (COMPLETION, completion.strip()))
    instead = ", or messages, or prompt and completion" if default else ""
    raise InputError(
        f"{where} has no string under the key {_short(source.column)}{instead}; write "
        f'{{{json.dumps(source.column)}: "..."}}.'
    )


def _is_text(text: str) -> bool:
    """Whether it can be written as UTF-8: lone surrogates cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
