"""A landscape that learns: measured states correct the couplings, and the couplings say what to measure next.

The loss increase of a state is x^T H x and a deviation of its own. H is normal a priori: measured single
removals on the diagonal, gate-gradient correlations between blocks beside it, with a spread for each entry
and a common scale (pairs are extrapolated from alpha = 1, and their sum grows with M). Every measurement is
then a linear observation, so the posterior mean is again an Ising model, which core.spectrum.lowest solves,
and every coupling and every energy has a spread. All in nats.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from core.calibration.pairs import forwards_of
from core.choose import moves
from core.choose.other_methods import block_influence
from core.energy.learned import KnownPairs, Posterior, Prior, prior_from
from core.energy.secants import pair_energies
from core.errors import InputError
from core.ising.energies import energies
from core.ising.states import indicator, removed_blocks
from core.measure.state_losses import ROW_FORWARDS, Forwards, State, counted, singles_of
from core.model.load import LoadedModel
from core.spectrum.constraints import Constraints, Rules, make_rules
from core.spectrum.lowest import check_removed, lowest_states
from core.store.runs import Run
from core.texts.sequences import Sequences

ROWS = 128  # gradient rows that the prior takes
DEVIATION = 0.1  # what an Ising model leaves unexplained of a state's increase, relative
# shares of proposals: the lowest energy anywhere, and blindly; of these so many are mutants of the best state
GLOBAL, BLIND, MUTANTS = 0.25, 0.25, 0.7
WINDOWS = 2  # runs of neighbouring blocks among the first proposals
# standard deviations: that a proposal is credited with; below which it must fall under the best to be worth
# it
OPTIMISM, CHANCE = 0.5, 1.0
_AROUND = 3  # best states whose neighbours are proposed
# relative noise of one chunk before any is seen, and how many observations that is worth
_CHUNK_SPREAD, _CHUNK_WORTH = 0.3, 4
_ROUNDING = 1e-9  # forwards, of sums of costs
_LEAST = 1e-9  # nats: an increase below it is none

Report = Callable[[int, int, str], None]


class Measured:
    """Loss increases of states by chunk, and what they say of a state that is measured on some of the chunks
    only.

    Increases go up and down together from chunk to chunk: increase(state, chunk) = difficulty(chunk) x
    increase(state), up to noise. A state measured on all chunks has no sampling error: its mean is what is to
    be minimised.
    """

    def __init__(self, forwards: Forwards):
        self.forwards = forwards
        self.values: dict[State, dict[int, float]] = {}

    def add(self, state: State) -> None:
        """Measure the state on its next chunk."""
        own = self.values.setdefault(state, {})
        chunk = len(own)
        base = self.forwards.measure((), chunk)
        own[chunk] = float((counted(self.forwards.measure(state, chunk)) - base).mean())

    def cost(self, state: State) -> float:
        """Forwards to measure the state on all the chunks that it lacks."""
        first = len(self.values.get(state, {}))
        return sum(self.forwards.cost(s, c) for c in range(first, self.chunks) for s in ((), state))

    @property
    def chunks(self) -> int:
        """How many chunks of sequences there are."""
        return len(self.forwards.chunks)

    def complete(self, state: State) -> bool:
        """Whether the state is measured on all of them."""
        return len(self.values.get(state, {})) == self.chunks

    def estimates(self) -> tuple[np.ndarray, np.ndarray]:
        """(increase over all chunks, its standard error) of each state, float64 [n] each, in the order of
        `values`.
        """
        sizes = np.array([part.stop - part.start for part in self.forwards.chunks], dtype=float)
        table = np.full((len(self.values), self.chunks), np.nan)
        for row, own in zip(table, self.values.values()):
            row[list(own)] = list(own.values())
        seen = ~np.isnan(table)
        filled, weights = np.nan_to_num(table), seen * sizes
        difficulty = np.ones(self.chunks)
        for _ in range(20):
            level = (filled * weights).sum(axis=1) / (weights @ difficulty)
            # as if so many usual states had been measured at difficulty 1
            usual = _CHUNK_WORTH * max(float(np.mean(level**2)), _LEAST**2)  # no state may cost anything
            difficulty = (filled.T @ level + usual) / (seen.T @ level**2 + usual)
            difficulty *= sizes.sum() / (difficulty @ sizes)
        several = seen & (seen.sum(axis=1) > 1)[:, None]
        fitted = np.outer(level, difficulty)
        relative = (table - fitted)[several] / np.maximum(np.abs(fitted[several]), 1e-12)
        variance = (_CHUNK_WORTH * _CHUNK_SPREAD**2 + (np.clip(relative, -1, 1) ** 2).sum()) / (
            _CHUNK_WORTH + len(relative)
        )
        share = weights.sum(axis=1) / sizes.sum()
        count = seen.sum(axis=1)
        whole = (filled * sizes).sum(axis=1) / sizes.sum()
        level = np.where(count == self.chunks, whole, level)
        return level, np.abs(level) * np.sqrt(variance * (1 - share) / count)


@dataclass(frozen=True)
class Learned:
    """What a budget of forwards has found."""

    removed: State  # the best of the states measured on all sequences
    loss: float  # nats, its mean over the choosing sequences
    original: float  # nats, of the full model
    curve: list[tuple[float, float, State]]  # (forwards, loss, state) whenever a better state was completed
    forwards: float
    measured: list[tuple[State, float, float]]  # (state, increase, standard error) of all that were looked at
    posterior: Posterior


def known_of(run: Run, sequences: int, budget: float) -> np.ndarray | KnownPairs:
    """What a run knows of pairs: from its secants and measured pairs, where a third of a budget of so many
    forwards of so many sequences pays for them; or else float32 [at most ROWS, N], as many of its gate
    gradients as a tenth pays for, of sampled labels where it has them; or nothing, where that are fewer than
    blocks and so mostly noise.
    """
    if run.secants is not None and pair_passes(run) <= budget * sequences / 3:
        return KnownPairs(pair_energies(run), pair_passes(run))
    rows = (run.sampled or run.rows).A
    paid = int(budget * sequences / 10 / ROW_FORWARDS)
    return rows[: min(ROWS, paid)] if paid >= run.blocks else from_nothing(run.blocks)


def pair_passes(run: Run) -> float:
    """What a run's secants and measured pairs took, in forwards of one sequence."""
    assert run.secants is not None
    passes = ROW_FORWARDS * run.secants.loss.size
    if run.pairs is not None:
        passes += forwards_of(run.pairs.blocks, run.blocks) * run.pairs.part.shape[1]
    return passes


