"""Texts: sources, reading, splitting, packing, prompts and chats."""

import itertools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from transformers import AutoTokenizer

from core.errors import InputError
from core.store.folders import DEMO
from core.texts import Document, Texts, TextSource, available, pack, parse_source, read_texts, split_of
from core.texts.documents import SPLITS
from core.texts.packing import available_by_domain
from core.texts.tokens import _counted
from tests.conftest import TEXT, byte_tokenizer

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


# what was promised stays


def test_hashes_of_texts_and_sequences_are_what_they_were(tmp_path):
    """Shipped runs hold them; measured before there were sources."""
    bundled = read_texts()
    assert (
        bundled.sha256 == "54630c9efc81fd15f24480fc169dfa6c2fd0989ce82f6a9ae04b2bc425d14cb4"
        and bundled.source == "bundled"
    )
    (tmp_path / "a.txt").write_text(TEXT)
    txt = read_texts(tmp_path / "a.txt")
    assert (
        txt.sha256 == "ccd63896690d7a4d35d0fc7995c4606d54506ba7be9a4c29d732f70e9460c03c"
        and txt.source == str(tmp_path / "a.txt")
    )
    (tmp_path / "a.jsonl").write_bytes(
        '{"text": "one", "domain": "x"}\n\n{"text": " zwei é"}\r\n{"text": "drei", "domain": 3}\n'.encode()
    )
    assert (
        read_texts(str(tmp_path / "a.jsonl")).sha256
        == "db589acaf4c12e668e72f10402636fabc80f8ba81027e9f597c1c22fda18d513"
    )

    demo = pack(bundled, AutoTokenizer.from_pretrained(DEMO / "model"), "calibrate", 128, 256)
    assert (
        demo.sha256 == "93f537b917528426ba5a1202da638bdbb1eab5220b9cb650c3d259c95a641d93"
        and demo.available == 1589
    )
    assert demo.template == "packed within a domain; one BOS first; joined by EOS"
    drawn = pack(txt, byte_tokenizer(), "choose", 32, 20, seed=5)
    assert drawn.sha256 == "86f0b1a79f9c1e9fae9cb26ec8ab529c145cd5f254e3ac36e77f3d6825c45c95"
    assert drawn.index.tolist() == [
        23,
        122,
        127,
        204,
        171,
        96,
        235,
        44,
        199,
        218,
        161,
        37,
        217,
        220,
        111,
        21,
        73,
        229,
        4,
        61,
    ]
    assert drawn.mask is None and drawn.scored is None and drawn.skipped == 0
    bare = byte_tokenizer()
    bare.bos_token = bare.eos_token = None
    drawn = pack(txt, bare, "report", 32, 20, seed=1)
    assert drawn.sha256 == "8144d63a13b4804076affdbfbec4ab156c74e55a29ae099d88d4347f8c4b0fe2"
    assert drawn.template == "packed within a domain; no BOS; joined by a blank line"
    assert available(txt, byte_tokenizer(), 32) == {"calibrate": 574, "choose": 277, "report": 303}


def test_every_way_to_name_one_file_gives_the_same_texts(tmp_path):
    (tmp_path / "a.txt").write_text(TEXT)
    path = str(tmp_path / "a.txt")
    ways = [path, Path(path), TextSource(path), [TextSource(path)], [path], {"path": path}]
    assert len({read_texts(way).sha256 for way in ways}) == 1
    assert (
        read_texts("bundled").sha256 == read_texts([TextSource("bundled")]).sha256 == read_texts(None).sha256
    )


def test_reading_and_packing_need_no_torch():
    code = (
        "import core.texts, sys; core.texts.read_texts(); sys.exit(bool({'torch', "
        "'streamlit', 'datasets'} & set(sys.modules)))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).resolve().parents[2]).returncode == 0
    )


