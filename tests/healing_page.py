"""The measured sections of docs/healing.md, from docs/healing.json: `python -m tests.healing_page`.

What stands under a heading of `sections` is written anew; the page's other sections stay.
"""

import json
import re
from pathlib import Path

import numpy as np

from tests.healing_found import findings
from tests.healing_tables import (
    BEST,
    HEAD,
    Z,
    against_at_once,
    at_once_and_in_rounds,
    lines_of,
    orders,
    paired,
    smollm2_healed,
    table,
    won,
)

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE, FOUND = DOCS / "healing.md", DOCS / "healing.json"
TEXTS = {
    "wikitext": "WikiText-2, valid part",
    "wikitext5": "WikiText-2, valid part",
    "own5": "what the original writes",
    "answers5": "what the original answers to prompts",
}

WRITTEN = ("own5", "answers5")


def sections(found: dict) -> dict[str, str]:
    """{heading: text} of what is measured so far."""
    made = {
        "What was found": (findings, "first steps"),
        "SmolLM2 on WikiText-2": (smollm2, "smollm2"),
        "States of SmolLM2 at one budget": (smollm2_states, "smollm2 states"),
        "Three tasks": (tasks, "tasks"),
        "The demo, by method": (methods, "methods"),
        "Other rates": (rates, "rates"),
        "Does the order of states survive?": (states, "states"),
        "In rounds or at once": (rounds, "rounds"),
    }
    return {heading: make(found) for heading, (make, part) in made.items() if part in found}


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
        + table(HEAD.format("`--method`"), lines_of(found, "methods"))
    )


def rates(found: dict) -> str:
    """The section on rates."""
    return f"`kl` with {found['rates']['seconds']} CPU seconds, seed 0, the same states.\n\n" + table(
        HEAD.format("highest rate"), lines_of(found, "rates", str)
    )


def states(found: dict) -> str:
    """The section on states at one budget."""
    own, original = found["states"], np.array(found["original"])
    lines, order = [], []
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
                    paired(pruned - original),
                    paired(healed - original),
                    won(original, [row]),
                    "-" if name == "lowest" else paired(healed - base),
                ]
            )
        order.append([m, len(rows), *orders(found, m).values()])
    budget = ", ".join(f"{t / 1000:.0f}k at M = {kind.split(' ')[0]}" for kind, t in own["tokens"].items())
    head = "M | state | removed | energy | increase, pruned | healed | won back | healed, against lowest"
    return (
        "States of the 1000 lowest by energy, healed by `kl` with equal tokens "
        f"({budget}; about {own['seconds']} CPU seconds), seed 0: the lowest; of 40 others the best by "
        "measured loss; the one least correlated with the lowest (Pearson); and seven from the lowest "
        "measured loss to the highest. They were measured, to choose them, on the held-out sequences, not on "
        "those that judge."
        "\n\n"
        + table(head, lines)
        + "\n\nSpearman, with 95 % bootstrap intervals over states:\n\n"
        + table(
            "M | states | energy and pruned loss | energy and healed loss | pruned and healed loss", order
        )
    )


def rounds(found: dict) -> str:
    """The section on rounds, beside what the methods' section has of one."""
    lines = lines_of({**found, "rounds": {"rows": at_once_and_in_rounds(found)}}, "rounds", str)
    against = [f"{rounds} rounds {nats}" for rounds, nats in against_at_once(found).items()]
    parts = {len(r["parts"]): r["parts"] for r in found["rounds"]["rows"].values()}
    order = "; ".join(
        f"{k} rounds: " + ", then ".join(" ".join(map(str, part)) for part in own) for k, own in parts.items()
    )
    return (
        "The twelve blocks of above at once, or in rounds with a healing after each (`kl`, seeds 0 and 1); "
        f"all rounds together have as many tokens as the one. {order}.\n\n"
        + table(HEAD.format("rounds"), lines)
        + f"\n\nNats against all at once, paired over sequences: {', '.join(against)}."
    )


def smollm2(found: dict) -> str:
    """The section on SmolLM2's loss."""
    runs = found["smollm2"]
    first = next(iter(runs.values()))
    original, pruned = np.array(first["original"]), np.array(first["pruned"])
    lines = [
        [
            TEXTS[name],
            f"{row['rate']:g}",
            f"{row['tokens'] / 1000:.0f}k",
            f"{row['cpu'] / 60:.1f}"
            + (f" (and {row['wrote'] / 60:.1f} to write)" if name in WRITTEN else ""),
            f"{row['before'][0]:.3f} to {row['after'][0]:.3f}",
            paired(np.array(row["losses"]) - original),
            won(original, [row]),
        ]
        for name, row in runs.items()
    ]
    course = [
        [f"{p['tokens'] / 1000:.0f}k", f"{p['kl']:.3f}", f"{p['held_loss']:.3f}"] for p in first["curve"]
    ]
    return (
        f"SmolLM2-135M without blocks {', '.join(map(str, first['removed']))} (6 of 30), `kl`, batches of "
        f"{first['batch']} sequences, seed {first['seed']}. Judged on {len(original)} sequences of the test "
        f"part: the original has {original.mean():.3f} nats, the pruned one {paired(pruned - original)} "
        "more.\n\n"
        + table(
            "learns from | highest rate | tokens | CPU minutes | held-out KL | increase, healed | won back",
            lines,
        )
        + "\n\nThe first of these as it learns, on the held-out sequences of the valid part:\n\n"
        + table("tokens | KL | loss", course)
        + _first_steps(found)
    )


def smollm2_states(found: dict) -> str:
    """The section on states of SmolLM2 that are healed alike: the best measured stands in the one before."""
    original, best = np.array(found["smollm2"]["wikitext5"]["original"]), found["smollm2"]["wikitext5"]
    rows = smollm2_healed(found)
    lines = [
        [
            name,
            ", ".join(map(str, row["removed"])),
            row["seed"],
            paired(np.array(row["pruned"]) - original),
            paired(np.array(row["losses"]) - original),
            won(original, [row]),
            "-" if name == BEST else paired(np.array(row["losses"]) - np.array(best["losses"])),
        ]
        for name, row in rows.items()
    ]
    return (
        f"SmolLM2-135M without 6 of 30 blocks, `kl`, {best['tokens'] / 1000:.0f}k tokens of WikiText-2's "
        f"valid part each, else as above. The lowest state of the couplings that the app opens on (`pairs`), "
        "the lowest of the paper's H0, the best by measured loss that any search found, and of the 1000 "
        "lowest of `pairs` the least correlated with the lowest (Pearson).\n\n"
        + table(
            "state | removed | seed | increase, pruned | increase, healed | won back | healed, against best",
            lines,
        )
    )


def _first_steps(found: dict) -> str:
    """What other methods and rates do to the held-out KL in a few steps."""
    rows = found.get("first steps", {})
    lines = [
        [
            *(f"`{word}`" for word in key.split(" ")),
            *(f"{row[of][-1]:.3f}" for of in ("curve", "held")),
            f"{row['cpu']:.0f}",
        ]
        for key, row in rows.items()
    ]
    if not lines:
        return ""
    kl, loss = (next(iter(rows.values()))[of][0] for of in ("curve", "held"))
    return (
        f"\n\nMethods and rates in 13 steps of 4 sequences, from a held-out KL of {kl:.3f} and a loss of "
        f"{loss:.3f}:\n\n" + table("`--method` | `--rate` | KL | loss | CPU seconds", lines)
    )


def _healed(row: dict, texts: str) -> str:
    return f"healed on {texts}, {row['tokens'] / 1000:.0f}k tokens"


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
        run = found.get("smollm2", {}).get(model)
        lines.append([_healed(run, TEXTS[model]) if run else model, *cells])
    count = len(right["pruned"][names[0]])
    return (
        f"The first {count} items of each, 0 shots, by lm-evaluation-harness's own task files, per cent "
        "right; in brackets points against the pruned model, paired over items, ± 95 %.\n\n"
        + table(" | ".join(["", *names]), lines)
    )


def written(page: str, found: dict) -> str:
    """The page with every measured section as it is now; one that it lacks goes behind the one before."""
    intro, *parts = re.split(r"^## ", page, flags=re.MULTILINE)
    own = {heading: text for heading, _, text in (part.partition("\n") for part in parts)}
    order, made = list(own), list(sections(found).items())
    for place, (heading, text) in enumerate(made):
        kept = re.search(r"^### .*", own.get(heading, ""), flags=re.MULTILINE | re.DOTALL)
        own[heading] = f"\n{text}\n" + (f"\n{kept[0]}" if kept else "")
        if heading not in order:
            order.insert(order.index(made[place - 1][0]) + 1 if place else 0, heading)
    return "\n\n".join([intro.strip(), *(f"## {h}\n\n{own[h].strip()}" for h in order)]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(
        written(PAGE.read_text(encoding="utf-8"), json.loads(FOUND.read_text())), encoding="utf-8"
    )