def from_run(run: Run) -> KnownPairs:
    """All that a run with single removals and secants knows, for nothing: it was paid for when it was
    calibrated.
    """
    assert run.singles is not None
    return KnownPairs(pair_energies(run), 0.0, run.singles, run.block_costs)


def from_nothing(blocks: int) -> KnownPairs:
    """Nothing of pairs: blocks cost what each costs alone, until states are measured."""
    return KnownPairs(np.zeros((blocks, blocks)), 0.0)


def influence(loaded: LoadedModel, sequences: Sequences, forwards: Forwards, removed: int) -> list[State]:
    """What `learn` may be proposed: the blocks of lowest block influence, whose forward is charged. On
    SmolLM2 it is the best choice that measures nothing (at M = 6 one of two; docs/study-smollm2.md).
    """
    chosen = block_influence(loaded, sequences, removed)[check_removed(removed, forwards.blocks)]
    forwards.charged += chosen.forwards
    return [chosen.removed]


def cost_of(known: np.ndarray | KnownPairs, sequences: int) -> float:
    """What it took, in forwards of so many sequences."""
    passes = known.passes if isinstance(known, KnownPairs) else ROW_FORWARDS * len(known)
    return passes / sequences


def learn(
    known: np.ndarray | KnownPairs,
    forwards: Forwards,
    removed: int | None,
    budget: float,
    *,
    constraints: Constraints | None = None,
    proposals: Sequence[State] = (),
    seed: int = 0,
    report: Report = lambda done, total, message: None,
    better: Callable[[tuple[float, float, State]], None] = lambda point: None,
) -> Learned:
    """The best state of M = `removed` blocks that `budget` forwards find, and the couplings learned on the
    way. removed None: of any number, where the constraints say how much goes.

    known: of pairs (`known_of`), charged to the budget with the single removals; a resumed `forwards`
    (core.measure.state_losses.Kept) repeats the same choices and measures only what is new.
    proposals: states that somebody else would choose, measured first where the constraints allow them.
    better: gets every point of the curve as it comes.
    Errors: InputError for a bad M or constraint, a budget that does not pay for one state, an original whose
    loss overflows, or where that of all that is tried does.
    """
    removed = None if removed is None else check_removed(removed, forwards.blocks)
    rules = make_rules(constraints, forwards.blocks, removed)
    forwards.charged += cost_of(known, forwards.sequences)
    prior = _prior(known, forwards)
    measured = Measured(forwards)
    rng = np.random.default_rng(seed)
    posterior = _condition(prior, measured)
    _check_budget(budget, forwards, posterior, measured, removed, constraints)
    curve: list[tuple[float, float, State]] = []
    allowed = [s for s in proposals if rules.allows(indicator([s], forwards.blocks))[0]]
    first = list(dict.fromkeys([*allowed, *_first_proposals(prior, removed, constraints, rules)]))
    paid = (k for k, s in enumerate(first) if measured.cost(s) <= budget + _ROUNDING - forwards.forwards)
    first = first[next(paid, len(first)) :]
    while True:
        words = f"best so far {curve[-1][1]:.4f} nats" if curve else "first states"
        report(int(forwards.forwards), math.ceil(budget), f"forwards, {words}")
        state = next((s for s in first if s not in measured.values), None) or _propose(
            posterior, measured, removed, constraints, rules, rng
        )
        if state is not None:  # None: every state is measured on everything
            left = budget + _ROUNDING - forwards.forwards
            state = _within_budget(state, left, posterior, measured, not curve)
        if state is None:
            break
        measured.add(state)
        posterior = _condition(prior, measured)
        if measured.complete(state):
            loss = float(forwards.whole(state).mean())
            if loss < (curve[-1][1] if curve else math.inf):
                curve.append((forwards.forwards, loss, state))
                better(curve[-1])
    forwards.save()
    if not curve:
        raise InputError(
            f"None of the {len(measured.values)} states that {budget:g} forwards reach has a loss that is a "
            "number; remove fewer blocks, or load the model in float32."
        )
    _, best_loss, best = curve[-1]
    report(math.ceil(budget), math.ceil(budget), f"forwards, best {best_loss:.4f} nats")
    level, se = measured.estimates()
    found = [(s, float(v), float(e)) for s, v, e in zip(measured.values, level, se)]
    return Learned(
        best, best_loss, float(forwards.whole(()).mean()), curve, forwards.forwards, found, posterior
    )