# sources


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("a.txt", TextSource("a.txt")),
        ("s.parquet::column=story,domain=stories,weight=2", TextSource("s.parquet", "story", "stories", 2.0)),
        (
            "hub:OWNER/NAME::config=en,split=test,revision=abc,limit=50",
            TextSource("hub:OWNER/NAME", config="en", split="test", revision="abc", limit=50),
        ),
        ("odd::name.txt", TextSource("odd::name.txt")),
        ("odd::name.txt::weight=0", TextSource("odd::name.txt", weight=0.0)),
        ("odd::a=b.txt::domain=d", TextSource("odd::a=b.txt", domain="d")),
        ("a.txt::domain=x=y", TextSource("a.txt", domain="x=y")),
        ("a.txt::", TextSource("a.txt::")),
        ("a.txt::domain", TextSource("a.txt::domain")),
    ],
)
def test_sources_are_parsed_and_round_trip(text, source):
    assert parse_source(text) == source
    data = json.loads(json.dumps(source.to_json()))
    assert TextSource.from_json(data) == source == TextSource.from_json(text)
    assert set(data) == {"path"} | {
        k for k, v in vars(source).items() if k != "path" and v != vars(TextSource("a.txt"))[k]
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a.txt::colour=red", "no option 'colour'.*weight"),
        ("a.txt::weight=-1", "weight .*at least 0, not -1"),
        ("a.txt::weight=nan", "weight .*not nan"),
        ("a.txt::weight=inf", "weight .*not inf"),
        ("hub:a/b::limit=99999999999999999999", "limit .*not 9999"),
        ("a.txt::weight=much", "weight .*not 'much'"),
        ("a.txt::weight=1,weight=2", "weight again, as '2'"),
        ("a.txt::domain=", "domain .*not ''"),
        ("hub:a/b::limit=0", "limit .*not 0"),
        ("hub:a/b::limit=1.5", "limit .*not '1.5'"),
        ("a.txt::config=en", "no config"),
        ("a.txt::split=test", "no split"),
        ("a.txt::revision=abc", "no revision"),
        ("", "path .*not ''"),
        ("hub:", "OWNER/NAME, not 'hub:'"),
        ("hub:../../here", "OWNER/NAME"),
        ("hub:a/b/c", "OWNER/NAME"),
        ("a\ud800.txt", "path"),
    ],
)
def test_bad_sources_are_one_sentence(text, says):
    for ask in (parse_source, read_texts):
        with pytest.raises(InputError, match=says) as caught:
            ask(text)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "data",
    [
        {},
        [],
        None,
        5,
        {"path": 5},
        {"path": "a", "weight": True},
        {"path": "a", "weight": "1"},
        {"path": "a", "weight": 10**400},
        {"path": "a", "limit": 10**30},
        {"path": "a", "x": 1},
    ],
)
def test_bad_objects_are_no_sources(data):
    with pytest.raises(InputError):
        TextSource.from_json(data)


# reading


def test_txt_documents_are_separated_by_blank_lines(tmp_path):
    (tmp_path / "a.txt").write_text("one\nstill one\n\n\n\ntwo\n \nstill two\n", encoding="utf-8-sig")
    assert [d.text for d in read_texts(tmp_path / "a.txt").documents] == [
        "one\nstill one",
        "two\n \nstill two",
    ]
    (tmp_path / "b.txt").write_bytes(b"one\r\nstill one\r\n\r\ntwo\rstill two")
    assert [d.text for d in read_texts(tmp_path / "b.txt").documents] == ["one\nstill one", "two\nstill two"]


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


# splitting and packing


def test_splits_are_disjoint_stable_and_sized():
    documents = [Document(str(i)) for i in range(4000)]
    counts = {name: sum(split_of(d) == name for d in documents) / 4000 for name in SPLITS}
    assert (
        abs(counts["calibrate"] - 0.5) < 0.03
        and abs(counts["choose"] - 0.25) < 0.03
        and abs(counts["report"] - 0.25) < 0.03
    )


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
    ("options", "says"),
    [
        ({"mode": "both"}, "no mode 'both' .*packed, documents"),
        ({"template": "x"}, "no template 'x' .*none, chat"),
        ({"bos": "yes"}, "no bos 'yes' .*auto, always, never"),
        ({"length": 1}, "2 or more tokens, not 1"),
        ({"samples": 0}, "at least 1, not 0"),
        ({"template": "chat"}, "no chats or prompts"),
        ({"weights": {"text": -1}}, "weight of the domain 'text' .*-1"),
        ({"weights": {"text": float("nan")}}, "weight of the domain 'text' .*nan"),
        ({"weights": {"text": 0}}, "all 0"),
        ({"weights": {}}, "all 0"),
        ({"weights": {"tekst": 1}}, "no domain 'tekst'.*there are text"),
    ],
)
def test_bad_options_are_one_sentence(options, says):
    asked = {"split": "choose", "length": 8, "samples": 2, **options}
    with pytest.raises(InputError, match=says) as caught:
        pack(texts_of(*in_split("choose", 9)), byte_tokenizer(), **asked)
    assert "\n" not in str(caught.value)


# weights


def mixed(**counts: int) -> Texts:
    return texts_of(
        *(d for domain, count in counts.items() for d in in_split("choose", count, domain + " {}", domain))
    )


