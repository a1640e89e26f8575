"""A bed of a tiny model, and rows of five tasks in the shapes that lm-evaluation-harness reads."""

import json
from pathlib import Path

from core.calibration.calibrate import calibrate
from core.calibration.pairs import with_pairs
from core.calibration.secants import with_secants
from core.choose.bed import Bed, drawn, walk
from core.choose.bed_study import chosen
from core.measure.state_losses import open_forwards
from core.model.load import LoadedModel, load_model
from core.store.runs import Run, save_run
from core.texts import Sequences, pack, read_texts

WORDS = ("dogs", "fox", "lazy", "hello", "quick", "brown")
TASKS = ("arc_easy", "arc_challenge", "piqa", "winogrande", "openbookqa")


def write_tasks(folder: Path) -> Path:
    """A folder of them."""
    folder.mkdir()
    rows: dict[str, list] = {name: [] for name in TASKS}
    for k, word in enumerate(WORDS):
        other, second = WORDS[k - 1], WORDS[k - 2]
        choices = {"text": [word, other, second], "label": ["A", "B", "C"]}
        key = "ABC"[k % 3]
        for name in ("arc_easy", "arc_challenge"):
            rows[name].append({"question": f"the {word} jumps over?", "choices": choices, "answerKey": key})
        rows["openbookqa"].append({"question_stem": f"the {word} says", "choices": choices, "answerKey": key})
        rows["piqa"].append({"goal": f"the {word}", "sol1": other, "sol2": second, "label": k % 2})
        rows["winogrande"].append(
            {
                "sentence": f"the {word} has _ dogs.",
                "option1": other,
                "option2": second,
                "answer": "12"[k % 2],
            }
        )
    for name, own in rows.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, own)) + "\n", encoding="utf-8")
    return folder


def texts_of(loaded: LoadedModel, text_file: Path, split: str, count: int) -> Sequences:
    """Sequences of 24 tokens."""
    return pack(read_texts(text_file), loaded.tokenizer, split, 24, count)


def measured_run(loaded: LoadedModel, text_file: Path, folder: Path | None = None) -> Run:
    """A run with everything, kept in `folder` where one is named."""
    texts = lambda split, count: texts_of(loaded, text_file, split, count)  # noqa: E731
    run = calibrate(loaded, texts("calibrate", 8), batch=8, sampled=True, singles=texts("choose", 6))
    run = with_pairs(with_secants(run, loaded, texts("choose", 4)), loaded, texts("choose", 4))
    if folder is not None:
        save_run(run, folder)
    return run


def measured_bed(model: str, text_file: Path) -> tuple[LoadedModel, Run, Bed, Sequences]:
    """(model, its run with everything, a bed of it, the sequences that it was measured on)."""
    loaded = load_model(model)
    run, unseen = measured_run(loaded, text_file), texts_of(loaded, text_file, "report", 6)
    groups = drawn(run.blocks, run.singles.increase, (2, 3), 12) | chosen(run, (2, 3), {})
    meter = open_forwards(loaded, unseen, keep=False, distances=True)
    meta = {"model": "tiny", "texts": "play.txt", "length": 24, "split": "report"}
    return loaded, run, walk(meter, groups, lambda *a: None, meta), unseen
