"""Sources: named in several ways, written and read back, refused in one sentence."""

import json
from pathlib import Path

import pytest

from core.errors import InputError
from core.texts import TextSource, parse_source, read_texts
from tests.conftest import TEXT


def test_every_way_to_name_one_file_gives_the_same_texts(tmp_path):
    (tmp_path / "a.txt").write_text(TEXT)
    path = str(tmp_path / "a.txt")
    ways = [path, Path(path), TextSource(path), [TextSource(path)], [path], {"path": path}]
    assert len({read_texts(way).sha256 for way in ways}) == 1
    assert (
        read_texts("bundled").sha256 == read_texts([TextSource("bundled")]).sha256 == read_texts(None).sha256
    )


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


@pytest.mark.parametrize(
    "path", ["none.txt", "a\0b.txt", "x" * 5000 + ".txt", "/dev/zero", ".", "~nobody/a.txt"]
)
def test_paths_that_are_no_file_are_one_sentence(path):
    with pytest.raises(InputError, match="No text file") as caught:
        read_texts(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
