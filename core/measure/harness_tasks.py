"""The tasks of lm-evaluation-harness, set up so that none runs code that is not the harness's own.

Import this before anything of lm_eval: it sets what the harness reads as it is imported.
"""

import difflib
import logging
import os
from collections.abc import Sequence
from pathlib import Path

os.environ["HF_EVALUATE_OFFLINE"] = "1"  # metrics that come as code from the hub

import lm_eval.utils
from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from lm_eval.api.registry import AGGREGATION_REGISTRY, METRIC_REGISTRY
from lm_eval.tasks._index import Kind
from lm_eval.tasks._yaml_loader import load_yaml
from lm_eval.tasks.manager import TaskManager

from core.errors import InputError
from core.store import folders
from core.tasks.presets import Preset
from core.tasks.task_files import Task, loader_of, parse_task, read_task_file

SHIPPED = Path(lm_eval.__file__).parent / "tasks"

for _name in ("lm_eval", "lm-eval", "lm_eval.models.huggingface"):
    logging.getLogger(_name).setLevel(logging.ERROR)
# templates of task files are rendered in a sandbox: Jinja's plain environment reaches Python
_filters = lm_eval.utils.env.filters
lm_eval.utils.env = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
lm_eval.utils.env.filters.update(_filters)


def load_tasks(named: Sequence[str], preset: Preset) -> dict:
    """The harness's tasks and groups by their names, {tasks, groups, group_map}, their data loaded and their
    shots set.

    Errors: InputError for unknown tasks, tasks that run generated code, data that is not at hand, and shots
    there is nothing to draw from.
    """
    asked = [parse_task(text) for text in named]
    if not asked:
        raise InputError("No task is named; give for example --tasks hellaswag.")
    manager = _manager([task.name for task in asked if not task.file])
    for task in asked:
        if not task.file:
            _refuse_code(manager, task.name)
    specs = [_config_of(task, manager) if task.file or task.data else task.name for task in asked]
    try:
        loaded = manager.load(specs)
    except Exception as error:
        # the hub's clients, the data loaders and the task's own functions have a class for each
        raise InputError(
            f"Task {', '.join(t.name for t in asked)[:100]} could not be set up ({_line(error)}); for lack "
            "of a connection, "
            f"give its data as NAME::data=FILE, or the folder of all rows with --data."
        ) from error
    for name, task in loaded["tasks"].items():
        own = task.config.num_fewshot
        if preset.shots is not None and own != 0:  # a task file that says 0 means it, as in the harness
            task.set_config(key="num_fewshot", value=preset.shots)
        elif own is None:
            task.set_config(key="num_fewshot", value=0)
        drawn = (
            task.fewshot_cfg.split
            or task.fewshot_cfg.samples
            or task.has_training_docs()
            or task.has_validation_docs()
        )
        if task.config.num_fewshot and not drawn:
            raise InputError(
                f"Task {name!r} has only the items it measures to draw {task.config.num_fewshot} examples "
                "from; "
                f"name a fewshot_split in its file, or ask for 0 shots."
            )
    return loaded


def _manager(names: list[str]) -> TaskManager:
    """One that knows the tasks of these names: all the harness's task files take 15 s to read, one folder
    mostly less than one.
    """
    folders = {SHIPPED / name.split("_")[0] for name in names}
    if all(folder.is_dir() for folder in folders):
        manager = TaskManager(include_defaults=False, include_path=sorted(map(str, folders)))
        if all(_complete(manager, name) for name in names):
            return manager
    manager = TaskManager()
    for name in names:
        if name not in manager.task_index:
            near = difflib.get_close_matches(name, manager.all_tasks, 3, 0.5)
            raise InputError(
                f"The harness has no task {name!r}; "
                f"{'similar: ' + ', '.join(near) if near else 'check its name'}."
            )
    return manager


def _complete(manager: TaskManager, name: str) -> bool:
    """Whether the manager knows this task or group and all that it stands for; tasks of one tag may be in
    many folders.
    """
    entry = manager.task_index.get(name)
    if entry is None or entry.kind is Kind.TAG:
        return False
    members = (entry.cfg or {}).get("task") if entry.kind is Kind.GROUP else []
    return all(
        _complete(manager, m if isinstance(m, str) else m.get("task") or m.get("group"))
        for m in members or []
    )


def _refuse_code(manager: TaskManager, name: object) -> None:
    """Errors: InputError where the task, or one of a group or tag, runs code that a model wrote; before any
    of its own is loaded.
    """
    entry = manager.task_index.get(name) if isinstance(name, str) else None
    if entry is None:
        return
    config = entry.cfg or {}
    if config.get("unsafe_code"):
        raise InputError(
            f"Task {name!r} runs code that the model writes, which Blockscape never does; choose another."
        )
    members = config.get("task") if entry.kind is Kind.GROUP else entry.tags if entry.kind is Kind.TAG else []
    for member in members or []:
        _refuse_code(
            manager, member if isinstance(member, str) else member.get("task") or member.get("group")
        )


def _config_of(task: Task, manager: TaskManager) -> dict:
    """The configuration of a local file, or of the harness's task over local data."""
    if task.file:
        config = read_task_file(task.file)
        if "data_files" in config["dataset_kwargs"]:
            config["dataset_kwargs"]["cache_dir"] = str(folders.home() / "datasets")
        for metric in config.get("metric_list") or []:
            if (
                metric["metric"] not in METRIC_REGISTRY
                or str(metric.get("aggregation", "mean")) not in AGGREGATION_REGISTRY
            ):
                raise InputError(
                    f"The task file {task.file.name!r} asks for {str(metric)[:80]}, which the harness does "
                    "not have; use acc."
                )
        return config
    assert task.data is not None  # load_tasks asks for those of the two only
    entry = manager.task_index[task.name]
    if entry.kind is not Kind.TASK:
        raise InputError(
            f"{task.name!r} is not a single task, so it has no single data file; name one of its tasks."
        )
    config = load_yaml(entry.yaml_path)
    split = config.get("test_split") or config.get("validation_split")
    drawn = (config.get("fewshot_config") or {}).get("samples")
    return {
        **{
            k: v
            for k, v in config.items()
            if k not in ("tag", "group", "training_split", "validation_split", "test_split", "dataset_name")
        },
        "dataset_path": loader_of(task.data),
        "dataset_kwargs": {
            "data_files": {split: str(task.data.absolute())},
            "cache_dir": str(folders.home() / "datasets"),
            **({"field": task.field} if task.field else {}),
        },
        "test_split": split,
        **({} if drawn else {"fewshot_split": split}),  # the harness leaves the item itself out
    }


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0][:160]}"
