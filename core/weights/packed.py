"""Quantised weights that are only copied: how their settings name modules, and what becomes of these names
when blocks go.

Settings name what is quantised otherwise, or not at all, in lists and as keys: by the whole name of a module
or a part of it, with * for anything, as an expression behind "re:" (compressed-tensors), "+:" or "-:"
(GPTQModel). A name of a removed block goes, of another is renumbered; a pattern stays where it then says the
same of what is left, else the modules that it meant are named one by one.
"""

import fnmatch
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.errors import InputError
from core.weights.guard import read_object
from core.weights.quantised import method_name

KEY = "quantization_config"
_TEXT = "text_config"
_FILES = (
    *("hf_quant_config.json", "quantization_config.json"),
    *("quantize_config.json", "quant_config.json"),
)  # beside config.json
_IN_HEADERS = ("torchao",)  # methods that say in the headers of files how each tensor is packed, by its name
_EXPRESSION = re.compile(r"(re:|[+-]:)")
_SPECIAL = re.compile(r"[\\^$*+?()\[\]|{}]")


def settings_files(folder: Path) -> list[Path]:
    """What a folder says beside its config.json of how its weights are quantised."""
    return [folder / name for name in _FILES if (folder / name).is_file()]


def is_packed(config: dict, folder: Path) -> bool:
    """Whether the weights of a folder with this raw config are quantised."""
    nested = config.get(_TEXT)
    inner = nested.get(KEY) if isinstance(nested, dict) else None
    return bool(config.get(KEY) or inner or settings_files(folder))


def check_copied(config: dict, source: str) -> None:
    """Errors: InputError where more than tensors and settings would have to be copied, by this raw config."""
    parts = (config, config.get(_TEXT))
    found = {method_name(part[KEY]) for part in parts if isinstance(part, dict) and part.get(KEY)}
    if found & {*_IN_HEADERS}:
        raise InputError(
            f"{source!r} is quantised by {found.pop()}, which says in the headers of its files how each "
            "tensor is packed, and those are not carried over here; take the unquantised model."
        )


class Renamed:
    """What becomes of names of modules as they are on disk."""

    def __init__(self, modules: dict[str, str | None], stack: str, numbers: dict[int, int]):
        """modules: {name before: name after, None where it goes}. stack: the path of the blocks on disk.
        numbers: {number of a block that stays: its number afterwards}.
        """
        self.modules = modules
        self.after = {name for name in modules.values() if name}
        *self.above, self.list = stack.split(".")
        self.numbers = numbers

    def settings(self, value: Any) -> Any:
        """The settings of what is left; lists and keys of any depth are looked through."""
        if isinstance(value, dict):
            return {new: self.settings(inner) for key, inner in value.items() for new in self.name(key)}
        if isinstance(value, list):
            named = [self.name(v) if isinstance(v, str) else [self.settings(v)] for v in value]
            return [v for one in named for v in one]
        return value

    def name(self, text: str) -> list[str]:
        """What stands for a name or pattern afterwards."""
        mark = _EXPRESSION.match(text)
        if mark:
            return self._pattern(text, text[mark.end() :], mark[0])
        if "*" in text or _SPECIAL.search(text):
            if text.replace("*", "").replace(".", "").replace("_", "").replace("-", "").isalnum():
                return self._glob(text)
            return self._pattern(text, text, "")
        return self._plain(text)

    def _plain(self, text: str) -> list[str]:
        """Of the name of a module, or a part of it that has the block's number."""
        if text in self.modules:
            after = self.modules[text]
            return [after] if after else []
        parts = text.split(".")
        for at, part in enumerate(parts[1:], 1):
            above = parts[: at - 1]
            whole = self.above[len(self.above) - len(above) :] if len(above) <= len(self.above) else None
            if part.isdigit() and parts[at - 1] == self.list and above == whole:
                if int(part) not in self.numbers:
                    return []
                return [".".join([*parts[:at], str(self.numbers[int(part)]), *parts[at + 1 :]])]
        return [text]

    def _pattern(self, text: str, expression: str, mark: str) -> list[str]:
        try:
            matches = re.compile(expression).match
        except re.error:  # of another kind: as it is
            return [text]
        return self._meant(text, lambda name: bool(matches(name)), lambda name: f"{mark}^{re.escape(name)}$")

    def _glob(self, text: str) -> list[str]:
        return self._meant(text, lambda name: fnmatch.fnmatchcase(name, text), lambda name: name)

    def _meant(self, text: str, fits: Callable[[str], bool], written: Callable[[str], str]) -> list[str]:
        """A pattern where it says the same of what is left, else what it meant, one by one."""
        meant = {self.modules[name] for name in filter(fits, self.modules)} - {None}
        if meant == {*filter(fits, self.after)}:
            return [text] if meant or not any(map(fits, self.modules)) else []
        return [written(name) for name in sorted(name for name in meant if name)]


def rewrite(raw: dict, source: dict, renamed: Renamed) -> None:
    """Put the settings of a raw config into another where they stood, with the names of what is left."""
    for part in (None, _TEXT):
        before = source.get(part) if part else source
        after = raw.get(part) if part else raw
        if isinstance(before, dict) and isinstance(after, dict) and before.get(KEY):
            after[KEY] = renamed.settings(before[KEY])


def rewrite_files(folder: Path, out: Path, source: str, renamed: Renamed) -> None:
    """The settings beside a config, with the names of what is left."""
    for file in settings_files(folder):
        content = renamed.settings(read_object(file, source))
        (out / file.name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
