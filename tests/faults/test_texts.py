"""Hostile text files and chat templates: one sentence with the place and the reason, in time, whatever they
hold.
"""

import gzip
import json
import random
import re
import time
import tracemalloc

import pyarrow
import pyarrow.parquet
import pytest

from core.errors import InputError
from core.texts import Document, TextSource, pack, read_texts, split_of
from core.texts.chat import _MARK
from core.texts.readers import rows_of
from tests.clocks import spent
from tests.texts.made import chat_tokenizer, chats, texts_of

DEEP = b'{"text": "a", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
GOOD = b'{"text": "good"}\n'
WIDE = b"text," + b",".join(b"c%d" % i for i in range(10**6))

NAMED = {
    "jsonl binary": (".jsonl", bytes(range(256)) * 20, "Line 1 .*NUL"),
    "jsonl UTF-16 with BOM": (".jsonl", GOOD.decode().encode("utf-16"), "Line 1 .*not UTF-8 .*0xff"),
    "jsonl UTF-16 without BOM": (".jsonl", GOOD.decode().encode("utf-16-le"), "Line 1 .*NUL"),
    "jsonl UTF-32": (".jsonl", GOOD.decode().encode("utf-32-be"), "Line 1 .*(NUL|not UTF-8)"),
    "jsonl latin-1": (
        ".jsonl",
        GOOD * 5000 + '{"text": "caf\xe9"}'.encode("latin-1"),
        "Line 5001 .*not UTF-8 .*0xe9",
    ),
    "jsonl CESU surrogates": (".jsonl", GOOD + b'{"text": "\xed\xa0\x80"}', "Line 2 .*not UTF-8 .*0xed"),
    "jsonl NUL": (".jsonl", GOOD + b'{"text": "a\0b"}', "Line 2 .*NUL"),
    "jsonl 5000 digits": (
        ".jsonl",
        GOOD + b'{"text": "a", "n": ' + b"9" * 5000 + b"}",
        "Line 2 .*not JSON .*digits",
    ),
    "jsonl nested": (".jsonl", GOOD + DEEP, "Line 2 .*nests too deeply"),
    "jsonl unclosed nest": (".jsonl", b"[" * 100_000, "Line 1 .*nests too deeply"),
    "jsonl nested objects": (".jsonl", b'{"a":' * 100_000, "Line 1 .*nests too deeply"),
    "jsonl lone surrogate": (".jsonl", GOOD + b'{"text": "\\udc00"}', "Line 2 .*lone surrogate"),
    "jsonl lone surrogate in the domain": (
        ".jsonl",
        b'{"text": "a", "domain": "\\ud800"}',
        "Line 1 .*lone surrogate",
    ),
    "jsonl lone surrogate in a role": (
        ".jsonl",
        b'{"messages": [{"role": "\\ud800", "content": "a"}]}',
        "Line 1 .*lone surrogate",
    ),
    "jsonl NaN": (".jsonl", GOOD + b'{"text": "a", "x": NaN}', "Line 2 .*NaN"),
    "jsonl Infinity": (".jsonl", b'{"text": "a", "x": -Infinity}', "Line 1 .*Infinity"),
    "jsonl duplicate key": (".jsonl", GOOD + b'{"text": "a", "text": "b"}', "Line 2 .*'text' is there twice"),
    "jsonl wrong column": (".jsonl", GOOD + b'{"story": "a"}', "Line 2 .*no string under the key 'text'"),
    "jsonl null": (".jsonl", b'{"text": null}\nnull', "no text in its 2 rows"),
    "jsonl no object": (".jsonl", GOOD + b'"text"', "Line 2 .*no string"),
    "jsonl prompt alone": (".jsonl", b'{"prompt": "a"}', "Line 1 .*no string"),
    "jsonl messages in words": (".jsonl", b'{"messages": "a"}', "Line 1 .*no string"),
    "jsonl messages without content": (
        ".jsonl",
        b'{"messages": [{"role": "user"}]}',
        "Line 1 .*number 1 is no object",
    ),
    "jsonl messages of parts": (
        ".jsonl",
        b'{"messages": [{"role": "user", "content": [{"text": "a"}]}]}',
        "Line 1 .*number 1",
    ),
    "jsonl no messages": (".jsonl", b'{"messages": []}', "no text"),
    "jsonl a cut last line": (".jsonl", GOOD + GOOD[:9], "Line 2 .*not JSON"),
    "jsonl an array of rows": (".jsonl", b'[{"text": "a"}]', "Line 1 .*no string"),
    "jsonl a long line": (
        ".jsonl",
        GOOD + b'{"text": "' + b"a" * 2**20 + b'"}',
        "Line 2 .*longer than 1,048,576",
    ),
    "jsonl only a BOM": (".jsonl", b"\xef\xbb\xbf", "no text"),
    "jsonl a second BOM": (".jsonl", b"\xef\xbb\xbf\xef\xbb\xbf" + GOOD, "Line 1 .*not JSON"),
    "json nested": (".json", b"[" * 100_000, "not JSON .*nests too deeply"),
    "json duplicate key": (".json", b'[{"text": "a", "text": "b"}]', "not JSON .*'text' is there twice"),
    "json NaN": (".json", b'[{"text": "a", "x": NaN}]', "not JSON .*NaN"),
    "json a cut array": (".json", b'[{"text": "a"},', "not JSON"),
    "json latin-1": (".json", b'[{"text":\n"caf\xe9"}]', "Line 2 .*not UTF-8 .*0xe9"),
    "json of numbers": (".json", b"[1, 2]", "Item 1 .*no string"),
    "json empty": (".json", b" ", "no text"),
    "json an empty array": (".json", b"[]", "no text"),
    "tsv too many fields": (
        ".tsv",
        b"text\tx\na\tb\nc\td\te",
        "Line 3 .*3 fields .*quote fields that hold tabs",
    ),
    "gz of a word": (".txt.gz", b"word", "cannot be read"),
    "gz of NULs": (".jsonl.gz", gzip.compress(b"\0" * 10**6), "Line 1 .*NUL"),
    "gz a bomb": (".txt.gz", gzip.compress(b"a" * 10**8), "unpacks to more than 200 times"),
    "gz a long line": (".jsonl.gz", gzip.compress(b"a" * 10**7), "Line 1 .*longer than"),
    "csv empty": (".csv", b"", "no text"),
    "csv header alone": (".csv", b"text\n", "no text"),
    "csv binary": (".csv", bytes(range(256)), "Line [12] .*(not UTF-8|NUL)"),
    "csv latin-1": (".csv", b"text\na\ncaf\xe9", "Line 3 .*not UTF-8 .*0xe9"),
    "csv UTF-16": (".csv", "text\na".encode("utf-16"), "Line 1 .*not UTF-8"),
    "csv NUL": (".csv", b"text\na\0b", "Line 2 .*NUL"),
    "csv wrong column": (".csv", b"story,x\na,b", "no column 'text' but 'story, x'"),
    "csv duplicate column": (".csv", b"text,text\na,b", "two columns 'text'"),
    "csv too many fields": (".csv", b"text,x\na,b\nc,d,e", "Line 3 .*3 fields and the header 2"),
    "csv too few fields": (".csv", b"text,x\na", "Line 2 .*1 fields and the header 2"),
    "csv open quote": (".csv", b'text\n"a\nb\n', "Line 3 .*not CSV"),
    "csv open quote in a big file": (".csv", b'text\n"' + b"a\n" * 10**6, "Line [0-9]+ .*not CSV .*limit"),
    "csv text behind a quote": (".csv", b'text\n"a"b\n', "Line 2 .*not CSV"),
    "csv a million columns": (".csv", WIDE, "Line 1 .*longer"),
    "csv a hundred thousand columns": (
        ".csv",
        WIDE[5:600_000] + b"\n" + b",".join([b"a"] * 87_301),
        "no column 'text' but 'c0, c1.*, ...'",
    ),
    "txt binary": (".txt", b"a\n\xff\xfe", "Line 2 .*not UTF-8 .*0xff"),
    "txt UTF-16": (".txt", "text".encode("utf-16-le"), "Line 1 .*NUL"),
    "parquet empty": (".parquet", b"", "no whole Parquet"),
    "parquet of words": (".parquet", GOOD, "no whole Parquet"),
    "parquet marks alone": (".parquet", b"PAR1" + b"\xff" * 8 + b"PAR1", "no whole Parquet"),
}
GOOD_FILES = {
    "jsonl BOM": (".jsonl", b"\xef\xbb\xbf" + GOOD, ["good"]),
    "jsonl CR only": (".jsonl", b'{"text": "a"}\r{"text": "b"}\r', ["a", "b"]),
    "jsonl CR LF": (".jsonl", b'{"text": "a"}\r\n\r\n{"text": "b"}', ["a", "b"]),
    "jsonl escaped pair": (".jsonl", b'{"text": "\\ud83d\\ude00"}', ["\U0001f600"]),
    "jsonl line separators": (".jsonl", '{"text": "a\u2028b\u0085c"}'.encode(), ["a\u2028b\u0085c"]),
    "csv CR only": (".csv", b"text,x\ra,1\rb,2", ["a", "b"]),
    "csv BOM and quotes": (".csv", b'\xef\xbb\xbftext,x\r\n"a, ""b""\r\nc",1\r\n', ['a, "b"\nc']),
    "csv a field near the limit": (".csv", b"text\n" + b"a" * 2**20, ["a" * 2**20]),
}


