"""The snippet and the command line, executed as they are, list the states of the view."""

import json
import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.cli.main import main
from core.energy.learned import Posterior, keep_learned, prior_from
from core.energy.sources import Source, open_source, store_matrix
from core.errors import InputError
from core.spectrum.constraints import Constraints
from core.spectrum.lowest import lowest_states
from core.spectrum.memory_budget import Budget, read_budget
from core.store.folders import DEMO_RUN
from core.store.runs import keep_run, load_run, save_run
from core.view.snippets import (
    View,
    cli_line,
    couplings_snippet,
    landscape_line,
    landscape_snippet,
    python_snippet,
)

ROOT = Path(__file__).resolve().parents[2]


def views(tmp_path) -> dict[str, View]:
    demo, run = open_source("demo"), load_run(DEMO_RUN)
    strange = tmp_path / 'a run\'s "folder" $HOME; #1'
    domains = [*run.meta["texts"]["domains"]]
    domains[domains.index("story")] = "it's, = a:% 'story'\" $x"
    meta = {**run.meta, "key": "ab" * 32, "texts": {**run.meta["texts"], "domains": domains}}
    other = replace(run, meta=meta)
    kept = keep_run(other)
    save_run(replace(run, meta={**meta, "key": "cd" * 32}), strange)
    A = np.random.default_rng(0).normal(size=(9, 9))
    prior = prior_from(run.singles.increase, run.singles.se, run.sampled.A)
    keep_learned(run.key, 3, Posterior(prior, np.zeros((0, 24), bool), *np.zeros((3, 0))))
    learned = next(name for name in demo.estimators if name.startswith("learned"))
    rules = Constraints(keep=(0, 23), remove=(5,), groups=(((1, 2, 3, 4), 1), ((10, 12, 14), 2)), max_run=2)
    model = run.meta["model"]
    memory = Budget(model["bytes"] - 3.5 * model["blocks"][0]["bytes"] + 20 * 512 * 1000 * 2, 1000, 2)
    return {
        "plain": View(demo, "h0", 4, 30),
        "ruled": View(demo, "hybrid", 6, 15, constraints=rules, time_limit=30.0),
        "mixed": View(
            open_source(str(kept)),
            "h0g",
            3,
            10,
            mix={domains[domains.index("it's, = a:% 'story'\" $x")]: 2 / 3, "memory": 1 / 3},
        ),
        "folder": View(open_source(strange), "h0", 3, 10),
        "matrix": View(
            store_matrix(A + A.T, "mine\nimport os"), "matrix", 3, 20, constraints=Constraints(max_run=1)
        ),
        "learned": View(demo, learned, 3, 10),
        "free": View(demo.seen("branch"), "secant", None, 12, budget=read_budget("weights 80 %, kv 60 %")),
        "budget": View(demo, "h0", 6, 12, constraints=Constraints(keep=(0,)), budget=memory),
    }


def expected(view: View) -> list[tuple[int, ...]]:
    H = view.source.couplings(view.estimator, view.mix)
    return lowest_states(H, view.removed, view.count, constraints=view.ruled).removed


@pytest.mark.parametrize("name", ["plain", "ruled", "mixed", "folder", "matrix", "learned", "free", "budget"])
def test_both_run_as_they_are_and_give_the_same_states(tmp_path, name):
    view = views(tmp_path)[name]
    states = expected(view)
    assert len(states) == view.count
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    code = subprocess.run(
        [sys.executable, "-c", python_snippet(view)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert code.returncode == 0, code.stderr
    assert [tuple(map(int, line.split()[1:])) for line in code.stdout.splitlines()] == states
    line = subprocess.run(
        ["sh", "-c", cli_line(view)], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert line.returncode == 0, line.stderr
    listed = [view.source.units.parse(row.split()[-1]) for row in line.stdout.splitlines()[1:]]
    assert listed == states


@pytest.mark.parametrize(("name", "moves"), [("plain", "swap"), ("ruled", "shift"), ("free", "swap")])
def test_both_find_the_minima_of_the_view(tmp_path, capsys, monkeypatch, name, moves):
    monkeypatch.chdir(ROOT)
    view = replace(views(tmp_path)[name], count=3)
    exec(landscape_snippet(view, moves, 1000), {})
    said, *rest = capsys.readouterr().out.splitlines()
    assert main(shlex.split(landscape_line(view, moves, 1000))[3:] + ["--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert said == found["says"] and len(found["minima"]) <= 3
    units = view.source.units
    minima = [tuple(map(int, line.split()[1:])) for line in rest[: len(found["minima"])]]
    assert [units.listed(s) for s in minima] == [m["removed"] for m in found["minima"]]
    joins = [line.split(" joins ")[0] for line in rest[len(minima) :]]
    assert sorted(map(int, joins)) == sorted(j for _, j, _ in found["barriers"])


def test_the_couplings_are_made_again(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    for view in views(tmp_path).values():
        made: dict = {}
        exec(couplings_snippet(view.source, view.estimator, view.mix), made)
        assert np.array_equal(made["H"], view.source.couplings(view.estimator, view.mix))


def test_what_nothing_can_open_again_is_refused():
    loose = Source("ab" * 32, "loose", 4, ("matrix",), matrix=np.eye(4))
    nowhere = replace(open_source("demo"), run=replace(load_run(DEMO_RUN), folder=None))
    for view in (View(loose, "matrix", 2, 3), View(nowhere, "h0", 2, 3)):
        for write in (python_snippet, cli_line):
            with pytest.raises(InputError):
                write(view)
    with pytest.raises(InputError):
        _ = View(loose, "matrix", 2, 3, budget=Budget(1.0)).ruled
    with pytest.raises(InputError):
        python_snippet(
            View(open_source("demo"), "h0", 2, 3, constraints=Constraints(weights=(1.0,) * 24, at_least=2))
        )
