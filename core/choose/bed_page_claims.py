"""What the paper (arXiv 2602.00161) says or asks, beside what holds of one model: figures of its bed and its
chapters, what does not hold first.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from core.choose.bed import Bed
from core.choose.bed_page_domains import CALIBRATION, transfers, variance_shares
from core.choose.bed_page_rows import Borne, enough_rows
from core.choose.bed_page_states import best_of, gained_items
from core.choose.bed_study import Candidate
from core.choose.bed_tables import groups_of, increases, table, with_error
from core.compare.agreement import spearman
from core.energy.couplings import own_costs_of
from core.ising.energies import energies
from core.store.runs import Run

NO, PARTLY, YES = VERDICTS = "no", "partly", "yes"
HOLDS, FAILS = 0.7, 0.4  # Spearman from which an energy orders losses, and below which it does not


@dataclass(frozen=True)
class Claim:
    """What is said, whether it holds, and by which figures."""

    said: str
    holds: str
    figures: str


def claims(
    run: Run, bed: Bed, found: dict[str, Candidate], held: Borne | None, chapters: dict, depths: list[int]
) -> list[str]:
    """The table."""
    every = [*_of_bed(run, bed, found, depths), *_of_rows(held), *_of_chapters(chapters)]
    every.sort(key=lambda claim: VERDICTS.index(claim.holds))
    return [
        "## The paper's claims, and what holds here",
        "",
        "On this one small model, without healing; the paper reports on models of billions of parameters. "
        "What does not hold stands first; the chapters below have the figures.",
        "",
        *table(
            ["said or taken for granted", "holds?", "figures"], [[c.said, c.holds, c.figures] for c in every]
        ),
    ]


def _graded(value: float) -> str:
    return YES if value >= HOLDS else NO if value < FAILS else PARTLY


def _of_bed(run: Run, bed: Bed, found: dict[str, Candidate], depths: list[int]) -> Iterator[Claim]:
    ranks = {
        name: _ranks(bed, c.H, depths)
        for name, c in found.items()
        if name in ("h0", "h0 own", "h0g", "pairs")
    }
    kinds = [kind for kind in ("random", "cheapest") if any(k == kind for k, _ in ranks["h0"])]
    if kinds:
        told = {
            name: "; ".join(f"{kind} {_listed([r[k, m] for k, m in r if k == kind])}" for kind in kinds)
            for name, r in ranks.items()
        }
        mean = {name: float(np.mean(list(r.values()))) for name, r in ranks.items()}
        yield Claim(
            "The energy orders losses",
            _graded(mean["h0"]),
            f"Spearman of H0 by M: {told['h0']}; of the default couplings: {told['pairs']}",
        )
        yield Claim(
            "Couplings count beyond the diagonal",
            NO if mean["h0"] <= mean["h0 own"] else YES,
            f"H0's diagonal alone: {told['h0 own']}; {_two_bodies(run, bed, found)}",
        )
        yield Claim(
            "The mean gradient may be taken for 0",
            YES if mean["h0g"] - mean["h0"] < 0.05 else NO,
            f"with it: {told['h0g']}",
        )
    grounds = [_against_singles(bed, "h0", m) for m in depths]
    if all(g is not None for g in grounds):
        worst = max(float(g.mean()) for g in grounds if g is not None)
        beyond = [g.mean() > 2 * g.std(ddof=1) / np.sqrt(len(g)) for g in grounds if g is not None]
        yield Claim(
            "The state of lowest energy is a good choice, at high removal above all",
            NO if worst > 0.5 else PARTLY if any(beyond) else YES,
            "H0's ground state against single removals in order, nats: "
            + ", ".join(f"M = {m} {with_error(g)}" for m, g in zip(depths, grounds) if g is not None),
        )


def _listed(values: list[float]) -> str:
    return ", ".join(f"{v:.2f}" for v in values)


def _ranks(bed: Bed, H: np.ndarray, depths: list[int]) -> dict[tuple[str, int], float]:
    energy, increase = energies(H, bed.x), bed.increase().mean(axis=1)
    return {
        (kind, m): spearman(energy[own], increase[own])
        for kind in ("random", "cheapest")
        for m in depths
        for _, own in groups_of(bed, [m], (kind,))
    }


def _two_bodies(run: Run, bed: Bed, found: dict[str, Candidate]) -> str:
    """H0's pairs against the measured two-body parts of light blocks."""
    if "pairs" not in bed.groups:
        return "no pairs measured"
    increase = bed.increase().mean(axis=1)
    light = set(np.argsort(own_costs_of(run))[: round(0.75 * bed.blocks)].tolist())
    states = [bed.removed[k] for k in bed.groups["pairs"] if set(bed.removed[k]) <= light]
    part = [increase[bed.at[s]] - increase[bed.at[s[:1]]] - increase[bed.at[s[1:]]] for s in states]
    told = [found["h0"].H[s].item() for s in states]
    rank = spearman(np.array(told), np.array(part))
    return f"its pairs against {len(states)} measured ones of light blocks: {rank:.2f}"


