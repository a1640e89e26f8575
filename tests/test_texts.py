"""Texts: reading, splitting, packing."""

import json

import numpy as np
import pytest

from core.errors import InputError
from core.texts import SPLITS, Document, pack, read_texts, split_of
from tests.conftest import byte_tokenizer


def test_txt_documents_are_separated_by_blank_lines(tmp_path):
    (tmp_path / "a.txt").write_text("one\nstill one\n\n\n\ntwo\n", encoding="utf-8-sig")
    assert [d.text for d in read_texts(tmp_path / "a.txt").documents] == ["one\nstill one", "two"]


def test_jsonl_documents_have_text_and_domain(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "one", "domain": "x"}\n\n{"text": "two"}\n{"text": " "}\n')
    assert read_texts(tmp_path / "a.jsonl").documents == (Document("one", "x"), Document("two", "text"))


def test_the_bundled_texts_have_the_worlds_domains():
    assert {d.domain for d in read_texts().documents} == {
        "knowledge",
        "story",
        "arithmetic",
        "ordering",
        "coreference",
        "memory",
        "continuation",
    }


def test_splits_are_disjoint_stable_and_sized():
    documents = [Document(str(i)) for i in range(4000)]
    counts = {name: sum(split_of(d) == name for d in documents) / 4000 for name in SPLITS}
    assert abs(counts["calibrate"] - 0.5) < 0.03 and abs(counts["choose"] - 0.25) < 0.03 and abs(counts["report"] - 0.25) < 0.03


def test_packing_by_hand(tmp_path):
    """Against a loop written out: BOS, documents of one domain joined by EOS, cut to length."""
    rows = [{"text": f"text {i} " + "ab" * (i % 7), "domain": "odd" if i % 2 else "even"} for i in range(300)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    texts, tokenizer = read_texts(tmp_path / "a.jsonl"), byte_tokenizer()
    expected = []
    for domain in ("even", "odd"):
        stream = []
        for d in texts.documents:
            if d.domain == domain and split_of(d) == "choose":
                stream += tokenizer.convert_tokens_to_ids(tokenizer.tokenize(d.text)) + [1]
        expected += [[0, *stream[k * 15 : k * 15 + 15]] for k in range(len(stream) // 15)]
    packed = pack(texts, tokenizer, "choose", 16, len(expected), seed=2)
    assert packed.available == len(expected)
    assert sorted(packed.index.tolist()) == list(range(len(expected)))
    assert packed.ids.tolist() == [expected[i] for i in packed.index]
    smaller = pack(texts, tokenizer, "choose", 16, 10, seed=2)
    assert (smaller.ids == packed.ids[:10]).all()
    assert not np.array_equal(pack(texts, tokenizer, "choose", 16, 10, seed=3).ids, smaller.ids)


def test_too_little_text_says_how_much_there_is(tmp_path):
    (tmp_path / "a.txt").write_text("\n\n".join(f"short text number {i}" for i in range(40)))
    with pytest.raises(InputError, match=r"gives \d+ sequences of 64 tokens and 500 were asked for"):
        pack(read_texts(tmp_path / "a.txt"), byte_tokenizer(), "calibrate", 64, 500)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", b"", "no text"),
        ("a.txt", b" \n\n ", "no text"),
        ("a.txt", b"caf\xe9", "not UTF-8 .*0xe9"),
        ("a.jsonl", b"", "no text"),
        ("a.jsonl", b"{", "Line 1"),
        ("a.jsonl", b'{"text": "a"}\n[1]', "Line 2"),
        ("a.jsonl", b'{"text": 5}', "no string under the key 'text'"),
        ("a.jsonl", b'{"text": "\\ud800"}', "surrogate"),
        ("a.csv", b"text\na", ".txt and .jsonl"),
        ("a.jsonl", b"[" * 100000, "Line 1"),
        ("a.jsonl", "{}".encode("utf-16"), "not UTF-8"),
    ],
)
def test_bad_files_are_one_sentence(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=says) as caught:
        read_texts(tmp_path / name)
    assert "\n" not in str(caught.value)
