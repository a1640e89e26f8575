"""Reading: every format holds the same documents, chats and prompts among them."""

import itertools
import sys
from dataclasses import replace
from types import SimpleNamespace

import pyarrow
import pyarrow.parquet
import pytest

from core.errors import InputError
from core.texts import Document, TextSource, read_texts, split_of
from core.texts.documents import SPLITS
from tests.texts.made import jsonl, texts_of


def test_a_txt_is_running_text_as_it_stands(tmp_path):
    """Its lines, whatever ends them, and what stands between its paragraphs."""
    (tmp_path / "a.txt").write_text("\n one\nstill one\n\n\n\ntwo\n \nthree\n", encoding="utf-8-sig")
    (tmp_path / "b.txt").write_bytes(b"one\r\nstill one\r\n\r\ntwo\rstill two")
    expected = {"a": "one\nstill one\n\n\n\ntwo\n \nthree", "b": "one\nstill one\n\ntwo\nstill two"}
    for name, text in expected.items():
        found = read_texts(tmp_path / f"{name}.txt").documents
        assert found == (Document(text, "text", (), "calibrate"),)
    limited = read_texts(f"{tmp_path}/a.txt::limit=2").documents
    assert [d.text for d in limited] == ["one\nstill one\n\n\n\ntwo"]


def test_jsonl_documents_have_text_and_domain(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "one", "domain": "x"}\n\n{"text": "two"}\n{"text": " "}\n')
    assert read_texts(tmp_path / "a.jsonl").documents == (Document("one", "x"), Document("two", "text"))


def test_every_format_holds_the_same_documents(tmp_path):
    rows = [{"story": f'text, "{i}"\nof two lines é', "domain": "ab"[i % 2], "other": i} for i in range(600)]
    jsonl(tmp_path / "a.jsonl", *rows)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    quoted = ['"' + row["story"].replace('"', '""') + f'",{row["domain"]},{row["other"]}\r\n' for row in rows]
    (tmp_path / "a.csv").write_text(
        "story,domain,other\r\n" + "".join(quoted), encoding="utf-8-sig", newline=""
    )
    found = [
        read_texts(TextSource(str(tmp_path / f"a.{kind}"), column="story"))
        for kind in ("jsonl", "csv", "parquet")
    ]
    assert found[0].documents == tuple(Document(row["story"], row["domain"]) for row in rows)
    assert found[1].documents == found[0].documents == found[2].documents
    few = read_texts(TextSource(str(tmp_path / "a.csv"), column="story", domain="mine", limit=7))
    assert few.documents == tuple(Document(d.text, "mine") for d in found[0].documents[:7])


def test_rows_may_be_prompts_or_chats_instead(tmp_path):
    chat = [{"role": "user", "content": " hi "}, {"role": "assistant", "content": "hello", "more": 1}]
    rows = [
        {"prompt": "2+2?", "completion": " 4"},
        {"prompt": "3+3?", "response": "6"},
        {"messages": chat},
        {"text": "plain", "prompt": "p"},
    ]
    expected = (
        Document("2+2?\n4", "d", (("prompt", "2+2?"), ("completion", "4"))),
        Document("3+3?\n6", "d", (("prompt", "3+3?"), ("completion", "6"))),
        Document("hi\nhello", "d", (("user", "hi"), ("assistant", "hello"))),
        Document("plain", "d"),
    )
    jsonl(tmp_path / "a.jsonl", *rows)
    columns = ("prompt", "completion", "response", "messages", "text")
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist([{c: row.get(c) for c in columns} for row in rows]), tmp_path / "a.parquet"
    )
    for kind in ("jsonl", "parquet"):
        texts = read_texts(TextSource(str(tmp_path / f"a.{kind}"), domain="d"))
        assert texts.documents == expected
    assert texts.sha256 != texts_of(*(replace(d, turns=()) for d in texts.documents)).sha256
    jsonl(tmp_path / "b.jsonl", {"talk": chat})
    assert (
        read_texts(TextSource(str(tmp_path / "b.jsonl"), column="talk", domain="d")).documents
        == expected[2:3]
    )


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


