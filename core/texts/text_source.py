"""Where texts are to come from: a source, how it is written, and what it may say.

A source is a local file, the bundled texts, a hub dataset that the user names, or the model's own samples
(core.calibration.corpus). core.texts.readers reads the first three.
"""

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeGuard

from core.errors import InputError, is_weight, quoted
from core.store.folders import DEMO

BUNDLED = DEMO / "texts.jsonl"
BUNDLED_NAME = "bundled"
OWN = "own"  # the model's own samples: they are no documents
HUB = "hub:"
PROMPT, COMPLETION = "prompt", "completion"  # the roles of a prompt and what follows it; a chat has its own
CHATS = ("messages", "conversations")  # columns of chats
# columns of rows that are no plain text
_INSTEAD = (*CHATS, PROMPT, COMPLETION, "response", "instruction", "input", "context", "output")
PACKINGS = (".gz", ".zst")  # suffixes behind that of the format


@dataclass(frozen=True)
class TextSource:
    """One place texts come from.

    path: a local file, "bundled", "hub:OWNER/NAME", or "own": what the model itself writes.
    column: where the text is; while it is the default, rows may hold something else instead, as
        core.texts.shapes says.
    domain: of all its documents; None: the column `domain`, and where there is none the file's stem (for a
        .txt or .jsonl alone: "text").
    weight: its share of the sequences drawn, against those of the other sources; None: no say. A source of
        several domains divides it equally among them.
    config, split, revision: of a hub dataset only.
    limit: documents read at most, of a .txt paragraphs; None: all, of a hub dataset
        core.texts.documents.HUB_LIMIT.

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
                    f"The {name} of the text source {quoted(self.path)} must be {what}, not {quoted(value)}."
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
                f"The text source {quoted(self.path)} is {what} and has no {named}; leave {named} out."
            )

    @property
    def is_hub(self) -> bool:
        """Whether it is a dataset of the hub."""
        return self.path.startswith(HUB)

    @property
    def is_own(self) -> bool:
        """Whether it stands for what the model itself writes."""
        return self.path == OWN

    @property
    def is_file(self) -> bool:
        """Whether it names a file of its own."""
        return not (self.is_hub or self.is_own or self.path == BUNDLED_NAME)

    @property
    def file(self) -> Path:
        """The local file that it names; of a hub dataset and of own samples there is none."""
        return BUNDLED if self.path == BUNDLED_NAME else Path(self.path)

    @property
    def kind(self) -> str:
        """What it is read as, a key of core.texts.readers.READERS: the file's suffix, that of its packing not
        counted, or HUB.
        """
        return HUB if self.is_hub else _unpacked(self.file).suffix.lower()

    @property
    def packing(self) -> str:
        """The suffix of what compressed its file, one of PACKINGS, or ""."""
        suffix = self.file.suffix.lower()
        return suffix if suffix in PACKINGS else ""

    @property
    def names_no_column(self) -> bool:
        """Whether its rows may hold chats, or prompts with completions, in place of the column of texts."""
        return self.column == _DEFAULTS["column"]

    @property
    def columns(self) -> set[str]:
        """All columns that documents are made of."""
        return {self.column, "domain", *(_INSTEAD if self.names_no_column else ())}

    @property
    def share(self) -> float:
        """Its weight; without one among others that have one it counts once."""
        return 1.0 if self.weight is None else self.weight

    @property
    def stem(self) -> str:
        """The name its documents go by where nothing names them."""
        return self.path.removeprefix(HUB) if self.is_hub else _unpacked(Path(self.path)).stem

    def __str__(self) -> str:
        """As the command line writes it; what `parse_source` reads."""
        options = [f"{name}={str(value).removesuffix('.0')}" for name, value in self.to_json().items()]
        return "::".join(filter(None, [self.path, ",".join(options[1:])]))

    def to_json(self) -> dict:
        """{field: value} of all that is not the default; equal sources give equal objects."""
        return {name: value for name, value in vars(self).items() if value != _DEFAULTS.get(name)}

    @classmethod
    def from_json(cls, data: object) -> "TextSource":
        """What `to_json` gave, or a string as `parse_source` takes it. Errors: InputError."""
        if isinstance(data, str):
            return parse_source(data)
        if not isinstance(data, Mapping) or "path" not in data:
            raise InputError(f"A text source must be an object with a path, not {quoted(data)}.")
        _known(data, data["path"])
        return cls(**data)


def _unpacked(file: Path) -> Path:
    """Its name without the suffix of what compressed it."""
    return file.with_suffix("") if file.suffix.lower() in PACKINGS and file.stem else file


def is_text(text: str) -> bool:
    """Whether it can be written as UTF-8: lone surrogates cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_word(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and bool(value.strip()) and is_text(value)


def _is_path(value: object) -> bool:
    return _is_word(value) and (
        not value.startswith(HUB) or re.fullmatch(r"hub:(\w[\w.-]*/)?\w[\w.-]*", value) is not None
    )


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
_DEFAULTS = {f.name: f.default for f in fields(TextSource) if f.name != "path"}
_OPTIONAL = {name for name, default in _DEFAULTS.items() if default is None}
_NUMBERS = {"weight": float, "limit": int}
_PAIR = r"\w+=[^,]*"
_WITH_OPTIONS = re.compile(rf"(?P<path>.*)::(?P<options>{_PAIR}(,{_PAIR})*)", re.DOTALL)


def parse_source(text: str) -> TextSource:
    """A source as the command line writes it: PATH, or PATH::key=value,key=value.

    Only the last `::` divides, and only where key=value pairs follow: all else belongs to the path.
    Errors: InputError for an unknown or repeated key, or a value that cannot be.
    """
    found = _WITH_OPTIONS.fullmatch(text)
    if not found:
        return TextSource(text)
    path, pairs = found["path"], [pair.split("=", 1) for pair in found["options"].split(",")]
    _known([key for key, _ in pairs], path)
    for k, (key, value) in enumerate(pairs):
        if key in dict(pairs[:k]):
            raise InputError(
                f"The text source {quoted(path)} names {key} again, as {quoted(value)}; name it once."
            )
    return TextSource(path, **{key: _number(key, value) for key, value in pairs})


def _number(key: str, value: str) -> Any:
    try:
        return _NUMBERS.get(key, str)(value)
    except ValueError:  # the source's own check says what it must be
        return value


def _known(keys: Iterable[str], path: object) -> None:
    for key in keys:
        if key not in _FIELDS:
            raise InputError(
                f"The text source {quoted(path)} has no option {quoted(key)}; there are "
                f"{', '.join(_DEFAULTS)}."
            )


Asked = TextSource | str | Path | Mapping  # what `sources_of` takes for one source


def sources_of(asked: Asked | Sequence[Asked] | None) -> tuple[TextSource, ...]:
    """The sources that are asked for; None: the bundled texts.

    Errors: InputError for none, or what cannot be one.
    """
    listed = (
        [BUNDLED_NAME]
        if asked is None
        else [asked]
        if isinstance(asked, Path | str | TextSource | Mapping)
        else asked
    )
    if not (found := tuple(map(_source, listed))):
        raise InputError("No text source is named; give at least one.")
    return found


def _source(asked: Asked) -> TextSource:
    return (
        asked
        if isinstance(asked, TextSource)
        else TextSource(str(asked))
        if isinstance(asked, Path)
        else TextSource.from_json(asked)
    )
