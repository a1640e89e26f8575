"""Running text: stretches that all splits have of it, as it stands."""

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from core.errors import InputError
from core.texts import Document, available, pack, read_texts, split_of
from core.texts.documents import SPLITS
from core.texts.splits import stretches
from tests.conftest import TEXT, byte_tokenizer
from tests.texts.made import jsonl

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
LINES = "\n".join(f"line {i} of a poem that has no stanzas" for i in range(3000))
SHAPES = {
    "paragraphs": TEXT * 3,
    "blank lines that hold a space": TEXT.replace("\n\n", " \n \n = Title = \n \t\n"),
    "lines alone": LINES,
    "words alone": LINES.replace("\n", " "),
    "nothing to cut at": "0123456789" * 9000,
    "one blank line": LINES[:50_000] + "\n\n" + LINES[:50_000],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_split_has_its_share_in_several_stretches(shape):
    text = SHAPES[shape]
    found = list(stretches(text))
    characters, counts = Counter(), Counter(split for split, _ in found)
    for split, part in found:
        characters[split] += len(part)
    total = sum(characters.values())
    assert 0.85 * len(text) < total < len(text) and min(counts[split] for split in SPLITS) >= 6
    for split, share in (("calibrate", 0.5), ("choose", 0.25), ("report", 0.25)):
        assert abs(characters[split] / total - share) < 0.07
    place = 0
    for (split, part), (following, _) in itertools.pairwise(
        found
    ):  # one behind the other, a gap between them
        at = text.index(part, place)
        assert at >= place and split != following
        place = at + len(part) + 1


@pytest.mark.parametrize("shape", SHAPES)
def test_stretches_are_the_text_as_it_stands_whatever_comes_behind(shape):
    text = SHAPES[shape]
    whole = list(stretches(text))
    assert all(part in text for _, part in whole)
    half = list(stretches(text[: len(text) // 2]))
    assert half[:-4] == whole[: len(half) - 4] and len(half) > 12  # the end of a text is no paragraph's begin


def test_stretches_are_whole_paragraphs():
    paragraphs = {text.strip() for text in TEXT.split("\n\n")}
    for _, part in stretches(TEXT):
        assert set(part.split("\n\n")) <= paragraphs


def test_windows_of_a_stretch_are_its_own_text(tmp_path):
    """No token but the BOS is there that the text does not have, and no window crosses a gap."""
    (tmp_path / "a.txt").write_text(TEXT)
    texts, tokenizer = read_texts(tmp_path / "a.txt"), byte_tokenizer()
    there = available(texts, tokenizer, 33)
    for split in SPLITS:
        drawn = pack(texts, tokenizer, split, 33, there[split])
        own = [d.text for d in texts.documents if split_of(d) == split]
        assert (drawn.ids[:, 0] == 0).all() and drawn.mask is None
        assert drawn.template == "packed within a domain; one BOS first; running text as it stands"
        for ids in drawn.ids:
            assert sum(tokenizer.decode(ids[1:]) in text for text in own) >= 1
        assert len(drawn.ids) == sum(len(text) // 32 for text in own)


def test_stretches_that_are_too_short_go_on_behind_a_blank_line(tmp_path):
    (tmp_path / "a.txt").write_text(TEXT)
    texts, tokenizer = read_texts(tmp_path / "a.txt"), byte_tokenizer()
    first, second = [d.text for d in texts.documents if split_of(d) == "choose"][:2]
    drawn = pack(texts, tokenizer, "choose", 901, available(texts, tokenizer, 901)["choose"])
    assert len(first) < 900 < len(first) + len(second)
    start = drawn.ids[drawn.index == 0][0]
    assert tokenizer.decode(start[1:]) == f"{first}\n\n{second}"[:900]


def test_rows_and_running_text_side_by_side(tmp_path):
    (tmp_path / "a.txt").write_text(TEXT)
    rows = jsonl(tmp_path / "b.jsonl", *({"text": f"a row of words {i}"} for i in range(400)))
    texts, tokenizer = read_texts([str(tmp_path / "a.txt"), str(rows)]), byte_tokenizer()
    drawn = pack(texts, tokenizer, "report", 33, 300)
    assert drawn.template == (
        "packed within a domain; one BOS first; joined by EOS; running text as it stands"
    )
    for number, name in enumerate(drawn.domains):
        ends = (drawn.ids[drawn.domain == number] == 1).any(axis=1)
        assert ends.all() if name == "b" else not ends.any()


def test_one_novel_in_a_row_is_cut_as_a_file_is(tmp_path):
    (tmp_path / "a.txt").write_text(TEXT)
    jsonl(tmp_path / "a.jsonl", {"text": TEXT})
    running = read_texts(tmp_path / "a.txt").documents
    assert read_texts(tmp_path / "a.jsonl").documents == running and {d.split for d in running} == set(SPLITS)
    jsonl(tmp_path / "two.jsonl", {"text": TEXT, "domain": "long"}, {"text": "a short one"})
    two = read_texts(tmp_path / "two.jsonl").documents
    assert two == (*(Document(d.text, "long", (), d.split) for d in running), Document("a short one"))


def test_one_document_each_of_running_text_are_its_paragraphs(tmp_path):
    (tmp_path / "a.txt").write_text(TEXT)
    texts = read_texts(tmp_path / "a.txt")
    tokenizer = byte_tokenizer()
    there = available(texts, tokenizer, 64, mode="documents")
    count = len(TEXT.split("\n\n"))
    assert count // 2 < sum(there.values()) <= count
    drawn = pack(texts, tokenizer, "choose", 64, there["choose"], mode="documents")
    assert drawn.template.endswith("; running text by paragraphs")
    assert all(tokenizer.decode(ids[1:]).startswith("Document ") for ids in drawn.ids)


def test_the_same_words_in_another_split_are_other_texts(tmp_path):
    (tmp_path / "a.txt").write_text("some words")
    jsonl(tmp_path / "a.jsonl", {"text": "some words"})
    assert read_texts(tmp_path / "a.txt").sha256 != read_texts(tmp_path / "a.jsonl").sha256


@pytest.mark.parametrize("name", ["wikitext2-valid", "tinyshakespeare"])
def test_what_people_have_is_enough(name):
    """WikiText as published, whose blank lines hold a space; a play."""
    file = DATA / f"{name}.txt"
    if not file.exists():
        pytest.skip(f"{name} is not on this machine")
    texts, tokenizer = read_texts(file), byte_tokenizer()
    drawn = pack(texts, tokenizer, "choose", 512, 256)
    assert len(np.unique(drawn.index)) == 256 and not (drawn.ids == 1).any()
    with pytest.raises(
        InputError, match="running text in [0-9]+ stretches, of which report has [0-9,]+ tokens"
    ):
        pack(texts, tokenizer, "report", 512, 10_000)
