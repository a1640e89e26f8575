"""What docs/healing.md concludes, with the figures of docs/healing.json."""

from collections.abc import Mapping, Sequence

import numpy as np

from core.heal.settings import TRAINED
from tests.heal_runs import won_back
from tests.healing_tables import BEST, Z, against_at_once, by_seed, orders, paired, smollm2_healed, won

LOWEST_TASKS = "lowest state, healed on WikiText-2, 18k tokens"  # a row of the tasks


def _back(found: dict, model: str) -> str:
    """How much of what each task lost came back, in words."""
    right = {m: {t: s.count("1") / len(s) for t, s in own.items()} for m, own in found["tasks"].items()}
    lost = {t: right["original"][t] - share for t, share in right["pruned"].items()}
    each = [
        f"{round(100 * (right[model][t] - right['pruned'][t]), 1):g} of {100 * gone:.3g} points of {t}"
        for t, gone in lost.items()
    ]
    return ", ".join(each[:-1]) + f" and {each[-1]}"


def _apart(found: dict, first: str, second: str) -> str:
    """Points of each task by which the first is ahead, paired over items."""
    own = {m: {t: np.array(list(s), float) for t, s in found["tasks"][m].items()} for m in (first, second)}
    each = {t: 100 * (own[first][t] - own[second][t]) for t in own[first]}
    return ", ".join(
        f"{v.mean():+.1f} ± {Z * v.std(ddof=1) / len(v) ** 0.5:.1f} ({t})" for t, v in each.items()
    )


def _spread(rows: Sequence[Mapping], of: str) -> float:
    """Nats between the best and the worst of some states."""
    return float(np.ptp([np.mean(row[of]) for row in rows]))


def findings(found: dict) -> str:
    """The section that comes first."""
    return "\n".join(
        f"- {line}" for line in (*_of_smollm2(found), *_of_states_of_smollm2(found), *_of_the_demo(found))
    )


def _of_smollm2(found: dict) -> list[str]:
    runs = found["smollm2"]
    long, few = runs["wikitext"], runs["wikitext5"]
    back = {name: won(row["original"], [row]) for name, row in runs.items()}
    beside = "" if "answers5" in runs else ", and answers to prompts"
    kl = 100 * (1 - long["after"][0] / long["before"][0])
    slow, fast = (found["first steps"][f"kl {rate}"]["curve"] for rate in ("3e-4", "1e-3"))
    return [
        f"**SmolLM2 at M = 6: {back['wikitext']} of the increase on WikiText-2's test part came back in "
        f"{long['cpu'] / 60:.0f} CPU minutes**, {long['tokens'] / 1000:.0f}k tokens of its valid part; "
        f"in {few['cpu'] / 60:.0f} minutes {back['wikitext5']}.",
        "**The loss on the kind of text that it learned from says more than was won.** The held-out KL "
        f"fell by {kl:.0f} %, and of what the tasks lost less came back: {_back(found, 'wikitext')}.",
        f"**Texts that the original writes itself** win back {back['own5']} of that loss with as many "
        f"tokens, {runs['own5']['tokens'] / 1000:.0f}k, as win {back['wikitext5']} on the file's own "
        f"kind. Of the tasks they win {_back(found, 'own5')}, the file {_back(found, 'wikitext5')}; "
        f"difference in points {_apart(found, 'own5', 'wikitext5')}. That such texts win back nearly all "
        f"of what a choice among options asks (arXiv 2602.01997, with far more of them{beside}) was not seen "
        "with these few, written without a prompt; long answers were not asked for.",
        *_of_answers(found),
        "**The rate that suits the demo is too high for `kl` on SmolLM2**: in 13 steps the held-out KL falls "
        f"from {slow[0]:.2f} to {slow[-1]:.2f} at 3e-4, and to {fast[-1]:.2f} at 1e-3. So a model of its "
        "size is healed at .3 of the usual rate where none is asked for. `seams` and `lora` did well at "
        "theirs, 3e-3, and were not tried lower.",
    ]


def _of_answers(found: dict) -> list[str]:
    """What the original's answers to prompts win back."""
    runs = found["smollm2"]
    if "answers5" not in runs or "answers5" not in found["tasks"]:
        return []
    row = runs["answers5"]
    return [
        f"**What it answers to prompts** (the questions of openbookqa, in its chat template) wins back "
        f"{won(row['original'], [row])} of that loss with {row['tokens'] / 1000:.0f}k tokens, padding among "
        f"them, and {_back(found, 'answers5')}; in points against the file's own kind "
        f"{_apart(found, 'answers5', 'wikitext5')}, against what it writes by itself "
        f"{_apart(found, 'answers5', 'own5')}. Of choices among options it wins back the most, though not "
        "for certain more than the file's kind (and openbookqa's questions are of arc_easy's kind), and of "
        "the loss the least: what it learns from decides what comes back, as arXiv 2602.01997 says."
    ]


