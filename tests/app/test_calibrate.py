"""The Model & calibration page and the list of jobs, without a browser, with real workers."""

import time
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from core import jobs
from core.store import folders
from core.store.runs import load_run

DEFAULTS = {
    "texts": ["The demo's world"],
    "files": [],
    "paste": "",
    "samples": 256,
    "length": 128,
    "sampled": True,
    "singles": 64,
    "mode": "packed",
    "template": "none",
    "bos": "auto",
    "batch": 16,
    "checkpointed": False,
    "seed": 0,
    "remote_code": False,
}
APP = str(Path(__file__).resolve().parents[2] / "app.py")


def calibrate_page(model=None, **fields) -> AppTest:
    app = AppTest.from_file(APP, default_timeout=300)
    for name, value in {**DEFAULTS, "model": str(model or "demo"), **fields}.items():
        app.session_state[f"cal_{name}"] = value
    app.run().switch_page("pages/calibrate.py").run()
    assert not app.exception, app.exception
    return app


def wait(kind: str, limit=300) -> jobs.Job:
    deadline = time.monotonic() + limit
    while (job := next(j for j in jobs.list_jobs() if j.kind == kind)).active:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return job


def shown(app: AppTest) -> str:
    return " ".join([*(h.proto.body for h in app.get("html")), *(m.value for m in app.markdown)])


def test_from_a_model_folder_to_its_run_in_explore(tiny, text_file):
    app = calibrate_page(
        tiny["llama"], texts=["Files and data sets"], files=[str(text_file)], samples=40, length=24, singles=4
    )
    assert wait("describe").status == "done"
    app.run()
    assert "6 blocks (attention + FFN)" in shown(app) and "of memory" in shown(app) and not app.warning
    assert 'aria-label="6 blocks: attention + FFN"' in shown(app)
    assert app.get("code")[0].value.startswith("<s>Document 0: the quick b")  # as the model reads it
    assert any("running text as it stands" in c.value for c in app.caption)
    (start,) = [b for b in app.button if b.label == "Calibrate"]
    start.click().run()
    job = wait("calibrate")
    assert job.status == "done", (job.error, jobs.log_tail(job))
    app.run()
    assert "40 rows of 6 blocks" in app.success[0].value
    (explore,) = [b for b in app.button if b.label == "Open in Explore"]
    explore.click().run()
    app.switch_page("pages/explore.py").run()
    assert not app.exception and app.session_state.source == job.result["key"]
    assert load_run(folders.home() / "runs" / job.result["key"]).singles.sequences == 4
    # the same form again finds the finished job: nothing is computed
    again = calibrate_page(
        tiny["llama"], texts=["Files and data sets"], files=[str(text_file)], samples=40, length=24, singles=4
    )
    assert "40 rows" in again.success[0].value and len(jobs.list_jobs()) == 2


def test_the_command_line_and_the_page_make_one_job(tiny, text_file, tmp_path, capsys):
    from core.__main__ import main

    options = ["--texts", str(text_file), "--samples", "20", "--length", "24", "--sampled", "--singles", "4"]
    assert (
        main(["calibrate", "--model", str(tiny["gpt2"]), *options, "--out", str(tmp_path / "run"), "--json"])
        == 0
    )
    app = calibrate_page(
        tiny["gpt2"], texts=["Files and data sets"], files=[str(text_file)], samples=20, length=24, singles=4
    )
    wait("describe")
    app.run()
    assert "20 rows of 6 blocks" in app.success[0].value


def test_too_little_text_is_said_before_the_start(tiny, text_file):
    app = calibrate_page(
        tiny["llama"],
        texts=["Files and data sets"],
        files=[str(text_file)],
        samples=90_000,
        length=24,
        singles=0,
    )
    wait("describe")
    app.run()
    assert "90,000 samples are asked for" in app.warning[0].value.replace("\\", "")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"texts": ["Files and data sets"]}, "No file or data set yet"),
        ({"texts": ["Pasted"], "paste": " "}, "No text yet"),
        ({"texts": []}, "No texts yet"),
    ],
)
def test_missing_texts_are_asked_for(fields, says):
    app = calibrate_page(**fields, mode="documents", samples=77)
    assert says in app.info[0].value and (app.session_state.cal_mode, app.session_state.cal_samples) == (
        "documents",
        77,
    )
    assert app.run().session_state.cal_mode == "documents"


def test_a_model_that_is_none_is_one_sentence_on_the_page(tmp_path):
    app = calibrate_page(tmp_path / "nowhere")
    assert wait("describe").status == "failed"
    app.run()
    assert "No model folder" in app.error[0].value and [b.label for b in app.button] == ["Look again"]


def test_pasted_text_is_kept_and_calibrated_on(tiny):
    text = "\n\n".join(f"A pasted document number {i} about {i * 31 % 17} things." for i in range(200))
    app = calibrate_page(tiny["llama"], texts=["Pasted"], paste=text, samples=16, length=24, singles=0)
    job = wait("describe")
    assert job.status == "done" and Path(job.request["texts"]).parts[-3:-1] == (
        "texts",
        sha256(text.encode()).hexdigest(),
    )
    app.run()
    assert not app.error and "of memory" in shown(app)


