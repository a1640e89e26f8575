"""The chapters of a model's study: what is measured is kept, and the page says nothing that is not in it."""

import json

import numpy as np
import pytest

import core.choose.study
from core.choose import bed_chapters, bed_page, bed_page_domains, bed_page_rows, bed_page_states
from core.ising.energies import energies
from core.ising.states import indicator
from core.measure.evaluation import sequence_losses
from core.spectrum.lowest import lowest_states
from core.store.runs import save_run
from core.texts import pack, read_texts
from tests.choose.bed_cases import measured_bed, write_tasks

SMALL = {
    **dict(LENGTH=24, ROWS=8, SINGLES=4, UNSEEN=4, OTHERS=4, JUDGED=4, LOWEST=6),
    **dict(LOWEST_ITEMS=6, ITEMS=4, TALE_ITEMS=3, TALE_JUDGED=3, TALE_MOST=2, LOWEST_TASKS=("arc_easy",)),
}


def random_couplings(n: int, seed: int) -> np.ndarray:
    A = np.random.default_rng(seed).normal(size=(2 * n, n))
    return A.T @ A / (2 * n)


def test_searchers_give_what_they_say():
    H = random_couplings(9, 3)
    assert bed_chapters.exact_state(H, 3) == lowest_states(H, 3, 1).removed[0]
    assert bed_chapters.sorted_state(H, 3) == tuple(sorted(np.argsort(np.diag(H))[:3].tolist()))
    state: tuple[int, ...] = ()
    for _ in range(3):
        tried = [tuple(sorted((*state, b))) for b in range(9) if b not in state]
        state = tried[int(energies(H, indicator(tried, 9)).argmin())]
    assert bed_chapters.greedy_state(H, 3) == state
    own = np.diag(np.arange(9.0))
    assert {search(own, 2) for search in bed_chapters.SEARCHERS.values()} == {(0, 1)}


def test_a_sample_is_a_part_of_a_calibration():
    whole = bed_chapters.Calibrated(np.arange(40.0).reshape(10, 4), np.arange(24.0).reshape(4, 6) + 1)
    part = whole.sample(1)
    assert part.A.shape == (5, 4) and part.singles.shape == (4, 3)
    assert {tuple(r) for r in part.A} < {tuple(r) for r in whole.A}
    assert (whole.sample(1).A == part.A).all() and (whole.sample(2).A != part.A).any()
    hybrid = whole.estimates()["hybrid"]
    assert np.allclose(np.diag(hybrid), whole.singles.mean(axis=1))


def variance_part(effect: str) -> dict:
    """A variance table in which one factor decides alone."""
    rows, states, increase = [], [], []
    for d, domain in enumerate(("texts", "own")):
        for e, estimator in enumerate(("h0", "hybrid")):
            for s, searcher in enumerate(("exact", "greedy", "sorted")):
                for seed in range(3):
                    state = [len(states)]
                    level = {"calibration data": d, "estimator": e, "searcher": s, "sample": seed}[effect]
                    rows.append([domain, estimator, searcher, seed, state])
                    states.append(state)
                    increase.append([np.exp(level)] * 2)
    return {"m": 1, "rows": rows, "states": states, "increase": increase, "original": 1.0}


@pytest.mark.parametrize("effect", ["calibration data", "estimator", "searcher", "sample"])
def test_the_variance_table_finds_the_factor_that_decides(effect):
    shares = bed_page_domains.variance_shares(variance_part(effect))
    assert shares[effect][2] == pytest.approx(1) and sum(s[2] for s in shares.values()) == pytest.approx(1)
    levels = {"calibration data": 2, "estimator": 2}.get(effect, 3)
    assert shares[effect][:2] == (levels, pytest.approx(np.exp(levels - 1) - 1))


def test_the_best_of_a_list_is_judged_without_its_luck():
    rng = np.random.default_rng(0)
    states = [[k] for k in range(21)]
    luck = 1 + rng.normal(size=(21, 16))
    part = {"lists": {"h0": states}, "states": states, "increase": luck.tolist()}
    found = bed_page_states.best_of(part, "h0")
    assert found.mean.min() - found.mean[0] < -0.2 and found.gain.shape == (16,)
    true = luck * 0.01
    true[7] -= 1
    found = bed_page_states.best_of({**part, "increase": true.tolist()}, "h0")
    assert found.gain.mean() == pytest.approx(-1, abs=0.05) and found.better >= 1


def test_transfers_compare_with_what_was_calibrated_there():
    whole = {"depths": [1], "grounds": {"a": {"h0": [[0]]}, "b": {"h0": [[1]]}}}
    parts = {f"domains-{d}": {"states": [[0], [1]], "increase": v} for d, v in
             (("a", [[1.0], [3.0]]), ("b", [[2.0], [2.5]]))}  # fmt: skip
    assert bed_page_domains.transfers({"domains": whole, **parts})["h0", 1].tolist() == [2.0, -0.5]


