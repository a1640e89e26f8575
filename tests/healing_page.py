"""The measured sections of docs/healing.md, from docs/healing.json: `python -m tests.healing_page`.

What stands under a heading of `sections` is written anew; the page's other sections stay.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from core.compare.agreement import Agreement, agreement
from tests.heal_runs import won_back

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE, FOUND = DOCS / "healing.md", DOCS / "healing.json"
Z = 1.96
TEXTS = {"wikitext": "WikiText-2, valid part", "own": "what the original writes"}
MODELS = {
    "original": "original",
    "pruned": "pruned",
    "wikitext": "healed on WikiText-2",
    "own": "healed on its own",
}


def sections(found: dict) -> dict[str, str]:
    """{heading: text} of what is measured so far."""
    made = {
        "SmolLM2 on WikiText-2": (smollm2, "smollm2"),
        "Three tasks": (tasks, "tasks"),
        "The demo, by method": (methods, "methods"),
        "Other rates": (rates, "rates"),
        "Longer": (longer, "long"),
        "Does the order of states survive?": (states, "states"),
        "In rounds or at once": (rounds, "rounds"),
    }
    return {heading: make(found) for heading, (make, part) in made.items() if part in found}


def _paired(values: np.ndarray) -> str:
    """A mean of differences [S] with its 95 % interval, four digits."""
    return f"{values.mean():+.4f} ± {Z * values.std(ddof=1) / len(values) ** 0.5:.4f}"


def _won(original: Sequence[float], rows: Sequence[Mapping]) -> str:
    """What came back, over all seeds: their losses are averaged sequence by sequence."""
    mean = {name: np.mean([row[name] for row in rows], axis=0) for name in ("pruned", "losses")}
    share, about = won_back(np.array(original), mean["pruned"], mean["losses"])
    return f"{100 * share:.0f} ± {100 * about:.0f} %"


def _table(head: str, lines: Sequence[Sequence]) -> str:
    """Markdown; head: its names, divided by bars."""
    names = [name.strip() for name in head.split("|")]
    rows = [names, ["---"] * len(names), *lines]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)


def _by_seed(rows: Mapping[str, dict]) -> dict[tuple[str, str], list[dict]]:
    """{(M, what is healed): a row a seed} of keys "M WHAT SEED"."""
    found: dict[tuple[str, str], list[dict]] = {}
    for key, row in rows.items():
        m, *what, _ = key.split(" ")
        found.setdefault((m, " ".join(what)), []).append(row)
    return found


def _lines(found: dict, part: str, named=lambda what: f"`{what}`") -> list[list]:
    """M, what, increase of the pruned and of the healed model, what came back, of seeds, tokens, seconds."""
    original, lines = np.array(found["original"]), []
    for (m, what), rows in _by_seed(found[part]["rows"]).items():
        pruned, healed = (np.mean([row[of] for row in rows], axis=0) for of in ("pruned", "losses"))
        each = [100 * won_back(original, np.array(r["pruned"]), np.array(r["losses"]))[0] for r in rows]
        lines.append(
            [
                m,
                named(what),
                _paired(pruned - original),
                _paired(healed - original),
                _won(original, rows),
                " and ".join(f"{share:.0f}" for share in each) if len(rows) > 1 else "-",
                f"{np.mean([row['tokens'] for row in rows]) / 1000:.0f}k",
                f"{np.mean([row['cpu'] for row in rows]):.0f}",
            ]
        )
    return lines


HEAD = "M | {} | increase, pruned | increase, healed | won back | by seed, % | tokens | CPU seconds"


def _loss(found: dict) -> str:
    return f"The original's loss is {np.mean(found['original']):.4f} nats."


def methods(found: dict) -> str:
    """The section on methods."""
    own = found["methods"]
    states = {key.split(" ")[0]: row["removed"] for key, row in own["rows"].items()}
    told = "; ".join(f"M = {m}: {', '.join(map(str, removed))}" for m, removed in states.items())
    return (
        f"Every method with {own['seconds']} CPU seconds, at its usual rate, seeds 0 and 1 where there is "
        f"chance, on the state of lowest energy ({told}). {_loss(found)}\n\n"
        + _table(HEAD.format("`--method`"), _lines(found, "methods"))
    )


def rates(found: dict) -> str:
    """The section on rates."""
    return f"`kl` with {found['rates']['seconds']} CPU seconds, seed 0, the same states.\n\n" + _table(
        HEAD.format("highest rate"), _lines(found, "rates", str)
    )


def longer(found: dict) -> str:
    """The section on a longer training."""
    lines = _lines(found, "long")
    course = [
        [f"M = {key.split(' ')[0]}", *(f"{p['kl']:.4f}" for p in row["curve"])]
        for key, row in found["long"]["rows"].items()
    ]
    evaluations = max(len(line) for line in course) - 1
    return (
        f"`kl` with {found['long']['seconds']} CPU seconds, seed 0, the same states.\n\n"
        + _table(HEAD.format("`--method`"), lines)
        + "\n\nHeld-out KL before the training and at each tenth of it:\n\n"
        + _table(
            " | ".join(["", *map(str, range(evaluations))]),
            [line + ["-"] * (evaluations + 1 - len(line)) for line in course],
        )
    )


def _told(found: Agreement | None) -> str:
    return "too few" if found is None else f"{found.spearman:.2f} [{found.low:.2f}, {found.high:.2f}]"


def states(found: dict) -> str:
    """The section on states at one budget."""
    own, original = found["states"], np.array(found["original"])
    lines, orders = [], []
    for m in dict.fromkeys(key.split(" ")[0] for key in own["rows"]):
        rows = {key.partition(" ")[2]: r for key, r in own["rows"].items() if key.split(" ")[0] == m}
        base = np.array(rows["lowest"]["losses"])
        for name, row in rows.items():
            pruned, healed = np.array(row["pruned"]), np.array(row["losses"])
            lines.append(
                [
                    m,
                    name,
                    ", ".join(map(str, row["removed"])),
                    f"{row['energy']:.4f}",
                    _paired(pruned - original),
                    _paired(healed - original),
                    _won(original, [row]),
                    "-" if name == "lowest" else _paired(healed - base),
                ]
            )
        energy = np.array([row["energy"] for row in rows.values()])
        pruned, healed = (np.array([np.mean(r[of]) for r in rows.values()]) for of in ("pruned", "losses"))
        orders.append(
            [
                m,
                len(rows),
                _told(agreement(energy, pruned)),
                _told(agreement(energy, healed)),
                _told(agreement(pruned, healed)),
            ]
        )
    budget = ", ".join(f"{t / 1000:.0f}k at M = {kind.split(' ')[0]}" for kind, t in own["tokens"].items())
    head = "M | state | removed | energy | increase, pruned | healed | won back | healed, against lowest"
    return (
        "States of the 1000 lowest by energy, healed by `kl` with equal tokens "
        f"({budget}; about {own['seconds']} CPU seconds), seed 0: the lowest; of 40 others the best by "
        "measured loss; the one least correlated with the lowest (Pearson); and seven from the lowest "
        "measured loss to the highest. They were measured, to choose them, on the held-out sequences, not on "
        "those that judge."
        "\n\n"
        + _table(head, lines)
        + "\n\nSpearman, with 95 % bootstrap intervals over states:\n\n"
        + _table(
            "M | states | energy and pruned loss | energy and healed loss | pruned and healed loss", orders
        )
    )


def rounds(found: dict) -> str:
    """The section on rounds, beside what the methods' section has of one."""
    at_once = {k: v for k, v in found["methods"]["rows"].items() if k.startswith("12 kl ")}
    both = {k.replace("kl", "1"): v for k, v in at_once.items()} | found["rounds"]["rows"]
    lines = _lines({**found, "rounds": {"rows": both}}, "rounds", str)
    mean = {what: np.mean([r["losses"] for r in own], axis=0) for (_, what), own in _by_seed(both).items()}
    against = [f"{what} rounds {_paired(of - mean['1'])}" for what, of in mean.items() if what != "1"]
    parts = {len(r["parts"]): r["parts"] for r in found["rounds"]["rows"].values()}
    order = "; ".join(
        f"{k} rounds: " + ", then ".join(" ".join(map(str, part)) for part in own) for k, own in parts.items()
    )
    return (
        "The twelve blocks of above at once, or in rounds with a healing after each (`kl`, seeds 0 and 1); "
        f"the tokens of all rounds together are about those of the one. {order}.\n\n"
        + _table(HEAD.format("rounds"), lines)
        + f"\n\nNats against all at once, paired over sequences: {', '.join(against)}."
    )


