"""The page and the lens mean the same by a message: core.view.messages, assets/lens/messages.js, the page."""

import ast
import re
from pathlib import Path
from types import UnionType
from typing import Literal, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

import pytest

from core.view import messages

ROOT = Path(__file__).resolve().parents[2]
LENS = ROOT / "assets" / "lens"
SCRIPT = (LENS / "messages.js").read_text(encoding="utf-8")
PAGE = ast.parse((ROOT / "pages" / "explore.py").read_text(encoding="utf-8"))
NAMES = {int: "number", float: "number", str: "string", bool: "boolean", list: "Array", type(None): "null"}
TYPED = {name: kind for name, kind in vars(messages).items() if is_typeddict(kind)}


def in_script(kind) -> str:
    """A Python annotation as JSDoc writes it."""
    origin, parts = get_origin(kind), get_args(kind)
    if kind == messages.Ask:
        return "Ask"
    if is_typeddict(kind):
        return kind.__name__
    if origin in (Union, UnionType):
        return " | ".join(map(in_script, parts))
    if origin is list:
        return f"{in_script(parts[0])}[]"
    if origin is dict:
        return f"Object<{in_script(parts[0])}, {in_script(parts[1])}>"
    return NAMES[kind]


def fields_in_python(kind) -> dict[str, str]:
    """{name, in brackets where it may be absent: JSDoc type}."""
    fields = {}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        optional = get_origin(hint) is NotRequired
        fields[f"[{name}]" if optional else name] = in_script(get_args(hint)[0] if optional else hint)
    return fields


def fields_in_script() -> dict[str, dict[str, str]]:
    blocks = re.findall(r"@typedef \{object\} (\w+)\n(.*?)\*/", SCRIPT, flags=re.DOTALL)
    return {name: {f: t for t, f in re.findall(r"@property \{(.+)\} (\S+)", body)} for name, body in blocks}


def test_both_sides_name_the_same_messages():
    assert set(fields_in_script()) == set(TYPED)


@pytest.mark.parametrize("name", TYPED)
def test_both_sides_have_the_same_fields(name):
    assert fields_in_script()[name] == fields_in_python(TYPED[name])


def asked_by_lens() -> set[str]:
    scripts = [path.read_text(encoding="utf-8") for path in LENS.glob("*.js")]
    return {ask for text in scripts for ask in re.findall(r'\bask: "(\w+)"', text)}


def test_every_question_of_the_lens_is_typed_and_answered_by_the_page():
    assert get_origin(messages.Ask) is Literal
    typed = set(get_args(messages.Ask))
    (answered,) = (
        {key.value for key in node.value.keys}
        for node in PAGE.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "ASKED"
    )
    in_types = re.search(r"@typedef \{([^{}]+)\} Ask\b", SCRIPT).group(1)
    assert asked_by_lens() == typed == answered == set(re.findall(r'"(\w+)"', in_types))


def test_the_lens_sends_what_is_typed():
    script = (LENS / "lens.js").read_text(encoding="utf-8")
    sent = re.search(r"\n  message\(\) \{.*?return \{(.*?)\n    \};", script, re.DOTALL)
    assert set(re.findall(r"^\s+(\w+)[:,]", sent.group(1), re.MULTILINE)) == messages.Commit.__required_keys__


def test_the_page_sends_and_reads_what_is_typed():
    calls = [node for node in ast.walk(PAGE) if isinstance(node, ast.Call)]
    (call,) = (node for node in calls if isinstance(node.func, ast.Name) and node.func.id == "lens")
    assert {key.value for key in call.args[0].keys} == set(messages.LensData.__annotations__)
    for name, kind in {"message": messages.Commit, "asked": messages.Asked}.items():
        read = {
            node.slice.value
            for node in ast.walk(PAGE)
            if isinstance(node, ast.Subscript)
            and isinstance(node.value, ast.Name)
            and node.value.id == name
            and isinstance(node.slice, ast.Constant)
        }
        assert read == set(kind.__annotations__)
