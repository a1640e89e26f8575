"""Texts that moved: a run knows them by their content, and the newest place counts."""

import shutil
from pathlib import Path

import pytest

from core import jobs
from core.calibration.calibrate import calibrate
from core.calibration.corpus import draw, read_sources
from core.errors import InputError
from core.job_kinds import calibrate as calibrate_job
from core.jobs.progress import Progress
from core.model.load import load_model
from core.store.folders import home
from core.store.runs import keep_run, load_run, stored_run
from core.texts.places import missing
from tests.texts.made import jsonl

ROWS = [{"story": f"the story of number {i} and its end", "id": i} for i in range(400)]
SIZES = {"samples": 6, "length": 24, "seed": 0, "batch": 6, "sampled": False, "singles": 0}


@pytest.fixture(scope="module")
def loaded(tiny):
    return load_model(str(tiny["llama"]))


@pytest.fixture
def files(tmp_path, text_file):
    """A .txt and rows, which are then moved."""
    (tmp_path / "old").mkdir()
    shutil.copy(text_file, tmp_path / "old" / "play.txt")
    jsonl(tmp_path / "old" / "rows.jsonl", *ROWS)
    return tmp_path / "old" / "play.txt", tmp_path / "old" / "rows.jsonl"


def kept(loaded, *texts: str, **more):
    """A run of these texts in the store."""
    request = jobs.request_of(loaded.source, list(texts), **SIZES, **more)
    drawn = draw(loaded, read_sources(request["texts"]), "calibrate", 24, 6)
    run = calibrate(loaded, drawn, request=request)
    keep_run(run)
    return stored_run(run.key)


def moved(file: Path) -> Path:
    (new := file.parents[1] / "new").mkdir(exist_ok=True)
    return file.rename(new / file.name)


def test_a_run_is_pointed_at_its_texts_again(loaded, files):
    play, rows = files
    run = kept(loaded, str(play), f"{rows}::weight=2", "own")
    assert missing(run) == []
    places = [moved(file) for file in files]
    assert missing(run) == [str(play), str(rows)]
    folder = home() / "runs" / run.key
    request = jobs.request_on(run, folder, list(map(str, places)), remove=2)
    assert request["texts"] == [str(places[0]), f"{places[1]}::weight=2", "own"]  # options stay
    found = load_run(folder)
    assert found.key == run.key and missing(found) == []
    assert found.meta["request"]["texts"] == request["texts"] and found.meta["texts"]["source"].startswith(
        f"{places[0]} + {places[1]}"
    )
    assert [s.get("column") for s in found.meta["texts"]["sources"]] == [None, "story", None]
    assert found.meta["files"] == run.meta["files"] and found.meta["times"] == run.meta["times"]
    assert jobs.request_on(found, folder, remove=2)["texts"] == request["texts"]  # remembered


def test_another_content_is_refused_by_name(loaded, files, tmp_path):
    play, _ = files
    run, folder = kept(loaded, str(play)), None
    folder = home() / "runs" / run.key
    before = (folder / "run.json").read_bytes()
    other = tmp_path / "other.txt"
    other.write_text(play.read_text().replace("Document 9:", "Document nine:"))
    play.unlink()
    says = (
        rf"texts of the run {run.key[:8]} have the content {run.meta['texts']['hash'][:8]} \(they were at "
        rf"'{play}'\), and what is given has [0-9a-f]{{8}}; give the same texts"
    )
    with pytest.raises(InputError, match=says):
        jobs.point_at(run, folder, [str(other)])
    for given in ([], [str(other)] * 2):
        with pytest.raises(InputError, match=f"has 1 text file .*{len(given)} (is|are) given"):
            jobs.point_at(run, folder, given)
    with pytest.raises(InputError, match="No text file"):
        jobs.point_at(run, folder, [str(tmp_path / "nowhere.txt")])
    assert (folder / "run.json").read_bytes() == before


def test_a_run_folder_and_the_store_remember_both(loaded, files, tmp_path):
    run = kept(loaded, str(files[0]))
    shutil.copytree(home() / "runs" / run.key, tmp_path / "out")
    new = moved(files[0])
    jobs.point_at(load_run(tmp_path / "out"), tmp_path / "out", [str(new)])
    for folder in (tmp_path / "out", home() / "runs" / run.key):
        assert load_run(folder).meta["request"]["texts"] == str(new)
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"run.json", "A.npz", "branches.npz"}
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".out")]


def test_calibrated_again_from_the_new_place_the_kept_run_names_it(loaded, files, tmp_path):
    run = kept(loaded, str(files[0]))
    new = moved(files[0])
    (tmp_path / "job").mkdir()
    progress = Progress(tmp_path / "job")
    done = calibrate_job.run(jobs.request_of(loaded.source, str(new), **SIZES), progress)
    assert done["key"] == run.key
    found = stored_run(run.key)
    assert found.meta["request"]["texts"] == str(new) == found.meta["texts"]["source"]
    assert found.meta["times"] == run.meta["times"] and missing(found) == []


def test_what_has_no_file_has_nothing_to_move(loaded):
    run = kept(loaded, "own")
    assert missing(run) == []
    with pytest.raises(InputError, match=r"has 0 text files \(none\), and 1 is given"):
        jobs.point_at(run, home() / "runs" / run.key, ["a.txt"])
