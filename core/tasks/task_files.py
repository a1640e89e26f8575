"""Tasks as they are named, and task files that are data only.

A task file of the harness may name Python functions, and its loader runs them. A local file is read here
instead: keys and data loaders from a list, no tags, no aliases, no code.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from core.errors import InputError

_SUFFIXES = (".yaml", ".yml")
_LOADERS = {".json": "json", ".jsonl": "json", ".csv": "csv", ".parquet": "parquet", ".txt": "text"}
_HUB = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
_KEYS = {
    "task",
    "task_alias",
    "tag",
    "dataset_path",
    "dataset_name",
    "dataset_kwargs",
    "training_split",
    "validation_split",
    "test_split",
    "fewshot_split",
    "fewshot_config",
    "doc_to_text",
    "doc_to_target",
    "doc_to_choice",
    "description",
    "target_delimiter",
    "fewshot_delimiter",
    "num_fewshot",
    "metric_list",
    "output_type",
    "generation_kwargs",
    "repeats",
    "filter_list",
    "should_decontaminate",
    "doc_to_decontamination_query",
    "gen_prefix",
    "metadata",
}
_DATA = {"data_files", "field", "revision", "delimiter", "sep"}
_SIZE = 2**20
_OPTIONS = re.compile(r"(?P<name>.*?)::(?P<options>(data|field)=.*)", re.DOTALL)
_NEXT = re.compile(r",(?=(?:data|field)=)")  # a path may hold other commas
_BETWEEN = re.compile(r",(?!(?:data|field)=)")


@dataclass(frozen=True)
class Task:
    """A task of the harness by its name, or a task file.

    data: a local file that the task is asked over instead of its own data; field: the key of its rows.
    """

    name: str
    file: Path | None = None
    data: Path | None = None
    field: str | None = None

    def reads(self) -> Iterator[Path]:
        """The local files it is made of."""
        yield from (path for path in (self.file, self.data) if path)
        if self.file:
            yield from _data_files(read_task_file(self.file)["dataset_kwargs"])

    def text(self) -> str:
        """What `parse_task` reads back, its paths absolute."""
        if self.file:
            return str(self.file.absolute())
        options = {"data": self.data and self.data.absolute(), "field": self.field}
        given = ",".join(f"{key}={value}" for key, value in options.items() if value)
        return f"{self.name}::{given}" if given else self.name


def parse_task(text: str) -> Task:
    """A task as it is written: NAME, FILE.yaml, or NAME::data=FILE[,field=KEY].

    The last is the task NAME over the rows of a local .json, .jsonl, .csv or .parquet file.

    Errors: InputError for what is none of these, and as `read_task_file`.
    """
    found = _OPTIONS.fullmatch(text)
    name = found["name"] if found else text
    options = dict(pair.split("=", 1) for pair in _NEXT.split(found["options"])) if found else {}
    if name.endswith(_SUFFIXES):
        if options:
            raise InputError(
                f"The task file {name[:100]!r} names its own data; leave {next(iter(options))}= out."
            )
        file = Path(name).expanduser()
        return Task(read_task_file(file)["task"], file)
    if not re.fullmatch(r"[\w.+-]{1,120}", name):
        raise InputError(
            f"{name[:60]!r} is neither the name of a task nor a .yaml file; write for example hellaswag."
        )
    if not options:
        return Task(name)
    data = Path(options.get("data", "")).expanduser()
    if not data.is_file() or data.suffix not in _LOADERS:
        raise InputError(
            f"The data {str(data)[:100]!r} of task {name} is no .json, .jsonl, .csv or .parquet file; check "
            "the path."
        )
    return Task(name, None, data, options.get("field"))


def listed_tasks(text: str) -> list[str]:
    """The tasks of a text with commas between them, each as `parse_task` takes it, whose own options have
    commas between them, too.
    """
    return [part.strip() for part in _BETWEEN.split(text) if part.strip()]


def over_folder(tasks: Sequence[Task], folder: Path) -> list[Task]:
    """The tasks over the files of a folder that are called as they are: arc_easy over arc_easy.jsonl (or
    .json, .csv, .parquet). What names its data already stays.

    Errors: InputError naming the files that are missing.
    """
    folder = folder.expanduser()
    found, missing = [], []
    for task in tasks:
        if task.file is None and task.data is None:
            places = (folder / f"{task.name}{suffix}" for suffix in _LOADERS if suffix != ".txt")
            task = replace(task, data=next(filter(Path.is_file, places), None))
            missing += [] if task.data else [f"{task.name}.jsonl"]
        found.append(task)
    if missing:
        raise InputError(
            f"{str(folder)[:200]!r} {'lacks' if folder.is_dir() else 'is no folder with'} "
            f"{', '.join(missing)}; put the rows of each task there under its name, in the shape that "
            "lm-evaluation-harness reads."
        )
    return found


def loader_of(path: Path) -> str:
    """The data loader of a file, by its suffix."""
    return _LOADERS[path.suffix]


class _Loader(yaml.SafeLoader):
    """YAML without aliases (a few of them can stand for gigabytes) and without tags such as !function."""

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias")
        return super().compose_node(parent, index)


def read_task_file(path: Path) -> dict:
    """The configuration in a local task file: what it includes is merged, its data files are absolute paths.

    Errors: InputError for what is no task file, or would run code.
    """
    config = _merged(path, ())
    _check(config, path)
    kwargs = dict(config.get("dataset_kwargs") or {})
    if "data_files" in kwargs:
        files = (
            kwargs["data_files"]
            if isinstance(kwargs["data_files"], dict)
            else {config.get("test_split") or "test": kwargs["data_files"]}
        )
        kwargs["data_files"] = {
            str(split): [_file(path, one) for one in _listed(named)] for split, named in files.items()
        }
    return {**config, "dataset_kwargs": kwargs}


def _merged(path: Path, above: tuple[Path, ...]) -> dict:
    try:
        if path.stat().st_size > _SIZE:
            raise InputError(f"The task file {path.name!r} is larger than 1 MiB; a task file holds no data.")
        config = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError:
        raise InputError(f"No task file {str(path)[:200]!r}; check the path.") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        reason = str(getattr(error, "problem", None) or error).splitlines()[0][:120]
        raise InputError(
            f"The task file {path.name!r} is not plain YAML ({reason}); local task files hold data and "
            "templates only."
        ) from None
    if not isinstance(config, dict):
        raise InputError(f"The task file {path.name!r} holds no keys; write for example task: NAME.")
    merged: dict = {}
    for name in _listed(config.pop("include", [])):
        target = (path.parent / str(name)).resolve()
        if target in above or target.parent != path.parent.resolve():
            raise InputError(
                f"The task file {path.name!r} includes {str(name)[:60]!r}; only other files of its own "
                "folder can be included."
            )
        merged.update(_merged(target, (*above, path.resolve())))
    return {**merged, **config}


def _check(config: dict, path: Path) -> None:
    def refuse(what: str, remedy: str):
        raise InputError(f"The task file {path.name!r} {what}; {remedy}.")

    for key in config:
        if key not in _KEYS:
            refuse(
                f"has the key {str(key)[:40]!r}, which local task files may not have",
                "name a task of the harness for that",
            )
    if not isinstance(config.get("task"), str):
        refuse("names no task", "write for example task: NAME")
    for key in ("test_split", "validation_split"):
        if not isinstance(config.get(key, ""), str):
            refuse(f"has a {key} that is no name", "write for example test_split: test")
    if not isinstance(config.get("metric_list") or [], list):
        refuse("has a metric_list that is no list", "write for example - metric: acc")
    if not config.get("test_split") and not config.get("validation_split"):
        refuse(f"has no test_split for task {config['task'][:40]!r}", "name the split that is measured")
    source = str(config.get("dataset_path"))
    if source not in _LOADERS.values() and not _HUB.fullmatch(source):
        refuse(
            f"reads its data with {source[:60]!r}",
            f"use {', '.join(sorted(set(_LOADERS.values())))} or a hub id such as owner/name",
        )
    kwargs = config.get("dataset_kwargs") or {}
    if not isinstance(kwargs, dict) or set(kwargs) - _DATA:
        refuse(f"has dataset_kwargs other than {', '.join(sorted(_DATA))}", "leave them out")
    if source in _LOADERS.values() and "data_files" not in kwargs:
        refuse(f"loads {source} and names no data_files", "name them under dataset_kwargs")
    for metric in config.get("metric_list") or []:
        if (
            not isinstance(metric, dict)
            or not isinstance(metric.get("metric"), str)
            or metric.get("hf_evaluate")
        ):
            refuse("has a metric that is no name of the harness's own", "write for example - metric: acc")


def _listed(value) -> list:
    return value if isinstance(value, list) else [value]


def _file(task_file: Path, name: object) -> str:
    path = (task_file.absolute().parent / str(name)).resolve()
    if "://" in str(name) or not path.is_file():
        raise InputError(
            f"The data {str(name)[:100]!r} of the task file {task_file.name!r} is no local file; paths start "
            "at the task file."
        )
    return str(path)


def _data_files(kwargs: dict) -> list[Path]:
    return [Path(name) for names in kwargs.get("data_files", {}).values() for name in names]