@pytest.mark.parametrize(
    ("samples", "weights", "expected"),
    [
        (10, {"a": 1, "b": 1, "c": 1}, [4, 3, 3]),  # the first of equal remainders
        (10, {"a": 1, "b": 1, "c": 2}, [3, 2, 5]),
        (7, {"a": 0.5, "b": 0.25, "c": 0.25}, [3, 2, 2]),  # 3.5, 1.75, 1.75: the larger remainders first
        (5, {"a": 0, "b": 1e-300, "c": 1e300}, [0, 0, 5]),
        (6, {"b": 2, "c": 1}, [0, 4, 2]),
        (1, {"a": 1, "b": 1.001}, [0, 1, 0]),
    ],
)
def test_weights_divide_the_samples_by_the_largest_remainder(samples, weights, expected):
    texts = mixed(a=20, b=20, c=20)
    drawn = pack(texts, byte_tokenizer(), "choose", 8, samples, seed=3, weights=weights, mode="documents")
    assert np.bincount(drawn.domain, minlength=3).tolist() == expected
    everything = pack(texts, byte_tokenizer(), "choose", 8, 60, seed=3, mode="documents")
    place = {index: k for k, index in enumerate(everything.index.tolist())}
    order = [place[index] for index in drawn.index.tolist()]
    assert order == sorted(order)  # a part of the same random order, so domains stay mixed
    assert (drawn.ids == everything.ids[order]).all() and (drawn.domain == everything.domain[order]).all()
    for number in range(3):  # and of every domain the first
        own = [k for k in range(60) if everything.domain[k] == number]
        assert [k for k in order if k in own] == own[: expected[number]]


def test_a_weight_that_asks_for_too_much_names_the_domain():
    with pytest.raises(
        InputError,
        match=r"domain 'b' gives 3 sequences of 8 tokens in the choose split and its weight asks for 5",
    ):
        pack(mixed(a=40, b=3), byte_tokenizer(), "choose", 8, 10, weights={"a": 1, "b": 1}, mode="documents")


def test_sources_bring_their_weights(tmp_path):
    rows = {name: [{"text": d.text} for d in in_split("choose", 30, name + " {}")] for name in "abc"}
    paths = {name: str(jsonl(tmp_path / f"{name}.jsonl", *rows[name])) for name in "ab"}
    halves = jsonl(tmp_path / "c.jsonl", *({**row, "domain": "xy"[k % 2]} for k, row in enumerate(rows["c"])))
    texts = read_texts(
        [TextSource(paths["a"], weight=4), TextSource(paths["b"]), TextSource(str(halves), weight=1)]
    )
    assert texts.weights == {"a": 4, "b": 1, "x": 0.5, "y": 0.5} and texts.domains == ("a", "b", "x", "y")
    drawn = pack(texts, byte_tokenizer(), "choose", 8, 12, mode="documents")
    assert np.bincount(drawn.domain).tolist() == [8, 2, 1, 1]
    assert np.bincount(
        pack(texts, byte_tokenizer(), "choose", 8, 12, weights={"b": 1}, mode="documents").domain
    ).tolist() == [0, 12]
    assert read_texts(list(paths.values())).weights is None
    with pytest.raises(InputError, match="weight 0"):
        read_texts([TextSource(paths["a"], weight=0), TextSource(paths["b"], weight=0)])
    counts = available_by_domain(texts, byte_tokenizer(), 8, mode="documents")
    assert counts["choose"] == {"a": 30, "b": 30, "x": 15, "y": 15} and not any(counts["report"].values())
    assert available(texts, byte_tokenizer(), 8, mode="documents")["choose"] == 90


# one document a sequence


@pytest.mark.parametrize("bos", [True, False])
def test_one_document_a_sequence_by_hand(bos):
    tokenizer = byte_tokenizer()
    tokenizer.bos_token = "<s>" if bos else None
    documents = [
        *(d for d in map(Document, "abcdefgh") if split_of(d) == "choose"),
        *in_split("choose", 4, "some {}"),
        *in_split("choose", 4, "a longer text number {}"),
    ]
    expected = []
    for d in documents:
        own = tokenizer(d.text, add_special_tokens=False)["input_ids"]
        if len(own) < 2:
            continue
        ids = ([0] if bos else []) + own
        ids = ids[:12]
        pads = 12 - len(ids)
        expected.append(
            (
                ids + [1] * pads,
                [True] * len(ids) + [False] * pads,
                [False] + [True] * (len(ids) - 1) + [False] * pads,
            )
        )
    single = len(documents) - len(expected)
    assert single == len(documents) - 8 > 0
    drawn = pack(texts_of(*documents), tokenizer, "choose", 12, len(expected), mode="documents")
    assert (drawn.available, drawn.skipped) == (len(expected), single)
    for k, index in enumerate(drawn.index):
        assert (drawn.ids[k].tolist(), drawn.mask[k].tolist(), drawn.scored[k].tolist()) == expected[index]
    assert (
        drawn.template
        == f"one document a sequence, padded on the right; {'one BOS first' if bos else 'no BOS'}"
    )