def refused(file) -> str:
    """The sentence, which came in time."""
    began = spent()
    with pytest.raises(InputError) as caught:
        read_texts(file)
    assert spent() - began <= 2
    sentence = str(caught.value)
    assert "\n" not in sentence and len(sentence) < 1000 and file.name in sentence
    return sentence


@pytest.mark.parametrize("name", NAMED)
def test_a_bad_file_is_one_sentence_with_place_and_reason(tmp_path, name):
    suffix, content, says = NAMED[name]
    file = tmp_path / f"bad{suffix}"
    file.write_bytes(content)
    assert re.search(says, refused(file)), refused(file)


@pytest.mark.parametrize("name", GOOD_FILES)
def test_an_odd_file_is_read(tmp_path, name):
    suffix, content, expected = GOOD_FILES[name]
    (tmp_path / f"odd{suffix}").write_bytes(content)
    rows = rows_of(TextSource(str(tmp_path / f"odd{suffix}")))
    assert [row["text"] for _, row in rows] == expected


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_a_line_of_200_mb_is_refused_in_little_memory(tmp_path, suffix):
    file = tmp_path / f"long{suffix}"
    with open(file, "wb") as f:
        for _ in range(200):
            f.write(b"a" * 10**6)
    tracemalloc.start()
    try:
        assert "longer than 1,048,576" in refused(file)
        assert tracemalloc.get_traced_memory()[1] < 30 * 2**20
    finally:
        tracemalloc.stop()