def test_domains_are_unique_across_sources(tmp_path):
    for folder in ("one", "two", "three"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.txt").write_text(folder)
    jsonl(
        tmp_path / "own.jsonl",
        {"text": "a", "domain": "same"},
        {"text": "b", "domain": "same-2"},
        {"text": "c"},
    )
    paths = [str(tmp_path / name / "same.txt") for name in ("one", "two", "three")]
    texts = read_texts([*paths, str(tmp_path / "own.jsonl")])
    assert [(d.text, d.domain) for d in texts.documents] == [
        ("one", "same"),
        ("two", "same-2"),
        ("three", "same-3"),
        ("a", "same-4"),
        ("b", "same-2-2"),
        ("c", "own"),
    ]
    assert texts.source == " + ".join([*paths, str(tmp_path / "own.jsonl")]) and texts.weights is None
    named = read_texts([TextSource(paths[0]), TextSource(paths[1], domain="same")])
    assert [d.domain for d in named.documents] == ["same-2", "same"]  # who names a domain gets it
    with pytest.raises(InputError, match="Two text sources have the domain 'x'"):
        read_texts([TextSource(p, domain="x") for p in paths])


def test_a_name_that_is_free_is_not_given_twice(tmp_path):
    first = jsonl(tmp_path / "a.jsonl", {"text": "one", "domain": "a"})
    more = [{"text": "two", "domain": "a"}, {"text": "three", "domain": "a-2"}]
    found = read_texts([first, jsonl(tmp_path / "b.jsonl", *more)])
    assert [d.domain for d in found.documents] == ["a", "a-2", "a-2-2"]


def test_parquet_needs_pyarrow_and_hub_datasets_need_datasets(tmp_path, monkeypatch):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match="install pyarrow"):
        read_texts(tmp_path / "a.parquet")
    with pytest.raises(InputError, match="install datasets"):
        read_texts("hub:owner/name")


def test_hub_datasets_are_streamed_up_to_the_limit(monkeypatch):
    asked = []

    def load_dataset(*args, **options):
        asked.append((args, options))
        return ({"text": f"text {i}", "domain": None} for i in itertools.count())  # never ends

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    texts = read_texts("hub:owner/name::config=en,split=validation,revision=abc,limit=30")
    assert asked == [(("owner/name", "en"), {"split": "validation", "revision": "abc", "streaming": True})]
    assert texts.documents == tuple(Document(f"text {i}", "owner/name") for i in range(30))
    assert len(read_texts("hub:owner/name").documents) == 10_000


@pytest.mark.parametrize("late", [False, True])
def test_a_hub_dataset_that_fails_is_one_sentence(monkeypatch, late):
    def rows():
        yield {"text": "one"}
        raise ConnectionError("no route\nto host")

    def load_dataset(*args, **options):
        if late:
            return rows()
        raise FileNotFoundError("Couldn't find 'owner/name'\nanywhere")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(
        InputError, match="The hub dataset 'owner/name' cannot be read .*(no route|Couldn't find)"
    ) as caught:
        read_texts("hub:owner/name")
    assert "\n" not in str(caught.value)


def test_splits_are_disjoint_stable_and_sized():
    documents = [Document(str(i)) for i in range(4000)]
    counts = {name: sum(split_of(d) == name for d in documents) / 4000 for name in SPLITS}
    assert (
        abs(counts["calibrate"] - 0.5) < 0.03
        and abs(counts["choose"] - 0.25) < 0.03
        and abs(counts["report"] - 0.25) < 0.03
    )


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", b"", "no text"),
        ("a.txt", b" \n\n ", "no text; give a file with running text"),
        ("a.txt", b"caf\xe9", "not UTF-8 .*0xe9"),
        ("a.jsonl", b"", "no text"),
        ("a.jsonl", b"{", "Line 1"),
        ("a.jsonl", b'{"text": "a"}\n[1]', "Line 2"),
        ("a.jsonl", b'{"text": 5}', "no string under the key 'text'"),
        ("a.jsonl", b'{"text": "\\ud800"}', "surrogate"),
        ("a.md", b"a", "ends in .md; .txt, .jsonl, .json, .csv, .tsv or .parquet can be read"),
        ("a.parquet.gz", b"a", "ends in .gz; .* and all but .parquet also with .gz or .zst behind it"),
        ("a.json", b'[{"text": "a"}, {"text": "b"', "not JSON"),
        ("a.json", b'[{"text": "a"}, {"story": "b"}]', "Item 2 .*no string under the key 'text'"),
        ("a.csv", b"id,body,more\n1,a b,c d", "no column 'text' but 'id, body, more'"),
        ("a", b"text\na", "ends in nothing"),
        ("a.jsonl", b"[" * 100000, "Line 1"),
        ("a.jsonl", "{}".encode("utf-16"), "not UTF-8"),
    ],
)
def test_bad_files_are_one_sentence(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=says) as caught:
        read_texts(tmp_path / name)
    assert "\n" not in str(caught.value)
