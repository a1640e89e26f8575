"""The examples of CONTRIBUTING.md are real: each diff applies to this checkout, and what it adds is there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.fences import ROOT, read

BIN = Path(sys.executable).parent
# what a program says after the diff, and the program: run in the changed copy
ADDED = {
    "An estimator": (
        "['equal'] nothing\n",
        """
from core.energy.couplings import available, couplings
from core.store.folders import DEMO_RUN
from core.store.runs import load_run
run = load_run(DEMO_RUN)
ones = couplings(run, "equal").diagonal()
print([n for n in available(run) if n == "equal"], "nothing" if abs(ones - 1).max() < 1e-9 else ones)
""",
    ),
    "An architecture rule": (
        "[0, 2, 3]\n",
        """
from core.model.load import load_model
from core.model.surgery import remove_blocks
loaded = load_model("demo")
loaded.config.layer_window_sizes = list(range(len(loaded.blocks)))
remove_blocks(loaded, [1])
print(loaded.config.layer_window_sizes[:3])
""",
    ),
    "A peer method": (
        "deepest but one (Gromov) (21, 22)\n",
        """
from types import SimpleNamespace
from core.choose.other_methods import PEERS
look = SimpleNamespace(loaded=SimpleNamespace(blocks=range(24)), most=3)
print(PEERS["deepest"].label, PEERS["deepest"].choose(look)[2].removed)
""",
    ),
    "A job kind": (
        "done 24\n",
        """
from core import jobs
job = jobs.follow(jobs.start("weigh", jobs.request_of("demo")).id, lambda *step: None)
print(job.status, len(job.result["norms"]))
""",
    ),
    "A page": (
        "['Domains'] [] 1\n",
        """
from streamlit.testing.v1 import AppTest
app = AppTest.from_file("app.py", default_timeout=300).run()
app.switch_page("pages/domains.py").run()
print([t.value for t in app.title], list(app.exception), len(app.get("vega_lite_chart")))
""",
    ),
    "A panel of Explore": (
        "[] True\n",
        """
from streamlit.testing.v1 import AppTest
app = AppTest.from_file("app.py", default_timeout=300).run()
from assets.lens import _script
print(list(app.exception), 0 < _script().find("class Costs") < _script().find("new Costs(this"))
""",
    ),
    "A command": (
        "0 23 True\n",
        """
import contextlib, io, json
from core.__main__ import main
with contextlib.redirect_stdout(io.StringIO()) as out:
    code = main(["sweep", "--run", "demo", "--json"])
with contextlib.redirect_stdout(io.StringIO()) as help, contextlib.suppress(SystemExit):
    main(["--help"])
print(code, len(json.loads(out.getvalue())["energies"]), "sweep" in help.getvalue())
""",
    ),
    "A text format": (
        "1 # A title|A line\n",
        """
import os, tempfile
from core.texts import read_texts
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "x.md")
    with open(path, "w") as file:
        file.write("# A title\\nA line\\n")
    documents = read_texts(path).documents
print(len(documents), documents[0].text.replace("\\n", "|"))
""",
    ),
}


def examples() -> dict[str, str]:
    """{heading: its diff} of the section on adding things."""
    section = read("CONTRIBUTING.md").split("## One place to add a thing\n")[1]
    parts = re.split(r"^### (.*)$", section, flags=re.MULTILINE)[1:]
    found = {}
    for title, body in zip(parts[::2], parts[1::2]):
        (found[title],) = re.findall(r"^```diff\n(.*?)^```$", body, re.MULTILINE | re.DOTALL)
    return found


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the files that the examples could touch or need, as they are now."""
    copy = tmp_path_factory.mktemp("checkout")
    for folder in ("core", "pages", "assets"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("*.pyc"))
    for file in ("app.py", "README.md", "CHANGELOG.md"):
        shutil.copy(ROOT / file, copy / file)
    return copy


def test_every_example_is_checked():
    assert list(examples()) == list(ADDED)


@pytest.mark.slow
@pytest.mark.parametrize("title", ADDED)
def test_the_diff_applies_and_adds_it(title, checkout, tmp_path):
    said, program = ADDED[title]
    patch = tmp_path / "example.diff"
    patch.write_text(examples()[title], encoding="utf-8")

    def apply(*options: str) -> None:
        done = subprocess.run(
            ["git", "apply", *options, str(patch)], cwd=checkout, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr

    apply()
    # a worker from the copy: none that has loaded this checkout's code already
    environment = {name: value for name, value in os.environ.items() if name != "BLOCKSCAPE_WARM"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=checkout,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
    finally:
        apply("--reverse")
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == said


def test_the_examples_keep_to_the_projects_own_style(checkout):
    for title, diff in examples().items():
        patch = checkout / "style.diff"
        patch.write_text(diff, encoding="utf-8")
        subprocess.run(["git", "apply", patch.name], cwd=checkout, check=True)
        files = re.findall(r"^\+\+\+ b/(.*)$", diff, re.MULTILINE)
        python = [file for file in files if file.endswith(".py")]
        other = [file for file in files if not file.endswith(".py")]
        config = ["--config", str(ROOT / "pyproject.toml"), "--no-cache"]
        checks = [["ruff", "check", *config, *python], ["ruff", "format", "--check", *config, *python]]
        if other:
            checks += [
                ["oxlint", "-c", str(ROOT / ".oxlintrc.json"), *other],
                ["oxfmt", "-c", str(ROOT / ".oxfmtrc.json"), "--check", *other],
            ]
        try:
            for program, *options in checks:
                done = subprocess.run(
                    [str(BIN / program), *options], cwd=checkout, capture_output=True, text=True
                )
                assert done.returncode == 0, (title, done.stdout)
        finally:
            subprocess.run(["git", "apply", "--reverse", patch.name], cwd=checkout, check=True)