def test_none_of_250_damaged_files_is_a_traceback(tmp_path):
    """Cut, flipped and mixed: read as some text, or refused in a sentence in time."""
    rng = random.Random(0)
    rows = [{"text": f"text {i} é", "domain": "ab"[i % 2], "messages": None} for i in range(50)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "good.parquet")
    whole = {
        ".jsonl": "\n".join(map(json.dumps, rows)).encode(),
        ".csv": ("text,domain\n" + "\n".join(f'"text, {i} é",{i % 2}' for i in range(50))).encode(),
        ".txt": "\n\n".join(row["text"] for row in rows).encode(),
        ".parquet": (tmp_path / "good.parquet").read_bytes(),
        ".json": json.dumps(rows).encode(),
        ".jsonl.gz": gzip.compress("\n".join(map(json.dumps, rows)).encode()),
    }
    refusals = 0
    for k in range(250):
        suffix = list(whole)[k % len(whole)]
        content = bytearray(whole[suffix])
        for _ in range(rng.randrange(1, 6)):
            at = rng.randrange(len(content))
            change = rng.choice(("flip", "cut", "drop", "junk"))
            if change == "flip":
                content[at] ^= 1 << rng.randrange(8)
            else:
                content[
                    at : at + rng.randrange(1, 40)
                    if change == "drop"
                    else len(content)
                    if change == "cut"
                    else at
                ] = rng.randbytes(9) if change == "junk" else b""
            content = content or bytearray(b" ")
        file = tmp_path / f"damaged{suffix}"
        file.write_bytes(content)
        began = spent()
        try:
            assert read_texts(file).sha256
        except InputError as error:
            refusals += 1
            assert "\n" not in str(error) and len(str(error)) < 1000
        assert spent() - began <= 2
    assert 100 < refusals < 250


