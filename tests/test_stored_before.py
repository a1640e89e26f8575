"""What the flat core/ of before the rooms wrote opens as before: runs, landscapes, measurements, jobs, links,
an export.

tests/fixtures/before_rooms was made by commit f5f2a48 with its own command line: `calibrate --model demo
--samples 16 --length 32 --sampled --singles 8`, `learn --remove 4 --budget 30 --sequences 8`, `benchmark`,
`prune --blocks 1-22`, a solve job on an uploaded matrix. expected.json is what that code read back.
"""

import base64
import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from core import jobs
from core.compare.comparison import compare, measured_increases, measured_kl
from core.energy.sources import list_sources, open_source
from core.forms.record import is_export_of
from core.ising.units import whole
from core.job_kinds.solve import solve_request, solved
from core.landscape.landscape import landscape
from core.landscape.wording import exponent, proof
from core.spectrum.constraints import Constraints, read_constraints
from core.spectrum.lowest import lowest_states
from core.store.folders import find_run
from core.store.results import Results
from core.view.lens import landscape_data
from core.view.snippets import View, cli_line
from core.view.state_files import states_csv
from pages.compare_parts.table import as_csv, table

BEFORE = Path(__file__).parent / "fixtures" / "before_rooms"
EXPECTED = json.loads((BEFORE / "expected.json").read_text(encoding="utf-8"))
ARRAYS = {
    "states": "<u2",
    "energy": "<f8",
    "own": "<f8",
    "changed": "<u2",
    "pearson": "<f8",
    "minimum": "<u1",
    "matrix": "<f8",
    "frequency": "<f8",
}


@pytest.fixture(autouse=True)
def stored(own_home, tmp_path):
    """The store as the earlier code left it."""
    shutil.copytree(BEFORE / "home", tmp_path / "home")


def the_run():
    return open_source(find_run(EXPECTED["run"]["key"][:8]))


def hybrid_view():
    """(view, landscape) of the rules that expected.json was made with."""
    source = the_run()
    fields = {"keep": "0, 23", "groups": "0-11: 2; 12-23: 2", "max_run": "2"}
    rules = read_constraints(fields, source.units)
    H = source.couplings("hybrid")
    view = View(source=source, estimator="hybrid", removed=4, count=12, constraints=rules)
    return view, landscape(H, lowest_states(H, 4, 12, constraints=rules), rules)


def test_the_run_and_the_matrix_are_listed_under_their_keys():
    keys = set(list_sources())
    assert {EXPECTED["run"]["key"], EXPECTED["matrix"]["key"]} <= keys
    run = the_run()
    for name in ("key", "name", "blocks"):
        assert getattr(run, name) == EXPECTED["run"][name]
    assert list(run.units.kinds) == EXPECTED["run"]["kinds"]
    old = EXPECTED["run"]["estimators"]  # what is computed of the same data since then stands beside them
    assert [name for name in run.estimators if name in old] == old


def test_every_estimator_gives_the_same_couplings():
    run = the_run()
    assert set(EXPECTED["couplings"]) == {
        "h0",
        "h1",
        "hybrid",
        "h0g",
        *(n for n in run.estimators if n[:3] == "lea"),
    }
    for name, H in EXPECTED["couplings"].items():
        np.testing.assert_allclose(run.couplings(name), H, rtol=1e-9, atol=1e-15)
    mixed = run.couplings("h0", {"story": 2 / 3, "memory": 1 / 3})
    np.testing.assert_allclose(mixed, EXPECTED["mix"], rtol=1e-9, atol=1e-15)


