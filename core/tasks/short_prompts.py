"""Short prompts that a model goes on from by itself: what is asked to see whether it still behaves.

A pruned model can have a good loss and yet loop, switch language or never stop. The loss is a mean over
tokens of given texts; here the model goes on from its own. core.measure.behaviour asks, core.tasks.verdicts
judges.
"""

from dataclasses import dataclass

from core.store.runs import canonical_key

TOKENS = 48  # of an answer


@dataclass(frozen=True)
class Prompt:
    """What is asked.

    language: of the answer: en, de, ru, or empty where it has none. digits: what the answer must hold.
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
