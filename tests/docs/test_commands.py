"""What the pages tell people to type works: every block runs in order, every link leads somewhere."""

import argparse
import json
import math
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from core.__main__ import main
from tests.docs.fences import PAGES, ROOT, Fence, fences, prose

# A reader sees these as a block that begins with "# not run by the tests: why". Here they stand by name, so
# that none is left out by accident; their options are parsed all the same.
NOT_RUN = {
    "docs/command-line.md": [
        "python -m core calibrate --model OWNER/MODEL",
        "python -m core push --folder pruned --repo OWNER/NAME",
        "python -m core evaluate --model MODEL --preset quick-real --data DIR",
        "python -m core study",
        "python -m core study --model smollm2",
        "python -m core study --shape",
    ],
    "docs/smollm2.md": ["python -m tests.benchmarks --model smollm2"],
    "docs/clusters.md": [
        ".venv/bin/torchrun --standalone --nproc-per-node 8 -m core calibrate",
        ".venv/bin/torchrun --standalone --nproc-per-node 8 -m core benchmark",
        ".venv/bin/torchrun --standalone --nproc-per-node 8 -m core heal",
        "export BLOCKSCAPE_HOME=/shared/blockscape",
        ".venv/bin/accelerate launch --multi_gpu -m core calibrate",
    ],
}
# make would set up, serve, or run these very tests: that it knows the target is what is checked
MADE = {
    "README.md": ["make run", "make test"],
    "CONTRIBUTING.md": ["make setup", "make test-fast", "make lint", "make test"],
}
LANGUAGES = {"sh", "python", "json", "text", "diff"}
# from run to run, or from machine to machine
VARY = {"key", "landscape", "out", "seconds", "tokens_per_second"}


class Parsed(BaseException):
    """Raised where a command's options have been understood, before anything is done."""


def core_argv(command: str) -> list[str] | None:
    """The arguments of a command that starts `-m core`; None of any other."""
    words = shlex.split(command, comments=True)
    for k in range(len(words) - 1):
        if words[k : k + 2] == ["-m", "core"]:
            return words[k + 2 :]
    return None


def run_core(argv: list[str], capsys) -> str:
    """What a command prints, into a file where it says so."""
    target = argv[argv.index(">") + 1] if ">" in argv else None
    try:
        code = main(argv[:-2] if target else argv)
    except SystemExit as end:  # of --help
        code = end.code
    out, err = capsys.readouterr()
    assert code == 0, (argv, out, err)
    if target:
        Path(target).write_text(out, encoding="utf-8")
    return out


def run_shell(command: str, capsys) -> str:
    if (argv := core_argv(command)) is not None:
        return run_core(argv, capsys)
    if command.startswith("make "):
        target = command.split("#")[0].split()[1]
        done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return ""
    done = subprocess.run(["bash", "-ec", command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def same(shown, got, where: str) -> None:
    """The page's JSON is what came, up to what varies; a list may be shown in part."""
    if isinstance(shown, dict):
        assert set(shown) == set(got), where
        for name in set(shown) - VARY:
            same(shown[name], got[name], f"{where}.{name}")
    elif isinstance(shown, list):
        assert len(got) >= len(shown), where
        for k, item in enumerate(shown):
            same(item, got[k], f"{where}[{k}]")
    elif isinstance(shown, float):
        assert math.isclose(shown, got, rel_tol=0.01), (where, shown, got)
    else:
        assert shown == got, (where, shown, got)


def same_text(shown: str, got: str) -> None:
    """The same words, and numbers to five digits; times vary."""
    words = [[w for w in re.sub(r"[\d.]+ s\)", "s)", text).split()] for text in (shown, got)]
    assert len(words[0]) == len(words[1]), got
    for a, b in zip(*words):
        if re.fullmatch(r"[\d.]+(e[-+]?\d+)?", a):
            assert math.isclose(float(a), float(b), rel_tol=1e-5), (a, b)
        else:
            assert a == b


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A place like Blockscape's folder, where what the blocks write is thrown away."""
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "assets").symlink_to(ROOT / "assets")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


STARTS_WORKERS = "docs/command-line.md"


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=[pytest.mark.slow] if page == STARTS_WORKERS else []) for page in PAGES]
)
def test_every_block_runs(page, folder, capsys):
    said, names = "", {}
    for fence in fences(page):
        where = f"{page}:{fence.line}"
        assert fence.language in LANGUAGES, where
        if fence.marked:
            continue
        if fence.language == "sh":
            for command in fence.commands:
                said = run_shell(command, capsys)
        elif fence.language == "python":
            exec(compile(fence.text, where, "exec"), names)
            said = capsys.readouterr().out
        elif fence.language == "json":
            same(json.loads(fence.text), json.loads(said), where)
        elif fence.language == "text":
            same_text(fence.text, said)


def heads(page: str, keep) -> list[str]:
    return [f.commands[0] for f in fences(page) if f.language == "sh" and keep(f)]


@pytest.mark.parametrize("page", PAGES)
def test_what_is_not_run_is_listed_here(page):
    listed = NOT_RUN.get(page, [])
    marked = heads(page, lambda fence: fence.marked)
    assert len(marked) == len(listed) and all(m.startswith(n) for m, n in zip(marked, listed)), marked
    made = [
        " ".join(command.split("#")[0].split())
        for fence in fences(page)
        if fence.language == "sh"
        for command in fence.commands
        if command.startswith("make ")
    ]
    assert made == MADE.get(page, [])


def marked_commands() -> list[tuple[str, list[str]]]:
    found = []
    for page in PAGES:
        for fence in fences(page):
            if fence.language == "sh" and fence.marked:
                found += [(page, argv) for c in fence.commands if (argv := core_argv(c)) is not None]
    return found


@pytest.mark.parametrize("page, argv", marked_commands(), ids=lambda v: v if isinstance(v, str) else v[0])
def test_what_is_not_run_is_parsed(page, argv, monkeypatch, capsys):
    parse = argparse.ArgumentParser.parse_args

    def stop(parser, *args, **kwargs):
        parse(parser, *args, **kwargs)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    with pytest.raises(Parsed):
        main(argv)


def anchors(page: str) -> set[str]:
    """What GitHub makes of the page's headings."""
    titles = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file.resolve().relative_to(ROOT).as_posix()), target


@pytest.mark.parametrize("page", PAGES)
def test_files_modules_and_targets_named_in_the_text_exist(page):
    if page == "CHANGELOG.md":  # it names what is gone
        return
    for code in re.findall(r"`([^`]+)`", prose(page)):
        if re.fullmatch(r"(core|pages|assets|tests|docs)/[\w./]+\.\w+", code):
            assert (ROOT / code).is_file(), code
        if module := re.match(r"python -m ([\w.]+)", code):
            path = ROOT / module[1].replace(".", "/")
            assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), code
        if target := re.fullmatch(r"make ([\w-]+)", code):
            done = subprocess.run(["make", "-n", target[1]], cwd=ROOT, capture_output=True, text=True)
            assert done.returncode == 0, code


def test_the_harness_sees_what_is_wrong(folder, capsys):
    with pytest.raises(AssertionError):
        run_shell("python -m core states --run demo --remove 99", capsys)
    with pytest.raises(AssertionError):
        run_shell("false", capsys)
    with pytest.raises(AssertionError):
        same({"a": [1.0]}, {"a": [1.1]}, "")
    with pytest.raises(AssertionError):
        same_text("0 1.5 3,4", "0 1.6 3,4")
    assert Fence("sh", "# not run by the tests: x\na \\\n  b\n", 1).commands == ["a    b"]
