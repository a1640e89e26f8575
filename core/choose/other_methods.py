"""Other ways to choose M blocks, each as its paper defines it, measured and paid for like ours
(core.measure.state_losses).

PEERS names them all: a new one is a function and an entry there, and the job "peers" and the study run it.
A `Search` measures losses and says what it costs as it goes. A `Rule` chooses once, for many M together; its
choice has still to be measured, which its cost leaves out as it does for all.
"""

import itertools
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from core.blocks.structure import first_tensor, hidden_argument
from core.ising.units import BLOCK, BRANCH, VIEWS, Units
from core.measure.state_losses import Forwards, State, open_forwards
from core.model.load import LoadedModel
from core.model.losses import loss_gradients, padded_batch, right_padded
from core.spectrum.lowest import check_removed
from core.store.results import JS
from core.texts import Sequences

Report = Callable[[int, int, str], None]


def silent(done: int, total: int, message: str) -> None:
    """A report to nobody."""


@dataclass(frozen=True)
class Choice:
    """A state that a method has chosen, and what that had cost by then."""

    removed: State
    forwards: float
    loss: float | None = None  # nats over all choosing sequences; None where the method measures none


Curve = list[Choice]  # ever better states, as the forwards go


def greedy(forwards: Forwards, most: int, report: Report = silent, name: str = "greedy") -> dict[int, Choice]:
    """{M: choice} for M = 1..most: again and again the block whose removal raises the loss least (SLEB, arXiv
    2402.09025; by branch BlockPruner, arXiv 2406.10594); name: what it is called where it reports.
    """
    n = forwards.blocks
    check_removed(most, n)
    removed: State = ()
    choices = {}
    forwards.whole(())
    for m in range(1, most + 1):
        losses = {}
        for block in sorted(set(range(n)) - set(removed)):
            losses[block] = float(forwards.whole((*removed, block)).mean())
            report((m - 1) * n + block, most * n, f"{name}, {m} of {most}")
        block = min(losses, key=losses.__getitem__)
        removed = tuple(sorted((*removed, block)))
        choices[m] = Choice(removed, forwards.forwards, losses[block])
    return choices


def finercut(forwards: Forwards, most: int, report: Report = silent) -> dict[int, Choice]:
    """{M: choice} for M = 1..most: again and again the attention or FFN whose removal changes what the model
    says least (FinerCut, arXiv 2405.18218); forwards: by Jensen-Shannon divergence to the original's
    distribution of the next token, mean over tokens, as its code is set for Llama. Its option to leave the
    first blocks alone for a while, to save time, is left out.
    """
    found = greedy(forwards, most, report, "FinerCut")
    forwards.save()
    return {m: Choice(choice.removed, choice.forwards) for m, choice in found.items()}


def _random_state(rng: np.random.Generator, n: int, m: int) -> State:
    return tuple(sorted(rng.choice(n, m, replace=False).tolist()))


def random_search(
    forwards: Forwards, removed: int, budget: float, seed: int = 0, report: Report = silent
) -> Curve:
    """Ever better states among random ones, each measured on all sequences, until the budget is spent."""
    rng = np.random.default_rng(seed)
    curve: Curve = []
    for _ in range(10_000):
        state = _random_state(rng, forwards.blocks, check_removed(removed, forwards.blocks))
        if forwards.forwards + _whole_cost(forwards, state) > budget:
            break
        report(int(forwards.forwards), math.ceil(budget), "random search, forwards")
        _add_better(curve, state, forwards)
    return curve


def _add_better(curve: Curve, state: State, forwards: Forwards) -> None:
    """Add the state, measured, where its loss is below that of the last."""
    loss = float(forwards.whole(state).mean())
    least = curve[-1].loss if curve else None
    if least is None or loss < least:
        curve.append(Choice(state, forwards.forwards, loss))


def _whole_cost(forwards: Forwards, state: State) -> float:
    return sum(forwards.cost(state, chunk) for chunk in range(len(forwards.chunks)))


OFFSPRING, SURVIVORS, SWAPS = 16, 4, 3


@dataclass(frozen=True)
class Level:
    """Units of which a search removes the same number in every state."""

    units: tuple[int, ...]
    count: int