def _prior(known: np.ndarray | KnownPairs, forwards: Forwards) -> Prior:
    """From single removals that are known, or are measured on the first chunk."""
    if isinstance(known, KnownPairs) and known.singles is not None:
        alone = known.singles
        block = None if known.block is None else counted(known.block)
        return prior_from(counted(alone.increase), alone.se, known, block, forwards.units)
    if np.isinf(forwards.measure((), 0)).any():
        raise InputError(
            "The loss of the original is no number on these texts, so nothing can be told from it; load the "
            "model in float32, or choose other texts."
        )
    own = singles_of(forwards, [0])
    return prior_from(counted(own.increase), own.se, known, counted(own.block), forwards.units)


def _check_budget(
    budget: float,
    forwards: Forwards,
    posterior: Posterior,
    measured: Measured,
    removed: int | None,
    constraints,
) -> None:
    """Errors: InputError for a budget that does not pay for one state."""
    first = _lowest_unknown(posterior, measured, removed, constraints) or ()
    least = forwards.forwards + measured.cost(first)
    if budget < least:
        raise InputError(
            f"A budget of {budget:g} forwards does not pay for the rows, the single removals and one state, "
            f"{least:.1f}; give more."
        )


def _first_proposals(prior: Prior, removed: int | None, constraints, rules: Rules) -> list[State]:
    """What is measured before anything is learned: the lowest state of the prior, the blocks that are
    cheapest alone, and the windows of neighbouring blocks that the prior takes for the cheapest.
    """
    n = len(prior.mean)
    lowest = [
        state
        for H in (prior.mean, np.diag(np.diag(prior.mean)))
        for state in lowest_states(H, removed, 1, constraints=constraints).removed[:1]
    ]
    if removed is None:
        return list(dict.fromkeys(lowest))
    windows = indicator([tuple(range(a, a + removed)) for a in range(n - removed + 1)], n)
    windows = windows[rules.allows(windows)]
    cheap = windows[np.argsort(energies(prior.mean, windows), kind="stable")[:WINDOWS]]
    return list(dict.fromkeys([*lowest, *removed_blocks(cheap)]))


def _within_budget(
    state: State, left: float, posterior: Posterior, measured: Measured, first: bool
) -> State | None:
    """The proposed state, while its next step leaves enough to complete the most promising one; else that
    one, and nothing else; None when nothing can be paid. first: no state is complete yet, so that where the
    most promising one has become too dear, the cheapest of those begun is completed.
    """
    finalist = _finalist(posterior, measured)
    reserve = measured.cost(finalist) if finalist else 0.0
    step = _step_cost(measured, state)
    if first and finalist is None:
        reserve, step = measured.cost(state), 0.0
    if step + reserve <= left:
        return state
    if first and reserve > left and measured.values:
        finalist = min(measured.values, key=measured.cost)
        reserve = measured.cost(finalist)
    return finalist if finalist is not None and reserve <= left else None


