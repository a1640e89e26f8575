"""The chapters of a model's page on what it is calibrated on: domains, and the variance table
(core.choose.bed_chapters measures both).
"""

import itertools

import numpy as np

from core.choose.bed_chapters import ROWS, SEARCHERS, SEEDS, SHARE, SINGLES
from core.choose.bed_tables import increases, named, table
from core.compare.agreement import spearman
from core.store.runs import Run

CALIBRATION, REST = "calibration data", "their combinations"


def transfers(chapters: dict) -> dict[tuple[str, int], np.ndarray]:
    """{(estimator, M): float64 [P], nats}: what a state costs on texts of another domain than that it was
    calibrated on, beyond the state that was calibrated there.
    """
    found: dict[tuple[str, int], list[float]] = {}
    whole = chapters["domains"]
    for judged in whole["grounds"]:
        loss = {s: v.mean() for s, v in increases(chapters[f"domains-{judged}"]).items()}
        for other, estimators in whole["grounds"].items():
            for name, states in estimators.items():
                at_home = whole["grounds"][judged].get(name)
                if other == judged or at_home is None:
                    continue
                for m, state, own in zip(whole["depths"], states, at_home):
                    found.setdefault((name, m), []).append(loss[tuple(state)] - loss[tuple(own)])
    return {key: np.array(values) for key, values in found.items()}


def domains(run: Run, chapters: dict) -> list[str]:
    """Calibrated on each, judged on each."""
    whole = chapters["domains"]
    grounds, depths, costs = whole["grounds"], whole["depths"], whole["costs"]
    judged = {name: increases(chapters[f"domains-{name}"]) for name in grounds}
    rows = [
        [
            named(run, domain),
            estimator,
            *(" / ".join(f"{judged[name][tuple(s)].mean():+.2f}" for s in states) for name in judged),
        ]
        for domain, estimators in grounds.items()
        for estimator, states in estimators.items()
    ]
    moved = transfers(chapters)
    gaps = [
        [name, *(f"{moved[name, m].mean():+.2f} (at most {moved[name, m].max():+.2f})" for m in depths)]
        for name in dict.fromkeys(name for name, _ in moved)
    ]
    pairs = list(itertools.combinations(costs, 2))
    same = {
        e: [spearman(np.array(costs[a][e]), np.array(costs[b][e])) for a, b in pairs]
        for e in ("h0", "singles")
    }
    unseen = ", ".join(
        f"{named(run, name)} {len(chapters[f'domains-{name}']['increase'][0])} "
        f"({chapters[f'domains-{name}']['original']:.2f})"
        for name in grounds
    )
    return [
        "## Calibrated on one domain, judged on another",
        "",
        f"Of each domain {ROWS} gradient rows, and single removals on {SINGLES} sequences. The states of "
        "lowest energy are measured on unseen sequences of each domain, so many (in brackets the original's "
        f"loss): {unseen}. Increases in nats at M = {' / '.join(map(str, depths))}. The default couplings "
        "(pairs) where a whole run is there.",
        "",
        *table(["calibrated on", "couplings", *(f"on {named(run, name)}" for name in judged)], rows),
        "",
        "What another domain costs: increase of the state that was calibrated elsewhere over that of the "
        "state calibrated on the domain itself, mean over all pairs of domains, in nats:",
        "",
        *table(["couplings", *(f"M = {m}" for m in depths)], gaps),
        "",
        f"Domains agree on what blocks cost: Spearman of single removals {min(same['singles']):.2f} to "
        f"{max(same['singles']):.2f}, of H0's own costs {min(same['h0']):.2f} to {max(same['h0']):.2f}.",
    ]


def variance_shares(part: dict) -> dict[str, tuple[int, float, float]]:
    """{factor: (levels, most minus least of its levels' means in nats, share of the variance of log loss
    increase)}; samples are nested in calibration data, and what is left is combinations.
    """
    loss = {s: v.mean() for s, v in increases(part).items()}
    levels = [list(dict.fromkeys(row[k] for row in part["rows"])) for k in range(4)]
    y = np.empty([len(names) for names in levels])
    for *cell, state in part["rows"]:
        y[tuple(names.index(c) for names, c in zip(levels, cell))] = loss[tuple(state)]
    log = np.log(y.clip(min=1e-3))
    total = ((log - log.mean()) ** 2).sum()
    found = {}
    for k, name in enumerate((CALIBRATION, "estimator", "searcher")):
        others = tuple(j for j in range(4) if j != k)
        means, squares = y.mean(axis=others), (log.mean(axis=others) - log.mean()) ** 2
        share = squares.sum() * log.size / len(means) / total
        found[name] = (len(means), float(np.ptp(means)), float(share))
    inside = log.mean(axis=(1, 2)) - log.mean(axis=(1, 2, 3))[:, None]
    share = (inside**2).sum() * log.shape[1] * log.shape[2] / total
    found["sample"] = (y.shape[3], float(np.ptp(y.mean(axis=(1, 2)), axis=1).mean()), float(share))
    found[REST] = (0, 0.0, 1 - sum(f[2] for f in found.values()))
    return found


def variance(run: Run, chapters: dict) -> list[str]:
    """What the chosen state owes to what."""
    part = chapters["variance"]
    shares = variance_shares(part)
    loss = {s: v.mean() for s, v in increases(part).items()}
    rows = [
        [name, str(n) if n else "", f"{spread:.2f}" if n else "", f"{100 * share:.0f} %"]
        for name, (n, spread, share) in shares.items()
    ]
    means = []
    for estimator, searcher in itertools.product(dict.fromkeys(r[1] for r in part["rows"]), SEARCHERS):
        cells = []
        for domain in dict.fromkeys(r[0] for r in part["rows"]):
            own = [loss[tuple(r[4])] for r in part["rows"] if r[:3] == [domain, estimator, searcher]]
            cells.append(f"{np.mean(own):+.2f} ({min(own):+.2f} to {max(own):+.2f})")
        means.append([estimator, searcher, *cells])
    calibration, search = shares[CALIBRATION][2], shares["searcher"][2]
    verdict = "more" if calibration > search else "less"
    return [
        "## Data, estimator, searcher, sample: what matters?",
        "",
        f"M = {part['m']}. From {SHARE:.0%} of the rows and single removals of each domain, {SEEDS} random "
        "samples, comes a state by each estimator (h0; hybrid: single removals with H0's correlations, "
        "whose sorted own costs are single removals in order) and each searcher (exact: the ground state; "
        "greedy: block by block in the energy; sorted: by own costs alone). Increase on "
        f"{len(part['increase'][0])} unseen sequences of {named(run, 'texts')}'s own kind; {len(loss)} "
        f"different states in {len(part['rows'])} choices. Means, and least to most, over samples:",
        "",
        *table(
            ["estimator", "searcher", *(named(run, d) for d in dict.fromkeys(r[0] for r in part["rows"]))],
            means,
        ),
        "",
        "Spread: most minus least of the levels' means, nats (sample: within a domain). Share: of the "
        "variance of the logarithm of the increase; samples are nested in calibration data.",
        "",
        *table(["what changes", "levels", "spread", "share"], rows),
        "",
        f"Calibration data matter {verdict} than the search here ({100 * calibration:.0f} % and "
        f"{100 * search:.0f} %; arXiv 2604.24938 finds more); the largest share is that of "
        f"{max(shares, key=lambda name: shares[name][2])}.",
    ]
