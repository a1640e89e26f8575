"""docs/healing.md says what docs/healing.json holds; its script says what it was given."""

import json

import numpy as np
import pytest

from pages.heal_parts import asked
from tests.heal_runs import won_back
from tests.healing_page import FOUND, PAGE, sections, written


def test_the_page_holds_what_was_measured():
    page = PAGE.read_text(encoding="utf-8")
    assert written(page, json.loads(FOUND.read_text())) == page


def test_the_heal_page_tells_what_was_measured():
    runs = json.loads(FOUND.read_text())["smollm2"]
    kinds = {asked.TEXTS: "wikitext5", asked.OWN_TEXTS: "own5", asked.ANSWERS: "answers5"}
    tasks = json.loads(FOUND.read_text())["tasks"]
    choices = {n: sum(tasks[n][t].count("1") for t in ("arc_easy", "piqa")) for n in kinds.values()}
    assert max(choices, key=choices.get) == "answers5"
    assert asked.WON == {kind: round(100 * runs[name]["won"]) for kind, name in kinds.items()}


def test_what_came_back_is_a_ratio_of_means_with_a_paired_interval():
    rng = np.random.default_rng(0)
    original = rng.normal(3, 1, 400)
    lost = rng.normal(0.5, 0.1, 400)
    pruned = original + lost
    share, about = won_back(original, pruned, original + 0.25 * lost)
    assert share == pytest.approx(0.75) and about == pytest.approx(0, abs=1e-12)
    noisy = pruned - 0.75 * lost + rng.normal(0, 0.2, 400)
    share, about = won_back(original, pruned, noisy)
    assert about == pytest.approx(1.96 * 0.2 / 20 / 0.5, rel=0.15) and abs(share - 0.75) < 2 * about


def test_a_section_is_written_anew_and_others_stay():
    right = {"original": {"piqa": "1110"}, "pruned": {"piqa": "0100"}}
    page = written(
        "# Page\n\n## Three tasks\n\nold\n\n### Own\n\nkept\n\n## Last\n\nstays\n", {"tasks": right}
    )
    assert "old" not in page and "## Three tasks\n\nThe first 4 items" in page
    assert "| original | 75.0 (+50.0 ± 56.6) |" in page and "| pruned | 25.0 |" in page
    assert page.endswith("### Own\n\nkept\n\n## Last\n\nstays\n")
    assert written(page, {"tasks": right}) == page
    assert list(sections({"tasks": right})) == ["Three tasks"]