def test_the_landscape_its_words_and_its_files_are_the_same():
    view, found = hybrid_view()
    blocks, parameters = view.source.run.meta["model"]["blocks"], view.source.run.meta["model"]["parameters"]
    now, before = landscape_data(found, "t", "nats", blocks, parameters), EXPECTED["landscape"]
    new = {"names", "block", "word", "sizes", "tree", "temperatures"}  # a lens of before had none of these
    assert set(now) - new == set(before)
    for name, value in before.items():
        if name in ARRAYS:
            then, today = (np.frombuffer(base64.b64decode(v), ARRAYS[name]) for v in (value, now[name]))
            np.testing.assert_allclose(today, then, rtol=1e-9, atol=1e-12)
        elif name == "edges":
            np.testing.assert_allclose(now[name], value, rtol=1e-9)
        else:
            assert now[name] == pytest.approx(value) if isinstance(value, float) else now[name] == value
    assert proof(found.spectrum, exponent(found.spectrum.energies)) == EXPECTED["proof"]
    assert cli_line(view) == EXPECTED["cli"]
    today, then = (
        list(csv.DictReader(io.StringIO(text)))
        for text in (states_csv(found, measured_increases(view.source.run, Results())), EXPECTED["csv"])
    )
    assert [row.keys() for row in today] == [row.keys() for row in then]
    for a, b in zip(today, then, strict=True):
        assert (a["removed"], a["hash"], a["rank"]) == (b["removed"], b["hash"], b["rank"])
        assert float(a["energy"]) == pytest.approx(float(b["energy"]), rel=1e-9)


def test_measurements_are_found_again():
    found = measured_increases(the_run().run, Results())
    assert sorted(map(list, found)) == [state for state, *_ in EXPECTED["measured"]]
    for state, *values in EXPECTED["measured"]:
        assert found[tuple(state)] == pytest.approx(tuple(values))


def test_measurements_without_a_distance_are_shown_as_before():
    states = [tuple(state) for state, *_ in EXPECTED["measured"]]
    rows = compare(the_run().run, states, Results())
    assert all(row.distance is None and row.loss is not None for row in rows)
    shown = table(rows, whole(24), {})
    assert "increase" in shown and "KL" not in shown and "first choice" not in shown
    assert measured_kl(the_run().run, Results()) == {}
    for row in csv.DictReader(io.StringIO(as_csv(rows, whole(24), {}))):
        assert float(row["loss"]) > 0 and {row[n] for n in ("kl", "kl_99", "same", "same_high")} == {""}


def test_a_search_by_the_loss_is_the_job_that_it_was():
    (learned,) = (job for job in jobs.list_jobs() if job.kind == "learn")
    asked = {name: learned.request[name] for name in ("remove", "budget", "sequences", "seed")}
    run, folder = the_run().run, find_run(EXPECTED["run"]["key"][:8])
    plain, named, other = (
        jobs.request_on(run, folder, **asked, **more) for more in ({}, {"ruler": "loss"}, {"ruler": "kl"})
    )
    assert named == plain and set(plain) == set(learned.request) and other == {**plain, "ruler": "kl"}


def test_jobs_are_listed_and_a_finished_one_is_not_done_again(monkeypatch):
    assert sorted([job.id, job.kind, job.status] for job in jobs.list_jobs()) == EXPECTED["jobs"]
    monkeypatch.setattr("core.jobs.control.spawn", lambda job_id: pytest.fail("a worker was started"))
    matrix = open_source(EXPECTED["matrix"]["key"])
    request = solve_request(matrix.key, matrix.estimators[0], 5, 20, Constraints(keep=(0,)))
    # its result names a folder of the machine that made it: here the file is looked for in this store
    job = jobs.read(EXPECTED["solve"]["id"])
    assert job.request == json.loads(json.dumps(request))
    kept = next((Path(jobs.folder_of("x")).parents[1] / "spectra").glob("*.npz"))
    assert Path(job.result["out"]).name == kept.name
    spectrum = solved({**job.result, "out": str(kept)}, matrix.couplings(matrix.estimators[0]))
    assert [list(state) for state in spectrum.removed] == EXPECTED["solve"]["removed"]


def test_an_earlier_link_opens_the_same_view():
    given, kept = EXPECTED["link"]
    app = AppTest.from_file(str(Path(__file__).resolve().parents[1] / "app.py"), default_timeout=300)
    for name, value in given.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception
    assert {k: v[0] if isinstance(v, list) else v for k, v in app.query_params.items()} == kept
    assert app.session_state.cursor == (2, 6, 14, 17)


def test_the_export_loads_and_is_known_as_ours():
    from transformers import AutoModelForCausalLM

    removed = json.loads((BEFORE / "export" / "blockscape.json").read_text())["removed"]
    assert is_export_of(BEFORE / "export", "demo", removed)
    model = AutoModelForCausalLM.from_pretrained(BEFORE / "export")
    assert len(model.model.layers) == 24 - len(removed) == 2
