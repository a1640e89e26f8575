"""What a choice of blocks must respect, beside or instead of removing exactly M.

`Constraints` is what people write; `Rules` is the one form that every method reads:
blocks are fixed, or belong to a class of which a given number is removed.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from core.errors import InputError
from core.ising.units import Units

_NUMBER = re.compile(r"[0-9]{1,4}")
_COUNTING_LIMIT = 200_000  # states of the counting recursion


@dataclass(frozen=True)
class Constraints:
    """All fields hold at once; a field left at its default asks for nothing.

    keep, remove: blocks that must stay, must go.
    groups: ((blocks, count), ...), disjoint: exactly `count` blocks of each are removed.
    weights, at_least: of each budget float [N] not negative, and the least total weight of the removed
    blocks; of a single budget also bare, [N] and a number, as it was written before there could be several.
    max_run: at most so many consecutive blocks are removed (1: no two adjacent).
    """

    keep: tuple[int, ...] = ()
    remove: tuple[int, ...] = ()
    groups: tuple[tuple[tuple[int, ...], int], ...] = ()
    weights: tuple[tuple[float, ...], ...] | tuple[float, ...] | None = None
    at_least: tuple[float, ...] | float | None = None
    max_run: int | None = None

    def __post_init__(self):
        if self.weights is not None and not any(
            isinstance(w, (tuple, list, np.ndarray)) for w in self.weights
        ):
            object.__setattr__(self, "weights", (tuple(self.weights),))
        if isinstance(self.at_least, (int, float, np.number)):
            object.__setattr__(self, "at_least", (self.at_least,))

    @property
    def budgeted(self) -> bool:
        """Whether a budget is among them."""
        return self.at_least is not None


def read_constraints(fields: dict[str, str], units: Units) -> Constraints:
    """Constraints as people write them, every field optional and empty for nothing.

    keep, remove: "0, 3-5", by branch also "12a"; groups: "0-11: 2; 12-23: 3", or by the kinds of the units,
    "attention: 2; MoE: 3"; max_run: "1".
    Errors: InputError with the field's own text.
    """
    keep, remove = (
        units.parse(fields[name]) if fields.get(name, "").strip() else () for name in ("keep", "remove")
    )
    if both := sorted(set(keep) & set(remove)):
        raise InputError(
            f"{units.word.capitalize()} {units.names[both[0]]} is to be kept and to be removed; choose one."
        )
    groups = []
    for part in filter(str.strip, fields.get("groups", "").split(";")):
        members, colon, count = part.rpartition(":")
        if not colon or not _NUMBER.fullmatch(count.strip()):
            raise InputError(
                f"{part.strip()[:60]!r} is no group of blocks; write blocks, a colon, and how many of them: "
                "0-11: 2; 12-23: 3."
            )
        listed = _of_kind(members, units.kinds) or units.parse(members)
        if int(count) > len(listed):
            raise InputError(
                f"The group {part.strip()[:60]!r} holds {len(listed)} {units.word}s; lower its count."
            )
        groups.append((listed, int(count)))
    run = fields.get("max_run", "").strip()
    if run and (not _NUMBER.fullmatch(run) or int(run) < 1):
        raise InputError(
            f"At most {run[:20]!r} in a row is no limit; give a whole number of at least 1, or nothing."
        )
    return Constraints(keep, remove, tuple(groups), max_run=int(run) if run else None)


def removed_by_groups(constraints: Constraints) -> int:
    """M, where groups say how much goes: what they remove together, and what goes in every state."""
    grouped = {unit for members, _ in constraints.groups for unit in members}
    return sum(count for _, count in constraints.groups) + len(set(constraints.remove) - grouped)


def spare(constraints: Constraints, removed: Sequence[int], blocks: int) -> int:
    """How many of the blocks that a state removes could stay, and the constraints be kept: they come back one
    after the other, the lightest first, for as long as what is still gone reaches every budget.

    Only blocks count that no rule and no group holds.
    """
    rules = make_rules(constraints, blocks, None)
    gone = np.isin(np.arange(blocks), list(removed))
    free = gone & (rules.fixed < 0) & (rules.counts[rules.klass] < 0)
    weight = (rules.weights / rules.at_least[:, None]).max(axis=0, initial=0.0)
    back = 0
    for b in sorted(np.flatnonzero(free).tolist(), key=lambda b: weight[b]):
        gone[b] = False
        if (rules.weights @ gone >= rules.at_least).all():
            back += 1
        else:
            gone[b] = True
    return back


def _of_kind(name: str, kinds: Sequence[str]) -> tuple[int, ...]:
    """The blocks of a kind, "attention + FFN", or with it as a part, "attention"; none where the name is not
    a kind's.
    """
    wanted, folded = name.strip().casefold(), [kind.casefold() for kind in kinds]
    exact = tuple(b for b, kind in enumerate(folded) if kind == wanted)
    return exact or tuple(b for b, kind in enumerate(folded) if wanted in kind.split(" + "))


@dataclass(frozen=True)
class Rules:
    """Constraints checked against N blocks and M. `counts` include the fixed blocks; -1: any number."""

    fixed: np.ndarray  # int8 [N]: 0 stays, 1 goes, -1 open
    klass: np.ndarray  # int64 [N]: class of each block
    counts: np.ndarray  # int64 [C]: removed blocks of each class
    weights: np.ndarray  # float64 [B, N]: of each budget
    at_least: np.ndarray  # float64 [B]
    max_run: int  # N: no limit
    total: int | None  # number of feasible states; None: not cheap to count

    @property
    def local(self) -> bool:
        """Whether there is a budget or a run limit: what classes and fixed blocks cannot say."""
        return len(self.at_least) > 0 or self.max_run < len(self.fixed)

    @property
    def free(self) -> bool:
        """Whether anything beside the classes restricts a state."""
        return not self.local and bool((self.fixed < 0).all())

    def allows(self, x: np.ndarray) -> np.ndarray:
        """bool [K]: which rows of x [K, N] are feasible; one that removes everything is not."""
        return self.keeps(x) & ~np.atleast_2d(np.asarray(x, dtype=bool)).all(axis=1)

    def keeps(self, x: np.ndarray) -> np.ndarray:
        """bool [K]: which rows of x [K, N] respect what was asked for, the one that removes everything
        too.
        """
        x = np.atleast_2d(np.asarray(x, dtype=bool))
        fits = ((self.fixed < 0) | (x == (self.fixed == 1))).all(axis=1)
        for k, count in enumerate(self.counts):
            if count >= 0:
                fits &= x[:, self.klass == k].sum(axis=1) == count
        fits &= (x @ self.weights.T >= self.at_least).all(axis=1)
        return fits & self.runs_fit(x)

    def runs_fit(self, x: np.ndarray) -> np.ndarray:
        """bool [K]: which rows of x bool [K, N] keep the run limit."""
        if self.max_run >= x.shape[1]:
            return np.ones(len(x), dtype=bool)
        windows = np.lib.stride_tricks.sliding_window_view(x, self.max_run + 1, axis=1)
        return ~np.any(windows.all(axis=2), axis=1)


def _whole(value, name: str, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise InputError(f"{name} must be a whole number of at least {least}, not {value!r}.")
    return int(value)


def _blocks(listed, blocks: int, name: str) -> list[int]:
    found = [_whole(b, f"A block of {name}", 0) for b in listed]
    for b in found:
        if b >= blocks:
            raise InputError(f"{name} names block {b}, and the model has blocks 0 to {blocks - 1}.")
    if len(set(found)) < len(found):
        raise InputError(
            f"{name} lists block {next(b for b in found if found.count(b) > 1)} twice; name each block once."
        )
    return found


def make_rules(constraints: Constraints | None, blocks: int, removed: int | None) -> Rules:
    """Check `constraints` for `blocks` blocks and `removed` of them (None: any number) and bring them into
    one form.

    Errors: InputError for a bad field or a combination that no state satisfies.
    """
    c = constraints or Constraints()
    if removed is None and not c.budgeted and not c.groups:
        raise InputError("Neither M nor a budget nor groups say how much to remove; give one of them.")
    fixed = np.full(blocks, -1, dtype=np.int8)
    keep, remove = _blocks(c.keep, blocks, "keep"), _blocks(c.remove, blocks, "remove")
    both = sorted(set(keep) & set(remove))
    if both:
        raise InputError(f"Block {both[0]} is to be kept and to be removed; choose one.")
    fixed[keep], fixed[remove] = 0, 1
    klass = np.full(blocks, len(c.groups), dtype=np.int64)
    counts = np.full(len(c.groups) + 1, -1, dtype=np.int64)
    for k, (listed, of_group) in enumerate(c.groups):
        members = _blocks(listed, blocks, f"group {k}")
        if (klass[members] < len(c.groups)).any():
            raise InputError(
                f"Group {k} shares block {next(b for b in members if klass[b] < len(c.groups))} with "
                "another; make groups disjoint."
            )
        klass[members], counts[k] = k, _whole(of_group, f"The count of group {k}", 0)
    if removed is not None:
        counts[-1] = removed - counts[:-1].sum()
        if counts[-1] < 0:
            raise InputError(
                f"The groups remove {removed - counts[-1]} blocks together, and M is {removed}; lower a "
                "count or raise M."
            )
    for k, count in enumerate(counts.tolist()):
        least, most = int((fixed[klass == k] == 1).sum()), int((fixed[klass == k] != 0).sum())
        if count >= 0 and not least <= count <= most:
            raise InputError(_impossible(c, removed, k, count, least, most, int((klass == k).sum())))
    weights, at_least = _budgets(c, blocks)
    max_run = blocks if c.max_run is None else _whole(c.max_run, "max_run", 1)
    rules = Rules(fixed, klass, counts, weights, at_least, min(max_run, blocks), None)
    if len(at_least):
        for reach, needed in zip(heaviest(rules), at_least):
            if reach < needed:
                raise InputError(
                    f"The blocks that go weigh at most {reach:.6g} together, and the budget needs "
                    f"{needed:.6g}; remove more of them, or raise the budget."
                )
        return rules
    total = _count(rules)
    if total == 0:
        raise InputError(
            f"No choice of blocks satisfies max_run = {max_run} together with the counts; raise max_run or "
            "remove fewer."
        )
    if total is not None and rules.keeps(np.ones((1, blocks)))[0]:
        total -= 1  # the state that removes everything is none
    if total == 0:
        raise InputError(f"The rules remove all {blocks} blocks, and nothing would be left; let some stay.")
    return replace(rules, total=total)


def _impossible(
    c: Constraints, removed: int | None, k: int, count: int, least: int, most: int, size: int
) -> str:
    """Why no `count` blocks of class k, of `size` blocks, can go, of which rules leave `least` to `most`."""
    if removed is not None and k == len(c.groups) and c.groups and size == 0:
        return (
            f"The groups hold every block and remove {removed - count} together, but M is {removed}; make "
            "their numbers add up to M."
        )
    where = (
        f"the {size} blocks of group {k}"
        if k < len(c.groups)
        else f"the {size} blocks in no group"
        if c.groups
        else f"{size} blocks"
    )
    if count < least:
        return f"{least} of {where} must go by the rules, and only {count} may; let fewer go, or raise M."
    return (
        f"{count} of {where} are to go, but the rules leave only {most} that may; let fewer stay, or "
        "change the number."
    )


def _budgets(c: Constraints, blocks: int) -> tuple[np.ndarray, np.ndarray]:
    """(weights float64 [B, N], at_least float64 [B]) of the budgets, checked. Errors: InputError."""
    if (c.weights is None) != (c.at_least is None):
        raise InputError(
            f"A budget needs weights and at_least, and {'weights' if c.weights is None else 'at_least'} is "
            "missing."
        )
    if c.weights is None or c.at_least is None:
        return np.zeros((0, blocks)), np.zeros(0)
    given, needed = tuple(c.weights), np.ravel(np.asarray(c.at_least, dtype=np.float64))
    if len(given) != len(needed):
        raise InputError(
            f"There are {len(given)} rows of weights and {len(needed)} numbers in at_least; a budget has one "
            "of each."
        )
    for row in given:
        weights = np.asarray(row, dtype=np.float64)
        if weights.shape != (blocks,) or not np.isfinite(weights).all() or (weights < 0).any():
            raise InputError(
                f"The weights of a budget must be {blocks} finite numbers that are not negative, not shape "
                f"{weights.shape}."
            )
    for least in needed.tolist():
        if not math.isfinite(least) or least <= 0:
            raise InputError(
                f"at_least must be a finite number above 0, not {least!r}; leave the budget out to ask for "
                "nothing."
            )
    # sums of weights in another order differ by rounding: a state that reaches the budget exactly must count
    return np.array(given, dtype=np.float64).reshape(-1, blocks), needed * (1 - 1e-12)


def heaviest(rules: Rules) -> np.ndarray:
    """float64 [B]: the largest weight of a choice under rules in each budget, its runs and the budgets
    aside.
    """
    total = rules.weights[:, rules.fixed == 1].sum(axis=1)
    for k, count in enumerate(rules.counts):
        own = rules.klass == k
        open_ = np.sort(rules.weights[:, own & (rules.fixed < 0)], axis=1)[:, ::-1]
        taken = open_.shape[1] if count < 0 else int(count) - int((rules.fixed[own] == 1).sum())
        total = total + open_[:, :taken].sum(axis=1)
    return total


def _count(rules: Rules) -> int | None:
    """Number of feasible states without a budget, block by block; None where there are too many cases."""
    if rules.max_run >= len(rules.fixed):  # classes are independent
        total = 1
        for k, count in enumerate(rules.counts):
            own = rules.fixed[rules.klass == k]
            open_ = int((own < 0).sum())
            total *= 2**open_ if count < 0 else math.comb(open_, int(count) - int((own == 1).sum()))
        return total
    last = {int(k): i for i, k in enumerate(rules.klass)}
    # (still to remove of each class, length of the run) -> ways
    cases = {(tuple(int(c) for c in rules.counts), 0): 1}
    spent = 0
    for i, (fixed, k) in enumerate(zip(rules.fixed, rules.klass)):
        following: dict = {}
        for (counts, run), ways in cases.items():
            for go in (0, 1) if fixed < 0 else (int(fixed),):
                left = counts[k] - go if counts[k] >= 0 else -1
                if (go and (run == rules.max_run or counts[k] == 0)) or (i == last[int(k)] and left > 0):
                    continue
                key = ((*counts[:k], left, *counts[k + 1 :]), run + 1 if go else 0)
                following[key] = following.get(key, 0) + ways
        cases = following
        spent += len(cases)
        if spent > _COUNTING_LIMIT:
            return None
    # a class without blocks has nothing to remove: its count was checked above
    return sum(cases.values())
