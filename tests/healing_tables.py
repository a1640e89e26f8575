"""Numbers of docs/healing.json in words and tables."""

from collections.abc import Mapping, Sequence

import numpy as np

from core.compare.agreement import Agreement, agreement
from tests.heal_runs import won_back

Z = 1.96
BEST = "best measured"  # of the states of SmolLM2
HEAD = "M | {} | increase, pruned | increase, healed | won back | by seed, % | tokens | CPU seconds"


def paired(values: np.ndarray) -> str:
    """A mean of differences [S] with its 95 % interval, four digits."""
    return f"{values.mean():+.4f} ± {Z * values.std(ddof=1) / len(values) ** 0.5:.4f}"


def won(original: Sequence[float], rows: Sequence[Mapping]) -> str:
    """What came back, over all seeds: their losses are averaged sequence by sequence."""
    mean = {name: np.mean([row[name] for row in rows], axis=0) for name in ("pruned", "losses")}
    share, about = won_back(np.array(original), mean["pruned"], mean["losses"])
    return f"{100 * share:.0f} ± {100 * about:.0f} %"


def told(found: Agreement | None) -> str:
    """Spearman's with its interval."""
    return "too few" if found is None else f"{found.spearman:.2f} [{found.low:.2f}, {found.high:.2f}]"


def table(head: str, lines: Sequence[Sequence]) -> str:
    """Markdown; head: its names, divided by bars."""
    names = [name.strip() for name in head.split("|")]
    rows = [names, ["---"] * len(names), *lines]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)


def by_seed(rows: Mapping[str, dict]) -> dict[tuple[str, str], list[dict]]:
    """{(M, what is healed): a row a seed} of keys "M WHAT SEED"."""
    found: dict[tuple[str, str], list[dict]] = {}
    for key, row in rows.items():
        m, *what, _ = key.split(" ")
        found.setdefault((m, " ".join(what)), []).append(row)
    return found


def lines_of(found: dict, part: str, named=lambda what: f"`{what}`") -> list[list]:
    """M, what, increase of the pruned and of the healed model, what came back, of seeds, tokens, seconds."""
    original, lines = np.array(found["original"]), []
    for (m, what), rows in by_seed(found[part]["rows"]).items():
        pruned, healed = (np.mean([row[of] for row in rows], axis=0) for of in ("pruned", "losses"))
        each = [100 * won_back(original, np.array(r["pruned"]), np.array(r["losses"]))[0] for r in rows]
        lines.append(
            [
                m,
                named(what),
                paired(pruned - original),
                paired(healed - original),
                won(original, rows),
                " and ".join(f"{share:.0f}" for share in each) if len(rows) > 1 else "-",
                f"{np.mean([row['tokens'] for row in rows]) / 1000:.0f}k",
                f"{np.mean([row['cpu'] for row in rows]):.0f}",
            ]
        )
    return lines


def orders(found: dict, m: str) -> dict[str, str]:
    """What orders the states of one M, before and after the healing, as Spearman with its interval."""
    rows = [row for key, row in found["states"]["rows"].items() if key.split(" ")[0] == m]
    energy = np.array([row["energy"] for row in rows])
    pruned, healed = (np.array([np.mean(row[of]) for row in rows]) for of in ("pruned", "losses"))
    pairs = {"before": (energy, pruned), "after": (energy, healed), "both": (pruned, healed)}
    return {name: told(agreement(*pair)) for name, pair in pairs.items()}


def smollm2_healed(found: dict) -> dict[str, dict]:
    """{which state of SmolLM2: row} of one budget, lowest pruned loss first; another seed behind its own."""
    rows = {BEST: found["smollm2"]["wikitext5"], **found["smollm2 states"]}
    return dict(sorted(rows.items(), key=lambda item: (np.mean(item[1]["pruned"]), item[1]["seed"])))


def at_once_and_in_rounds(found: dict) -> dict[str, dict]:
    """{"12 ROUNDS SEED": row}, what the methods' part has of all weights as one round."""
    once = {
        k.replace("kl", "1"): row for k, row in found["methods"]["rows"].items() if k.startswith("12 kl ")
    }
    return once | found["rounds"]["rows"]


def against_at_once(found: dict) -> dict[str, str]:
    """{rounds: nats by which their losses, the mean of both seeds, differ from those of one round}."""
    groups = by_seed(at_once_and_in_rounds(found))
    mean = {rounds: np.mean([row["losses"] for row in rows], axis=0) for (_, rounds), rows in groups.items()}
    return {rounds: paired(of - mean["1"]) for rounds, of in mean.items() if rounds != "1"}