def _against_singles(bed: Bed, name: str, m: int) -> np.ndarray | None:
    """float64 [S], nats: the ground state's increase over that of single removals in order."""
    own, base = (bed.groups.get(f"lowest:{c}-{m}", np.zeros(0, int)) for c in (name, "singles"))
    increase = bed.increase()
    return increase[own[0]] - increase[base[0]] if len(own) and len(base) else None


def _of_rows(held: Borne | None) -> Iterator[Claim]:
    if held is None:
        return
    m, rows, noise = held.m, held.rows, held.noise["h0"]
    count, most = enough_rows(rows, "h0"), max(count for _, count in rows)
    half = max((c for name, c in rows if name == "h0" and c < most), default=most)
    shared = rows["h0", half][:, 1].mean()
    yield Claim(
        "A sample of texts is enough (it takes 2048 rows)",
        YES if shared > 0.9 * m else PARTLY if count else NO,
        f"for the order of random states {f'{count} rows do' if count else f'{half} rows do not'} (Spearman "
        f".95 with all {most}); the ground state at M = {m} from {half} rows shares {shared:.1f} blocks with "
        f"that from {most}",
    )
    ten = noise[0.1]
    yield Claim(
        "H0 bears noise (asked)",
        YES if ten[:, 1].mean() > 0.9 * m else PARTLY if ten[:, 0].mean() > 0.95 else NO,
        f"10 % on every coupling: order of random states {ten[:, 0].mean():.2f}, ground state shares "
        f"{ten[:, 1].mean():.1f} of {m} blocks; 1 %: {noise[0.01][:, 1].mean():.1f}",
    )


def _by_task(chapters: dict) -> str:
    """The same on tasks."""
    part = chapters["lowest"]
    asked = {k.partition("-")[2]: v for k, v in chapters.items() if k.startswith("lowest-")}
    told = [
        f"{task} {with_error(gained_items(part, name, found))} ({label})"
        for name, label in (("h0", "H0"), ("pairs", "default"))
        for task, found in asked.items()
    ]
    return f"; share of right items: {', '.join(told)}" if told else ""


def _of_chapters(chapters: dict) -> Iterator[Claim]:
    if "lowest" in chapters:
        part = chapters["lowest"]
        h0, pairs = (best_of(part, name) for name in ("h0", "pairs"))
        yield Claim(
            "An excited state is often better than the ground state (its 17th was)",
            YES if h0.better else NO,
            f"of H0's {len(h0.values)} lowest at M = {part['m']}, {h0.better} are better beyond two "
            f"standard errors; the best, chosen on half and judged on the other, {with_error(h0.gain)} nats "
            f"against the ground state; of the default couplings' {pairs.better}, {with_error(pairs.gain)}"
            + _by_task(chapters),
        )
    if "domains" in chapters:
        moved = transfers(chapters)
        m = chapters["domains"]["depths"][1]
        yield Claim(
            "The domain of calibration matters (asked)",
            YES if moved["singles", m].mean() > 0.1 else NO,
            f"another domain costs at M = {m}, mean and most over pairs of domains: H0 "
            f"{moved['h0', m].mean():+.2f}, {moved['h0', m].max():+.2f} nats; single removals "
            f"{moved['singles', m].mean():+.2f}, {moved['singles', m].max():+.2f}",
        )
    if "variance" in chapters:
        part = chapters["variance"]
        loss = {s: float(v.mean()) for s, v in increases(part).items()}
        by = {
            s: np.mean([loss[tuple(r[4])] for r in part["rows"] if r[1] == "h0" and r[2] == s])
            for s in ("exact", "greedy", "sorted")
        }
        shares = variance_shares(part)
        yield Claim(
            "Heuristic solvers are good enough",
            YES if min(by["greedy"], by["sorted"]) < by["exact"] + 0.05 else NO,
            f"choices by H0 at M = {part['m']} over domains and samples: exact {by['exact']:+.2f}, greedy "
            f"in the energy {by['greedy']:+.2f}, sorted by own costs {by['sorted']:+.2f} nats; the searcher "
            f"has {100 * shares['searcher'][2]:.0f} % of the variance, calibration data "
            f"{100 * shares[CALIBRATION][2]:.0f} %",
        )
