"""The study of the learned landscape against the paper's energy and its peers: `python -m core study --work
DIR`.

Subjects: the demo (24 blocks) and two 16-block models that are trained here from other seeds and corpora. All
losses are kept in DIR/home and every finished part in DIR/<subject>/<part>.json: the same command goes on
where it was stopped.

    DIR/<subject>/model, texts.jsonl, run    trained and calibrated
    DIR/<subject>/walk/<M>/                  every state of M, by core.measure.prefix_walk
    DIR/<subject>/<part>.json                what a part has found

At the end docs/study.md is written, with docs/study.json (all figures) and docs/study.npz (every state of M =
3 and 5).
"""

import argparse
import json
import logging
import os
import sys
from pathlib import Path

import numpy as np
import torch

from core.choose import bed_chapters, bed_page, bed_searches, bed_study, bed_units, shape_study
from core.choose.bed import COUNT
from core.choose.bed_parts import Parts, read_share
from core.choose.study_page import page
from core.choose.study_parts import (
    ROOT,
    Subject,
    best_of_all,
    depths_of,
    one_shot,
    prepare,
    ranking,
    reported,
    walk,
)
from core.model.load import load_model

SAME = 1e-6  # relative: two trainings whose original losses are this close gave the same weights
EARLIER = " (an earlier training)"
SUBJECTS = ("demo", "study-a", "study-b")


def collect(subject: Subject) -> dict:
    """All that the finished parts of a subject have found."""
    found: dict = {"blocks": subject.blocks, "ranking": {}, "searches": {}, "best": {}, "budgets": {}}
    read = lambda file: json.loads(file.read_text(encoding="utf-8"))  # noqa: E731
    for file in sorted(subject.folder.glob("*.json")):
        kind, _, rest = file.stem.partition("-")
        if kind == "ranking":
            found["ranking"][rest] = read(file)
        elif kind == "reported":
            found["searches"][rest] = read(file)
        elif kind == "best":
            found["best"][rest] = read(file)
        elif kind == "learned":
            found["budgets"].setdefault(rest.partition("-")[0], []).append(read(file)["budget"])
    if (subject.folder / "one-shot.json").exists():
        found["one-shot"] = read(subject.folder / "one-shot.json")
    meter = subject.forwards()
    found["original"] = float(meter.whole(()).mean())
    meter.save()
    return found


def write(subjects: list[Subject], docs: Path) -> None:
    """docs/study.md, study.json and study.npz from the parts that are finished, here and in an earlier study
    of the same models.
    """
    file, table = docs / "study.json", docs / "study.npz"
    results = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    arrays = dict(np.load(table)) if table.exists() else {}
    for s in subjects:
        found, earlier = collect(s), results.get(s.name, {})
        if np.isclose(earlier.get("original", np.nan), found["original"], rtol=SAME, atol=0):
            found = {
                key: {**earlier.get(key, {}), **value} if isinstance(value, dict) else value
                for key, value in {**earlier, **found}.items()
            }
        elif earlier:  # another training of the same recipe: what was found of it stays beside
            results[s.name + EARLIER] = earlier
            arrays = {
                key.replace(f"{s.name}-", f"{s.name}{EARLIER}-"): value for key, value in arrays.items()
            }
        results[s.name] = found
        for m in (m for m in found["best"] if (s.folder / "walk" / m).exists()):
            x, losses = walk(s, int(m))
            arrays |= {f"{s.name}-{m}-removed": np.nonzero(x)[1].reshape(len(x), -1).astype(np.uint8)}
            arrays |= {f"{s.name}-{m}-loss": losses.mean(axis=1, dtype=np.float32)}
    docs.mkdir(exist_ok=True)
    file.write_text(json.dumps(results, separators=(",", ":")) + "\n", encoding="utf-8")
    (docs / "study.md").write_text(page(results), encoding="utf-8")
    if arrays:
        np.savez_compressed(table, **arrays)


def _one_model(args: argparse.Namespace) -> Path:
    """The bed and the chapters of one model, from what is there on, and its page; of a share of the work that
    is not all only parts, from which another call writes.
    """
    folder, work = args.docs / "beds" / args.model, args.work.resolve() / args.model
    share, of = read_share(args.share)
    parts = Parts(work, share, of)
    if not args.write_only:
        subject = Subject(args.model, args.work.resolve()) if args.model in SUBJECTS else None
        if subject:
            prepare(subject)
        texts, judge = (source or (subject.texts if subject else "") for source in (args.texts, args.judge))
        source = str(subject.folder / "model") if subject and subject.trained_here else args.model
        loaded = load_model(source, dtype=torch.float32)
        run, bed = bed_study.measure(loaded, texts, judge, folder, args.count, args.model)
        rows = args.tasks if args.tasks and Path(args.tasks).is_dir() else None
        asked = bed_chapters.Asked(args.model, texts, judge, tuple(args.domains), rows, work)
        bed_chapters.measure(asked, loaded, run, bed, args.chapters)
        if args.searches is not None:
            study = bed_searches.Study(loaded, texts, judge, folder, parts)
            bed_searches.measure(study, args.searches, args.forwards)
        if args.units:
            tasks = args.tasks or (subject and subject.tasks)
            protocol = bed_units.protocol_of(tasks) if tasks else None
            bed_units.measure(bed_units.Asked(loaded, texts, judge, folder, parts, protocol))
        if of > 1:
            return work
    bed_chapters.collect(work, folder / "chapters.json")
    bed_searches.collect(parts, folder)
    bed_units.collect(parts, folder)
    return bed_page.write(args.model, args.docs)


