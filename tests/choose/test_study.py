"""The study's figures and its page, on made-up results."""

import json

import numpy as np
import pytest

from core.choose import study
from core.choose.study_page import at, page
from core.choose.study_parts import agreement


def curve(*points):
    """[[forwards, loss, removed, unseen increase, its error]]"""
    return [[f, 1 + v, [0], v, 0.001] for f, v in points]


FOUND = {
    "greedy": [curve((20.0, 0.10))],
    "learned": [curve((4.0, 0.12), (6.0, 0.09)), curve((5.0, 0.10))],
    "evolutionary": [curve((10.0, 0.2), (22.0, 0.096))],
    "random": [curve((3.0, 0.9))],
}


def test_agreement_by_hand():
    rng = np.random.default_rng(0)
    x = rng.random((200, 6)) < 0.5
    loss = rng.normal(size=200)
    assert agreement(loss, loss, x) == [pytest.approx(1), pytest.approx(1), 1]
    assert agreement(-loss, loss, x) == [pytest.approx(-1), pytest.approx(-1), 0]
    bent = np.where(x[:, 0], -loss, loss)
    assert agreement(bent, loss, x)[0] < 0.9 and agreement(bent, loss, x)[1] == pytest.approx(1)


def test_a_curve_holds_its_last_choice():
    points = FOUND["learned"][0]
    assert at(points, 3.9) is None and at(points, 4.0) == points[0] and at(points, 1e9) == points[1]


def test_the_page_says_what_holds_and_what_does_not():
    results = {
        "demo": {"blocks": 24, "searches": {"6": FOUND}, "ranking": {}, "best": {}, "original": 1.0},
        "study-a": {
            "blocks": 16,
            "searches": {},
            "best": {
                "5": {
                    "states": 4368,
                    "best": [1],
                    "loss": 1.0,
                    "limit": 0.5,
                    "greedy": {"forwards": 20.0, "rank": 3},
                    "learned": [[[7.0, 2], [8.0, 0]], [[6.0, 4]]],
                }
            },
            "ranking": {
                "5": {
                    "states": 4368,
                    "all of them": True,
                    "paper H0": [0.5, 0.4, 0.1],
                    "H1": [0.5, 0.4, 0.1],
                    "hybrid (prior)": [0.7, 0.6, 0.2],
                    "learned, seed 0": [0.89, 0.8, 0.9],
                }
            },
            "original": 1.0,
        },
    }
    text = page(results)
    rows = {
        line.split("|")[3].strip(): line
        for line in text.split("## (c)")[0].splitlines()
        if line.startswith("| demo | 6")
    }
    assert "0.0950 (0.0950)" in rows["learned"] and "| - | - | 0.1000" in rows["greedy, 20.0 forwards"]
    assert "unseen: on or under (-0.0050)" in rows["greedy, 20.0 forwards"]
    assert "| 20.0, 3 | 10.0 | 8.0, (4) | 1 of 2 |" in text
    assert "6.0 (0.30), 5.0 (0.25) | 1/3 |" in text
    assert "0.89 / 0.80 / 0.90 | 0.90: not met" in text


def test_an_unfinished_study_still_has_a_page():
    empty = {"blocks": 24, "searches": {}, "ranking": {}, "best": {}, "original": 1.0}
    text = page({"demo": empty})
    assert "Not measured yet: (a)" in text and "(d) Greedy" in text and "|---" not in text


def test_a_part_is_made_once(tmp_path):
    made = []
    own = study.Subject("demo", tmp_path)
    for _ in range(2):
        assert own.part("x", lambda: made.append(1) or {"a": [1, 2]}) == {"a": [1, 2]}
    assert made == [1]


def test_what_an_earlier_study_of_the_same_models_found_stays(tmp_path, monkeypatch):
    found = {"blocks": 24, "ranking": {}, "best": {}, "searches": {"6": FOUND}, "original": 1.0}
    monkeypatch.setattr(study, "collect", lambda s: found)
    own = [study.Subject("demo", tmp_path)]
    study.write(own, tmp_path)
    found = {**found, "searches": {"8": FOUND}, "original": 1.0 + 1e-9}
    study.write(own, tmp_path)
    kept = json.loads((tmp_path / "study.json").read_text())["demo"]
    assert (
        sorted(kept["searches"]) == ["6", "8"]
        and (tmp_path / "study.md").read_text().count("| demo | 6 (N/4) | learned") == 1
    )
    found = {**found, "searches": {}, "original": 1.1}  # another model
    study.write(own, tmp_path)
    written = json.loads((tmp_path / "study.json").read_text())
    assert written["demo"] == found and written["demo (an earlier training)"] == kept
