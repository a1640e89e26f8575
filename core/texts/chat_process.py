"""The process that a chat template runs in, with a share of time, memory and output, and no more.

A module of its own, started by core.texts.chat and imported by none, since it loads transformers:

    python -m core.texts.chat_process     {template, variables, chats} on stdin
                                          -> {texts} or {failed, reason} on stdout
"""

import json
import resource
import sys
from datetime import datetime
from pathlib import Path

from transformers.utils import chat_template_utils

from core.texts.chat import seconds_for

MEMORY = 2**30  # bytes beyond what the process starts with
OUTPUT = 2**20  # characters of one chat


class _OneDay(datetime):
    """The day on which all chats are: core.texts.chat's date_string, for templates that ask for the time."""

    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 26, tzinfo=tz)


def _serve() -> None:
    """The process: every limit is the kernel's, so that no template can outlast it."""
    asked = json.load(sys.stdin)
    chat_template_utils.datetime = _OneDay  # type: ignore[misc]  # strftime_now takes it from there
    used = resource.getrusage(resource.RUSAGE_SELF)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime + seconds_for(len(asked["chats"]))) + 1)
    try:
        own = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        _limit(resource.RLIMIT_AS, own + MEMORY)
    except OSError:  # not Linux: no way to know what is in use
        pass
    texts: list[str] = []
    try:
        for chat in asked["chats"]:
            rendered = chat_template_utils.render_jinja_template(
                [chat], chat_template=asked["template"], **asked["variables"]
            )
            text = rendered[0][0]  # ([the text of each chat], what else it tells)
            if len(text) > OUTPUT:
                raise ValueError(f"it writes {len(text):,} characters and {OUTPUT:,} are the most")
            text.encode()  # lone surrogates are no text
            texts.append(text)
        answer: dict = {"texts": texts}
    except Exception as error:  # whatever a template can raise
        reason = (
            "it takes too much memory"
            if isinstance(error, MemoryError)
            else str(error).strip() or type(error).__name__
        )
        answer = {"failed": len(texts), "reason": reason.splitlines()[0][:160]}
    json.dump(answer, sys.stdout)


def _limit(what: int, value: int) -> None:
    try:
        hard = resource.getrlimit(what)[1]
        resource.setrlimit(what, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))
    except (OSError, ValueError):  # a platform without this limit; the others hold
        pass


if __name__ == "__main__":
    _serve()
