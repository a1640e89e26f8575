"""Requests: what a job is to work on, as plain data. Equal work has equal requests, so it is one job."""

import glob
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from core.errors import InputError
from core.ising.units import BLOCK
from core.store.folders import home
from core.store.named_models import NAMED, is_demo, place_of
from core.store.results import LOSS
from core.store.runs import Run, rewrite_meta
from core.texts import parse_source
from core.texts.form import FORM, READING
from core.texts.places import placed, sources_at
from core.texts.text_source import BUNDLED, BUNDLED_NAME, OWN

_USUAL = {
    "remote_code": False,
    "against": None,
    "ruler": LOSS,
    "landscape": None,
    "by_shard": None,
    "learn": None,
    "answers": None,
}  # left out of a request
_READ = (".json", ".safetensors", ".gguf", ".txt", ".model", ".jinja")  # files of a model's folder


def request_of(
    model: str,
    texts: str | Sequence[str] | None = None,
    reads: tuple[str, ...] = (),
    form: Mapping[str, str] | None = None,
    **options,
) -> dict:
    """A request to work on a model and texts (None: bundled): paths made absolute, and the state of every
    file it reads.

    texts: one source or several, each as core.texts.parse_source takes it, as are learn and answers, what a
    healing learns from in their place. form: mode, template and bos, as
    core.calibration.corpus.draw takes them; remote_code: whether the model's own code may run; against:
    another model that is loaded beside it; ruler: what a search goes by. What is as usual is left out, so
    that equal work has equal requests; a job of before that read texts in another way is another job.
    Errors: InputError for options that cannot be.
    """
    model = _absolute(model)
    named, paths = _texts([texts] if isinstance(texts, str) else texts or [])
    for name, usual in _USUAL.items():
        if name in options and options[name] == usual:
            del options[name]
    for name in ("learn", "answers"):
        if name in options:
            own, more = _texts([options[name]])
            options[name], paths = own or BUNDLED_NAME, [*paths, *more]
    if "against" in options:
        options["against"] = _absolute(options["against"])
        reads = (*reads, options["against"])
    unusual = {name: value for name, value in (form or {}).items() if value != FORM.get(name)}
    if unusual:
        options["form"] = unusual
    if (model, named) != ("demo", None):  # the demo on its own texts is as ever
        options["reading"] = READING
    inputs = fingerprint(model, *paths, *reads, code="remote_code" in options)
    return {"model": model, "texts": named, **options, "inputs": inputs}


def default_texts(model: str) -> str:
    """The texts that a model is taken on where nobody names any: the demo on its own world, every other one
    on what it writes itself.

    On the demo's made-up world the blocks of any other model would be chosen by nonsense.
    """
    return BUNDLED_NAME if is_demo(model) else OWN


def _texts(texts: Sequence[str]) -> tuple[str | list[str] | None, list[str]]:
    """(the sources as a request names them, the files that they read)."""
    named, paths = [], []
    for text in texts:
        given = parse_source(text).path
        if given == OWN:
            named.append(text)
        elif given == BUNDLED_NAME:
            named.append(text)
            paths.append(str(BUNDLED))
        else:
            paths.append(_absolute(given))
            named.append(paths[-1] + text[len(given) :])  # the options go along
    if named in ([], [BUNDLED_NAME]):
        return None, [str(BUNDLED)]
    return (named[0] if len(named) == 1 else named), paths


def point_at(run: Run, folder: Path, texts: Sequence[str]) -> Run:
    """The run with its texts at the places that are given; run.json in `folder`, and in the store, says so
    from now on.

    texts: one for each file, in their order; options that are not given stay.
    Errors: InputError for another content, and as core.texts.places.sources_at.
    """
    found = sources_at(run, texts)
    for place in {folder.resolve(), (home() / "runs" / run.key).resolve()}:
        if (place / "run.json").is_file():
            try:
                rewrite_meta(place, lambda meta: placed(meta, found))
            except OSError:  # not ours to write: this time it is known
                continue
    return replace(run, meta=placed(run.meta, found))


def request_on(run: Run, folder: Path, texts: Sequence[str] | None = None, **options) -> dict:
    """A request to work on the model and texts of a run that lies in `folder`; texts: where they lie now, as
    `point_at` takes them. By branch where the run is seen so.

    Errors: InputError where the run does not name them.
    """
    if "model" not in run.meta["request"]:
        raise InputError(
            f"The run {run.key[:8]!r} does not say where its model and texts are; calibrate it from the "
            "command line or the app."
        )
    if texts:
        run = point_at(run, folder, texts)
    if run.by != BLOCK:
        options["by"] = run.by
    return request_for(run, (str(folder / "run.json"),), with_texts=True, run=str(folder), **options)


def request_for(run: Run, reads: tuple[str, ...] = (), /, *, with_texts: bool = False, **options) -> dict:
    """A request to work on a run's model, its own code allowed where the run allowed it; with_texts: on the
    run's texts, in their form.
    """
    asked = run.meta["request"]
    texts = {name: asked.get(name) for name in ("texts", "form")} if with_texts else {}
    return request_of(
        run.meta["model"]["source"],
        reads=reads,
        remote_code=asked.get("remote_code", False),
        **texts,
        **options,
    )


def push_request(folder: Path, repo: str, public: bool) -> dict:
    """A request to send an export, as it lies in its folder now, to a repository of the hub."""
    return {"folder": str(folder), "repo": repo, "private": not public, "inputs": fingerprint(str(folder))}


def _absolute(path: str) -> str:
    """A path that a worker understands; names such as demo or a hub id stay."""
    if path in NAMED or "\0" in path or len(path) > 4000:
        return path
    try:
        full = Path(path).expanduser()
        if (
            full.is_file()
        ):  # its own name tells format and parts; links of the hub's cache lead to names without
            return str(full.absolute().parent.resolve() / full.name)
        return str(full.resolve()) if full.exists() else path
    except (OSError, RuntimeError):  # no such user, or too long for a path: the worker says so
        return path


def _parts(path: Path) -> list[Path]:
    """A file, or where it is one of the parts of a split GGUF file, all of them."""
    found = re.fullmatch(r"(.+)-\d{5}(-of-\d{5}\.gguf)", path.name, re.IGNORECASE)
    return sorted(path.parent.glob(f"{glob.escape(found[1])}-?????{found[2]}")) if found else [path]


def fingerprint(*paths: str | None, code: bool = False) -> dict[str, list]:
    """[name, size, time of change] of every file a request reads, so that a changed file makes another
    request; code: whether the Python files of a model's folder may run, and so count.

    The change time is the inode's: unlike the time of modification it cannot be set back.
    """
    read = (*_READ, ".py") if code else _READ
    found: dict[str, list] = {}
    for path in (place_of(p) for p in paths if p):
        found[str(path)] = files = []
        try:
            inside = sorted(f for f in path.iterdir() if f.suffix in read) if path.is_dir() else _parts(path)
            for f in inside:
                if f.is_file():
                    files.append([f.name, f.stat().st_size, f.stat().st_ctime_ns])
        except (OSError, ValueError):  # no path at all, or not ours to read: the worker says so
            continue
    return found
