"""Does a model still behave? Short prompts answered greedily, and what is wrong with an answer, by pure
functions.

A pruned model can have a good loss and yet loop, switch language or never stop. The loss is a mean over
tokens of given texts; here the model goes on from its own.

A verdict is 1 (fine), 0 (not), or absent where the check says nothing about the prompt:
ends (by itself, within `TOKENS`), answers (not empty), no_loop, language, brackets, digits; `sound` is 1
where none is 0. What the original cannot do either says nothing about the pruned model, so all is compared
prompt by prompt. A text without sense that keeps to all of these looks fine here: read the answers, and look
at the loss.
"""

import importlib.metadata
import json
import math
import re
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import core
from core.store.results import Key, Results
from core.store.runs import canonical_key

TOKENS = 48  # of an answer
CHECKS = ("sound", "ends", "answers", "no_loop", "language", "brackets", "digits")
BROKEN_P = 0.05  # of the one-sided exact sign test over prompts


@dataclass(frozen=True)
class Prompt:
    """What is asked; `language`: en, de, ru, or empty where the answer has none; `digits`: what the answer
    must hold.
    """

    text: str
    language: str = ""
    digits: str = ""


PROMPTS = (
    Prompt("The weather was fine that morning, so", "en"),
    Prompt("Once upon a time, there was a little girl who", "en"),
    Prompt("My favourite book is about", "en"),
    Prompt("The teacher opened the door and said:", "en"),
    Prompt("In the evening the family sat down and", "en"),
    Prompt("Water is important because", "en"),
    Prompt("Question: What is the capital of France?\nAnswer:", "en"),
    Prompt("Question: Why is the sky blue?\nAnswer:", "en"),
    Prompt("Write one short sentence about a cat.\n", "en"),
    Prompt("Dear Anna,\nthank you for your letter.", "en"),
    Prompt("Summary: The meeting was moved to Monday.\nIn one sentence:", "en"),
    Prompt("Am Morgen ging der Mann in die Stadt und", "de"),
    Prompt("Frage: Was ist die Hauptstadt von Deutschland?\nAntwort:", "de"),
    Prompt("Das Wetter war schön, und die Kinder", "de"),
    Prompt("Schreibe einen kurzen Satz über einen Hund.\n", "de"),
    Prompt("Утром она вышла из дома и", "ru"),
    Prompt("Вопрос: Какая столица России?\nОтвет:", "ru"),
    Prompt("Зимой в лесу", "ru"),
    Prompt("2 + 3 =", digits="5"),
    Prompt("7 - 4 =", digits="3"),
    Prompt("1, 2, 3, 4, 5,", digits="6"),
    Prompt("10, 20, 30, 40,", digits="50"),
    Prompt("The code is 4817. I repeat, the code is", "en", digits="4817"),
    Prompt("Room 352 is on the third floor. To find it, look for the number", "en", digits="352"),
    Prompt("Copy the number exactly.\n90125 ->", digits="90125"),
    Prompt("f(x) = (x + 1) * ("),
    Prompt("for i in range(10):\n    print("),
    Prompt('{"name": "Anna", "age": 31, "city": "'),
    Prompt("[[1, 2], [3, 4], ["),
    Prompt("Three fruits:\n- apple\n-"),
    Prompt("The months are: January, February, March,", "en"),
)
DIGEST = canonical_key({"prompts": [[p.text, p.language, p.digits] for p in PROMPTS]})


@dataclass(frozen=True)
class Answer:
    text: str
    ended: bool  # by itself, not at the last token allowed


def loops(text: str) -> bool:
    """Whether the text goes round: one unit three times or more at its end, over at least a third of it; few
    different trigrams; or one word four times, or one character eight times, in a row (drawn lines apart).

    Rows of numbers and lists differ from one turn to the next and so do not count.
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
    """The script of most letters, as Unicode names it (LATIN, CYRILLIC, CJK ...); empty for a text of fewer
    than three letters.
    """
    found = Counter(unicodedata.name(c, "?").split()[0] for c in text if c.isalpha())
    return found.most_common(1)[0][0] if found.total() >= 3 else ""


def keeps_language(text: str, language: str) -> bool:
    """Whether nothing says that the text is in another language than `language`: its script, or clearly more
    function words of another.
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
    """Whether the answer closes only what is open, in order, and leaves nothing open where it ended by
    itself.
    """
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
        """One-sided exact sign test: how likely so many of the prompts that changed got worse, were both as
        likely.
        """
        changed = self.worse + self.better
        return sum(math.comb(changed, k) for k in range(self.worse, changed + 1)) / 2**changed

    @property
    def broken(self) -> bool:
        return self.worse > self.better and self.p < BROKEN_P

    def to_json(self) -> dict:
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
        shares = [sum(v[check] for v in side) / n for side in zip(*pairs)]
        changes[check] = Change(*shares, n, signs.count(-1), signs.count(1), mean, spread / math.sqrt(n))
    return changes