def smollm2(found: dict) -> str:
    """The section on SmolLM2's loss."""
    runs = found["smollm2"]
    first = next(iter(runs.values()))
    original, pruned = np.array(first["original"]), np.array(first["pruned"])
    lines = [
        [
            TEXTS.get(name, name),
            f"{row['rate']:g}",
            f"{row['tokens'] / 1000:.0f}k",
            f"{row['cpu'] / 60:.1f}",
            f"{row['before'][0]:.3f} to {row['after'][0]:.3f}",
            _paired(np.array(row["losses"]) - original),
            _won(original, [row]),
        ]
        for name, row in runs.items()
    ]
    course = [
        [f"{p['tokens'] / 1000:.0f}k", f"{p['kl']:.3f}", f"{p['held_loss']:.3f}"] for p in first["curve"]
    ]
    return (
        f"SmolLM2-135M without blocks {', '.join(map(str, first['removed']))} (6 of 30), `kl`, batches of "
        f"{first['batch']} sequences, seed {first['seed']}. Judged on {len(original)} sequences of the test "
        f"part: the original has {original.mean():.3f} nats, the pruned one {_paired(pruned - original)} "
        "more.\n\n"
        + _table(
            "learns from | highest rate | tokens | CPU minutes | held-out KL | increase, healed | won back",
            lines,
        )
        + "\n\nThe first of these as it learns, on the held-out sequences of the valid part:\n\n"
        + _table("tokens | KL | loss", course)
    )


