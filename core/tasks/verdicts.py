"""Short prompts' answers judged: what is wrong with one, and whether pruning broke it. Pure functions.

A verdict is 1 (fine), 0 (not), or absent where the check says nothing about the prompt:
ends (by itself, within core.tasks.short_prompts.TOKENS), answers (not empty), no_loop, language, brackets,
digits; `sound` is 1 where none is 0. What the original cannot do either says nothing about the pruned model,
so all is compared prompt by prompt. A text without sense that keeps to all of these looks fine here: read the
answers, and look at the loss.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from core.tasks.short_prompts import Prompt

CHECKS = ("sound", "ends", "answers", "no_loop", "language", "brackets", "digits")
BROKEN_P = 0.05  # of the one-sided exact sign test over prompts


@dataclass(frozen=True)
class Answer:
    """What a model went on to say, and whether it came to an end."""

    text: str
    ended: bool  # by itself, not at the last token allowed


def loops(text: str) -> bool:
    """Whether the text goes round.

    It does with one unit three times or more at its end, over at least a third of it; with few different
    trigrams; with one word four times, or one character eight times, in a row (drawn lines apart). Rows of
    numbers and lists differ from one turn to the next and so do not count.
    """
    text = re.sub(r"([-=_*#~])\1{3,}", r"\1", text)  # drawn lines
    words = re.findall(r"\w+|[^\w\s]", text)
    characters = "".join(text.split())
    if re.search(r"(\S)\1{7}", text) or re.search(r"\b(\w+)(\W+\1\b){3}", text):
        return True
    return _ends_in_turns(words, 6) or _ends_in_turns(list(characters), 24) or _few_trigrams(words)


def _ends_in_turns(units: list[str], least: int) -> bool:
    n = len(units)
    for period in range(1, n // 3 + 1):
        turns = 1
        while (turns + 1) * period <= n and units[n - (turns + 1) * period : n - turns * period] == units[
            n - period :
        ]:
            turns += 1
        if turns >= 3 and turns * period >= max(least, n / 3):
            return True
    return False


def _few_trigrams(words: list[str]) -> bool:
    trigrams = list(zip(words, words[1:], words[2:]))
    return len(trigrams) >= 12 and len(set(trigrams)) <= len(trigrams) / 2


_WORDS = {
    "en": (
        "the a an of and to in is was it that he she his her they you with for on at said had have be are "
        "this not but there"
    ),
    "de": (
        "der die das ein eine und ist war nicht sie er ich wir zu den dem mit von im auf es sich auch wie "
        "hat ihr des einen"
    ),
    "fr": "le la les un une des et est était dans que qui il elle pas pour sur avec ce au du ne je vous nous",
    "es": "el la los las un una y es era en que no se por con para su al lo del como más pero sus le yo",
}
_FUNCTION_WORDS = {language: frozenset(words.split()) for language, words in _WORDS.items()}
_SCRIPT = {"ru": "CYRILLIC"}


def script(text: str) -> str:
    """The script of most letters, as Unicode names it (LATIN, CYRILLIC, CJK ...); "" below three letters."""
    found = Counter(unicodedata.name(c, "?").split()[0] for c in text if c.isalpha())
    return found.most_common(1)[0][0] if found.total() >= 3 else ""


def keeps_language(text: str, language: str) -> bool:
    """Whether nothing says that the text is in another language than `language`.

    What says so is its script, or clearly more function words of another language.
    """
    found = script(text)
    if found and found != _SCRIPT.get(language, "LATIN"):
        return False
    if language not in _FUNCTION_WORDS:
        return True
    words = re.findall(r"\w+", text.lower())
    counts = {name: sum(w in known for w in words) for name, known in _FUNCTION_WORDS.items()}
    return max(counts.values()) < counts[language] + 2


_PAIRS = {")": "(", "]": "[", "}": "{"}


def keeps_brackets(prompt: str, answer: Answer) -> bool:
    """Whether the answer closes only what is open, in order, and by its own end leaves nothing open."""
    stack: list[str] = []
    for c in prompt + answer.text:
        if c in _PAIRS.values():
            stack.append(c)
        elif c in _PAIRS and (not stack or stack.pop() != _PAIRS[c]):
            return False
    return not (answer.ended and stack)


def verdicts(prompt: Prompt, answer: Answer) -> dict[str, int]:
    """{check: 1 or 0} of one answer; a check that says nothing about the prompt is left out.

    What an empty answer does not hold it has not kept: every check of it is 0 but `ends` and `no_loop`.
    """
    text = answer.text.strip()
    found = {"ends": answer.ended, "answers": bool(text), "no_loop": not loops(text)}
    if prompt.language:
        found["language"] = bool(text) and keeps_language(text, prompt.language)
    if any(c in "([{" for c in prompt.text):
        found["brackets"] = bool(text) and keeps_brackets(prompt.text, answer)
    if prompt.digits:
        found["digits"] = re.search(rf"(?<!\d){prompt.digits}(?!\d)", text) is not None
    return {"sound": int(all(found.values())), **{check: int(fine) for check, fine in found.items()}}


@dataclass(frozen=True)
class Change:
    """One check, original against pruned, over the prompts it speaks of."""

    original: float  # share of prompts that are fine
    pruned: float
    n: int
    worse: int  # prompts that were fine and are not
    better: int
    difference: float  # (better - worse) / n
    se: float

    @property
    def p(self) -> float:
        """One-sided exact sign test: how likely it is by chance that so many of the changed got worse."""
        changed = self.worse + self.better
        return sum(math.comb(changed, k) for k in range(self.worse, changed + 1)) / 2**changed

    @property
    def broken(self) -> bool:
        """Whether more prompts got worse than better, and by more than chance (BROKEN_P)."""
        return self.worse > self.better and self.p < BROKEN_P

    def to_json(self) -> dict:
        """Every number, with `p` and `broken`."""
        return {**vars(self), "p": self.p, "broken": self.broken}


def compare(original: Sequence[dict[str, int]], pruned: Sequence[dict[str, int]]) -> dict[str, Change]:
    """{check: Change} from the verdicts on the same prompts in the same order.

    Under `sound` a prompt is worse where any check was lost, better where any was gained and none lost.
    """
    changes = {}
    for check in CHECKS:
        pairs = [(a, b) for a, b in zip(original, pruned, strict=True) if check in a and check in b]
        if not pairs:
            continue
        signs = [_sign(a, b, CHECKS if check == "sound" else (check,)) for a, b in pairs]
        n, mean = len(pairs), sum(signs) / len(pairs)
        spread = math.sqrt(sum((s - mean) ** 2 for s in signs) / (n - 1)) if n > 1 else math.nan
        before, after = (sum(v[check] for v in side) / n for side in zip(*pairs))
        changes[check] = Change(
            before, after, n, signs.count(-1), signs.count(1), mean, spread / math.sqrt(n)
        )
    return changes


def _sign(original: dict[str, int], pruned: dict[str, int], checks: Sequence[str]) -> int:
    """-1 where a check was lost, 1 where one was gained and none lost, else 0."""
    steps = [pruned[c] - original[c] for c in checks if c in original and c in pruned]
    return -1 if -1 in steps else int(1 in steps)
