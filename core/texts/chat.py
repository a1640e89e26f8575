"""Prompts and chats -> text, and which characters of it count in the loss.

Without a template the turns are lines of plain text. With the tokenizer's chat template they are rendered in
a process of its own (core.texts.chat_process): a template is a program that came with a model.
"""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.errors import InputError
from core.texts.documents import Document
from core.texts.special_tokens import begins, template_text
from core.texts.text_source import COMPLETION, PROMPT

ROOT = Path(__file__).resolve().parents[2]
SECONDS, SECONDS_EACH = 4, 0.02  # of the processor: for all chats together, and on top for each
_BACKSTOP = 300  # seconds of the wall: a process that waits instead of working
_ROLES = {PROMPT: "user", COMPLETION: "assistant"}
_MARK = "\N{LEFT WHITE SQUARE BRACKET}%d\N{RIGHT WHITE SQUARE BRACKET}"
_MARKS = _MARK.replace("%d", "([0-9]{1,6})")
# the day is not the text's: templates that know this variable, or ask for the time (core.texts.chat_process),
# would write today's date, and each day would be another run
_VARIABLES = {"date_string": "26 Jul 2024"}

Turns = Sequence[tuple[str, str]]  # role, what was said
Spans = list[tuple[int, int]]  # of characters: first, and first behind


def plain(document: Document) -> tuple[str, Spans | None]:
    """(text, what counts in the loss) of a document as lines: all (None) but a prompt."""
    if not any(role == PROMPT for role, _ in document.turns):
        return document.text, None
    spans, start = [], 0
    for role, content in document.turns:
        if role != PROMPT:
            spans.append((start, start + len(content)))
        start += len(content) + bool(content)  # the end of the line
    return document.text, spans


def template_of(tokenizer: Any) -> str:
    """The tokenizer's chat template. Errors: InputError when it has none."""
    try:
        return tokenizer.get_chat_template()
    except ValueError as error:
        raise InputError(
            "The model's tokenizer has no chat template; take template none, or an instruction-tuned model."
        ) from error


def rendered(documents: Sequence[Document], tokenizer: Any) -> list[tuple[str, Spans]]:
    """(text, what counts in the loss: the assistant's words) of chats in the tokenizer's chat template.

    What a template writes around the words is told from them by rendering marks in their
    place; a template that rewrites the words themselves, or leaves the assistant's out, is
    refused, since then nobody knows which are whose.
    Errors: InputError, also for a template that fails, or takes more than its share.
    """
    if not documents:
        return []
    chats = [[(_ROLES.get(role, role), content) for role, content in d.turns] for d in documents]
    # what is around the words depends on the roles alone, else the comparison below fails
    roles = [tuple(role for role, _ in chat) for chat in chats]
    first = {key: document.text for key, document in reversed(list(zip(roles, documents)))}
    frames = [[(role, _MARK % k) for k, role in enumerate(key)] for key in first]
    texts = _render(tokenizer, [*frames, *chats], [*first.values(), *(d.text for d in documents)])
    framed = dict(zip(first, texts))
    found = []
    for key, chat, text, document in zip(roles, chats, texts[len(frames) :], documents):
        again, spans = _filled(framed[key], chat)
        if again != text or (not spans and any(role == "assistant" and content for role, content in chat)):
            raise InputError(
                "The model's chat template rewrites or leaves out words of the chat that begins "
                f"{document.text[:40]!r}, so what the assistant said cannot be told from the rest; leave "
                "such chats out, or take template none."
            )
        found.append((text, spans))
    return found


def asked_ids(chats: Sequence[Turns], tokenizer: Any) -> list[list[int]]:
    """The tokens that a model reads before it answers each chat [(role, text)]: in the tokenizer's chat
    template, up to where the assistant is to answer; without one the turns as lines.

    Errors: InputError, as `rendered`.
    """
    turns = [[(_ROLES.get(role, role), content) for role, content in chat] for chat in chats]
    if template_text(tokenizer):
        head: list[int] = []
        texts = _render(tokenizer, turns, [chat[-1][1] for chat in turns], add_generation_prompt=True)
    else:
        head, texts = begins(tokenizer), ["\n".join(content for _, content in chat) for chat in turns]
    return [head + tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]


def _filled(frame: str, chat: Sequence[tuple[str, str]]) -> tuple[str, Spans]:
    """The frame with the contents in the places of their marks, and where the assistant's are."""
    text, spans = "", []
    for k, part in enumerate(re.split(_MARKS, frame)):
        if k % 2 == 0:
            text += part
        elif int(part) < len(chat):
            role, content = chat[int(part)]
            if role == "assistant" and content:
                spans.append((len(text), len(text) + len(content)))
            text += content
    return text, spans


def _render(
    tokenizer: Any, chats: Sequence[Sequence[tuple[str, str]]], begins: Sequence[str], **variables: bool
) -> list[str]:
    """Every chat in the template, by the process of its own."""
    asked = {
        "template": template_of(tokenizer),
        "variables": _VARIABLES | dict(tokenizer.special_tokens_map) | variables,
        "chats": [[{"role": role, "content": content} for role, content in chat] for chat in chats],
    }
    try:
        done = subprocess.run(
            [sys.executable, "-m", "core.texts.chat_process"],
            cwd=ROOT,
            input=json.dumps(asked, default=str).encode(),
            capture_output=True,
            timeout=_BACKSTOP,
        )
    except subprocess.TimeoutExpired:
        raise InputError(
            f"The model's chat template took longer than {_BACKSTOP} s; take template none."
        ) from None
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        took = (
            "takes longer than"
            if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL)
            else "broke off within"
        )
        raise InputError(
            f"The model's chat template {took} its {seconds_for(len(chats)):.0f} s; take template none."
        ) from None
    if "texts" in answer:
        return answer["texts"]
    begin = begins[answer["failed"]][:40]
    raise InputError(
        f"The model's chat template fails on the chat that begins {begin!r} ({answer['reason']}); change the "
        "chat, or take template none."
    )


def seconds_for(chats: int) -> float:
    """How much of the processor, in seconds, the process may take for that many chats."""
    return SECONDS + SECONDS_EACH * chats
