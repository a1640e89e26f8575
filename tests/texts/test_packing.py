"""Packing: hashes that stay, sequences by hand, weights, one document a sequence."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from core.errors import InputError
from core.store.folders import DEMO
from core.texts import Document, TextSource, available, pack, read_texts, split_of
from core.texts.packing import available_by_domain
from tests.conftest import TEXT, byte_tokenizer
from tests.texts.made import in_split, jsonl, mixed, texts_of


def test_hashes_of_texts_and_sequences_are_what_they_were(tmp_path):
    """Shipped runs hold them; measured before there were sources."""
    bundled = read_texts()
    assert (
        bundled.sha256 == "54630c9efc81fd15f24480fc169dfa6c2fd0989ce82f6a9ae04b2bc425d14cb4"
        and bundled.source == "bundled"
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
    rows = read_texts(jsonl(tmp_path / "rows.jsonl", *({"text": text} for text in TEXT.split("\n\n")[:400])))
    assert rows.sha256 == "ccd63896690d7a4d35d0fc7995c4606d54506ba7be9a4c29d732f70e9460c03c"
    drawn = pack(rows, byte_tokenizer(), "choose", 32, 20, seed=5)
    assert drawn.sha256 == "86f0b1a79f9c1e9fae9cb26ec8ab529c145cd5f254e3ac36e77f3d6825c45c95"
    assert drawn.index.tolist()[:9] == [23, 122, 127, 204, 171, 96, 235, 44, 199]
    assert drawn.mask is None and drawn.scored is None and drawn.skipped == 0
    bare = byte_tokenizer()
    bare.bos_token = bare.eos_token = None
    drawn = pack(rows, bare, "report", 32, 20, seed=1)
    assert drawn.sha256 == "8144d63a13b4804076affdbfbec4ab156c74e55a29ae099d88d4347f8c4b0fe2"
    assert drawn.template == "packed within a domain; no BOS; joined by a blank line"
    assert available(rows, byte_tokenizer(), 32) == {"calibrate": 574, "choose": 277, "report": 303}


def test_reading_and_packing_need_no_torch():
    code = (
        "import core.texts, sys; core.texts.read_texts(); sys.exit(bool({'torch', "
        "'streamlit', 'datasets'} & set(sys.modules)))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).resolve().parents[2]).returncode == 0
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
    with pytest.raises(
        InputError,
        match="gives 13 sequences of 64 tokens and 500 were asked for: found were running text in 1 stretch, "
        "of which calibrate has 868 tokens",
    ):
        pack(read_texts(tmp_path / "a.txt"), byte_tokenizer(), "calibrate", 64, 500)
    jsonl(tmp_path / "b.jsonl", *({"text": f"short text number {i}"} for i in range(40)))
    with pytest.raises(InputError, match="found were 40 documents, of which choose has 2[0-9]{2} tokens"):
        pack(read_texts(tmp_path / "b.jsonl"), byte_tokenizer(), "choose", 64, 500)


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