def _of_states_of_smollm2(found: dict) -> list[str]:
    """What the same healing makes of several states of SmolLM2."""
    if "smollm2 states" not in found:
        return []
    rows = smollm2_healed(found)
    original, best, low = np.array(rows[BEST]["original"]), rows[BEST], rows["lowest"]
    course = {
        name: " to ".join(paired(np.array(rows[name][of]) - original) for of in ("pruned", "losses"))
        for name in (BEST, "lowest", "most diverse")
    }
    ahead = [
        paired(np.array(a["losses"]) - np.array(b["losses"]))
        for a, b in ((low, best), (rows.get("lowest, seed 1"), rows.get(f"{BEST}, seed 1")))
        if a and b
    ]
    return [
        "**On SmolLM2 the best state before healing is not the best after.** With "
        f"{best['tokens'] / 1000:.0f}k tokens each the best measured goes from {course[BEST]} nats, the "
        f"lowest in energy, a little worse at first, from {course['lowest']} (by seed {', '.join(ahead)} "
        f"against the best measured), the most diverse from {course['most diverse']}. Where a model is to be "
        "healed, compare states after a short healing of each: `heal --run R --remove M --rank 0,1,2`. "
        f"Tasks do not follow: of the lowest, healed, {_right(found, LOWEST_TASKS)}; of the best measured "
        f"{_right(found, 'wikitext5')}; of the original {_right(found, 'original')} per cent."
    ]


def _right(found: dict, model: str) -> str:
    """Per cent right of each task."""
    return ", ".join(f"{task} {100 * s.count('1') / len(s):.1f}" for task, s in found["tasks"][model].items())


def _of_the_demo(found: dict) -> list[str]:
    ms, original = ("6", "12"), np.array(found["original"])
    back: dict[str, list[float]] = {m: [] for m in ms}
    for (m, how), of_seeds in by_seed(found["methods"]["rows"]).items():
        pruned, healed = (np.mean([row[of] for row in of_seeds], axis=0) for of in ("pruned", "losses"))
        if how in TRAINED:
            back[m].append(100 * won_back(original, pruned, healed)[0])
    states = found["states"]["rows"]
    rows = {m: [row for key, row in states.items() if key.split(" ")[0] == m] for m in ms}
    apart = {m: [f"{_spread(rows[m], of):.3f}" for of in ("pruned", "losses")] for m in ms}
    order = {m: orders(found, m) for m in ms}
    lowest = np.array(states["12 lowest"]["losses"])
    best, diverse = (
        paired(np.array(states[f"12 {name}"]["losses"]) - lowest)
        for name in ("best measured", "most diverse")
    )
    share = {m: " to ".join(dict.fromkeys(f"{f(back[m]):.0f}" for f in (min, max))) for m in ms}
    return [
        f"**The demo: {share['6']} % at M = 6 and {share['12']} % at M = 12 in one CPU minute**, by any "
        "method that trains. To learn only beside the cuts (`seams`) is as good as all weights, and reads "
        "more in the same time.",
        "**Replacing without training is worse than plain removal** on the demo, by `linear` and by `merge`.",
        f"**Healing makes states nearly equal**: ten of them lie {apart['12'][0]} nats apart before and "
        f"{apart['12'][1]} after at M = 12, {apart['6'][0]} and {apart['6'][1]} at M = 6. **Their order by "
        f"loss survives in part**: Spearman {order['12']['both']} at M = 12, {order['6']['both']} at M = 6.",
        f"**The order by energy** of these low states is none to speak of, before ({order['6']['before']} at "
        f"M = 6, {order['12']['before']} at M = 12) and after ({order['6']['after']}, "
        f"{order['12']['after']}). At M = 12 the lowest by energy stays, healed, behind the best measured "
        f"({best} nats) and the most diverse ({diverse}): a poor choice is not mended by healing.",
        *_of_rounds(found),
    ]


def _of_rounds(found: dict) -> list[str]:
    if "rounds" not in found:
        return []
    told = ", ".join(f"{rounds} rounds {nats}" for rounds, nats in against_at_once(found).items())
    return [
        "**In rounds is a little worse than at once** (the demo, M = 12, the same blocks, as many tokens): "
        f"{told} nats. It takes more time, too, since early rounds have more blocks to train."
    ]
