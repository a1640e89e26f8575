"""Which part of texts is for what: calibrate / choose / report = 50 / 25 / 25, so that what is reported was
never used to choose.

Documents that come as rows are divided by their hash. Running text is one document however long it is: it is
cut into stretches, in rounds that begin small and grow with what lies before them. Each round gives every
split a stretch, so that all see the same kinds of text; where a stretch lies depends on nothing behind it.
"""

import hashlib
import re
from collections.abc import Iterator

SPLITS = {"calibrate": range(0, 128), "choose": range(128, 192), "report": range(192, 256)}
FIRST = 2400  # characters of the smallest round: about one sequence of 128 tokens for the smallest stretch
_GROWTH = 4  # a later round is a quarter of all that lies before it
_GAP = 100  # of a round is left out, or what is left of a paragraph, between two stretches
_BLANK = re.compile(r"\n(?:[^\S\n]*\n)+")
_BOUNDARIES = (_BLANK, re.compile(r"\n"), re.compile(r"\s+"))


def hashed(text: str) -> str:
    """The split of a document, by the first byte of its SHA-256."""
    first = hashlib.sha256(text.encode()).digest()[0]
    return next(name for name, numbers in SPLITS.items() if first in numbers)


def stretches(text: str) -> Iterator[tuple[str, str]]:
    """(split, what it has there) of a running text, from its begin on: whole paragraphs as they stand.

    A paragraph that is longer than its stretch should be is cut at the end of a line, of a word, or where
    there is neither anywhere. Between stretches lies a gap that no split has.
    """
    start = 0
    while start < len(text):
        size = max(FIRST, start // _GROWTH)
        for name, numbers in SPLITS.items():
            share = size * len(numbers) // 256
            end = _boundary(text, start + share, start + 2 * share)
            if stretch := text[start:end].strip():
                yield name, stretch
            start = _boundary(text, end + size // _GAP, end + share // 2)


def _boundary(text: str, least: int, most: int) -> int:
    """The first place from `least` to `most` where a paragraph begins, else a line, a word, else `least`."""
    for pattern in _BOUNDARIES:
        if found := pattern.search(text, least - 1, most):
            return found.end()
    return min(least, len(text))


def paragraphs(text: str) -> list[str]:
    """What blank lines separate, also those that hold a space."""
    return [part for part in _BLANK.split(text.strip("\n")) if part.strip()]
