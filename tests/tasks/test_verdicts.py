"""Answers that loop, stop nowhere or change language are told from those that do not."""

import pytest

from core.tasks.short_prompts import PROMPTS, Prompt
from core.tasks.verdicts import (
    CHECKS,
    Answer,
    compare,
    keeps_brackets,
    keeps_language,
    loops,
    script,
    verdicts,
)


@pytest.mark.parametrize(
    "text",
    [
        "the cat sat on the mat. the cat sat on the mat. the cat sat on the mat.",
        "yes yes yes yes",
        "no!!!!!!!!!!!!",
        "ababababababababababababababab",
        "A dog ran. It was a big, shiny book. It was a big, shiny book. It was a big, shiny book. It was a "
        "big,",
        "我我我我我我我我我",
        "so it is so it is not so it is so it is so it is so it is not so it is so it is",
    ],
)
def test_what_goes_round_is_a_loop(text):
    assert loops(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The cat sat on the mat, and the dog sat beside it.",
        "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20",
        "- apple\n- pear\n- plum\n- cherry\n- fig",
        "bye bye, she said. No, no, no!",
        "Title\n------------------------\nText",
        "Well... I do not know... Perhaps...",
        "January, February, March, April, May, June, July, August, September, October",
    ],
)
def test_lists_rows_and_plain_text_are_no_loop(text):
    assert not loops(text)


def test_language_is_judged_by_script_and_function_words():
    assert keeps_language("the man and the woman went to the house", "en")
    assert not keeps_language("der Mann und die Frau gingen in das Haus", "en")
    assert not keeps_language("le chat est dans la maison et il dort", "en")
    assert not keeps_language("the man and the woman went to the house", "de")
    assert keeps_language("und sie gingen in den Wald", "de")
    assert keeps_language("Paris.", "en") and keeps_language("Berlin", "de") and keeps_language("42", "ru")
    assert keeps_language("и пошла в лес", "ru") and not keeps_language("and went to the wood", "ru")
    assert not keeps_language("这是一个很好的故事", "en")
    assert (script("дом"), script("ab"), script("漢字漢"), script("12 +")) == ("CYRILLIC", "", "CJK", "")


@pytest.mark.parametrize(
    "prompt, text, ended, kept",
    [
        ("f(", "x)", True, True),
        ("f(", "x", True, False),
        ("f(", "x", False, True),  # cut off, so it may still close
        ("f(", "x])", False, False),
        ("[(", ")]", True, True),
        ("[(", "])", True, False),
        ("", ")", True, False),
    ],
)
def test_brackets(prompt, text, ended, kept):
    assert keeps_brackets(prompt, Answer(text, ended)) is kept


def test_verdicts_by_hand():
    good = verdicts(Prompt("Say 12 (", "en", "12"), Answer(" it is 12)", True))
    assert good == dict.fromkeys(CHECKS, 1) and list(good) == list(CHECKS)[:1] + list(good)[1:]
    assert verdicts(Prompt("Hello"), Answer("there", False)) == {
        "sound": 0,
        "ends": 0,
        "answers": 1,
        "no_loop": 1,
    }
    empty = verdicts(Prompt("Say 12 (", "en", "12"), Answer("  \n", True))
    assert [check for check, fine in empty.items() if fine] == ["ends", "no_loop"]
    assert verdicts(Prompt("2 + 3 =", digits="5"), Answer("15", True))["digits"] == 0
    assert verdicts(Prompt("2 + 3 =", digits="5"), Answer("5.", True))["digits"] == 1


def test_a_paired_comparison_by_hand():
    fine, looping, endless = (
        {"sound": s, "ends": e, "answers": 1, "no_loop": n} for s, e, n in ((1, 1, 1), (0, 1, 0), (0, 0, 1))
    )
    changes = compare([fine] * 8, [looping] * 6 + [fine] * 2)
    loop = changes["no_loop"]
    assert (loop.original, loop.pruned, loop.worse, loop.better, loop.n) == (1, 0.25, 6, 0, 8)
    assert loop.difference == -0.75 and loop.p == 1 / 64 and loop.broken and changes["sound"].broken
    assert not changes["ends"].broken and changes["ends"].p == 1 and "digits" not in changes
    # 4 of 4: p = 1/16
    assert not any(c.broken for c in compare([fine] * 8, [looping] * 4 + [fine] * 4).values())
    hidden = compare([endless] * 8, [{**endless, "no_loop": 0}] * 8)  # never sound, and yet worse
    assert hidden["sound"].pruned == hidden["sound"].original == 0 and hidden["sound"].broken
    mixed = compare([endless] * 8, [looping] * 8)
    assert mixed["sound"].worse == 8 and mixed["ends"].better == 8


def test_the_prompts_speak_of_every_check_in_three_languages():
    assert 28 <= len(PROMPTS) <= 36 and len({p.text for p in PROMPTS}) == len(PROMPTS)
    assert {p.language for p in PROMPTS} == {"en", "de", "ru", ""}
    for check in CHECKS:
        assert sum(check in verdicts(p, Answer("x", True)) for p in PROMPTS) >= 4, check
