"""Finer cuts on a bed's model: every choice keeps its target, and the page says what the file holds."""

import json
from dataclasses import replace

import numpy as np
import pytest

from core.choose import bed_page, bed_units, bed_units_page
from core.choose.bed_parts import Parts, read_share
from core.choose.bed_units import ATTENTION, FILE, UNITS, WHOLE, Asked, best_choices, state_of, targets_of
from core.choose.bed_units_page import Found
from core.errors import InputError
from core.ising.units import BRANCH
from core.measure.evaluation import sequence_losses
from core.measure.task_walk import item_values
from core.model.load import load_model
from core.store.runs import load_run
from core.texts import pack, read_texts
from tests.choose.bed_cases import measured_run, write_tasks
from tests.choose.test_bed import DOCS

TIMES = {
    "machine": "a clock",
    "contexts": {
        "64": {
            "milliseconds": 10.0,
            "kinds": {"attention": {"milliseconds": 1.0}, "FFN": {"milliseconds": 0.5}},
        }
    },
}
SMALL = dict(LENGTH=24, SKIPPED=4, CHOOSING=2, JUDGED=4, BUDGET=6.0, SEEDS=(0, 1), RANDOM=8, ITEMS=4)


@pytest.fixture(scope="module")
def studied(tiny, text_file, tmp_path_factory):
    """(what was found, the run, the model, what was asked), at sizes of a tiny model; half of it as by a
    process of its own.
    """
    folder = tmp_path_factory.mktemp("bed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLOCKSCAPE_HOME", str(folder / "home"))
        for name, size in SMALL.items():
            patch.setattr(bed_units, name, size)
        loaded = load_model(str(tiny["llama"]))
        measured_run(loaded, text_file, folder / "run")
        (folder / "times.json").write_text(json.dumps(TIMES), encoding="utf-8")
        rows = bed_units.protocol_of(str(write_tasks(folder / "tasks")))
        asked = Asked(loaded, text_file, text_file, folder, Parts(folder / "parts"), rows)
        assert not bed_units.measure(replace(asked, parts=Parts(folder / "parts", *read_share("2/2"))))
        assert bed_units.measure(asked)
        bed_units.collect(asked.parts, folder)
        found = json.loads((folder / FILE).read_text(encoding="utf-8"))
        yield found, load_run(folder / "run"), loaded, asked


def test_every_choice_keeps_its_target_and_is_judged_on_unseen_sequences(studied, text_file):
    found, run, loaded, asked = studied
    seen = run.seen(BRANCH)
    parts, targets = seen.meta["model"]["blocks"], {t.name: t for t in targets_of(seen, TIMES)}
    assert {c["target"] for c in found["choices"]} == set(targets) and "time at 64 tokens 75 %" in targets
    unseen = pack(read_texts(text_file), loaded.tokenizer, "report", 24, 4).ids
    for choice in found["choices"]:
        state, target = state_of(choice["removed"], seen.units), targets[choice["target"]]
        assert target.cost[list(state)].sum() >= target.least
        if choice["space"] == WHOLE:
            whole = run.units.state(seen.units.stored(state))
            gap = sequence_losses(loaded, unseen, whole) - sequence_losses(loaded, unseen)
            assert np.abs(np.array(choice["increase"]) - gap).max() < 1e-4
        elif choice["space"] == ATTENTION:
            assert all(parts[u]["kind"] == "attention" for u in state)
            assert target.cost[list(state[1:])].sum() < target.least  # no more than are needed
    learned = [c for c in found["choices"] if c["method"].startswith("learned")]
    assert {c["space"] for c in learned} == {WHOLE, UNITS, ATTENTION}
    assert all(0 < c["forwards"] <= 6 for c in learned)
    assert {len(states) for states in found["random"].values()} <= set(range(1, 9))


def test_targets_that_only_some_cuts_reach_are_asked_of_those(studied):
    seen = studied[1].seen(BRANCH)
    spaces = {t.name: set(t.spaces) for t in targets_of(seen, TIMES)}
    kv = [own for name, own in spaces.items() if name.startswith("kv")]
    assert kv and all(own == {WHOLE, ATTENTION} for own in kv)  # an FFN has no keys and values
    assert not [t for t in targets_of(seen) if t.name.startswith("time")]
    dear = {"attention": {"milliseconds": 0.1}, "FFN": {"milliseconds": 2.0}}
    times = {"contexts": {"64": {"milliseconds": 20.0, "kinds": dear}}}
    (most,) = [t for t in targets_of(seen, times) if t.name == "time at 64 tokens 75 %"]
    assert set(most.spaces) == {WHOLE, UNITS}  # all attentions together are not enough


def test_the_best_is_chosen_without_a_look_at_what_judges():
    choice = {"target": "t", "space": WHOLE}
    worse, better = ({**choice, "chosen on": a, "increase": [b]} for a, b in ((0.1, 0.9), (0.2, 0.3)))
    assert best_choices([better, worse]) == [worse]


