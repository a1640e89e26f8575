"""What a model without some blocks takes, and what must go so that it fits: weights, KV cache, active
parameters.

Weights and cache of a block count in the types they are stored in; blocks that see a window of the context
only are counted with all of it. Activations, the logits and what a runtime itself takes come on top: leave
room for them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from core.errors import InputError
from core.spectrum.constraints import Constraints, heaviest, make_rules
from core.spectrum.lowest import lowest_states

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


@dataclass(frozen=True)
class Budget:
    """What there is; None: no limit.

    bytes are for the weights and the KV cache of `batch` sequences of `context` tokens.
    """

    bytes: float | None = None
    context: int = 0
    batch: int = 1
    active: float | None = None  # parameters that a token may use


def read_budget(text: str) -> Budget:
    """A budget from "24 GB at 8k context, batch 4" or "3B active", in parts with commas (or "at") between.

    GB are 10^9 bytes, GiB 2^30; 8k tokens are 8192. Errors: InputError for a part that is none, or comes
    twice.
    """
    found: dict[str, float] = {}
    for part in re.split(r",|\bat\b", text):
        part = " ".join(part.split())
        limit = next(((name, m) for name, pattern in _PARTS if (m := pattern.fullmatch(part))), None)
        if limit is None:
            raise InputError(
                f"{part[:40]!r} in the budget {text[:80]!r} is no limit; write for example 24 GB at 8k "
                "context, batch 4."
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
    if not (found.get("bytes") or found.get("active")):
        raise InputError(
            f"The budget {text[:80]!r} limits neither memory nor active parameters; write for example 24 GB "
            "or 3B active."
        )
    return Budget(
        found.get("bytes"), int(found.get("context", 0)), int(found.get("batch", 1)), found.get("active")
    )


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

    A budget that the whole model keeps changes nothing. Errors: InputError where no removal is enough, where
    the constraints have a budget already, and where memory and active parameters both bind and blocks weigh
    differently in the two.
    """
    constraints = constraints or Constraints()
    if constraints.weights is not None:
        raise InputError(
            "The constraints have a budget already, and a search takes one; leave one of the two out."
        )
    binding = _binding(model, budget)
    if not binding:
        return constraints
    if len(binding) == 2:
        (a, least_a), (b, least_b) = binding
        if not np.allclose(a / a.max(), b / b.max(), rtol=1e-12, atol=0):
            raise InputError(
                "Memory and active parameters both limit this model, and a search takes one limit; leave one "
                "of the two out."
            )
        binding = [max(((w / w.max(), least / w.max()) for w, least in binding), key=lambda one: one[1])]
    ((weights, least),) = binding
    return replace(constraints, weights=tuple(weights.tolist()), at_least=float(least))


def _binding(model: Mapping, budget: Budget) -> list[tuple[np.ndarray, float]]:
    """(weight of each block float [N], what must go at least) of every limit that the whole model breaks."""
    whole, blocks = needs(model, (), budget), model["blocks"]
    limits = []
    if budget.bytes is not None:
        cache = budget.context * budget.batch
        limits.append(
            (
                np.array([b["bytes"] + b["kv_bytes"] * cache for b in blocks], float),
                whole.bytes,
                budget.bytes,
                "B",
            )
        )
    if budget.active is not None:
        limits.append((np.array([_active(b) for b in blocks], float), whole.active, budget.active, ""))
    found = []
    for weights, has, limit, unit in limits:
        if has - weights.sum() > limit:
            left, asked = (
                size(v, unit) + " active parameters" * (not unit) for v in (has - weights.sum(), limit)
            )
            raise InputError(
                f"Without any of its blocks the model still takes {left}, and the budget is {asked}; raise "
                "it."
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

    @property
    def words(self) -> str:
        """The same as a clause for people."""
        if not self.least:
            return "the whole model fits"
        if self.least == self.sure:
            return f"removing {self.least} blocks is enough, whichever they are"
        if self.sure is None:
            return f"at least {self.least} blocks must go, and which ones decides"
        return (
            f"at least {self.least} blocks must go; which ones decides, up to {self.sure}, where every "
            "choice fits"
        )


def smallest_removal(model: Mapping, budget: Budget, constraints: Constraints | None = None) -> Fit:
    """The fewest blocks whose removal fits a budget under constraints, exactly.

    Errors: InputError where nothing fits, and as `with_budget`.
    """
    n, whole = len(model["blocks"]), needs(model, (), budget)
    ruled = with_budget(model, budget, constraints)
    if ruled.at_least is None:
        return Fit(whole, 0, 0)
    plain, w = replace(ruled, weights=None, at_least=None), np.array(ruled.weights)
    enough = ruled.at_least * (1 - 1e-12)
    least = sure = None
    for m in range(1, n):
        most, fewest = _extremes(w, m, plain)
        if least is None and most >= enough:
            least = m
        if sure is None and fewest >= enough:
            sure = m
            break
    if least is None:
        raise InputError(
            f"No choice of 1 to {n - 1} blocks that the rules allow fits the budget {budget_text(budget)!r}; "
            "raise it or relax the rules."
        )
    return Fit(whole, least, sure)


def _extremes(w: np.ndarray, m: int, constraints: Constraints) -> tuple[float, float]:
    """(largest, smallest) weight of a choice of m blocks under the constraints; (-inf, -inf) where there is
    none.
    """
    try:
        rules = make_rules(constraints, len(w), m)
        if rules.max_run >= len(w):
            return heaviest(replace(rules, weights=w)), -heaviest(replace(rules, weights=-w))
        scaled = np.diag(w / w.max())  # energies are weights then
        most, fewest = (
            lowest_states(sign * scaled, m, 1, constraints=constraints).energies[0] for sign in (-1, 1)
        )
        return float(-most * w.max()), float(fewest * w.max())
    except InputError:
        return -np.inf, -np.inf
