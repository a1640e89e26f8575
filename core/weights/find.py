"""A model by the name that people give it -> its weight files, of whichever format."""

from dataclasses import replace
from pathlib import Path

from core.errors import InputError
from core.store.named_models import NAMED, missing, place_of
from core.weights import adapter
from core.weights.files import WeightFiles
from core.weights.gguf_files import SUFFIX, open_gguf
from core.weights.gguf_header import MAGIC
from core.weights.guard import check_folder

_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
_WHERE = "a folder with config.json and .safetensors files, a .gguf file, a hub id, or one of " + ", ".join(
    NAMED
)


def find_weights(source: str, remote_code: bool = False, packed: bool = False) -> WeightFiles:
    """The weight files of a name (core.store.named_models), a folder, a .gguf file, an adapter's folder or a
    hub id (downloaded, or taken from the local cache).

    remote_code: whether Python files of the model's folder may be run, where its config asks for them.
    packed: whether it may be quantised by a method whose weights are not read here, for who copies them.
    Errors: InputError when there is no such model, or it may not be read.
    """
    place = _place(source, remote_code)
    if not (place / adapter.CONFIG).is_file():
        return _in(place, source, remote_code, packed)
    named = _base(place, source)
    base = _place(named, remote_code)
    if (base / adapter.CONFIG).is_file():
        raise InputError(
            f"The adapter {source!r} names an adapter as its model ({named!r}); merge that one into its "
            "model first."
        )
    files = _in(base, named, remote_code)
    return adapter.AdapterFiles(source, files.folder, files.own_code, base=files, adapter=place)


def _in(place: Path, source: str, remote_code: bool, packed: bool = False) -> WeightFiles:
    """The weight files of a folder or file that is no adapter. Errors: as `find_weights`."""
    if place.is_file():
        return open_gguf(place, source)
    if (place / "config.json").is_file() and (
        any(place.glob("*.safetensors")) or not any(place.glob(f"*{SUFFIX}"))
    ):
        files = WeightFiles(source, place)
        return replace(files, own_code=check_folder(place, source, remote_code, packed))
    return open_gguf(_only_gguf(place, source), source)


def _place(source: str, remote_code: bool) -> Path:
    """The folder or file of a model. Errors: InputError when there is none."""
    if lacking := missing(source):
        raise InputError(lacking)
    place = place_of(source).expanduser()
    if "\0" not in source and place.is_dir():
        return place
    if "\0" not in source and place.is_file():
        with open(place, "rb") as file:
            is_gguf = file.read(len(MAGIC)) == MAGIC
        if is_gguf or place.suffix.lower() == SUFFIX:
            return place  # a file of that name that is none is told so when it is read
        raise InputError(
            f"The file {source!r} is no model folder, and of files only .gguf are read; give {_WHERE}."
        )
    if (
        "\0" in source
        or source.startswith((".", "/", "~"))
        or source.count("/") > 1
        or source.endswith(SUFFIX)
    ):
        raise InputError(f"No model folder or file {source!r}; give {_WHERE}.")
    return _from_hub(source, remote_code)


def _from_hub(source: str, remote_code: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(source, allow_patterns=[*_FILES, *(["*.py"] if remote_code else [])]))
    except HFValidationError as error:
        raise InputError(
            f"{source!r} is neither a model folder nor a valid hub id; give a folder, a .gguf file, an id "
            f"such as 'owner/name', or one of {', '.join(NAMED)}."
        ) from error
    except Exception as error:  # offline, unknown, private, gated: the hub client has a class for each
        raise InputError(
            f"Model {source!r} is no local folder and could not be had from the hub "
            f"({type(error).__name__}); "
            f"check the name and the connection, or give a folder, a .gguf file or one of {', '.join(NAMED)}."
        ) from error


def _base(folder: Path, source: str) -> str:
    """The base of an adapter: a path is meant from the adapter's folder where it is none from here."""
    named = adapter.base_of(folder, source)
    beside = folder / named
    return str(beside) if not Path(named).exists() and named not in NAMED and beside.exists() else named


def _only_gguf(folder: Path, source: str) -> Path:
    """The one GGUF file of a folder, or the first part of its one split file. Errors: InputError."""
    found = sorted(p for p in folder.glob("*") if p.suffix.lower() == SUFFIX)
    if not found:
        raise InputError(
            f"The folder {source!r} has no config.json and no .gguf file, so it is no model; give the folder "
            "that holds config.json and the weights, or a .gguf file."
        )
    whole = [p for p in found if "-of-" not in p.stem or p.stem.partition("-of-")[0].endswith("-00001")]
    if len(whole) != 1:
        raise InputError(
            f"The folder {source!r} has {len(found)} GGUF files; name one of them, such as {str(found[0])!r}."
        )
    return whole[0]
