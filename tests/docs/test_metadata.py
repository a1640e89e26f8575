"""CITATION, CHANGELOG and the pre-commit hooks say what the project is and has."""

import importlib.util
import re
import subprocess

import yaml

import core
from tests.docs.fences import ROOT, read


def test_the_citation_names_this_version_and_the_paper():
    cited = yaml.safe_load(read("CITATION.cff"))
    assert cited["version"] == core.__version__ and cited["license"] == "Apache-2.0"
    assert cited["title"] == "Blockscape" and cited["authors"] == [{"name": "The Blockscape authors"}]
    (paper,) = cited["references"]
    assert "2602.00161" in paper["identifiers"][0]["value"] and paper["authors"]


def test_every_moved_module_is_where_the_changelog_says():
    moved = re.findall(r"^\| `(core[\w.]*)` \| (`core.*`) \|$", read("CHANGELOG.md"), re.MULTILINE)
    assert len(moved) > 40
    for old, places in moved:
        for new in re.findall(r"`([\w.]+)`", places):
            assert importlib.util.find_spec(new), new
        path = ROOT / old.replace(".", "/")
        assert not path.with_suffix(".py").exists(), old  # a room may have the name


def test_the_hooks_run_the_projects_own_ruff():
    (repo,) = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    assert repo["repo"] == "local" and [h["id"] for h in repo["hooks"]] == ["ruff-check", "ruff-format"]
    for hook in repo["hooks"]:
        assert hook["language"] == "system"
        program, *options = hook["entry"].split()
        if not (ROOT / program).exists():  # a virtual environment elsewhere
            program = "ruff"
        done = subprocess.run([program, *options, "app.py"], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_readme_fits_one_screen():
    assert len(read("README.md").splitlines()) <= 80