def evolutionary(
    forwards: Forwards, removed: int, budget: float, seed: int = 0, report: Report = silent
) -> Curve:
    """EvoPress (arXiv 2410.14649) with one level: swaps of any unit for any other (`_evolve`)."""
    n = forwards.blocks
    level = Level(tuple(range(n)), check_removed(removed, n))
    return _evolve(forwards, [level], budget, seed, report)


def evolutionary_by_kind(
    forwards: Forwards, removed: int, budget: float, seed: int = 0, report: Report = silent
) -> Curve:
    """EvoPress (arXiv 2410.14649) as its code drops attention and FFN: of each as many, and a swap is within
    one of them, drawn anew each time, so that every level stays (`levels_of`, `_evolve`).
    """
    check_removed(removed, forwards.blocks)
    return _evolve(forwards, levels_of(forwards.units, removed), budget, seed, report)


def levels_of(units: Units, removed: int) -> list[Level]:
    """A level for each kind of units, in the order in which a model has them: M in shares of how many there
    are of each, the first kinds more where it does not come out even. Half attention, half FFN of a usual
    transformer.
    """
    kinds: dict[str, list[int]] = {}
    for unit, kind in enumerate(units.kinds or [""] * len(units)):
        kinds.setdefault(kind, []).append(unit)
    shares = [removed * len(own) / len(units) for own in kinds.values()]
    counts = [math.floor(share) for share in shares]
    order = sorted(range(len(shares)), key=lambda k: counts[k] - shares[k])
    for k in order[: removed - sum(counts)]:
        counts[k] += 1
    return [Level(tuple(own), count) for own, count in zip(kinds.values(), counts)]


def _evolve(forwards: Forwards, levels: Sequence[Level], budget: float, seed: int, report: Report) -> Curve:
    """A parent, mutants of it by swaps within levels, and selection on ever more sequences.

    The first parent is the best of OFFSPRING random states. A generation is OFFSPRING mutants, each by min(a,
    b) swaps with a, b drawn from {1, 2, 3}; they are compared on one random chunk, the SURVIVORS best of them
    on a quarter of the chunks, and the best of those with the parent on all: the parent stays unless it is
    beaten.
    """
    evolution = _Evolution(forwards, budget, np.random.default_rng(seed), report)
    curve: Curve = []
    first = [_of_levels(levels, evolution.rng) for _ in range(OFFSPRING)]
    parent = evolution.fittest(first, None)
    while parent is not None:
        _add_better(curve, parent, forwards)
        before = forwards.forwards
        mutants = {mutant(parent, levels, evolution.rng) for _ in range(OFFSPRING)}
        child = evolution.fittest(sorted(mutants), parent)
        if child is None or (
            forwards.forwards == before and child == parent and _exhausted(forwards, parent, levels)
        ):
            break
        parent = child
    return curve


def _of_levels(levels: Sequence[Level], rng: np.random.Generator) -> State:
    drawn = [rng.choice(level.units, level.count, replace=False).tolist() for level in levels]
    return tuple(sorted(itertools.chain.from_iterable(drawn)))


def mutant(parent: State, levels: Sequence[Level], rng: np.random.Generator) -> State:
    """The parent with one to SWAPS swaps, as EvoPress draws them, each within one level; itself where none
    has two states.
    """
    state = set(parent)
    levels = [level for level in levels if 0 < level.count < len(level.units)]
    for _ in range(min(rng.integers(1, SWAPS + 1, 2)) if levels else 0):
        level = set(levels[rng.integers(len(levels)) if len(levels) > 1 else 0].units)
        out = rng.choice(sorted(state & level))
        in_ = rng.choice(sorted(level - state))
        state = state - {int(out)} | {int(in_)}
    return tuple(sorted(state))


