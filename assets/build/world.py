"""The invented world: corpus documents and held-out task items, from a seed.

Nothing here comes from outside: names, places, facts and exercises are drawn
by a seeded generator. Every task family keeps part of its items out of the
corpus, and only those become test items:

- knowledge: every fact is told in three of its four phrasings; the fourth is asked
- arithmetic: one operand pair in five is never shown
- ordering, coreference, memory, continuation: one exercise in ten (by hash) is never shown
"""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass

WOMEN = "Mira Anna Lena Tessa Orla Nadia Wanda Pia Sunna Greta Elin Rosa".split()
MEN = "Jon Bram Kal Odo Felix Tarn Viktor Hugo Emil Lars Pavel Simon".split()
PEOPLE = WOMEN + MEN
PLACES = "Velden Korin Ashby Tolmar Brekka Sunholm Derra Nordin Quell Marsh Oster Lume".split()
JOBS = "baker miller sailor weaver smith painter doctor farmer teacher hunter singer mason".split()
PETS = "fox cat dog goat owl horse crow hen duck mouse snake turtle".split()
COLOURS = "red blue green yellow black white brown grey".split()
MATERIALS = "wood iron glass stone clay silver wool paper".split()
OBJECTS = (
    "lamp rope coin drum kettle mirror ladder basket hammer flute cloak needle "
    "barrel candle shovel ring map bell saddle bottle chair spoon kite anchor"
).split()
CROPS = "barley apples grapes beans onions plums wheat hops".split()
RIVERS = "Arn Bello Cade Dorn Esk Fenn Gail Hath Isen Jure Kemp Loch".split()
NUMBER_LIMIT = 20

# (more, less, most, least)
COMPARISONS = [
    ("taller", "shorter", "tallest", "shortest"),
    ("older", "younger", "oldest", "youngest"),
    ("faster", "slower", "fastest", "slowest"),
    ("heavier", "lighter", "heaviest", "lightest"),
    ("richer", "poorer", "richest", "poorest"),
]

# relation -> (values it is drawn from, four phrasings ending in the value)
PERSON_FACTS = {
    "home": (
        PLACES,
        [
            "{s} lives in {v}",
            "The home of {s} is {v}",
            "You can find {s} in {v}",
            "Where does {s} live? In {v}",
        ],
    ),
    "job": (
        JOBS,
        [
            "{s} works as a {v}",
            "{s} is a {v}",
            "The work of {s} is that of a {v}",
            "What is {s} by trade? A {v}",
        ],
    ),
    "pet": (
        PETS,
        [
            "{s} keeps a {v}",
            "The animal of {s} is a {v}",
            "At home {s} has a {v}",
            "Which animal does {s} keep? A {v}",
        ],
    ),
    "colour": (
        COLOURS,
        [
            "{s} likes the colour {v}",
            "The favourite colour of {s} is {v}",
            "{s} always wears {v}",
            "Which colour does {s} like? It is {v}",
        ],
    ),
}
PLACE_FACTS = {
    "crop": (
        CROPS,
        [
            "{s} is known for its {v}",
            "The people of {s} grow {v}",
            "The fields of {s} are full of {v}",
            "What grows in {s}? There grow {v}",
        ],
    ),
    "river": (
        RIVERS,
        [
            "{s} lies on the river {v}",
            "The river of {s} is the {v}",
            "Through {s} flows the {v}",
            "Which river is in {s}? The {v}",
        ],
    ),
}
OBJECT_FACTS = {
    "material": (
        MATERIALS,
        [
            "The old {s} is made of {v}",
            "An old {s} is always of {v}",
            "They make the old {s} from {v}",
            "What is the old {s} made of? Of {v}",
        ],
    ),
    "maker": (
        PLACES,
        [
            "The old {s} was made in {v}",
            "The old {s} comes from {v}",
            "The maker of the old {s} lived in {v}",
            "Where was the old {s} made? In {v}",
        ],
    ),
}

DOMAINS = ["knowledge", "story", "arithmetic", "ordering", "coreference", "memory", "continuation"]
_WEIGHTS = [0.20, 0.05, 0.12, 0.18, 0.18, 0.12, 0.15]


@dataclass(frozen=True)
class Item:
    """One multiple-choice test item; `options[answer]` is the right ending of `context`."""

    family: str
    context: str
    options: tuple[str, ...]
    answer: int


