"""What a model without some blocks takes, and what must go so that it fits: weights, KV cache, active
parameters, or shares of what the original takes, milliseconds a token among them.

Weights and cache of a block count in the types they are stored in; blocks that see a window of the context
only are counted with all of it. Activations, the logits and what a runtime itself takes come on top: leave
room for them.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from core.errors import InputError
from core.spectrum.constraints import Constraints, heaviest, make_rules
from core.spectrum.lowest import lowest_states
from core.store.unit_times import unit_times

_UNITS = {
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_COUNTS = {"": 1, "k": 2**10}  # 8k tokens are 8192
_PARAMETERS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}
_NUMBER = r"(\d{1,15}(?:\.\d{1,9})?)"
_PARTS: tuple[tuple[str, re.Pattern], ...] = tuple(
    (name, re.compile(pattern, re.IGNORECASE | re.ASCII))
    for name, pattern in (
        ("bytes", rf"{_NUMBER} ?([kmgt]?i?b)"),
        ("active", rf"{_NUMBER} ?([kmbt]?) active(?: parameters)?"),
        ("context", rf"(?:at )?{_NUMBER} ?(k?) (?:tokens(?: of context)?|context)"),
        ("context", rf"context {_NUMBER} ?(k?)"),
        ("batch", rf"batch {_NUMBER}()"),
    )
)
_SHARE = re.compile(
    rf"(?P<of>weights|kv|active)(?: cache| parameters)? {_NUMBER} ?%", re.IGNORECASE | re.ASCII
)
_TIME = re.compile(rf"time at {_NUMBER} ?(k?)(?: tokens| context)? {_NUMBER} ?%", re.IGNORECASE | re.ASCII)
WEIGHTS, KV, ACTIVE, TIME = "weights", "kv", "active", "time"


@dataclass(frozen=True)
class Share:
    """At most so much of what the original takes."""

    of: str  # WEIGHTS (bytes), KV (bytes), ACTIVE (parameters) or TIME (milliseconds a token)
    share: float  # 0.6: 60 %
    context: int = 0  # tokens, of TIME

    @property
    def name(self) -> str:
        """What it limits, as people write it."""
        return f"time at {_tokens(self.context)}" if self.of == TIME else self.of


def _tokens(count: int) -> str:
    """8k, 1000."""
    return f"{count // 2**10}k" if count and count % 2**10 == 0 else str(count)


@dataclass(frozen=True)
class Budget:
    """What there is; None: no limit.

    bytes are for the weights and the KV cache of `batch` sequences of `context` tokens.
    """

    bytes: float | None = None
    context: int = 0
    batch: int = 1
    active: float | None = None  # parameters that a token may use
    shares: tuple[Share, ...] = ()


def read_budget(text: str) -> Budget:
    """A budget from "24 GB at 8k context, batch 4", "3B active", or shares of the original, "weights 80 %, kv
    60 %, time at 8k 75 %": parts with commas (or "at") between.

    GB are 10^9 bytes, GiB 2^30; 8k tokens are 8192. Errors: InputError for a part that is none, or comes
    twice.
    """
    found: dict[str, float] = {}
    shares: list[Share] = []
    for part in re.split(r",|(?<!\btime )\bat\b", " ".join(text.split()), flags=re.IGNORECASE):
        part = part.strip()
        if share := _read_share(part, text):
            if share.name in (other.name for other in shares):
                raise InputError(f"The budget {text[:80]!r} gives two shares of the {share.name}; give one.")
            shares.append(share)
            continue
        limit = next(((name, m) for name, pattern in _PARTS if (m := pattern.fullmatch(part))), None)
        if limit is None:
            raise InputError(
                f"{part[:40]!r} in the budget {text[:80]!r} is no limit; write for example 24 GB at 8k "
                "context, batch 4, or weights 80 %, kv 60 %, time at 8k 75 %."
            )
        name, match = limit
        if name in found:
            raise InputError(f"The budget {text[:80]!r} gives two numbers for the {name}; give one.")
        scale = {"bytes": _UNITS, "active": _PARAMETERS}.get(name, _COUNTS)[match[2].lower()]
        found[name] = float(match[1]) * scale
    for name in ("context", "batch"):
        if name in found and not (found[name].is_integer() and (found[name] >= 1 or name == "context")):
            raise InputError(
                f"The {name} in the budget {text[:80]!r} must be a whole "
                f"number{' of at least 1' * (name == 'batch')}."
            )
    if not (found.get("bytes") or found.get("active") or shares):
        raise InputError(
            f"The budget {text[:80]!r} limits neither memory nor active parameters; write for example 24 GB "
            "or 3B active."
        )
    return Budget(
        found.get("bytes"),
        int(found.get("context", 0)),
        int(found.get("batch", 1)),
        found.get("active"),
        tuple(shares),
    )


def _read_share(part: str, text: str) -> Share | None:
    """The share of the original that a part of a budget's text asks for; None where it asks for something
    else. Errors: InputError for one that is no share.
    """
    if timed := _TIME.fullmatch(part):
        context, percent = float(timed[1]) * _COUNTS[timed[2].lower()], float(timed[3])
        if not context.is_integer() or context < 1:
            raise InputError(f"The context in the budget {text[:80]!r} must be a whole number of at least 1.")
        found = Share(TIME, percent / 100, int(context))
    elif plain := _SHARE.fullmatch(part):
        found = Share(plain["of"].lower(), float(plain[2]) / 100)
    else:
        return None
    if not 0 < found.share <= 1:
        raise InputError(
            f"{part[:40]!r} in the budget {text[:80]!r} is no share of the original; choose more than 0 "
            "and at most 100 %."
        )
    return found


def budget_text(budget: Budget) -> str:
    """The text that `read_budget` reads."""
    parts = []
    if budget.bytes is not None:
        parts.append(f"{_amount(budget.bytes / 1e9)} GB")
        if budget.context:
            parts.append(f"{budget.context} context")
        if budget.batch != 1:
            parts.append(f"batch {budget.batch}")
    if budget.active is not None:
        parts.append(f"{_amount(budget.active / 1e9)}B active")
    parts += [f"{share.name} {_amount(100 * share.share)} %" for share in budget.shares]
    return ", ".join(parts)


def size(count: float, unit: str = "B") -> str:
    """1.3 MB, 24 kB, 1.2 M."""
    for step, prefix in ((1e9, "G" if unit else "B"), (1e6, "M"), (1e3, "k")):
        if count >= step:
            return f"{count / step:.3g} {prefix}{unit}"
    return f"{count:,.0f} {unit}".strip()


def _amount(value: float) -> str:
    return f"{value:.9f}".rstrip("0").rstrip(".")


@dataclass(frozen=True)
class Needs:
    """What a model takes."""

    weights: int  # bytes
    cache: int  # bytes
    active: int  # parameters

    @property
    def bytes(self) -> int:
        """Weights and cache together."""
        return self.weights + self.cache


def needs(model: Mapping, removed: Sequence[int], budget: Budget) -> Needs:
    """Of a model (run.meta["model"]) without the blocks of `removed`, at the context and batch of a
    budget.
    """
    kept = [b for i, b in enumerate(model["blocks"]) if i not in set(removed)]
    gone = [model["blocks"][i] for i in set(removed)]
    cache = sum(b["kv_bytes"] for b in kept) * budget.context * budget.batch
    idle = sum(b["parameters"] - _active(b) for b in kept)
    parameters = model["parameters"] - sum(b["parameters"] for b in gone)
    return Needs(int(model["bytes"] - sum(b["bytes"] for b in gone)), int(cache), int(parameters - idle))


def _active(block: Mapping) -> int:
    # runs of before the field was kept have no experts
    return block.get("active_parameters", block["parameters"])


def with_budget(model: Mapping, budget: Budget, constraints: Constraints | None = None) -> Constraints:
    """The constraints with the budget among them, exactly: at least so much of what the blocks weigh must go.

    A budget that the whole model keeps changes nothing. Errors: InputError where no removal is enough, and
    for a share of a time that was never measured.
    """
    constraints = constraints or Constraints()
    binding = _binding(model, budget)
    if not binding:
        return constraints
    weights = [*(constraints.weights or ()), *(tuple(w.tolist()) for w, _ in binding)]
    at_least = [*np.atleast_1d(constraints.at_least or ()).tolist(), *(float(least) for _, least in binding)]
    return replace(constraints, weights=tuple(weights), at_least=tuple(at_least))


def _limits(model: Mapping, budget: Budget) -> list[tuple[np.ndarray, float, float, str]]:
    """(weight of each block float [N], what the whole model has, what it may have, the unit) of each."""
    whole, blocks = needs(model, (), budget), model["blocks"]
    active = np.array([_active(b) for b in blocks], float)
    found: list[tuple[np.ndarray, float, float, str]] = []
    if budget.bytes is not None:
        cache = budget.context * budget.batch
        weights = np.array([b["bytes"] + b["kv_bytes"] * cache for b in blocks], float)
        found.append((weights, whole.bytes, budget.bytes, "B"))
    if budget.active is not None:
        found.append((active, whole.active, budget.active, ""))
    for share in budget.shares:
        unit = "B"
        if share.of == WEIGHTS:
            weights, has = np.array([b["bytes"] for b in blocks], float), float(model["bytes"])
        elif share.of == KV:
            weights = np.array([b["kv_bytes"] for b in blocks], float)
            has = float(weights.sum())
        elif share.of == ACTIVE:
            weights, has, unit = active, float(whole.active), ""
        else:
            has, weights = _timed(model, share)
            unit = "ms"
        found.append((weights, has, has * share.share, unit))
    return found


def _timed(model: Mapping, share: Share) -> tuple[float, np.ndarray]:
    """(milliseconds a token, those of each unit). Errors: InputError where they were never measured."""
    found = unit_times(model, share.context)
    if found is None:
        source = shlex.quote(str(model.get("source", "MODEL")))
        raise InputError(
            f"How long this model takes for a token at {_tokens(share.context)} was never measured here; "
            f"measure it by python -m core speed --model {source} --context {share.context}."
        )
    return found


def _told(value: float, unit: str) -> str:
    return f"{value:.3g} ms" if unit == "ms" else size(value, unit) + " active parameters" * (not unit)


def _binding(model: Mapping, budget: Budget) -> list[tuple[np.ndarray, float]]:
    """(weight of each block float [N], what must go at least) of every limit that the whole model breaks."""
    found = []
    for weights, has, limit, unit in _limits(model, budget):
        if has - weights.sum() > limit * (1 + 1e-12):
            raise InputError(
                f"Without any of its blocks the model still takes {_told(has - weights.sum(), unit)}, and "
                f"the budget is {_told(limit, unit)}; raise it."
            )
        if has > limit:
            found.append((weights, has - limit))
    return found


@dataclass(frozen=True)
class Fit:
    """How many blocks must go for a budget.

    least: some state of so many fits; sure: every state of so many does (None: of no M).
    """

    whole: Needs
    least: int
    sure: int | None

    def said(self, word: str) -> str:
        """The same as a clause for people, who call a unit this."""
        if not self.least:
            return "the whole model fits"
        if self.least == self.sure:
            return f"removing {self.least} {word}s is enough, whichever they are"
        if self.sure is None:
            return f"at least {self.least} {word}s must go, and which ones decides"
        return (
            f"at least {self.least} {word}s must go; which ones decides, up to {self.sure}, where every "
            "choice fits"
        )


def smallest_removal(model: Mapping, budget: Budget, constraints: Constraints | None = None) -> Fit:
    """The fewest blocks whose removal fits a budget under constraints, exactly.

    Errors: InputError where nothing fits, and as `with_budget`.
    """
    n, whole = len(model["blocks"]), needs(model, (), budget)
    ruled = with_budget(model, budget, constraints)
    if not ruled.budgeted:
        return Fit(whole, 0, 0)
    plain, least = replace(ruled, weights=None, at_least=None), _fewest(ruled, n)
    if least is None:
        raise InputError(
            f"No choice of 1 to {n - 1} blocks that the rules allow fits the budget {budget_text(budget)!r}; "
            "raise it or relax the rules."
        )
    weights, goals = np.atleast_2d(np.array(ruled.weights)), np.atleast_1d(np.array(ruled.at_least))
    limits = list(zip(weights, goals * (1 - 1e-12)))
    fits = (m for m in range(least, n) if all(_lightest(w, m, plain) >= enough for w, enough in limits))
    return Fit(whole, least, next(fits, None))


def _fewest(constraints: Constraints, blocks: int) -> int | None:
    """The fewest blocks, 1 to N - 1, whose removal the constraints allow; None where they allow none."""
    from scipy.optimize import Bounds, LinearConstraint, milp  # here: it takes a while to load

    try:
        rules = make_rules(constraints, blocks, None)
    except InputError:
        return None
    rows = [LinearConstraint(np.ones(blocks), 1, blocks - 1)]
    size = rules.weights.max(axis=1).clip(min=1e-300)  # in units of the heaviest
    rows.append(LinearConstraint(rules.weights / size[:, None], rules.at_least / size))
    for k in np.flatnonzero(rules.counts >= 0):
        rows.append(LinearConstraint((rules.klass == k).astype(float), rules.counts[k], rules.counts[k]))
    windows = np.array([np.arange(blocks) - i for i in range(blocks - rules.max_run)])
    if len(windows):  # of one more than may go in a row
        inside = ((windows >= 0) & (windows <= rules.max_run)).astype(float)
        rows.append(LinearConstraint(inside, -np.inf, rules.max_run))
    bounds = Bounds((rules.fixed == 1).astype(float), (rules.fixed != 0).astype(float))
    found = milp(np.ones(blocks), constraints=rows, bounds=bounds, integrality=np.ones(blocks))
    if found.x is None:
        return None
    chosen, least = np.round(found.x).astype(bool), int(round(found.x.sum()))
    if rules.allows(chosen)[0]:
        return least
    for m in range(least, blocks):  # a state that misses a budget by less than the solver's tolerance
        try:
            lowest_states(np.eye(blocks), m, 1, constraints=constraints)
            return m
        except InputError:
            continue
    return None


def _lightest(w: np.ndarray, m: int, constraints: Constraints) -> float:
    """The smallest weight of a choice of m blocks under constraints; -inf where there is none."""
    try:
        rules = make_rules(constraints, len(w), m)
        if rules.max_run >= len(w):
            return -float(heaviest(replace(rules, weights=-w[None]))[0])
        if not w.any():
            return 0.0
        found = lowest_states(
            np.diag(w / w.max()), m, 1, constraints=constraints
        )  # energies are weights then
        return float(found.energies[0] * w.max())
    except InputError:
        return -np.inf