def _sign(original: dict[str, int], pruned: dict[str, int], checks: Sequence[str]) -> int:
    """-1 where a check was lost, 1 where one was gained and none lost, else 0."""
    steps = [pruned[c] - original[c] for c in checks if c in original and c in pruned]
    return -1 if -1 in steps else int(1 in steps)


def ask(loaded, prompts: Sequence[str], removed: Sequence[int] = (), tokens: int = TOKENS) -> list[Answer]:
    """The greedy answers to the prompts, one BOS first where the tokenizer has one, with the blocks of
    `removed` gone.
    """
    import torch

    from core.model.surgery import without

    tokenizer, answers = loaded.tokenizer, []
    head = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    stop = loaded.model.generation_config.eos_token_id
    stop = tokenizer.eos_token_id if stop is None else stop
    with without(loaded, removed), torch.no_grad():
        for prompt in prompts:  # one at a time: padding would change what some models say
            ids = head + tokenizer(prompt, add_special_tokens=False)["input_ids"]
            room = min(tokens, (loaded.max_length or math.inf) - len(ids))
            if room < 1:
                answers.append(Answer("", False))
                continue
            out = loaded.model.generate(
                torch.tensor([ids], device=loaded.device),
                do_sample=False,
                num_beams=1,
                max_new_tokens=room,
                eos_token_id=stop,
                pad_token_id=tokenizer.pad_token_id or 0,
            )[0, len(ids) :].tolist()
            ends = {stop} if isinstance(stop, int) else set(stop or ())
            answers.append(
                Answer(tokenizer.decode(out, skip_special_tokens=True), bool(out) and out[-1] in ends)
            )
    return answers


def measure(
    loaded,
    states: Sequence[Sequence[int]],
    report: Callable[[int, int, str], None] = lambda done, total, message: None,
    tokens: int = TOKENS,
) -> dict:
    """Every prompt answered by the original and every state, each once; what is wrong with the answers,
    against the original.

    Answers are kept under the model's weights; verdicts are in core.store.results as behaviour:CHECK, one
    item a prompt. Returns {prompts, states: [{removed, checks: {check: Change}, broken: [check], answers:
    [{text, ended, wrong}]}]}, the original first.
    """
    results, model = Results(), canonical_key(loaded.digest())
    settings = json.dumps({"tokens": tokens, "tokenizer": loaded.tokenizer_digest()}, sort_keys=True)
    versions = {"blockscape": core.__version__, "transformers": importlib.metadata.version("transformers")}
    listed = list(dict.fromkeys([(), *(tuple(sorted(s)) for s in states)]))
    total = len(listed) * len(PROMPTS)
    found: dict[tuple[int, ...], list[dict]] = {}
    answered: dict[tuple[int, ...], list[Answer]] = {}
    for number, state in enumerate(listed):
        source = canonical_key({"behaviour": settings, "model": model, "removed": state})
        have = results.responses(source)
        began, asked = time.monotonic(), 0
        for k, prompt in enumerate(PROMPTS):
            report(
                number * len(PROMPTS) + k,
                total,
                f"{'without ' + ','.join(map(str, state))[:40] if state else 'original'}: prompts",
            )
            if prompt.text not in have:
                (answer,) = ask(loaded, [prompt.text], state, tokens)
                have[prompt.text] = json.dumps(vars(answer))
                asked += results.put_responses(source, {prompt.text: have[prompt.text]})
        seconds = time.monotonic() - began if asked else 0.0
        answered[state] = [Answer(**json.loads(have[p.text])) for p in PROMPTS]
        found[state] = [verdicts(p, a) for p, a in zip(PROMPTS, answered[state])]
        for check in CHECKS:
            values = {k: v[check] for k, v in enumerate(found[state]) if check in v}
            key = Key(model, state, DIGEST, "prompts", f"behaviour:{check}", settings)
            results.put(key, values, seconds if check == "sound" else 0.0, versions)
    rows = []
    for state in listed:
        changes = compare(found[()], found[state])
        rows.append(
            {
                "removed": list(state),
                "checks": {check: change.to_json() for check, change in changes.items()},
                "broken": [check for check, change in changes.items() if change.broken],
                "answers": [
                    {**vars(a), "wrong": [c for c, fine in v.items() if not fine and c != "sound"]}
                    for a, v in zip(answered[state], found[state])
                ],
            }
        )
    report(total, total, "done")
    return {"prompts": [p.text for p in PROMPTS], "states": rows}