@dataclass(frozen=True)
class Fact:
    subject: str
    value: str
    values: tuple[str, ...]
    phrasings: tuple[str, ...]
    held_out: int  # index of the phrasing that the corpus never uses

    def tell(self, phrasing: int) -> str:
        return self.phrasings[phrasing].format(s=self.subject, v=self.value) + "."


def _held_out(text: str) -> bool:
    return hashlib.sha256(text.encode()).digest()[0] % 10 == 0


class World:
    """A seeded world. `documents(seed)` is an endless corpus, `items(...)` the held-out tests."""

    def __init__(self, seed: int = 7):
        rng = random.Random(seed)
        self.facts: list[Fact] = []
        self.person: dict[str, dict[str, str]] = {}
        for subjects, relations in ((PEOPLE, PERSON_FACTS), (PLACES, PLACE_FACTS), (OBJECTS, OBJECT_FACTS)):
            for subject in subjects:
                for relation, (values, phrasings) in relations.items():
                    value = rng.choice(values)
                    self.facts.append(Fact(subject, value, tuple(values), tuple(phrasings), rng.randrange(4)))
                    if subjects is PEOPLE:
                        self.person.setdefault(subject, {})[relation] = value
        pairs = [
            (op, a, b)
            for op in "+-"
            for a in range(NUMBER_LIMIT + 1)
            for b in range(NUMBER_LIMIT + 1)
            if op == "+" or b <= a
        ]
        rng.shuffle(pairs)
        cut = len(pairs) // 5
        self.sums_held_out, self.sums_shown = pairs[:cut], pairs[cut:]

    # -- exercises: (text up to the answer, answer, options) ---------------------------------
    def _ordering(self, rng: random.Random) -> tuple[str, str, list[str]]:
        a, b, c = rng.sample(PEOPLE, 3)
        more, less, most, least = rng.choice(COMPARISONS)
        word, first, last = rng.choice([(more, most, least), (less, least, most)])
        asked, answer = rng.choice([(first, a), (last, c)])
        return f"{a} is {word} than {b}. {b} is {word} than {c}. The {asked} is", answer, [a, b, c]

    def _coreference(self, rng: random.Random) -> tuple[str, str, list[str]]:
        woman, man = rng.choice(WOMEN), rng.choice(MEN)
        first, second = rng.sample([woman, man], 2)
        pronoun, answer = rng.choice([("She", woman), ("He", man)])
        thing = rng.choice(OBJECTS)
        return (
            f"{first} met {second} in {rng.choice(PLACES)}. {pronoun} carried the {thing}. The {thing} "
            "belongs to",
            answer,
            [woman, man],
        )

    def _memory(self, rng: random.Random) -> tuple[str, str, list[str]]:
        owners, things = rng.sample(PEOPLE, 3), rng.sample(OBJECTS, 3)
        pairs = [f"{t} {o}" for o, t in zip(owners, things)]
        order = rng.sample(range(3), 3)
        told, again = ", ".join(pairs), ", ".join(pairs[k] for k in order)
        return f"Owners: {told}. Again: {again.rsplit(' ', 1)[0]}", owners[order[-1]], owners

    def _continuation(self, rng: random.Random) -> tuple[str, str, list[str]]:
        if rng.random() < 0.7:
            words = rng.sample(rng.choice([OBJECTS, PETS, CROPS, PEOPLE]), rng.randrange(2, 7))
            length = rng.randrange(2 * len(words), 3 * len(words) + 1)
            series = [words[i % len(words)] for i in range(length + 1)]
            wrong = [w for w in words if w != series[-1]] + [w for w in COLOURS if w not in words]
            options = [series[-1], *wrong[:3]]
        else:
            step, count = rng.choice([1, 2, 3, -1, -2]), 5
            start = rng.randrange(0, 15) if step > 0 else rng.randrange(10, 25)
            series = [str(start + step * i) for i in range(count + 1)]
            answer = int(series[-1])
            wrong = [
                v
                for v in (answer + 1, answer + 2, answer - 1, answer + 10, answer + 3)
                if v >= 0 and v != answer
            ]
            options = [series[-1], *map(str, wrong[:3])]
        return "Next: " + " ".join(series[:-1]), series[-1], options

    _EXERCISES = {
        "ordering": _ordering,
        "coreference": _coreference,
        "memory": _memory,
        "continuation": _continuation,
    }

    def _exercise(self, family: str, rng: random.Random, held_out: bool) -> tuple[str, str, list[str]]:
        while True:
            context, answer, options = self._EXERCISES[family](self, rng)
            if _held_out(context) == held_out:
                return context, answer, options

    @staticmethod
    def _sum(op: str, a: int, b: int) -> tuple[str, int]:
        return f"{a} {op} {b} =", a + b if op == "+" else a - b

    # -- corpus ------------------------------------------------------------------------------
    def _story(self, rng: random.Random) -> str:
        name = rng.choice(PEOPLE)
        who = self.person[name]
        she, her = ("She", "her") if name in WOMEN else ("He", "his")
        friend, goal, thing = (
            rng.choice([p for p in PEOPLE if p != name]),
            rng.choice(PLACES),
            rng.choice(OBJECTS),
        )
        weather = rng.choice(["sunny", "rainy", "windy", "cold", "quiet"])
        end = rng.choice(
            ["They laughed and went home.", "They ate together until night.", f"{friend} was very glad."]
        )
        return (
            f"One {weather} morning {name} the {who['job']} left {who['home']} with {her} {who['pet']}. "
            f"{she} wore {who['colour']} and walked to {goal} to see {friend}. "
            f"{she} gave the {thing} to {friend}. Now the {thing} belongs to {friend}. {end}"
        )

    def document(self, rng: random.Random) -> tuple[str, str]:
        """One corpus document and its domain; held-out items never occur in it."""
        domain = rng.choices(DOMAINS, _WEIGHTS)[0]
        if domain == "knowledge":
            told = []
            for fact in rng.sample(self.facts, 5):
                told.append(fact.tell(rng.choice([p for p in range(4) if p != fact.held_out])))
            return " ".join(told), domain
        if domain == "story":
            return self._story(rng), domain
        if domain == "arithmetic":
            told = [self._sum(*pair) for pair in rng.choices(self.sums_shown, k=6)]
            return " ".join(f"{context} {answer}." for context, answer in told), domain
        told = [
            self._exercise(domain, rng, held_out=False) for _ in range(4 if domain != "continuation" else 2)
        ]
        return " ".join(f"{context} {answer}." for context, answer, _ in told), domain

    def documents(self, seed: int) -> Iterator[tuple[str, str]]:
        """Endless (text, domain) pairs; equal seeds give equal corpora."""
        rng = random.Random(seed)
        while True:
            yield self.document(rng)

    # -- held-out tests ----------------------------------------------------------------------
    def items(self, family: str, count: int, seed: int = 1) -> list[Item]:
        """`count` distinct held-out items of one family (fewer where the world has fewer)."""
        rng = random.Random(f"{family}-{seed}")
        if family == "knowledge":
            facts = rng.sample(self.facts, min(count, len(self.facts)))
            return [self._knowledge_item(fact, rng) for fact in facts]
        if family == "arithmetic":
            return [self._sum_item(pair, rng) for pair in self.sums_held_out[:count]]
        items: dict[str, Item] = {}
        while len(items) < count:
            context, answer, options = self._exercise(family, rng, held_out=True)
            items[context] = self._item(family, context, answer, options, rng)
        return list(items.values())

    @staticmethod
    def _item(family: str, context: str, answer: str, options: list[str], rng: random.Random) -> Item:
        shuffled = rng.sample(options, len(options))
        return Item(family, context, tuple(f" {o}." for o in shuffled), shuffled.index(answer))

    def _knowledge_item(self, fact: Fact, rng: random.Random) -> Item:
        context = fact.phrasings[fact.held_out].format(s=fact.subject, v="").rstrip()
        wrong = rng.sample([v for v in fact.values if v != fact.value], 3)
        return self._item("knowledge", context, fact.value, [fact.value, *wrong], rng)

    def _sum_item(self, pair: tuple[str, int, int], rng: random.Random) -> Item:
        context, answer = self._sum(*pair)
        near = [
            v for v in (answer - 10, answer - 2, answer - 1, answer + 1, answer + 2, answer + 10) if v >= 0
        ]
        return self._item(
            "arithmetic", context, str(answer), [str(answer), *map(str, rng.sample(near, 3))], rng
        )


TASK_FAMILIES = ["knowledge", "arithmetic", "ordering", "coreference", "memory", "continuation"]