def test_jobs_are_listed_with_their_logs(tiny, text_file):
    request = jobs.request_of(
        str(tiny["llama"]),
        str(text_file),
        samples=10**6,
        length=24,
        seed=0,
        batch=4,
        sampled=False,
        singles=0,
    )
    jobs.start("calibrate", request)
    wait("calibrate")
    app = AppTest.from_file(APP, default_timeout=300).run().switch_page("pages/jobs.py").run()
    assert not app.exception and "asked for" in app.error[0].value and "failed" in app.expander[0].label
    assert "Start again" in [b.label for b in app.button] and "The worker printed nothing." in [
        c.value for c in app.code
    ]


def test_no_job_yet():
    app = AppTest.from_file(APP, default_timeout=300).run().switch_page("pages/jobs.py").run()
    assert "No job yet" in app.info[0].value


def test_a_fresh_page_shows_the_calibration_at_work(tiny, text_file):
    request = jobs.request_of(
        str(tiny["llama"]),
        str(text_file),
        samples=300,
        length=24,
        seed=0,
        batch=16,
        sampled=False,
        singles=50,
    )
    jobs.start("calibrate", request)
    app = AppTest.from_file(APP, default_timeout=300).run().switch_page("pages/calibrate.py").run()
    state = app.session_state
    assert (state.cal_samples, state.cal_length, state.cal_singles, state.cal_files) == (
        300,
        24,
        50,
        [str(text_file)],
    )
    wait("describe")
    wait("calibrate")
    assert "300 rows" in app.run().success[0].value


def test_the_form_takes_over_all_that_the_command_line_can_ask_for(tiny, text_file):
    own = {"length": 24, "seed": 3, "batch": None, "sampled": False, "singles": 20, "checkpointed": True}
    asked = [f"{text_file}::domain=foxes,weight=2", "own::weight=1", "bundled"]
    jobs.start(
        "calibrate", jobs.request_of(str(tiny["llama"]), asked, form={"mode": "documents"}, samples=90, **own)
    )
    app = AppTest.from_file(APP, default_timeout=300).run().switch_page("pages/calibrate.py").run()
    state = app.session_state
    assert (state.cal_batch, state.cal_seed, state.cal_checkpointed, state.cal_mode) == (
        0,
        3,
        True,
        "documents",
    )
    assert state.cal_texts == [
        "Own samples",
        "The demo's world",
        "Files and data sets",
    ] and state.cal_files == [f"{text_file}::domain=foxes"]
    shares = {field.label: field.value for field in app.number_input if field.label.startswith("Share")}
    assert shares == {"Share of foxes": 2.0, "Share of own": 1.0, "Share of bundled": None}
    assert wait("calibrate").status == "done" and wait("describe").status == "done"
    assert "3 domains" not in shown(app.run()) and "foxes" in shown(app) and not app.exception


def test_texts_and_own_samples_are_two_domains_with_their_shares(tiny, text_file):
    fields = {
        "samples": 12,
        "length": 24,
        "singles": 4,
        "share own": 2.0,
        f"share {text_file}": 1.0,
        "files": [str(text_file)],
    }
    app = calibrate_page(tiny["llama"], texts=["Own samples", "Files and data sets"], **fields)
    assert wait("describe").status == "done"
    (start,) = [b for b in app.run().button if b.label == "Calibrate"]
    start.click().run()
    job = wait("calibrate")
    run = load_run(folders.home() / "runs" / job.result["key"])
    assert job.request["texts"] == [f"{text_file}::weight=1", "own::weight=2"]
    assert run.meta["texts"]["domains"] == [text_file.stem, "own"] and np.bincount(
        run.rows.domain
    ).tolist() == [4, 8]


def test_more_than_a_domain_has_is_said_before_the_start(tiny, text_file):
    fields = {
        "samples": 8_000,
        "length": 24,
        "singles": 0,
        "share own": 1.0,
        f"share {text_file}": 3.0,
        "files": [str(text_file)],
    }
    app = calibrate_page(tiny["llama"], texts=["Own samples", "Files and data sets"], **fields)
    wait("describe")
    (warning,) = app.run().warning
    assert "8,000 samples are asked for, 6,000 of them from text" in warning.value.replace("\\", "")


def test_what_is_asked_outlives_a_look_at_another_page(no_worker):
    app = AppTest.from_file(APP, default_timeout=300).run().switch_page("pages/calibrate.py").run()
    app.number_input(key="cal_samples").set_value(100).run()
    app.switch_page("pages/jobs.py").run()
    app.run()  # a job has ended meanwhile
    app.switch_page("pages/calibrate.py").run()
    samples = app.number_input(key="cal_samples")
    # the browser has forgotten it: it had shown, and then asked for, the least that can be
    assert samples.value == 100 and samples.proto.set_value and not app.exception