@dataclass(frozen=True)
class _Evolution:
    """How one generation follows another."""

    forwards: Forwards
    budget: float
    rng: np.random.Generator
    report: Report

    def fittest(self, states: list[State], parent: State | None) -> State | None:
        """The best of the states in the end, or their parent; None when the budget ends first."""
        count = len(self.forwards.chunks)
        one, quarter, whole = (self.rng.permutation(count)[:size] for size in (1, max(1, count // 4), count))
        for chunks, keep in ((one, SURVIVORS), (quarter, 1)):
            if not self._pays(states, chunks):
                return None
            states = self._selected(states, chunks, keep)
        final = states if parent is None else [parent, *states]
        return self._selected(final, whole, 1)[0] if self._pays(final, whole) else None

    def _pays(self, states: list[State], chunks: np.ndarray) -> bool:
        """Whether the budget allows for all of it, without what they share among themselves."""
        cost = sum(self.forwards.cost(s, int(c)) for s in states for c in chunks)
        return self.forwards.forwards + cost <= self.budget

    def _selected(self, states: list[State], chunks: np.ndarray, keep: int) -> list[State]:
        self.report(int(self.forwards.forwards), math.ceil(self.budget), "evolutionary search, forwards")
        losses = [np.concatenate([self.forwards.measure(s, int(c)) for c in chunks]).mean() for s in states]
        return [states[k] for k in np.argsort(losses, kind="stable")[:keep]]


def _exhausted(forwards: Forwards, parent: State, levels: Sequence[Level]) -> bool:
    """Whether every state that a mutant can be has been looked at."""
    gone = set(parent)
    seen = sum(
        len(set(s) - gone) <= SWAPS and all(len(set(s) & set(own.units)) == own.count for own in levels)
        for s in forwards.losses
    )
    ways = [1]  # by the number of swaps
    for own in levels:
        kept = len(own.units) - own.count
        swaps = [math.comb(own.count, k) * math.comb(kept, k) for k in range(SWAPS + 1)]
        ways = np.convolve(ways, swaps)[: SWAPS + 1].tolist()
    return seen == sum(ways)


def best_window(forwards: Forwards, removed: int) -> Choice:
    """The run of M neighbouring blocks whose removal raises the loss least, all of them measured."""
    n = forwards.blocks
    windows = [tuple(range(first, first + check_removed(removed, n))) for first in range(n - removed + 1)]
    losses = [float(forwards.whole(w).mean()) for w in windows]
    return Choice(windows[int(np.argmin(losses))], forwards.forwards, min(losses))


def _lowest(scores: np.ndarray, most: int, cost: float) -> dict[int, Choice]:
    order = np.argsort(scores, kind="stable").tolist()
    return {m: Choice(tuple(sorted(order[:m])), cost) for m in range(1, most + 1)}


def perplexity(forwards: Forwards, most: int) -> dict[int, Choice]:
    """The M blocks whose removal one at a time raises the loss least (Shortened LLaMA's PPL criterion, arXiv
    2402.02834).
    """
    base = forwards.whole(())
    scores = np.array([(forwards.whole((i,)) - base).mean() for i in range(forwards.blocks)])
    return _lowest(scores, most, forwards.forwards)


@torch.no_grad()
def _through(
    loaded: LoadedModel,
    sequences: Sequences,
    batch: int,
    see: Callable[[list[torch.Tensor], torch.Tensor], None],
) -> None:
    """One forward over all sequences: `see` gets the N + 1 hidden states [B, T, D] before, between and behind
    the blocks, and bool [B, T]: real tokens.
    """
    states: list[torch.Tensor] = []

    def note(_module, args, kwargs, output):
        states.append(hidden_argument(args, kwargs))
        if len(states) == len(loaded.blocks):
            states.append(first_tensor(output))

    head = loaded.head  # tried before hooks see it; no logits are needed
    handles = [module.register_forward_hook(note, with_kwargs=True) for module in loaded.modules]
    try:
        for start in range(0, len(sequences.ids), batch):
            part = slice(start, start + batch)
            ids = torch.from_numpy(sequences.ids[part]).to(loaded.device)
            mask = (
                None if sequences.mask is None else torch.from_numpy(sequences.mask[part]).to(loaded.device)
            )
            front, _ = right_padded(ids, mask, None)
            head.hidden(front)
            real = (
                torch.ones_like(ids, dtype=torch.bool)
                if mask is None
                else mask.sort(dim=1, descending=True, stable=True).values
            )
            see([h if loaded.structure.batch_axis == 0 else h.transpose(0, 1) for h in states], real)
            states.clear()
    finally:
        for handle in handles:
            handle.remove()


def block_influence(
    loaded: LoadedModel, sequences: Sequences, most: int, batch: int = 16
) -> dict[int, Choice]:
    """The M blocks of lowest 1 - cos(input, output), mean over tokens (ShortGPT, arXiv 2403.03853): one
    forward. Of a model that is seen by branch, the same of the residual stream before and behind each branch,
    attention and FFN together (Joint Layer Drop of LLM-Drop, arXiv 2406.15786).
    """
    total, tokens = np.zeros(len(loaded.units)), 0
    outputs: list[torch.Tensor] = []
    own = [] if loaded.by == BLOCK else [module for _, _, module in loaded.branches()]
    note = lambda _module, _args, output: outputs.append(first_tensor(output))  # noqa: E731

    def see(states, real):
        nonlocal total, tokens
        ends = zip(states, states[1:]) if not own else _around_branches(states, outputs, loaded)
        cosines = [torch.cosine_similarity(a.float(), b.float(), dim=-1)[real].sum().item() for a, b in ends]
        total, tokens = total + cosines, tokens + int(real.sum())
        outputs.clear()

    _ = loaded.head  # tried before hooks see it
    handles = [module.register_forward_hook(note) for module in own]
    try:
        _through(loaded, sequences, batch, see)
    finally:
        for handle in handles:
            handle.remove()
    return _lowest(1 - total / tokens, most, 1.0)


def _around_branches(
    states: list[torch.Tensor], outputs: list[torch.Tensor], loaded: LoadedModel
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The residual stream before and behind each unit; states: before, between and behind the blocks;
    outputs: of all branches, in the order in which they were done. A block adds its branches' outputs, all
    times one number in some types.
    """
    left = iter(outputs)
    for before, behind, own in zip(states, states[1:], loaded.units.of_block):
        added = [next(left).reshape(before.shape) for _ in own]
        if len(own) == 1:
            yield before, behind
            continue
        together = torch.stack(added).sum(dim=0)
        scale = float(((behind - before) * together).sum() / (together * together).sum())
        for output in added:
            yield before, before + scale * output
            before = before + scale * output


def angular_window(
    loaded: LoadedModel, sequences: Sequences, most: int, batch: int = 16
) -> dict[int, Choice]:
    """The M neighbouring blocks with the smallest angle between what goes in and comes out at the last token
    (arXiv 2403.17887): one forward.
    """
    n = len(loaded.blocks)
    angles = np.zeros((n + 1, n + 1))

    def see(states, real):
        nonlocal angles
        last = real.sum(dim=1) - 1
        ends = torch.stack([h[torch.arange(len(last)), last] for h in states]).double()
        unit = ends / ends.norm(dim=-1, keepdim=True)
        cosine = torch.einsum("abd,cbd->acb", unit, unit).clamp(-1, 1)
        angles += (torch.arccos(cosine) / math.pi).sum(dim=-1).cpu().numpy()

    _through(loaded, sequences, batch, see)
    choices = {}
    for m in range(1, most + 1):
        first = int(np.argmin([angles[k, k + m] for k in range(n - m + 1)]))
        choices[m] = Choice(tuple(range(first, first + m)), 1.0)
    return choices


def magnitude(loaded: LoadedModel, most: int) -> dict[int, Choice]:
    """The M blocks with the smallest sum of absolute weights (Shortened LLaMA's Mag criterion, arXiv
    2402.02834): free.
    """
    scores = np.array(
        [sum(float(p.detach().abs().sum()) for p in _matrices(module)) for module in loaded.modules]
    )
    return _lowest(scores, most, 0.0)


def taylor(loaded: LoadedModel, sequences: Sequences, most: int, batch: int = 16) -> dict[int, Choice]:
    """The M blocks with the smallest sum of |weight x gradient of the loss| (Shortened LLaMA's Taylor
    criterion, arXiv 2402.02834).

    Gradient of the mean loss over all sequences; a forward and a backward with weight gradients cost 3
    forwards. The paper also keeps the first four and last two blocks of Llama by hand ("Taylor+"); that is
    left out here.
    """
    weights = [list(_matrices(module)) for module in loaded.modules]
    every = [p for own in weights for p in own]
    for p in every:
        p.requires_grad_(True)
    try:
        for start in range(0, len(sequences.ids), batch):
            part = slice(start, start + batch)
            ids, scored = padded_batch(sequences.ids, sequences.mask, sequences.scored, part, loaded.device)
            hidden = loaded.head.hidden(ids)
            (labelled,) = loss_gradients(hidden, ids, scored, loaded.head.logits)
            hidden.backward(labelled.gradient)
        scores = np.array(
            [
                sum(float((p.detach() * p.grad).abs().sum()) for p in own if p.grad is not None)
                for own in weights
            ]
        )
    finally:
        for p in every:
            p.requires_grad_(False)
            p.grad = None
    return _lowest(scores, most, 3.0)


def _matrices(module: torch.nn.Module) -> Iterator[torch.nn.Parameter]:
    """The weights that the criteria of Shortened LLaMA look at: those of linear maps, not norms or biases."""
    return (p for p in module.parameters() if p.ndim >= 2)


@dataclass(frozen=True)
class Look:
    """What a rule may look at."""

    loaded: LoadedModel
    sequences: Sequences  # the choosing ones
    meter: Callable[[], Forwards]  # over the same, each with a count of its own
    depths: Collection[int]  # all M that are asked for
    report: Report = silent  # of rules that take their time

    @property
    def most(self) -> int:
        """The largest M."""
        return max(self.depths)


@dataclass(frozen=True)
class Rule:
    """A method that chooses once: {M: its choice} with all M of the look, or more."""

    label: str
    choose: Callable[[Look], dict[int, Choice]]
    by: tuple[str, ...] = (BLOCK,)  # the views of a model that it chooses in


@dataclass(frozen=True)
class Search:
    """A method that measures states as it goes: search(meter, M, budget in forwards, seed, report)."""

    label: str
    search: Callable[[Forwards, int, float, int, Report], Curve]
    by: tuple[str, ...] = VIEWS


def _greedy_search(forwards: Forwards, removed: int, budget: float, seed: int, report: Report) -> Curve:
    """Takes what it takes: neither budget nor seed change it."""
    return [greedy(forwards, removed, report)[removed]]


GREEDY = "greedy"  # its forwards are what the others are given
PEERS: Mapping[str, Rule | Search] = {
    "block influence": Rule(
        "Block Influence (ShortGPT; by branch LLM-Drop)",
        lambda see: block_influence(see.loaded, see.sequences, see.most),
        by=VIEWS,
    ),
    "angular window": Rule(
        "angular window (Gromov)", lambda see: angular_window(see.loaded, see.sequences, see.most)
    ),
    "taylor": Rule("Taylor (Shortened LLaMA)", lambda see: taylor(see.loaded, see.sequences, see.most)),
    "perplexity": Rule(
        "perplexity (Shortened LLaMA)", lambda see: perplexity(see.meter(), see.most), by=VIEWS
    ),
    "magnitude": Rule("magnitude (Shortened LLaMA)", lambda see: magnitude(see.loaded, see.most)),
    "best window": Rule(
        "best window, measured", lambda see: {m: best_window(see.meter(), m) for m in see.depths}, by=VIEWS
    ),
    "FinerCut": Rule(
        "FinerCut",
        lambda see: finercut(open_forwards(see.loaded, see.sequences, ruler=JS), see.most, see.report),
        by=(BRANCH,),
    ),
    GREEDY: Search("greedy (SLEB; by branch BlockPruner)", _greedy_search),
    "evolutionary": Search("evolutionary (EvoPress)", evolutionary),
    "evolutionary by kind": Search(
        "evolutionary, attention and FFN apart (EvoPress)", evolutionary_by_kind, by=(BRANCH,)
    ),
    "random": Search("random", random_search),
}
RULES = {name: peer for name, peer in PEERS.items() if isinstance(peer, Rule)}
SEARCHES = {name: peer for name, peer in PEERS.items() if isinstance(peer, Search)}


def chosen_at_once(look: Look) -> Iterator[tuple[str, dict[int, Choice]]]:
    """(name of RULES, {M: its choice}), one by one: of those that choose in the view of the model."""
    for name, rule in RULES.items():
        if look.loaded.by in rule.by:
            yield name, rule.choose(look)


def searched(
    meter: Callable[[], Forwards], removed: int, budget: float, seed: int = 0, report: Report = silent
) -> Iterator[tuple[str, Curve]]:
    """(name of SEARCHES, its curve), one by one, of those that search in the view of the meters; each gets
    one.

    Greedy is the first, and where it takes more than the budget the others get as much. What they measure is
    kept as they end.
    """
    for name in sorted(SEARCHES, key=lambda name: name != GREEDY):
        own = meter()
        if own.units.by not in SEARCHES[name].by:
            continue
        curve = SEARCHES[name].search(own, removed, budget, seed, report)
        own.save()
        if name == GREEDY:
            budget = max(budget, curve[-1].forwards)
        yield name, curve
