"""How documents become sequences: packed or one a sequence, through which template, behind which BOS."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from core.errors import InputError
from core.texts import chat
from core.texts.special_tokens import begins, own_bos, separator, template_text

MODES = {"packed": "packed within a domain", "documents": "one document a sequence, padded on the right"}
TEMPLATES = ("none", "chat")
BOS = ("auto", "always", "never")
READING = 2  # counts up when the same files and form become other sequences
FORM = {"mode": "packed", "template": "none", "bos": "auto"}  # unless somebody says else
BLANK_LINE = "\n\n"  # between packed documents, where no token is known to separate them


@dataclass(frozen=True)
class Form:
    """How documents become sequences of `length` tokens.

    tokenizer: of transformers, the model's own. mode, template, bos: as core.texts.packing.pack takes them.
    Errors: InputError for what there is not, and for a BOS that the tokenizer lacks.
    """

    tokenizer: Any
    length: int
    mode: str = "packed"
    template: str = "none"
    bos: str = "auto"

    def __post_init__(self):
        for what, value, there in (
            ("mode", self.mode, MODES),
            ("template", self.template, TEMPLATES),
            ("bos", self.bos, BOS),
        ):
            if value not in there:
                raise InputError(f"There is no {what} {value!r} for texts; give one of {', '.join(there)}.")
        if self.length < 2:
            raise InputError(
                f"Sequences must have 2 or more tokens, not {self.length}; give a larger length."
            )
        if self.bos == "always" and self.tokenizer.bos_token_id is None:
            raise InputError(
                "The model's tokenizer has no BOS token to begin with, and bos is 'always'; take 'auto' or "
                "'never'."
            )

    @cached_property
    def head(self) -> list[int]:
        """What each sequence begins with: bos auto is what the tokenizer itself does, in a chat template what
        that does.
        """
        if self.bos == "never":
            return []
        if self.bos == "always":
            return [self.tokenizer.bos_token_id]
        return begins(self.tokenizer) or ([self.tokenizer.bos_token_id] if self._template_begins else [])

    @property
    def _template_begins(self) -> bool:
        """Whether the chat template that is asked for writes a BOS of its own."""
        if self.template != "chat" or own_bos(self.tokenizer) is None:
            return False
        text = template_text(self.tokenizer)
        return "bos_token" in text or self.tokenizer.bos_token in text

    @cached_property
    def separator(self) -> str | None:
        """The token between packed documents; None: a blank line."""
        return separator(self.tokenizer)

    @cached_property
    def joint(self) -> list[int]:
        """What ends a document in a packed sequence."""
        if self.separator is None:
            return self.blank_line.tolist()
        return [self.tokenizer.convert_tokens_to_ids(self.separator)]

    @cached_property
    def blank_line(self) -> np.ndarray:
        """The tokens of a blank line, int64 [T]."""
        return np.array(self.tokenizer(BLANK_LINE, add_special_tokens=False)["input_ids"], dtype=np.int64)

    @property
    def padding(self) -> int:
        """The token behind documents that are too short; no mask counts it."""
        tokens = (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id)
        return next((token for token in tokens if token is not None), 0)

    def words(self, rows: bool = True, running: bool = False) -> str:
        """The form in words, as runs and measurements keep it: another form has other words.

        rows, running: whether there are whole documents, and stretches of running text.
        """
        words = [MODES[self.mode], "one BOS first" if self.head else "no BOS"]
        if self.mode == "packed" and rows:
            words.append(f"joined by {self._joint_words}")
        if running:
            words.append(
                "running text as it stands" if self.mode == "packed" else "running text by paragraphs"
            )
        if self.template == "chat":  # no other digest knows the template
            digest = hashlib.sha256(chat.template_of(self.tokenizer).encode()).hexdigest()
            words.append(f"chat template {digest[:8]}")
        return "; ".join(words)

    @property
    def _joint_words(self) -> str:
        if self.separator is None:
            return "a blank line"
        return "EOS" if self.separator == self.tokenizer.eos_token else self.separator