def test_right_items_are_those_of_the_tasks(studied):
    found, run, loaded, asked = studied
    assert set(found["tasks"]) == {"arc_easy", "arc_challenge", "piqa", "winogrande", "openbookqa"}
    view = loaded.seen(BRANCH)
    name, own = next((k, v) for k, v in found["tasks"]["piqa"]["right"].items() if k)
    one = replace(asked.tasks, tasks=tuple(t for t in asked.tasks.tasks if t.startswith("piqa")))
    values = item_values(view, one, [view.units.parse(name)], 4)["piqa"][0]
    assert own == "".join(str(int(v)) for v in values)


def test_the_page_says_what_the_file_holds(studied):
    content, run, _, _ = studied
    found = Found(content, run, TIMES)
    lines = bed_units_page.section(found)
    told = "\n".join(lines)
    best = min(content["choices"], key=lambda c: np.mean(c["increase"]))
    assert f"{best['space']}, {best['method']}" in told and f"| {np.mean(best['increase']):+.2f} (" in told
    assert all(f"**{target}**" in told for target in {c["target"] for c in content["choices"]})
    assert sum(line.startswith(("| h0 |", "| singles |", "| secant |")) for line in lines) == 3
    assert "Still to be measured" not in told
    half = Found({**content, "tasks": {}}, run, TIMES)
    (line,) = [line for line in bed_units_page.overview({"a": found, "b": half}) if "not all" in line]
    assert line == "- b: not all is measured yet: see [its page](study-b.md)."
    told = "\n".join(bed_units_page.section(Found({**content, "random": {}, "tasks": {}}, run, TIMES)))
    assert told.endswith("Still to be measured: random states, tasks.") and "Who orders" not in told
    chosen = found.best["time at 64 tokens 75 %"]
    gap = np.array(chosen[UNITS]["increase"]) - np.array(chosen[WHOLE]["increase"])
    half = 1.96 * gap.std(ddof=1) / 2
    row = next(line for line in lines if line.startswith("| time at 64 tokens 75 % |"))
    assert f"| {gap.mean():+.3f} ± {half:.3f} |" in row
    assert f"| {found.right(chosen[WHOLE]['removed']).mean():.3f} |" in row
    (told,) = [line for line in lines if line.startswith("- Units ")]
    words = "lose less" if gap.mean() < -half else "lose more" if gap.mean() > half else "cannot be told"
    assert f"time at 64 tokens 75 % ({gap.mean():+.2f})" in told[told.index(words) :].partition(";")[0]
    every = bed_units_page.overview({"tiny": found, "other": found})
    assert sum("time at 64 tokens 75 % |" in line for line in every) == 2
    assert f"- other: {told[2].lower()}{told[3:]}" in every


def test_the_page_says_where_tasks_tell_and_what_removes_too_much(studied):
    content, run, _, _ = studied
    units = run.seen(BRANCH).units
    every, rest = units.listed(range(len(units) - 1)), units.listed((0,))
    choices = [
        {"target": "t", "about": "", "space": WHOLE, "method": "singles", "removed": rest},
        {"target": "t", "about": "", "space": UNITS, "method": "h0", "removed": every},
    ]
    choices = [{**c, "chosen on": 0.0, "increase": [0.1, 0.2]} for c in choices]
    names = ["", *(units.write(state_of(c["removed"], units)) for c in choices)]
    right = dict(zip(names, ("1111", "1111", "0000")))
    tasks = {"piqa": {"task": "piqa", "metric": "acc,none", "right": right}}
    lines = bed_units_page.section(Found({**content, "choices": choices, "tasks": tasks}, run))
    assert (
        "- On 4 items of tasks 1 of 1 differences to whole blocks is beyond the 95 % interval: units at t "
        "(-1.000)." in lines
    )
    assert any(f"({len(every)} of {len(units)} units at t)" in line for line in lines)
    assert "Still to be measured: " in lines[-1] and ", attention only at weights of 1 blocks" in lines[-1]
    right[names[2]] = "1110"
    lines = bed_units_page.section(Found({**content, "choices": choices, "tasks": tasks}, run))
    assert any("none of 1 differences to whole blocks are beyond" in line for line in lines)


def test_the_overview_in_docs_is_computed_from_the_beds():
    models = bed_page.finer_cuts(DOCS)
    assert models
    written = (DOCS / "study-units.md").read_text(encoding="utf-8")
    assert "\n".join(bed_units_page.overview(models)) + "\n" == written


def test_a_share_is_a_part_of_the_work(tmp_path):
    made: list[str] = []
    names = {name: lambda name=name: made.append(name) for name in "abcde"}
    assert not Parts(tmp_path, *read_share("1/2")).make(names) and made == ["a", "c", "e"]
    assert Parts(tmp_path, *read_share("2/2")).make(names) and made == ["a", "c", "e", "b", "d"]
    assert Parts(tmp_path).make(names) and len(made) == 5
    for text in ("0/2", "3/2", "half"):
        with pytest.raises(InputError, match="is no share"):
            read_share(text)
