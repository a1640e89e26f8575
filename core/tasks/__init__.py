"""What is asked of a model: tasks and protocols as data, and pure judgement of short answers.

items are the bundled multiple-choice questions; task_files and presets describe tasks of
lm-evaluation-harness, which core.measure.harness runs; scores tell what it found; short_prompts and verdicts
tell whether a pruned model still behaves.
"""

from core.tasks.items import TaskItem, read_tasks
from core.tasks.presets import PRESETS, Preset
from core.tasks.short_prompts import Prompt
from core.tasks.task_files import Task, parse_task
from core.tasks.verdicts import Answer, Change

__all__ = ["PRESETS", "Answer", "Change", "Preset", "Prompt", "Task", "TaskItem", "parse_task", "read_tasks"]
