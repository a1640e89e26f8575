"""What the searches on a real model found, in tables (core.choose.bed_searches)."""

import numpy as np

from core.choose.bed_searches import BUDGET, EVOLUTIONARY, GREEDY, LEARNED, METHODS, SCRATCH, Search, Searches
from core.choose.learning import pair_passes
from core.store.runs import Run

OURS, N = (SCRATCH, LEARNED), BUDGET // 2
LEAST = 1e-9  # nats: losses that are closer are the same


def section(searches: Searches, run: Run) -> list[str]:
    """The lines of the page."""
    meta, counts = searches.meta, len({s.seed for s in searches.found})
    return [
        "## What do searches find?",
        "",
        f"Every method chooses on {meta['sequences']} sequences of {meta['texts']} that the run has not "
        f"looked at, other ones for each of {counts} seed{'s' * (counts != 1)}, by the loss, "
        f"{meta['chunk']} at a time. One forward is all blocks over these {meta['sequences']}; what is "
        "executed counts, block by block, and kept prefixes are shared by every method alike. Greedy (SLEB) "
        "takes what it takes; evolutionary search (EvoPress) and ours stop at their budget. "
        f"**{SCRATCH}**: single removals, measured on the first chunk, and the forward of block influence "
        f"are counted in, and nothing of a run is used. **{LEARNED}**: its single removals, secants and "
        "measured pairs are the prior for nothing, since it is there. Increases in nats on "
        f"{meta['judged']} sequences of {meta['judge']}, mean of the seeds"
        + (f" (on {meta['machine']})." if "machine" in meta else "."),
        "",
        *_held(searches),
        "",
        *_against(searches),
        "",
        *_reached(searches, run),
    ]


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]


def _depths(searches: Searches) -> list[int]:
    return sorted({s.removed for s in searches.found})


def _seeds(searches: Searches) -> list[int]:
    return sorted({s.seed for s in searches.found})


def _increase(searches: Searches, search: Search | None, forwards: float) -> np.ndarray | None:
    """float64 [S]: what a search holds after so many forwards loses on each judging sequence; None where it
    holds nothing then, or was not let go on that far.
    """
    ended = search is not None and (search.method == GREEDY or search.budget >= forwards)
    state = search.held(forwards) if search is not None and (ended or forwards == np.inf) else None
    return None if state is None else searches.judged[state]


def _held(searches: Searches) -> list[str]:
    """What each method holds after N, after 2 N forwards, and at its end."""
    rows, points = [], (N, BUDGET, np.inf)
    for m in _depths(searches):
        for name in METHODS:
            own = [searches.get(name, m, seed) for seed in _seeds(searches)]
            cells = []
            for at in points:
                found = [v.mean() for s in own if (v := _increase(searches, s, at)) is not None]
                cells.append(_of(found, len(own)))
            ends = [s.cost if name == GREEDY else s.budget for s in own if s is not None]
            if ends:
                rows.append([str(m), name, *cells, f"{np.mean(ends):.0f}"])
        for name, states in searches.free.items():
            if m in states:
                rows.append([str(m), name, "", "", f"{searches.judged[states[m]].mean():+.3f}", "1"])
    head = ["M", "method", f"after {N} forwards", f"after {BUDGET}", "at the end", "its forwards"]
    return _table(head, rows)


def _of(found: list[float], of: int) -> str:
    """Their mean, and of how many seeds where it is not all."""
    if not found:
        return "-"
    return f"{np.mean(found):+.3f}" + (f" ({len(found)} of {of} seeds)" if len(found) < of else "")


def _against(searches: Searches) -> list[str]:
    """Ours minus a peer, paired over the judging sequences."""
    rows = []
    for m in _depths(searches):
        for ours in OURS:
            cells = [
                _gap(searches, m, ours, EVOLUTIONARY, N),
                _gap(searches, m, ours, EVOLUTIONARY, BUDGET),
                _gap(searches, m, ours, GREEDY, N),
                _gap(searches, m, ours, GREEDY, np.inf),
            ]
            rows.append([str(m), ours, *cells])
    return [
        "Ours minus the other, paired over the judging sequences, mean of the seeds ± standard error; below "
        "0 ours loses less. Greedy is compared where it ends, which is later than ours.",
        "",
        *_table(
            [
                "M",
                "ours",
                f"evolutionary, both after {N}",
                f"both after {BUDGET}",
                f"ours after {N}, greedy at its end",
                "both at their ends",
            ],
            rows,
        ),
    ]


def _gap(searches: Searches, m: int, ours: str, other: str, forwards: float) -> str:
    gaps = []
    for seed in _seeds(searches):
        mine = _increase(searches, searches.get(ours, m, seed), forwards)
        theirs = _increase(searches, searches.get(other, m, seed), np.inf if other == GREEDY else forwards)
        if mine is not None and theirs is not None:
            gaps.append(mine - theirs)
    if not gaps:
        return "-"
    gap = np.mean(gaps, axis=0)
    return f"{gap.mean():+.3f} ± {gap.std(ddof=1) / np.sqrt(len(gap)):.3f}"


def _reached(searches: Searches, run: Run) -> list[str]:
    """When ours is where greedy ends, on the choosing sequences; and from how many sequences on a run that is
    only made for this is cheaper than greedy.
    """
    rows = []
    spent = _passes(run)
    for m in _depths(searches):
        for ours in OURS:
            ends, reached = [], []
            for seed in _seeds(searches):
                greedy, own = searches.get(GREEDY, m, seed), searches.get(ours, m, seed)
                if greedy is not None and own is not None:
                    ends.append(greedy.cost)
                    reached.append(_first(own, greedy.curve[-1][1]))
            if not ends:
                continue
            shares = [r / e for r, e in zip(reached, ends)]
            within = sum(share <= 1 / 3 for share in shares)
            words = ", ".join(f"{r:.1f}" if np.isfinite(r) else "not reached" for r in reached)
            pays = "-"
            if ours == LEARNED and np.isfinite(reached).all():
                pays = f"{np.ceil(spent / (np.mean(ends) - np.mean(reached))):.0f}"
            took = ", ".join(f"{e:.1f}" for e in ends)
            rows.append([str(m), ours, took, words, f"{within} of {len(ends)}", pays])
    return [
        "Forwards until ours has a state at or below greedy's loss on the choosing sequences, one for each "
        "seed. The run's single removals, secants and pairs took "
        f"{spent:.0f} forwards of one sequence: who makes them for one search alone pays less than greedy "
        "from so many choosing sequences on as the last column says; who has the run pays nothing for it.",
        "",
        *_table(
            ["M", "ours", "greedy's forwards", "ours", "within a third", "run pays from (sequences)"], rows
        ),
    ]


def _first(search: Search, loss: float) -> float:
    """Forwards at which a search first holds a loss as low; inf where it never does."""
    return next((spent for spent, own, _ in search.curve if own <= loss + LEAST), np.inf)


def _passes(run: Run) -> float:
    """What `learning.from_run` takes of a run, in forwards of one sequence."""
    assert run.singles is not None
    return pair_passes(run) + (run.blocks + 1) / 2 * run.singles.sequences
