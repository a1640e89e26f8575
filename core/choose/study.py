"""The study of the learned landscape against the paper's energy and its peers: `python -m core study --work
DIR`.

Subjects: the demo (24 blocks) and two 16-block models that are trained here from other seeds and corpora. All
losses are kept in DIR/home and every finished part in DIR/<subject>/<part>.json: the same command goes on
where it was stopped.

    DIR/<subject>/model, texts.jsonl, run    trained and calibrated
    DIR/<subject>/walk/<M>/                  every state of M, by core.measure.forwards.prefix_walk
    DIR/<subject>/<part>.json                what a part has found

At the end docs/study.md is written, with docs/study.json (all figures) and docs/study.npz (every state of M =
3 and 5).
"""

import argparse
import json
import logging
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from core.calibration.calibrate import calibrate
from core.choose import peers
from core.choose.learning import learn, rows_for_prior
from core.compare.agreement import spearman
from core.energy.couplings import couplings
from core.energy.learned import prior_from
from core.ising.energies import energies
from core.ising.states import indicator, removed_blocks
from core.measure.forwards import Forwards, open_forwards, prefix_walk, singles_of, stratified
from core.model.load import LoadedModel, load_model
from core.ranks import ALONE
from core.store.folders import DEMO_RUN
from core.store.runs import Run, load_run, save_run
from core.texts import Sequences, pack, read_texts

LOG = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parents[2]
LENGTH, CHOOSE, REPORT, WALK, ROWS = 128, 256, 256, 128, 256  # tokens; sequences
# random states of an M, and the sequences of the report split that they are measured on
SAMPLE, SAMPLE_SEQUENCES = 500, 128
SEEDS, PEER_SEEDS = (0, 1, 2), (0,)  # of ours, of the searches that draw at random
MEMORY = 4 << 30  # bytes of hidden states: a whole step of greedy on 24 blocks
SAME = 1e-6  # relative: two trainings whose original losses are this close gave the same weights
EARLIER = " (an earlier training)"
FIRST_ORDER = "T/2 H0 - diag(g)"
OURS, LONGER = 1.0, 1.25  # of greedy's forwards: what ours gets, and how far the other searches go on


def depths_of(n: int) -> dict[str, int]:
    """The M of the study, by share of N."""
    return {"N/5": round(n / 5), "N/4": round(n / 4), "N/3": round(n / 3), "N/2": n // 2}


@dataclass(frozen=True)
class Subject:
    """A model of the study and where its files are."""

    name: str
    work: Path

    @property
    def folder(self) -> Path:
        return self.work / self.name

    @property
    def trained_here(self) -> bool:
        return self.name != "demo"

    @cached_property
    def loaded(self) -> LoadedModel:
        return load_model(str(self.folder / "model") if self.trained_here else "demo")

    @cached_property
    def run(self) -> Run:
        return load_run(self.folder / "run" if self.trained_here else DEMO_RUN)

    @property
    def blocks(self) -> int:
        return len(self.loaded.blocks)

    def sequences(self, split: str, count: int) -> Sequences:
        texts = read_texts(str(self.folder / "texts.jsonl") if self.trained_here else None)
        return pack(texts, self.loaded.tokenizer, split, LENGTH, count)

    def forwards(self, count: int = CHOOSE) -> Forwards:
        """A meter over the choosing sequences, whose count starts at 0."""
        return open_forwards(self.loaded, stratified(self.sequences("choose", count)), memory=MEMORY)

    @cached_property
    def unseen(self) -> Forwards:
        """Over the report split: nothing that it measures was chosen on."""
        return open_forwards(self.loaded, stratified(self.sequences("report", REPORT)))

    def report(self, state) -> tuple[float, float]:
        """(loss increase, standard error) on the report split, nats."""
        increase = self.unseen.whole(tuple(state)) - self.unseen.whole(())
        self.unseen.known.flush()
        return float(increase.mean()), float(increase.std(ddof=1) / np.sqrt(len(increase)))

    def part(self, name: str, make: Callable[[], object]):
        """What a part has found: made once, then read."""
        file = self.folder / f"{name}.json"
        if not file.exists():
            LOG.info("%s: %s", self.name, name)
            file.parent.mkdir(parents=True, exist_ok=True)
            content = json.dumps(make())
            staging = file.with_suffix(".part")
            staging.write_text(content, encoding="utf-8")
            os.replace(staging, file)
        return json.loads(file.read_text(encoding="utf-8"))


# -- the parts -----------------------------------------------------------------------------------
def prepare(subject: Subject) -> None:
    """Train and calibrate what is not there."""
    folder = subject.folder
    if not subject.trained_here:
        return
    if not (folder / "training.json").exists():
        LOG.info("training %s", subject.name)
        command = [
            sys.executable,
            "-m",
            "assets.build.train",
            "--preset",
            subject.name,
            "--work",
            str(folder / "build"),
            "--out",
            str(folder),
        ]
        subprocess.run(command, cwd=ROOT, check=True)
    if not (folder / "run").exists():
        save_run(
            calibrate(subject.loaded, subject.sequences("calibrate", ROWS), sampled=True, ranks=ALONE),
            folder / "run",
        )


def walk(subject: Subject, m: int) -> tuple[np.ndarray, np.ndarray]:
    """(x bool [K, N], losses float32 [K, WALK]): every state of M on the first choosing sequences."""
    last = [-1]

    def report(done: int, total: int, message: str) -> None:
        if 100 * done // total > last[0]:
            last[0] = 100 * done // total
            LOG.info("%s: %s, %d %%", subject.name, message, last[0])

    return prefix_walk(
        subject.loaded, subject.sequences("choose", WALK), m, subject.folder / "walk" / str(m), report
    )


def walked(subject: Subject, m: int) -> Forwards:
    """A meter over the walk's sequences that knows every state of M."""
    x, losses = walk(subject, m)
    index = subject.sequences("choose", WALK).index.tolist()
    meter = subject.forwards(WALK)
    for state, own in zip(removed_blocks(x), losses):
        meter.known.values[state] = dict(zip(index, own.astype(float).tolist()))
    return meter


def greedy_curve(subject: Subject, count: int = CHOOSE, most: int | None = None) -> dict:
    """{M: {removed, forwards, loss}} of greedy on `count` choosing sequences."""

    def make() -> dict:
        meter = subject.forwards(count)
        found = peers.greedy(meter, most or subject.blocks // 2)
        meter.known.flush()
        return {m: vars(choice) for m, choice in found.items()}

    return subject.part(f"greedy-{count}", make)


def learned_curve(subject: Subject, m: int, budget: float, seed: int, meter: Callable[[], Forwards]) -> dict:
    """The learned landscape's curve [[forwards, loss, removed]], and its couplings."""
    found = learn(rows_for_prior(subject.run), meter(), m, budget, seed=seed)
    return {
        "budget": budget,
        "curve": found.curve,
        "original": found.original,
        "looked at": len(found.measured),
        "couplings": found.posterior.couplings.tolist(),
        "spread": found.posterior.spread.tolist(),
    }


def searches(subject: Subject, m: int) -> dict[str, list]:
    """{method: one curve [[forwards, loss, removed]] a seed}, on CHOOSE sequences."""
    greedy = greedy_curve(subject)[str(m)]
    budget = greedy["forwards"]
    found = {"greedy": [[[budget, greedy["loss"], greedy["removed"]]]]}
    found["learned"] = [
        subject.part(
            f"learned-{m}-{seed}",
            lambda seed=seed: learned_curve(subject, m, OURS * budget, seed, subject.forwards),
        )["curve"]
        for seed in SEEDS
    ]
    for name, search in (("evolutionary", peers.evolutionary), ("random", peers.random_search)):

        def make(search=search, seed=0) -> list:
            meter = subject.forwards()
            curve = search(meter, m, LONGER * budget, seed)
            meter.known.flush()
            return [[c.forwards, c.loss, c.removed] for c in curve]

        found[name] = [
            subject.part(f"{name}-{m}-{seed}", lambda seed=seed: make(seed=seed)) for seed in PEER_SEEDS
        ]
    return found


def reported(subject: Subject, m: int) -> dict[str, list]:
    """`searches` with [forwards, loss, removed, increase on the report split, its standard error]."""
    found = searches(subject, m)
    return subject.part(
        f"reported-{m}",
        lambda: {
            name: [[[*point, *subject.report(point[2])] for point in curve] for curve in curves]
            for name, curves in found.items()
        },
    )


def one_shot(subject: Subject) -> dict:
    """{rule: {M: [removed, forwards, increase on the report split, standard error]}} of rules that measure no
    states of M.
    """

    def make() -> dict:
        depths = sorted(set(depths_of(subject.blocks).values()))
        rules = peers.chosen_at_once(
            subject.loaded, subject.sequences("choose", CHOOSE), subject.forwards, depths
        )
        return {
            peers.ONE_SHOT[name]: {
                m: [c[m].removed, c[m].forwards, *subject.report(c[m].removed)] for m in depths
            }
            for name, c in rules
        }

    return subject.part("one-shot", make)


def agreement(energy: np.ndarray, loss: np.ndarray, x: np.ndarray) -> list[float]:
    """[Spearman over all states, over those that keep block 0, recall of the 20 lowest losses in the 20
    lowest energies].
    """
    kept = ~x[:, 0]
    best, lowest = (set(np.argsort(v)[:20].tolist()) for v in (loss, energy))
    return [spearman(energy, loss), spearman(energy[kept], loss[kept]), len(best & lowest) / 20]


def measured_states(subject: Subject, m: int, every: bool) -> tuple[np.ndarray, np.ndarray]:
    """(x bool [K, N], mean losses float64 [K]) of all states of M, or of SAMPLE random ones on texts not used
    to choose.
    """
    if every:
        x, losses = walk(subject, m)
        return x, losses.mean(axis=1, dtype=float)
    rng = np.random.default_rng(m)
    states: dict = {}
    while len(states) < SAMPLE:
        states[tuple(sorted(rng.choice(subject.blocks, m, replace=False).tolist()))] = None
    meter = open_forwards(subject.loaded, stratified(subject.sequences("report", SAMPLE_SEQUENCES)))
    losses = np.array([meter.whole(s).mean() for s in states])
    meter.known.flush()
    return indicator(list(states), subject.blocks), losses


def ranking(subject: Subject, m: int, every: bool) -> dict:
    """{estimator: `agreement`}, and the number of states."""

    def make() -> dict:
        x, loss = measured_states(subject, m, every)
        meter = subject.forwards()
        matrices = {
            "paper H0": couplings(subject.run, "h0"),
            "H1": couplings(subject.run, "h1"),
            FIRST_ORDER: couplings(subject.run, "h0g"),
            "hybrid (prior)": prior_from(*singles_of(meter, [0]), rows_for_prior(subject.run)).mean,
        }
        searches(subject, m)
        learned = [subject.part(f"learned-{m}-{seed}", dict) for seed in SEEDS]
        for seed, found in zip(SEEDS, learned):
            matrices[f"learned, seed {seed}"] = np.array(found["couplings"])
        share = (
            float(np.mean([found["budget"] for found in learned])) / greedy_curve(subject)[str(m)]["forwards"]
        )
        return {"states": len(x), "all of them": every, "learned from": share} | {
            name: agreement(energies(H, x), loss, x) for name, H in matrices.items()
        }

    return subject.part(f"ranking-{m}", make)


def best_of_all(subject: Subject, m: int) -> dict:
    """When the learned landscape has found the best of all states of M, against greedy, on the walk's
    sequences.
    """
    limit = 0.8 if m == 3 else 0.5

    def make() -> dict:
        x, losses = walk(subject, m)
        mean = losses.mean(axis=1, dtype=float)
        order = np.argsort(mean)
        rank = {s: r for r, s in enumerate(removed_blocks(x[order]))}
        greedy = greedy_curve(subject, WALK, 5)[str(m)]
        runs = []
        for seed in range(5):
            found = learned_curve(subject, m, limit * greedy["forwards"], seed, lambda: walked(subject, m))
            runs.append([[spent, rank[tuple(removed)]] for spent, _, removed in found["curve"]])
        return {
            "states": len(x),
            "best": removed_blocks(x[order[:1]])[0],
            "loss": float(mean.min()),
            "limit": limit,
            "greedy": {**greedy, "rank": rank[tuple(greedy["removed"])]},
            "learned": runs,
        }

    return subject.part(f"best-{m}", make)


# -- the page -------------------------------------------------------------------------------------
def at(curve: list, budget: float):
    """The last point of a curve within a budget; None before the first."""
    return next((point for point in reversed(curve) if point[0] <= budget), None)


def _mean(values: list) -> str:
    values = [v for v in values if v is not None]
    return f"{np.mean(values):.4f}" if values else "-"


def page(results: dict) -> str:
    """docs/study.md from {subject: what `collect` gives}."""
    lines = [
        "# The learned landscape, measured",
        "",
        f"Written by `python -m core study --work DIR` on {platform.machine()}, {os.cpu_count()} cores, "
        f"torch {torch.__version__} (CPU, float32). "
        "Demo: 24 blocks. study-a, study-b: 16 blocks, 3.3 M tokens, trained from other seeds and corpora "
        "(`python -m assets.build.train --preset study-a`); nothing was tuned on study-b.",
        "",
        f"One forward is all blocks over the {CHOOSE} choosing sequences of {LENGTH} tokens; what is "
        "executed counts, block by block; kept prefixes are shared by every method alike, "
        "and gradient rows (2.3 forwards each over its sequence) and single removals are counted in. "
        "Increases are nats on "
        f"{REPORT} sequences of the report split, which no choice has seen.",
    ]
    missing = []
    for part in (_ranking_table, _search_tables, _best_table, _reach_table, _one_shot_table):
        section = part(results)
        if sum(line.startswith("|") for line in section) <= 2:  # no more than the head of a table
            missing.append(section[0].removeprefix("## "))
        else:
            lines += ["", *section]
    if missing:
        lines += ["", f"Not measured yet: {'; '.join(missing)}."]
    return "\n".join(lines) + "\n"


def _cells(results: dict, part: str) -> Iterator[tuple[str, str, int, dict]]:
    """(subject, label of M, M, what the part found) of all that is finished."""
    for name, found in results.items():
        for label, m in depths_of(found["blocks"]).items():
            if str(m) in found.get(part, {}):
                yield name, label, m, found[part][str(m)]


def _ranking_table(results) -> list[str]:
    lines = [
        "## (a) Does the energy rank the states?",
        "",
        "Spearman over all states / with block 0 kept / recall of the true best 20. Learned: mean of three "
        "seeds; in brackets the forwards as a share of greedy's. "
        "Targets over all: 0.90 up to N/3, 0.80 at N/2.",
        "",
        "| model | M | states | paper H0 | H1 | first order on | hybrid (the prior) | learned | target |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, label, m, found in _cells(results, "ranking"):
        cells = [
            " / ".join(f"{v:.2f}" for v in found.get(key, ())) or "-"
            for key in ("paper H0", "H1", FIRST_ORDER, "hybrid (prior)")
        ]
        target = 0.8 if label == "N/2" else 0.9
        mean = np.mean([v for key, v in found.items() if key.startswith("learned, seed")], axis=0)
        cells.append(
            " / ".join(f"{v:.2f}" for v in mean)
            + (f" ({found['learned from']:.2f})" if "learned from" in found else "")
        )
        met = "met" if mean[0] >= target else "not met"
        which = (
            f"all {found['states']}" if found["all of them"] else f"{found['states']} random, report split"
        )
        lines.append(f"| {name} | {m} ({label}) | {which} | {' | '.join(cells)} | {target:.2f}: {met} |")
    return lines


def _search_tables(results) -> list[str]:
    lines = [
        "## (b) What a forward buys",
        "",
        "Loss increase on the report split of the best state at hand, mean of the seeds, by forwards as a "
        "share of greedy's; in brackets on the choosing sequences. Behind ours: what each seed could spend "
        "at most, as a share of greedy's. "
        "The verdict compares at every point from greedy's end on, seeds averaged; a tie is a difference "
        "within two standard errors of a state's report loss.",
        "",
        "| model | M | method | 1/3 | 1/2 | 1 | 1.25 | verdict for ours |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for subject, label, m, found in _cells(results, "searches"):
        end, base = found["greedy"][0][0][0], results[subject]["original"]

        def means(name: str, budget: float, column: int, found=found) -> float | None:
            points = [at(curve, budget) for curve in found[name]]
            return None if None in points else float(np.mean([p[column] for p in points]))

        for name in ("learned", "greedy", "evolutionary", "random"):
            cells = []
            for share in (1 / 3, 1 / 2, 1, LONGER):
                unseen, chosen = means(name, share * end, 3), means(name, share * end, 1)
                cells.append("-" if unseen is None else f"{unseen:.4f} ({chosen - base:.4f})")
            verdict = "" if name == "learned" else _verdict(found, name, end, means)
            title = f"{name}, {end:.1f} forwards" if name == "greedy" else name
            if name == "learned" and (given := results[subject].get("budgets", {}).get(str(m))):
                title += f", at most {', '.join(f'{b / end:.2f}' for b in given)}"
            lines.append(f"| {subject} | {m} ({label}) | {title} | {' | '.join(cells)} | {verdict} |")
    return lines


def _verdict(found: dict, name: str, end: float, means) -> str:
    """Whether the learned curve lies on or under another from greedy's end on, on the report split and on the
    choosing sequences.
    """
    budgets = sorted(
        {end, *(p[0] for curve in (*found[name], *found["learned"]) for p in curve if p[0] >= end)}
    )
    words = []
    for column, where in ((3, "unseen"), (1, "choosing")):
        gaps = [
            means("learned", b, column) - means(name, b, column)
            for b in budgets
            if means(name, b, column) is not None
        ]
        worst = max(gaps)
        error = float(np.mean([p[-1][4] for p in found["learned"]]))
        word = "on or under" if worst <= 1e-9 else "a tie" if column == 3 and worst <= 2 * error else "above"
        words.append(f"{where}: {word} ({worst:+.4f})")
    return ", ".join(words)


def _best_table(results) -> list[str]:
    lines = [
        "## (c) The best of all states",
        "",
        f"Every state of M was measured on {WALK} choosing sequences (docs/study.npz); forwards here are "
        "over those. "
        "Learned: forwards at which it first held the best of all, five seeds (in brackets the rank of what "
        "it held where it did not).",
        "",
        "| model | M | states | greedy: forwards, rank | limit | learned, by seed | within |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, all_found in results.items():
        for m, found in all_found.get("best", {}).items():
            limit = found["limit"] * found["greedy"]["forwards"]
            when = [next((spent for spent, rank in run if rank == 0), None) for run in found["learned"]]
            cells = [
                f"{w:.1f}" if w is not None else f"({run[-1][1] if run else '-'})"
                for w, run in zip(when, found["learned"])
            ]
            inside = sum(w is not None for w in when)
            lines.append(
                f"| {name} | {m} | {found['states']} | {found['greedy']['forwards']:.1f}, "
                f"{found['greedy']['rank']} | {limit:.1f} | {', '.join(cells)} | {inside} of {len(when)} |"
            )
    return lines


def _reach_table(results) -> list[str]:
    lines = [
        "## (d) Greedy's loss on unseen texts, reached with",
        "",
        "Forwards after which the learned landscape's choice, at the sequence of its choices, is and stays "
        "no worse than greedy's on the report split.",
        "",
        "| model | M | greedy: forwards, increase | learned: forwards by seed (share) | limit |",
        "|---|---|---|---|---|",
    ]
    for name, label, m, found in _cells(results, "searches"):
        end, _, _, goal, _ = found["greedy"][0][0]
        cells = []
        for curve in found["learned"]:
            last_worse = max((k for k, p in enumerate(curve) if p[3] > goal + 1e-9), default=-1)
            spent = curve[last_worse + 1][0] if last_worse + 1 < len(curve) else None
            cells.append("never" if spent is None else f"{spent:.1f} ({spent / end:.2f})")
        limit = {"N/4": "1/3", "N/2": "1/2"}.get(label, "")
        lines.append(f"| {name} | {m} ({label}) | {end:.1f}, {goal:.4f} | {', '.join(cells)} | {limit} |")
    return lines


def _one_shot_table(results) -> list[str]:
    lines = [
        "## Rules that rank blocks once",
        "",
        "Increase on the report split, nats, ± standard error; forwards to choose.",
        "",
    ]
    for subject, all_found in results.items():
        found = all_found.get("one-shot")
        if not found:
            continue
        depths = sorted(set(depths_of(all_found["blocks"]).values()))
        lines += [
            f"| {subject} | " + " | ".join(f"M = {m}" for m in depths) + " | forwards |",
            "|---|" + "---|" * (len(depths) + 1),
        ]
        for name, rows in found.items():
            cells = [f"{rows[str(m)][2]:.4f} ± {rows[str(m)][3]:.4f}" for m in depths]
            lines.append(f"| {name} | {' | '.join(cells)} | {max(rows[str(m)][1] for m in depths):.1f} |")
        for name in ("greedy", "learned"):
            rows = [all_found.get("searches", {}).get(str(m)) for m in depths]
            cells = [_mean([curve[-1][3] for curve in row[name]] if row else []) for row in rows]
            lines.append(f"| {name} | {' | '.join(cells)} | see (b) |")
        lines.append("")
    return lines[:-1]


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
    meter.known.flush()
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


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m core study", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--work", type=Path, required=True, help="everything lies here; the same folder goes on"
    )
    parser.add_argument("--subjects", nargs="+", default=["demo", "study-a", "study-b"])
    parser.add_argument("--parts", nargs="+", default=["best", "searches", "ranking", "one-shot"])
    parser.add_argument(
        "--depths", nargs="+", default=["N/5", "N/4", "N/3", "N/2"], help="of searches and ranking"
    )
    parser.add_argument("--docs", type=Path, default=ROOT / "docs")
    parser.add_argument("--write-only", action="store_true", help="only write the page from what is finished")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    torch.set_num_threads(1)
    os.environ["BLOCKSCAPE_HOME"] = str(args.work.resolve() / "home")
    subjects = [Subject(name, args.work.resolve()) for name in args.subjects]
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