def test_the_hash_covers_mask_and_scored():
    drawn = pack(texts_of(*in_split("choose", 8)), byte_tokenizer(), "choose", 8, 4, mode="documents")
    other = [replace(drawn, **{name: ~getattr(drawn, name)}) for name in ("mask", "scored", "ids")]
    swapped = replace(drawn, mask=drawn.scored, scored=drawn.mask)
    bare = replace(drawn, mask=None, scored=None)
    assert len({s.sha256 for s in [drawn, *other, swapped, bare]}) == 6


# prompts and chats


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


def test_a_prompt_is_real_and_not_scored():
    documents, tokenizer = prompts(5), byte_tokenizer()
    drawn = pack(texts_of(*documents), tokenizer, "choose", 60, 5, mode="documents")
    for k, index in enumerate(drawn.index):
        assert read_back(tokenizer, drawn, k) == ("<s>" + documents[index].text, documents[index].turns[1][1])


def test_a_token_on_the_border_goes_with_its_last_character():
    """And a special token counts right behind what is scored, nowhere else; a token of no characters
    never.
    """
    ids, offsets = np.array([5, 6, 7, 9, 9, 8]), np.array([[0, 2], [2, 5], [5, 6], [6, 7], [7, 8], [6, 6]])
    assert _counted(ids, offsets, "ab\ncde..", [(3, 6)], special=[9]).tolist() == [
        False,
        True,
        True,
        True,
        False,
        False,
    ]


def test_a_prompt_that_fills_the_sequence_leaves_nothing_to_predict():
    long = next(
        d
        for i in range(99)
        if split_of(
            d := Document(f"{'x' * 40}{i}\ny", "text", (("prompt", f"{'x' * 40}{i}"), ("completion", "y")))
        )
        == "choose"
    )
    drawn = pack(texts_of(long, *prompts(3)), byte_tokenizer(), "choose", 30, 3, mode="documents")
    assert (drawn.available, drawn.skipped) == (3, 1) and drawn.scored.any(axis=1).all()


def test_packed_prompts_are_not_scored_either():
    documents, tokenizer = prompts(9), byte_tokenizer()
    drawn = pack(texts_of(*documents), tokenizer, "choose", 30, 7)
    order = np.argsort(drawn.index)
    assert drawn.mask.all() and not drawn.scored[:, 0].any() and drawn.available == drawn.index.max() + 1
    stream = tokenizer.decode(np.concatenate([drawn.ids[k][drawn.scored[k]] for k in order]))
    expected = "".join(d.turns[1][1] + "</s>" for d in documents)
    assert len(stream) > 60 and expected.startswith(stream)


def test_a_chat_without_a_template_is_plain_lines():
    documents, tokenizer = chats(3), byte_tokenizer()
    drawn = pack(texts_of(*documents), tokenizer, "choose", 90, 3, mode="documents")
    for k, index in enumerate(drawn.index):
        assert read_back(tokenizer, drawn, k) == ("<s>" + documents[index].text, documents[index].text)
    assert pack(texts_of(*documents), tokenizer, "choose", 20, 3).scored is None


def test_in_a_chat_template_only_the_assistant_is_scored():
    """Against the template written out: words, and the special token that ends them."""
    plain, tokenizer = in_split("choose", 1, "a plain one {}"), chat_tokenizer()
    documents = [*chats(3), *prompts(2), *plain]
    drawn = pack(texts_of(*documents), tokenizer, "choose", 160, 6, mode="documents", template="chat")
    for k, index in enumerate(drawn.index):
        d = documents[index]
        roles = {"prompt": "user", "completion": "assistant"}
        turns = [(roles.get(role, role), content) for role, content in d.turns]
        text = "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in turns) or d.text
        said = "".join(f"{content}<|im_end|>" for role, content in turns if role == "assistant") or d.text
        assert read_back(tokenizer, drawn, k) == ("<s>" + text, said)
    assert drawn.template.startswith(
        "one document a sequence, padded on the right; one BOS first; chat template "
    )
    other = pack(
        texts_of(*documents),
        chat_tokenizer(CHATML + " "),
        "choose",
        160,
        6,
        mode="documents",
        template="chat",
    )
    assert other.template != drawn.template


