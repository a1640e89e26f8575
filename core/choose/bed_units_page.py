"""What docs/study-<model>.md says of finer cuts (core.choose.bed_units), computed from its file and the
run.
"""

import numpy as np

from core.choose.bed_units import BUDGET, CHOOSING, ESTIMATORS, LENGTH, RANDOM, state_of
from core.compare.agreement import agreement
from core.energy.couplings import couplings
from core.ising.energies import energies
from core.ising.states import indicator
from core.ising.units import BRANCH
from core.store.runs import Run


def section(found: dict, whole: Run) -> list[str]:
    """The chapter; found: what core.choose.bed_units.measure wrote; whole: the run, by block."""
    run = whole.seen(BRANCH)
    return [
        "## Attention and FFN on their own",
        "",
        f"The same calibration by branch: {len(run.units)} units. Judged on {found['meta']['judged']} "
        "sequences of "
        f"{found['meta']['judge']} that no choice has seen. Learned: {BUDGET:g} forwards of {CHOOSING} "
        "sequences of "
        f"{LENGTH} tokens beyond the calibration, {BUDGET * CHOOSING / 256:.1f} of 256; all other choices "
        "take none.",
        "",
        *_chosen(found, run),
        "",
        "### Who orders states of units?",
        "",
        f"Spearman of energy and measured increase over {RANDOM} random states each, the blocks at both "
        "ends left "
        "in, with its 95 % interval.",
        "",
        *_orders(found, run),
    ]


def _chosen(found: dict, run: Run) -> list[str]:
    """A table a target, the best choice first."""
    lines: list[str] = []
    parts = run.meta["model"]["blocks"]
    kv, size = (np.array([float(p[name]) for p in parts]) for name in ("kv_bytes", "bytes"))
    total = float(run.meta["model"]["bytes"])
    for target in dict.fromkeys(c["target"] for c in found["choices"]):
        own = [c for c in found["choices"] if c["target"] == target]
        own.sort(key=lambda c: float(np.mean(c["increase"])))
        blocks = [c for c in own if c["method"].startswith("whole")]
        best = np.array(min(blocks, key=lambda c: float(np.mean(c["increase"])))["increase"])
        lines += [
            "",
            f"**{target}**: {own[0]['about']}. In brackets: against the best whole blocks, paired.",
            "",
            "| choice | increase, nats | KV left | weights left | removed |",
            "| --- | --- | --- | --- | --- |",
        ]
        for c in own:
            state = list(state_of(c["removed"], run.units))
            increase = np.array(c["increase"])
            gap = increase - best
            se = gap.std(ddof=1) / np.sqrt(len(gap))
            lines.append(
                f"| {c['method']} | {increase.mean():+.2f} ({gap.mean():+.2f} ± {se:.2f}) | "
                f"{100 - 100 * kv[state].sum() / kv.sum():.0f} % | "
                f"{100 - 100 * size[state].sum() / total:.0f} % | "
                f"{run.units.said(state)} |"
            )
    return lines[1:]


def _orders(found: dict, run: Run) -> list[str]:
    groups = found["random"]
    lines = ["| couplings | " + " | ".join(groups) + " |", "| --- |" + " --- |" * len(groups)]
    for name in (*ESTIMATORS, "h0 own"):
        H = np.diag(np.diag(couplings(run, "h0"))) if name == "h0 own" else couplings(run, name)
        cells = []
        for states in groups.values():
            x = indicator([run.units.parse(text) for text in states], len(run.units))
            rank = agreement(energies(H, x), np.array([np.mean(v) for v in states.values()]))
            cells.append(f"{rank.spearman:.2f} [{rank.low:.2f}, {rank.high:.2f}]" if rank else "-")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines
