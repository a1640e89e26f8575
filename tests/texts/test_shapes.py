"""What people have simply works: instructions, chats, arrays, packed files, odd columns, null rows."""

import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest

from core.errors import InputError
from core.texts import Document, TextSource, read_texts
from core.texts import files as text_files
from tests.texts.made import jsonl

TALK = [
    {"from": "system", "value": "be kind"},
    {"from": "human", "value": " hi "},
    {"from": "gpt", "value": "hello", "weight": 1},
]
TURNS = (("system", "be kind"), ("user", "hi"), ("assistant", "hello"))


def texts_in(file, **options) -> list[str]:
    return [d.text for d in read_texts(TextSource(str(file), **options)).documents]


def test_instructions_are_prompts_with_completions(tmp_path):
    rows = [
        {"instruction": "add", "input": "2 and 2", "output": "4"},
        {"instruction": "greet", "input": "", "output": " hello"},
        {"instruction": "name one", "input": None, "output": "Anna", "text": None},
        {"instruction": "which?", "context": "of two", "response": "the first"},
    ]
    expected = [
        (("prompt", "add\n\n2 and 2"), ("completion", "4")),
        (("prompt", "greet"), ("completion", "hello")),
        (("prompt", "name one"), ("completion", "Anna")),
        (("prompt", "which?\n\nof two"), ("completion", "the first")),
    ]
    (tmp_path / "alpaca.json").write_text(json.dumps(rows))
    for file in (jsonl(tmp_path / "a.jsonl", *rows), tmp_path / "alpaca.json"):
        assert [d.turns for d in read_texts(file).documents] == expected


def test_conversations_are_chats(tmp_path):
    jsonl(tmp_path / "a.jsonl", {"id": "one", "conversations": TALK})
    assert read_texts(tmp_path / "a.jsonl").documents == (Document("be kind\nhi\nhello", "text", TURNS),)
    jsonl(tmp_path / "b.jsonl", {"conversations": [{"from": "human", "text": "hi"}]})
    with pytest.raises(InputError, match="Line 1 .*number 1 is no object"):
        read_texts(tmp_path / "b.jsonl")


@pytest.mark.parametrize(
    "content",
    [
        '[{"text": "one"}, {"text": "two"}]',
        '{"version": 1, "data": [{"text": "one"}, {"text": "two"}]}',
        '{"text": "one"}\n{"text": "two"}\n',
        '{\n  "text": "one"\n}\n{\n  "text": "two"\n}\n',
        '["one", "two"]',
        '\ufeff[{"text": "one"}, null, {"text": "two"}]',
    ],
)
def test_a_json_file_may_be_an_array_or_values(tmp_path, content):
    (tmp_path / "a.json").write_text(content, encoding="utf-8")
    assert texts_in(tmp_path / "a.json") == ["one", "two"]


