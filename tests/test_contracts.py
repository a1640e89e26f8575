"""The import contracts of pyproject.toml hold, and break where an arrow is planted that runs back."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PLANTED = {
    "a room that imports one above it": ("core/ising/states.py", "import core.view.lens", "rooms are layers"),
    "two rooms of one floor": ("core/tasks/items.py", "import core.texts.packing", "rooms are layers"),
    "streamlit in core": ("core/view/lens.py", "import streamlit", "core never imports streamlit"),
    "a page in core": ("core/view/lens.py", "import pages.jobs", "core never imports streamlit or a page"),
    "torch in a page": ("pages/jobs.py", "import torch", "torch stays out"),
    "torch behind a page": ("pages/jobs.py", "import core.model.load", "torch stays out"),
    "transformers in a light room": ("core/texts/packing.py", "import transformers", "torch stays out"),
    "a part that imports its page": ("pages/compare_parts/table.py", "import pages.compare", "pages draw"),
}


def checked(folder: Path) -> subprocess.CompletedProcess:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def copied(tmp_path_factory) -> Path:
    """The code alone, to be changed."""
    folder = tmp_path_factory.mktemp("contracts")
    for name in ("core", "pages", "assets"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "demo"))
    for name in ("app.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    return folder


def test_every_contract_holds(copied):
    done = checked(copied)
    assert done.returncode == 0 and "Contracts: 4 kept, 0 broken." in done.stdout, done.stdout[-3000:]


@pytest.mark.parametrize("what", PLANTED)
def test_a_planted_arrow_breaks_its_contract(copied, what):
    place, line, contract = PLANTED[what]
    file = copied / place
    before = file.read_text(encoding="utf-8")
    try:
        file.write_text(f"{before}\n{line}\n", encoding="utf-8")
        done = checked(copied)
    finally:
        file.write_text(before, encoding="utf-8")
    broken = [row for row in done.stdout.splitlines() if "BROKEN" in row]
    assert done.returncode == 1 and any(contract in row for row in broken), done.stdout[-3000:]


def test_the_package_shows_the_rooms_in_the_order_of_the_contract():
    import tomllib

    import core

    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    rooms = next(c for c in contracts if c["name"] == "rooms are layers")
    floors = [set(floor.replace(" ", "").split("|")) for floor in rooms["layers"]]
    shown = [line.split() for line in core.__doc__.splitlines() if line.startswith("    ")]
    known = {room for floor in floors for room in floor}
    told = [{word for word in words[:3] if word in known} for words in shown]
    assert told == [floor for floor in floors if floor != {"__main__"}]