def _condition(prior: Prior, measured: Measured) -> Posterior:
    n = len(prior.mean)
    if not measured.values:
        return Posterior(prior, np.zeros((0, n), bool), np.zeros(0), np.zeros(0), np.zeros(0))
    level, sampling = measured.estimates()
    usual = 0.05 * float(np.median(np.abs(level)))
    usual = max(usual, 1e-3 * float(np.median(np.diag(prior.mean))))  # no state may cost anything
    deviation = DEVIATION * np.maximum(level, usual)
    return Posterior(prior, indicator(list(measured.values), n), level, deviation, sampling)


def _step_cost(measured: Measured, state: State) -> float:
    chunk = len(measured.values.get(state, {}))
    return sum(measured.forwards.cost(s, chunk) for s in ((), state))


def _finalist(posterior: Posterior, measured: Measured) -> State | None:
    """The measured state of lowest posterior mean, if it is not complete."""
    if not measured.values:
        return None
    mean, _ = posterior.measured()
    state = list(measured.values)[int(mean.argmin())]
    return None if measured.complete(state) else state


def _propose(
    posterior: Posterior, measured: Measured, removed: int | None, constraints, rules, rng
) -> State | None:
    """What to measure 16 more sequences of.

    The unmeasured state of lowest energy anywhere, or any state at all (it keeps the landscape true far from
    the best), or else the most promising near the best or already begun, while one promises to beat the best.
    """
    luck = rng.random()
    if not measured.values or luck < GLOBAL:
        state = _lowest_unknown(posterior, measured, removed, constraints)
        if state is not None:
            return state
    elif luck < GLOBAL + BLIND:
        state = None
        if rng.random() < MUTANTS:
            state = _mutant(posterior, measured, rules, rng)
        state = state or _any_unknown(measured, rules, removed, rng)
        if state is not None:
            return state
    mean, sd = posterior.measured()
    states = list(measured.values)
    best = posterior.x[np.argsort(mean, kind="stable")[:_AROUND]]
    open_ = np.array([not measured.complete(s) for s in states])
    near = moves.around(posterior.couplings, best, rules, measured.forwards.units)
    new = np.array([s not in measured.values for s in removed_blocks(near)], dtype=bool)
    near = near[new]
    if len(near):
        near = near[np.argsort(energies(posterior.couplings, near), kind="stable")[:200]]
        expected, spread = posterior.energies(near)
    else:
        expected = spread = np.zeros(0)
    x = np.concatenate([posterior.x[open_], near])
    if not len(x):
        return _lowest_unknown(posterior, measured, removed, constraints)
    hope = np.concatenate([mean[open_] - OPTIMISM * sd[open_], expected - OPTIMISM * spread])
    luckily = np.concatenate(
        [mean[open_] - CHANCE * sd[open_], expected - CHANCE * np.hypot(spread, DEVIATION * expected)]
    )
    # nothing here will beat the best: look elsewhere
    if not open_.all() and luckily.min() > mean[~open_].min():
        state = _any_unknown(measured, rules, removed, rng)
        if state is not None:
            return state
    return removed_blocks(x[[int(hope.argmin())]])[0]


def _lowest_unknown(
    posterior: Posterior, measured: Measured, removed: int | None, constraints
) -> State | None:
    """The unmeasured state of lowest posterior mean; None when all are measured."""
    count = 64
    while True:
        found = lowest_states(posterior.couplings, removed, count, constraints=constraints)
        for state in found.removed:
            if state not in measured.values:
                return state
        if len(found.removed) < count or count > len(measured.values):
            return None
        count *= 8


def _mutant(posterior: Posterior, measured: Measured, rules, rng) -> State | None:
    """A mutant of the best state, not measured yet and allowed; None when a hundred draws give none."""
    mean, _ = posterior.measured()
    units, best = measured.forwards.units, list(measured.values)[int(mean.argmin())]
    for _ in range(100):
        found = moves.mutant_within(best, rules, units, rng)
        allowed = found is not None and rules.allows(indicator([found], len(units)))[0]
        if allowed and found not in measured.values:
            return found
    return None


def _any_unknown(measured: Measured, rules: Rules, removed: int | None, rng) -> State | None:
    """An unmeasured state that the rules allow, drawn at random; None when a hundred draws give none."""
    n = len(rules.fixed)
    plain = rules.free and len(rules.counts) == 1 and removed is not None
    for _ in range(100):
        state = (
            tuple(sorted(rng.choice(n, removed, replace=False).tolist()))
            if plain
            else moves.drawn(rules, rng)
        )
        if state and state not in measured.values and rules.allows(indicator([state], n))[0]:
            return state
    return None
