"""What the structure promises beside the contracts: the app's process stays light, nothing is pickled."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def imports(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {a.name.split(".")[0] for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_streamlits_process_holds_no_torch_after_the_pages_ran():
    code = """
import sys
from streamlit.testing.v1 import AppTest
app = AppTest.from_file("app.py", default_timeout=300).run()
assert not app.exception, app.exception
app.switch_page("pages/about.py").run()
assert not app.exception, app.exception
loaded = {"torch", "transformers", "datasets", "lm_eval"} & set(sys.modules)
sys.exit(f"loaded: {loaded}" if loaded else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]


def test_no_pickle_anywhere():
    for file in [ROOT / "app.py", *ROOT.glob("core/**/*.py"), *ROOT.glob("pages/**/*.py")]:
        text = file.read_text(encoding="utf-8")
        assert not {"pickle", "dill", "joblib"} & imports(file), file
        assert "allow_pickle=True" not in text and 'persist="disk"' not in text, file
        allowed = [
            node
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.keyword) and node.arg == "trust_remote_code"
            if isinstance(node.value, ast.Constant) and node.value.value
        ]
        # only where somebody asks for it, and in the proof of what was just written here
        assert not allowed or file.name == "check_portable.py", file


def test_the_top_level_is_what_the_card_allows():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    top = {line.split("/")[0] for line in listed.stdout.splitlines()}
    assert top <= {
        "app.py",
        "pages",
        "core",
        "assets",
        "tests",
        "requirements.txt",
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "CITATION.cff",
        ".pre-commit-config.yaml",
        ".oxlintrc.json",
        ".oxfmtrc.json",
        ".ci",
        ".streamlit",
        "Makefile",
        "pyproject.toml",
        "LICENSE",
        ".gitignore",
        "docs",
    }
    size = sum(
        f.stat().st_size for f in (ROOT / "assets").rglob("*") if f.is_file() and "__pycache__" not in f.parts
    )
    assert size <= 20 * 2**20