def main(argv: list[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m core study", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--work", type=Path, required=True, help="everything lies here; the same folder goes on"
    )
    parser.add_argument(
        "--subjects",
        nargs="+",
        help=f"{', '.join(SUBJECTS)} (default all); with --shape also smollm2 (default "
        f"{', '.join(shape_study.NAMES)})",
    )
    parser.add_argument(
        "--shape",
        nargs="*",
        metavar="PART",
        help="study minima, barriers and basins instead: does the energy have those of the measured loss "
        f"(core.choose.shape_study), all parts or some of {', '.join(shape_study.KINDS)}",
    )
    parser.add_argument("--parts", nargs="+", default=["best", "searches", "ranking", "one-shot"])
    parser.add_argument(
        "--depths", nargs="+", default=["N/5", "N/4", "N/3", "N/2"], help="of searches and ranking"
    )
    parser.add_argument(
        "--model",
        help="study one model on a measured bed instead (core.choose.bed_study); one of the subjects has its "
        "own texts",
    )
    parser.add_argument("--texts", metavar="FILE", help="with --model: what it is calibrated on")
    parser.add_argument(
        "--judge",
        metavar="FILE",
        help="with --model, and of smollm2 with --shape: what its states are judged on",
    )
    parser.add_argument("--count", type=int, default=COUNT, help="with --model: states of a group")
    parser.add_argument(
        "--searches",
        nargs="*",
        metavar="METHOD",
        help="with --model: measure the searches on the bed's model, too, all or these "
        f"({', '.join(bed_searches.METHODS)})",
    )
    parser.add_argument(
        "--forwards",
        type=float,
        default=bed_searches.BUDGET,
        help="with --searches: what each may spend; greedy takes what it takes",
    )
    parser.add_argument(
        "--units",
        action="store_true",
        help="with --model: measure attention and FFN on their own, too (core.choose.bed_units)",
    )
    parser.add_argument(
        "--chapters",
        nargs="*",
        choices=bed_chapters.CHAPTERS,
        default=list(bed_chapters.CHAPTERS),
        help="with --model: what is measured beyond the bed (core.choose.bed_chapters)",
    )
    parser.add_argument(
        "--domains", nargs="+", default=[], metavar="FILE", help="with --model: more texts to calibrate on"
    )
    parser.add_argument(
        "--tasks",
        metavar="FOLDER",
        help="with --model: rows of the tasks of the preset quick-real; with --units also one task, as "
        "evaluate takes it",
    )
    parser.add_argument(
        "--share",
        default="1/1",
        metavar="K/N",
        help="with --model: of searches and units measure every N-th part from the K-th on and write no "
        "page, so that N processes share the work",
    )
    parser.add_argument("--docs", type=Path, default=ROOT / "docs")
    parser.add_argument("--write-only", action="store_true", help="only write the page from what is finished")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    os.environ["BLOCKSCAPE_HOME"] = str(args.work.resolve() / "home")
    if args.shape is not None:
        torch.set_num_threads(1)
        kinds = args.shape or shape_study.KINDS
        print(shape_study.run(args.subjects, args.work, args.docs, args.judge, kinds, not args.write_only))
        return 0
    if args.model:
        if not (args.write_only or args.model in SUBJECTS or (args.texts and args.judge)):
            parser.error("--model needs --texts and --judge: texts to calibrate on, and others to judge on")
        if not args.write_only and not args.tasks and set(args.chapters) & {"tasks", "tale"}:
            parser.error("the chapters tasks and tale need --tasks; name it, or leave them out")
        print(_one_model(args))
        return 0
    torch.set_num_threads(1)
    subjects = [Subject(name, args.work.resolve()) for name in args.subjects or SUBJECTS]
    for s in () if args.write_only else subjects:
        prepare(s)
        depths = {label: m for label, m in depths_of(s.blocks).items() if label in args.depths}
        if "best" in args.parts and s.trained_here:
            for m in (3, 5):
                best_of_all(s, m)
        if "searches" in args.parts:
            for m in sorted(set(depths.values())):
                reported(s, m)
        if "ranking" in args.parts:
            for m in sorted({m for label, m in depths.items() if label != "N/4"}):
                ranking(s, m, every=s.trained_here and (m == 3 or (s.folder / "walk" / str(m)).exists()))
        if "one-shot" in args.parts:
            one_shot(s)
    write(subjects, args.docs)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