@pytest.fixture(scope="module")
def study(tiny, text_file, tmp_path_factory):
    """(model, run, bed, what the chapters were asked, what was collected): all chapters of a tiny model."""
    loaded, run, bed, _ = measured_bed(str(tiny["llama"]), text_file)
    work = tmp_path_factory.mktemp("study")
    asked = bed_chapters.Asked(
        model=loaded.source,
        texts=str(text_file),
        judge=str(text_file),
        domains=(f"{text_file}::domain=Other",),
        data=str(write_tasks(work / "tasks")),
        work=work / "parts",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLOCKSCAPE_HOME", str(work / "home"))
        for name, value in SMALL.items():
            patch.setattr(bed_chapters, name, value)
        bed_chapters.measure(asked, loaded, run, bed, bed_chapters.CHAPTERS)
    return loaded, run, bed, asked, bed_chapters.collect(work / "parts", work / "chapters.json")


def test_losses_of_chapters_are_those_of_the_states(study, text_file):
    loaded, _, _, _, found = study
    texts = pack(read_texts(text_file), loaded.tokenizer, "report", 24, 4).ids
    for part in (found["domains-Other"], found["lowest"], found["variance"], found["tale"]["losses"]):
        state, increase = part["states"][-1], part["increase"][-1]
        expected = sequence_losses(loaded, texts, state) - sequence_losses(loaded, texts, ())
        assert np.abs(np.array(increase) - expected).max() < 1e-4
    assert not [name for name in found if name.startswith("calibration")]


def test_nothing_is_measured_twice(study, monkeypatch):
    loaded, run, bed, asked, found = study
    for name in ("item_values", "open_forwards", "calibrate"):
        monkeypatch.setattr(bed_chapters, name, lambda *a, **k: pytest.fail("measured again"))
    for name, value in SMALL.items():
        monkeypatch.setattr(bed_chapters, name, value)
    bed_chapters.measure(asked, loaded, run, bed, bed_chapters.CHAPTERS)
    target = asked.work.parent / "chapters.json"
    assert bed_chapters.collect(asked.work, target) == json.loads(target.read_text()) == found


def test_the_page_has_every_chapter_and_its_figures(study):
    _, run, bed, _, found = study
    page = bed_page.page("tiny", run, bed, found)
    for heading in ("paper's claims", "How many rows", "Calibrated on one domain", "what matters?",
                    "lowest states at M = 3", "Tasks", "TALE"):  # fmt: skip
        assert any(line.startswith("## ") and heading in line for line in page.splitlines()), heading
    score = np.mean([v[0] for k, v in found.items() if k.startswith("tasks-") for v in [v["values"]]])
    assert f"{score:.3f} |" in next(line for line in page.splitlines() if line.startswith("|  | original"))
    ground = found["domains"]["grounds"]["Other"]["h0"]
    losses = bed_page_domains.increases(found["domains-own"])
    cell = " / ".join(f"{losses[tuple(s)].mean():+.2f}" for s in ground)
    assert cell in next(line for line in page.splitlines() if line.startswith("| Other | h0 |"))
    without = bed_page.page("tiny", run, bed, {})
    assert "TALE" not in without and "Calibrated on one domain" not in without


def test_noise_and_fewer_rows_change_an_energy_as_far_as_they_should(study):
    _, run, bed, _, _ = study
    found = bed_page_rows.by_rows(run, bed, 3)
    whole = found["h0", len(run.rows.A)]
    assert whole[:, 0].tolist() == [1.0] and whole[:, 1].tolist() == [3]
    H = random_couplings(run.blocks, 0)
    noisy = bed_page_rows.by_noise(H, bed, 3)
    assert noisy[0.01][:, 0].mean() > 0.95 > noisy[0.5][:, 0].mean()


def test_the_page_is_written_again_without_the_model(study, tmp_path, monkeypatch):
    _, run, bed, _, found = study
    monkeypatch.setattr(core.choose.study, "load_model", lambda name: pytest.fail("loaded"))
    folder = tmp_path / "docs" / "beds" / "tiny"
    save_run(run, folder / "run")
    bed.write(folder / "bed.npz")
    (folder / "chapters.json").write_text(json.dumps(found))
    monkeypatch.setenv("BLOCKSCAPE_HOME", "")  # the command sets it
    asked = ["--model", "tiny", "--work", str(tmp_path / "work"), "--docs", str(tmp_path / "docs")]
    assert core.choose.study.main([*asked, "--write-only"]) == 0
    written = (tmp_path / "docs" / "study-tiny.md").read_text(encoding="utf-8")
    assert written == bed_page.page("tiny", *bed_page.read(folder)) and "lowest states at M = 3" in written
    with pytest.raises(SystemExit):  # tasks need their rows
        core.choose.study.main([*asked, "--texts", "A", "--judge", "B"])
