"""A row as people have them -> the text, the prompt or the chat that it is.

Looked for in this order: the column of texts (a string, or a list of strings: its lines), a chat (`messages`
with role and content, `conversations` with from and value), a prompt and its completion (or response), an
instruction with or without an input, and its output. Where the column of texts is not named and rows have
none of these, the only column of text is taken.
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from core.errors import InputError, quoted
from core.texts.readers import Row
from core.texts.text_source import CHATS, COMPLETION, PROMPT, TextSource

Turns = tuple[tuple[str, str], ...]
_PAIRS = ((PROMPT, COMPLETION), (PROMPT, "response"), ("instruction", "output"), ("instruction", "response"))
QUESTION = "question"
_QUESTIONS = (PROMPT, "instruction", QUESTION)
_BESIDE = ("input", "context")  # what an instruction is about
_MESSAGE = (("role", "content"), ("from", "value"))
_ROLES = {"human": "user", **dict.fromkeys(("gpt", "chatgpt", "bing", "bard", "model"), "assistant")}
_NEVER = {*CHATS, PROMPT, COMPLETION, "instruction", "domain"}  # columns that are no texts by themselves


class Words(NamedTuple):
    """What a row says: its text, and the (role, content) of its turns where it has some."""

    text: str
    turns: Turns = ()


def words_of(row: Row | None, source: TextSource, where: str) -> Words | None:
    """What a row says; None for one that is null. Errors: InputError for a row of another shape."""
    if row is None or _is_null(row, source):
        return None
    value = row.get(source.column)
    if isinstance(value, str):
        return Words(value.strip())
    if isinstance(value, list) and value and all(isinstance(line, str) for line in value):
        return Words("\n".join(value).strip())
    turns = _chat(row, source, where)
    if turns is None and source.names_no_column:
        turns = _pair(row)
    if turns is None:
        raise _no_text(source, where)
    return Words("\n".join(content for _, content in turns if content), turns)


def _is_null(row: Row, source: TextSource) -> bool:
    """Whether all columns it has that documents are made of are null."""
    used = [value for name, value in row.items() if name in source.columns - {"domain"}]
    return not row or (bool(used) and all(value is None for value in used))


def _no_text(source: TextSource, where: str) -> InputError:
    instead = (
        ", or messages, conversations, prompt and completion, or instruction and output"
        if source.names_no_column
        else ""
    )
    return InputError(
        f"{where} has no string under the key {quoted(source.column)}{instead}; write "
        f'{{{json.dumps(source.column)}: "..."}}.'
    )


def _chat(row: Row, source: TextSource, where: str) -> Turns | None:
    """(role, content) of a row that is a chat."""
    names = CHATS if source.names_no_column else (source.column,)
    chat: Any = next((row[name] for name in names if isinstance(row.get(name), list)), None)
    if chat is None:
        return None
    turns = []
    for number, message in enumerate(chat, 1):
        keys = next((k for k in _MESSAGE if isinstance(message, dict) and k[0] in message), _MESSAGE[0])
        if not (isinstance(message, dict) and all(isinstance(message.get(key), str) for key in keys)):
            raise InputError(
                f"{where} has messages, and number {number} is no object with a role and a content in words; "
                "write both."
            )
        role, content = (message[key] for key in keys)
        turns.append((_ROLES.get(role, role), content.strip()))
    return tuple(turns)


def _pair(row: Row) -> Turns | None:
    """A prompt and its completion, or an instruction, its input and its output."""
    for asks, answers in _PAIRS:
        asked, answer = row.get(asks), row.get(answers)
        if isinstance(asked, str) and isinstance(answer, str):
            return ((PROMPT, _with_beside(row, asks)), (COMPLETION, answer.strip()))
    return None


def _with_beside(row: Row, asks: str) -> str:
    """What a row asks, with what that is about."""
    parts = [row.get(name) for name in (asks, *(_BESIDE if asks == "instruction" else ()))]
    return "\n\n".join(filter(None, (part.strip() for part in parts if isinstance(part, str))))


def question_of(row: Row) -> str:
    """The prompt, instruction or question of a row that need not hold what answers it; "" without one."""
    asks = next((name for name in _QUESTIONS if isinstance(row.get(name), str)), None)
    return _with_beside(row, asks) if asks else ""


def column_of_text(rows: Sequence[Row | None], source: TextSource) -> str:
    """The column that the texts of these rows are in: the one that is named or the usual one, unless no row
    has any shape that is known and one column alone holds text.

    Errors: InputError where rows have no such column.
    """
    real = [row for row in rows if row]
    if not real or any(has_shape(row, source) for row in real):
        return source.column
    names = list(dict.fromkeys(name for row in real for name in row if name))
    held = {name: [row[name] for row in real if row.get(name) is not None] for name in names[:_MOST]}
    held = {name: values for name, values in held.items() if values and all(map(_is_words, values))}
    found = [name for name in held if name not in _NEVER]
    if len(held.keys() - {"domain"}) > 1:  # ids, labels and addresses are one word each
        found = [name for name in found if sum(" " in _line(v) for v in held[name]) * 2 >= len(held[name])]
    if source.names_no_column and len(found) == 1:
        return found[0]
    if any(name in source.columns - {"domain"} for name in names) or not names:
        return source.column  # the row that has it and no text under it is told by its place
    listed = ", ".join(c[:40] for c in names[:8]) + (", ..." if len(names) > 8 else "")
    raise InputError(
        f"{source.path!r} has no column {quoted(source.column)} but {listed!r}; name the one with the texts "
        "by column=."
    )


_MOST = 1000  # columns that are looked at


def has_shape(row: Row, source: TextSource) -> bool:
    """Whether a row has a text, a chat, or a prompt with what answers it."""
    value = row.get(source.column)
    if _is_words(value):
        return True
    if not source.names_no_column:
        return isinstance(value, list)
    return any(isinstance(row.get(name), list) for name in CHATS) or _pair(row) is not None


def _is_words(value: object) -> bool:
    return isinstance(value, str) or (
        isinstance(value, list) and bool(value) and all(isinstance(line, str) for line in value)
    )


def _line(value: object) -> str:
    return value if isinstance(value, str) else " ".join(value)  # type: ignore[arg-type]  # _is_words