def packed(kind: str, content: bytes) -> bytes:
    return (
        gzip.compress(content)
        if kind == "gz"
        else pyarrow.compress(content, codec="zstd", asbytes=True)  # no size of its content is in front of it
    )


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_packed_files_are_read_as_they_are_unpacked(tmp_path, kind):
    rows = "".join(json.dumps({"text": f"text {i} é"}) + "\n" for i in range(3000)).encode()
    files = {"a.jsonl": rows, "b.txt": b"running\n\ntext", "c.csv": b"text\none\n"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        (tmp_path / f"{name}.{kind}").write_bytes(packed(kind, content))
        assert read_texts(tmp_path / f"{name}.{kind}").sha256 == read_texts(tmp_path / name).sha256
    two = read_texts([str(tmp_path / f"a.jsonl.{kind}"), str(tmp_path / f"b.txt.{kind}")])
    assert two.domains == ("a", "b")


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_packed_files_that_are_none_or_a_bomb_are_one_sentence(tmp_path, kind, monkeypatch):
    whole = packed(kind, b"".join(b"%d words and more " % i for i in range(2000)))
    bomb = packed(kind, b"a" * 2**22)
    monkeypatch.setattr(text_files, "_SMALL", 2**16)
    for content, says in (
        (whole[:-20], "cannot be read"),
        (b"plain text", "cannot be read"),
        (b"", "no text|cannot be read"),
        (whole[:40] + b"\0\1\2" + whole[43:], "cannot be read|UTF-8|NUL"),
        (bomb, "unpacks to more than 200 times its size"),
    ):
        file = tmp_path / f"a.txt.{kind}"
        file.write_bytes(content)
        with pytest.raises(InputError, match=says) as caught:
            read_texts(file)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "text;domain\none, and;x\ntwo;y\n"),
        ("a.csv", "\ufefftext\tdomain\none, and\tx\ntwo\ty\n"),
        ("a.tsv", "\ufefftext\tdomain\none, and\tx\ntwo\ty\n"),
        ("a.csv", 'text,domain\n"one, and",x\ntwo,y\n'),
        ("a.csv", "\ntext;domain\none, and;x\ntwo;y\n"),
    ],
)
def test_what_divides_the_header_divides_the_rows(tmp_path, name, content):
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert read_texts(tmp_path / name).documents == (Document("one, and", "x"), Document("two", "y"))
    (tmp_path / "b.csv").write_text("text;x\na;b;c\n")
    with pytest.raises(InputError, match="3 fields and the header 2; quote fields that hold semicolons"):
        read_texts(tmp_path / "b.csv")


def test_a_column_of_lists_of_strings_is_lines(tmp_path):
    rows = [{"text": ["one", "two"]}, {"text": ["three"]}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    for file in (jsonl(tmp_path / "a.jsonl", *rows), tmp_path / "a.parquet"):
        assert texts_in(file) == ["one\ntwo", "three"]


def test_null_rows_are_left_out_and_counted(tmp_path):
    rows = [{"text": "one"}, {"text": None}, {"text": " "}, {"text": "two", "domain": None}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    jsonl(tmp_path / "a.jsonl", *rows, {})
    with open(tmp_path / "a.jsonl", "a") as f:
        f.write("null\n")
    for file, empty in ((tmp_path / "a.jsonl", 4), (tmp_path / "a.parquet", 2)):
        found = read_texts(TextSource(str(file), domain="d"))
        assert found.documents == (Document("one", "d"), Document("two", "d")) and found.empty == empty


def test_the_only_column_of_text_is_taken_and_recorded(tmp_path):
    rows = [{"id": f"x{i}", "story": f"a story {i}", "n": i, "domain": "tales"} for i in range(3)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    lines = "".join(f"x{i},a story {i},{i},tales\n" for i in range(3))
    (tmp_path / "a.csv").write_text("id,story,n,domain\n" + lines)
    for file in (jsonl(tmp_path / "a.jsonl", *rows), tmp_path / "a.csv", tmp_path / "a.parquet"):
        found = read_texts(file)
        assert found.documents == tuple(Document(f"a story {i}", "tales") for i in range(3))
        assert found.sources == (TextSource(str(file), column="story"),)
    (tmp_path / "b.csv").write_text("word\nfirst\nsecond\n")
    assert texts_in(tmp_path / "b.csv") == ["first", "second"]
    jsonl(tmp_path / "c.jsonl", {"prompt": "why is it so?", "category": "qa"})
    with pytest.raises(InputError, match="Line 1 of .* has no string under the key 'text', or messages"):
        read_texts(tmp_path / "c.jsonl")  # no texts are labels
    jsonl(tmp_path / "c.jsonl", {"title": "a title", "story": "a story"})
    with pytest.raises(InputError, match="no column 'text' but 'title, story'; name the one"):
        read_texts(tmp_path / "c.jsonl")
    with pytest.raises(InputError, match="no column 'tale' but 'id, story, n, domain'"):
        read_texts(TextSource(str(tmp_path / "a.csv"), column="tale"))