@pytest.mark.parametrize("bos", ["auto", "always", "never"])
def test_there_is_never_a_second_bos(bos):
    with_bos, documents = chat_tokenizer("{{ bos_token }}" + CHATML), chats(3)
    for mode in ("documents", "packed"):
        drawn = pack(texts_of(*documents), with_bos, "choose", 60, 3, mode=mode, template="chat", bos=bos)
        count = (drawn.ids == 0).sum(axis=1) - (
            0 if drawn.mask is None else (~drawn.mask & (drawn.ids == 0)).sum(axis=1)
        )
        assert (count == (0 if bos == "never" else 1)).all() and (
            (drawn.ids[:, 0] == 0) == (bos != "never")
        ).all()
        assert not drawn.scored[:, 0].any()
        same = pack(
            texts_of(*documents), chat_tokenizer(), "choose", 60, 3, mode=mode, template="chat", bos=bos
        )
        assert (same.ids == drawn.ids).all() and (same.scored == drawn.scored).all()


def test_an_eos_that_the_chat_template_wrote_is_not_doubled():
    tokenizer = chat_tokenizer(
        "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{{ eos_token }}{% endfor %}"
    )
    drawn = pack(texts_of(*chats(9)), tokenizer, "choose", 30, 9, template="chat")
    assert not ((drawn.ids[:, 1:] == 1) & (drawn.ids[:, :-1] == 1)).any() and (drawn.ids == 1).any()


def test_the_bos_policy_is_kept_and_told():
    texts, bare = texts_of(*in_split("choose", 40)), byte_tokenizer()
    bare.bos_token = None
    for mode in ("packed", "documents"):
        auto, always, never, none = (
            pack(texts, tokenizer, "choose", 8, 4, mode=mode, bos=bos)
            for tokenizer, bos in (
                (byte_tokenizer(), "auto"),
                (byte_tokenizer(), "always"),
                (byte_tokenizer(), "never"),
                (bare, "auto"),
            )
        )
        assert auto.sha256 == always.sha256 != never.sha256 == none.sha256
        assert (
            "one BOS first" in auto.template
            and auto.template == always.template
            and "no BOS" in never.template
        )
    with pytest.raises(InputError, match="no BOS token .*'always'"):
        pack(texts, bare, "choose", 8, 4, bos="always")


def test_a_split_without_chats_needs_no_template_process(monkeypatch):
    monkeypatch.setattr("core.texts.chat._render", None)
    texts = texts_of(*in_split("choose", 9), Document("a\nb", "text", (("user", "a"), ("assistant", "b"))))
    assert split_of(texts.documents[-1]) != "choose"
    assert pack(texts, chat_tokenizer(), "choose", 8, 9, mode="documents", template="chat").available == 9


def test_a_tokenizer_without_a_chat_template_says_so():
    with pytest.raises(InputError, match="no chat template"):
        pack(texts_of(*chats(3)), byte_tokenizer(), "choose", 60, 3, template="chat")


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (
            "{% for m in messages %}{{ m['content'] | upper }}{% endfor %}",
            "rewrites or leaves out words of the chat that begins 'be kind",
        ),
        (
            "{{ raise_exception('roles must\nalternate') }}",
            "fails on the chat that begins 'be kind.*roles must",
        ),
        (
            "{% for m in messages %}{{ m['role'] }}{% endfor %}",
            "leaves out words of the chat that begins 'be kind",
        ),
        ("{% for %}", "fails"),
    ],
)
def test_a_chat_template_that_cannot_be_used_is_one_sentence(template, says):
    with pytest.raises(InputError, match=says):
        pack(texts_of(*chats(3)), chat_tokenizer(template), "choose", 60, 3, template="chat")


def test_a_template_may_leave_turns_out_and_repeat_them():
    tokenizer = chat_tokenizer(
        "{% for m in messages if m['role'] != 'system' %}{{ m['role'][0] }}:{{ m['content'] }};{% endfor "
        "%}{{ messages[-1]['content'] }}"
    )
    documents = chats(2)
    drawn = pack(texts_of(*documents), tokenizer, "choose", 90, 2, mode="documents", template="chat")
    for k, index in enumerate(drawn.index):
        assert read_back(tokenizer, drawn, k)[1] == documents[index].turns[2][1] + "aa"


# bad files: many more in tests/faults


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
        ("a.tsv", b"text\na", "ends in .tsv; .txt, .jsonl, .csv or .parquet can be read"),
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


@pytest.mark.parametrize(
    "path", ["none.txt", "a\0b.txt", "x" * 5000 + ".txt", "/dev/zero", ".", "~nobody/a.txt"]
)
def test_paths_that_are_no_file_are_one_sentence(path):
    with pytest.raises(InputError, match="No text file") as caught:
        read_texts(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
