"""Documents, chats and tokenizers that the tests of texts share."""

import itertools
import json
from pathlib import Path

from core.texts import Document, Texts, split_of
from tests.conftest import byte_tokenizer

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] | trim }}<|im_end|>\n{% endfor %}"
)


def chat_tokenizer(template: str = CHATML):
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = template
    return tokenizer


def jsonl(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def texts_of(*documents: Document) -> Texts:
    return Texts("made up", documents)


def in_split(split: str, count: int, words: str = "text {}", domain: str = "text") -> list[Document]:
    """The first documents of a pattern that fall into one split."""
    made = (Document(words.format(i), domain) for i in itertools.count())
    return list(itertools.islice((d for d in made if split_of(d) == split), count))


def mixed(**counts: int) -> Texts:
    return texts_of(
        *(d for domain, count in counts.items() for d in in_split("choose", count, domain + " {}", domain))
    )


def prompts(count: int) -> list[Document]:
    made = (
        Document(
            f"what is {i}?\nIt is é{i}.",
            "text",
            (("prompt", f"what is {i}?"), ("completion", f"It is é{i}.")),
        )
        for i in itertools.count()
    )
    return list(itertools.islice((d for d in made if split_of(d) == "choose"), count))


def chats(count: int) -> list[Document]:
    made = (
        (
            ("system", "be kind"),
            ("user", f"add {i} and a"),
            ("assistant", f"that is é{i}a"),
            ("user", "a"),
            ("assistant", "a"),
        )
        for i in itertools.count()
    )
    documents = (Document("\n".join(content for _, content in turns), "text", turns) for turns in made)
    return list(itertools.islice((d for d in documents if split_of(d) == "choose"), count))


def read_back(tokenizer, drawn, k) -> tuple[str, str]:
    """(all real tokens, scored ones) of a sequence, in words."""
    return tokenizer.decode(drawn.ids[k][drawn.mask[k]]), tokenizer.decode(drawn.ids[k][drawn.scored[k]])