def test_too_many_domains_are_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text("".join(f'{{"text": "a", "domain": {i}}}\n' for i in range(2**15)))
    assert "32,768 domains" in str(pytest.raises(InputError, read_texts, tmp_path / "a.jsonl").value)


def test_many_domains_are_packed_in_time():
    texts = texts_of(*(Document(f"a text {i}", str(i)) for i in range(20_000)))
    began = spent()
    assert pack(texts, chat_tokenizer(), "choose", 8, 4, mode="documents").available > 4000
    assert spent() - began < 20


BOMB = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
TEMPLATES = {
    "loops": (BOMB, "takes longer"),
    "a power": ("{{ 9 ** (9 ** 9) }}", "takes longer|too much memory"),
    "a power while it runs": (
        "{% set n = messages | length + 1 %}{{ n ** (n ** (n * 2)) }}",
        "takes longer|too much memory",
    ),
    "a long constant": ("{{ 'a' * 5000000000 }}", "too much memory"),
    "a long word": ("{{ messages[0]['role'] * 1000000000 }}", "too much memory"),
    "padding": ("{{ 'a' | center(3000000000) }}", "too much memory"),
    "much output": ("{% for a in range(99999) %}{{ 'some dozen ch' }}{% endfor %}", "1,299,987 characters"),
    "a doubling": (
        "{% set ns = namespace(x='a') %}{% for a in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ "
        "ns.x }}",
        "memory",
    ),
    "recursion": ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recursion"),
    "classes": ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "fails .*unsafe"),
    "globals": ("{{ raise_exception.__globals__ }}", "fails .*unsafe|leaves out"),
    "cycler": ("{{ cycler.__init__.__globals__.os.popen('id').read() }}", "fails .*unsafe"),
    "format": ("{{ '{0.__class__.__init__.__globals__}'.format(messages) }}", "fails .*unsafe"),
    "format map": ("{{ '{a.__class__}'.format_map({'a': messages}) }}", "fails .*unsafe|leaves out"),
    "attr": ("{{ messages | attr('__class__') | attr('__base__') }}", "fails .*unsafe|leaves out"),
    "import": ("{% import 'os' as os %}", "fails"),
    "include": ("{% include '/etc/passwd' %}", "fails"),
    "append": ("{{ messages.append(1) }}", "fails .*unsafe"),
    "surrogate": ("{{ '\\ud800' }}", "fails"),
    "no template": ("{% if %}", "fails"),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_hostile_chat_template_ends_in_time_in_one_sentence(name, request):
    template, says = TEMPLATES[name]
    if "longer" in says:  # its time is looked at: that of a child, not of a fork of the warm process
        request.getfixturevalue("cold_start")
    began, used = time.monotonic(), spent()
    with pytest.raises(InputError) as caught:
        pack(texts_of(*chats(2)), chat_tokenizer(template), "choose", 30, 2, template="chat")
    assert spent() - used < 15  # the limit is 5 s of the processor, which others may share
    assert time.monotonic() - began < 120
    assert re.search(says, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_marks_in_words_and_templates_mislead_nobody():
    """A chat that writes the marks itself is told apart; a template that writes them is refused."""
    for k in range(99):
        turns = (("user", f"{_MARK % 0} {k}"), ("assistant", f"{_MARK % 1} said"))
        document = Document("\n".join(content for _, content in turns), "text", turns)
        if split_of(document) == "choose":
            break
    drawn = pack(texts_of(document), chat_tokenizer(), "choose", 90, 1, mode="documents", template="chat")
    assert chat_tokenizer().decode(drawn.ids[0][drawn.scored[0]]) == f"{_MARK % 1} said<|im_end|>"
    with pytest.raises(InputError, match="rewrites"):
        pack(
            texts_of(document),
            chat_tokenizer("{{ messages[0]['content'] }}" + _MARK % 1),
            "choose",
            90,
            1,
            mode="documents",
            template="chat",
        )
