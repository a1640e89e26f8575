"""Where the texts of a run lie now: a run knows them by their content, the newest place of it counts."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from core.errors import InputError
from core.store.runs import Run
from core.texts.documents import read_texts
from core.texts.text_source import BUNDLED_NAME, TextSource, sources_of


def sources_in(run: Run) -> tuple[TextSource, ...]:
    """The sources of its texts, as they were asked for."""
    return sources_of(run.meta["request"].get("texts"))


def missing(run: Run) -> list[str]:
    """The local files of its texts that are not there (any more)."""
    try:
        return [s.path for s in sources_in(run) if s.is_file and not s.file.is_file()]
    except (InputError, OSError):
        return []


def sources_at(run: Run, given: Sequence[str]) -> list[TextSource]:
    """The sources of a run with its files, in their order, at the places that are given.

    A place without options keeps those that the run was asked for with.
    Errors: InputError for more or fewer places than the run has files, and for another content.
    """
    asked = sources_in(run)
    files = [s for s in asked if s.is_file]
    if len(given) != len(files):
        named = ", ".join(s.path for s in files) or "none"
        raise InputError(
            f"The run {run.key[:8]} has {len(files)} text file{'s' * (len(files) != 1)} ({named}), and "
            f"{len(given)} {'are' if len(given) > 1 else 'is'} given; give a place for each, in their order."
        )
    places = iter([_place(old, new) for old, new in zip(files, given)])
    found = [next(places) if s.is_file else s for s in asked]
    _check_content(run, found)
    return found


def _place(old: TextSource, given: str) -> TextSource:
    new = TextSource.from_json(given)
    new = new if new != TextSource(new.path) else replace(old, path=new.path)
    return replace(new, path=str(Path(new.path).expanduser().resolve()))


def _check_content(run: Run, sources: Sequence[TextSource]) -> None:
    texts = [s for s in sources if not s.is_own]
    known = run.meta["texts"]
    expected, found = (
        known.get("content", known["hash"]),
        read_texts(texts, beside=len(texts) < len(sources)).sha256,
    )
    if found != expected:
        raise InputError(
            f"The texts of the run {run.key[:8]} have the content {expected[:8]} (they were at "
            f"{known['source']!r}), and what is given has {found[:8]}; give the same texts, or calibrate on "
            "these."
        )


def placed(meta: Mapping, sources: Sequence[TextSource]) -> dict:
    """What run.json says when its texts lie at these sources."""
    asked = [str(s) for s in sources]
    named = None if asked == [BUNDLED_NAME] else asked[0] if len(asked) == 1 else asked
    request = {**meta["request"], "texts": named}
    texts = {**meta["texts"], "source": " + ".join(s.path for s in sources)}
    if "sources" in texts:
        columns = [known.get("column") for known in texts["sources"]]
        read = [replace(s, column=c) if c and s.names_no_column else s for s, c in zip(sources, columns)]
        texts["sources"] = [s.to_json() for s in read]
    return {**meta, "request": request, "texts": texts}