def tasks(found: dict) -> str:
    """The section on tasks: shares of right items, and paired differences to the pruned model."""
    own, lines = found["tasks"], []
    names = list(own["pruned"])
    right = {model: {t: np.array(list(s), dtype=float) for t, s in own[model].items()} for model in own}
    for model, by_task in right.items():
        cells = []
        for task in names:
            value, about = by_task[task].mean(), by_task[task] - right["pruned"][task]
            change = 100 * Z * about.std(ddof=1) / len(about) ** 0.5
            told = "" if model == "pruned" else f" ({100 * about.mean():+.1f} ± {change:.1f})"
            cells.append(f"{100 * value:.1f}{told}")
        lines.append([MODELS[model], *cells])
    count = len(right["pruned"][names[0]])
    return (
        f"The first {count} items of each, 0 shots, by lm-evaluation-harness's own task files, per cent "
        "right; in brackets points against the pruned model, paired over items, ± 95 %.\n\n"
        + _table(" | ".join(["", *names]), lines)
    )


def written(page: str, found: dict) -> str:
    """The page with every measured section as it is now; one that it lacks goes to its end."""
    for heading, text in sections(found).items():
        head, own = f"## {heading}\n", f"## {heading}\n\n{text}\n"
        if head in page:
            page = re.sub(
                rf"{re.escape(head)}.*?(?=^### |^## |\Z)",
                lambda _, own=own: own + "\n",
                page,
                flags=re.DOTALL | re.MULTILINE,
            )
        else:
            page = f"{page.rstrip()}\n\n{own}"
    return page.rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(
        written(PAGE.read_text(encoding="utf-8"), json.loads(FOUND.read_text())), encoding="utf-8"
    )
