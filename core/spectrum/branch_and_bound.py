"""The K lowest states by branch and bound, complete and with the proof: see `search`.

The tree is walked over the nested form of core.spectrum.relaxation, whose partial sums bound
every completion at O(N) a node. It works in tasks (partial choices), the lowest bound
first: a task is walked depth first for a limited number of nodes, and what is left of it
becomes tasks again. In a long search a task that was not finished is first given a form of
its own, tightened for what is fixed by then: on nearly dependent blocks that lifts its bound up
to a hundredfold. So the smallest open bound is a bound on all that is unseen, at any time.
"""

import heapq
import itertools
import math
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from threadpoolctl import threadpool_limits

from core.spectrum.constraints import Constraints, Rules, make_rules
from core.spectrum.kbest import new_pool, pack, pool_insert, pool_limit, pool_states
from core.spectrum.moves import improve, insert_states
from core.spectrum.relaxation import Nested, Reduced, branching_order, nest, tighten
from core.spectrum.tree_walk import merge, walk
from core.spectrum.whole_budgets import sharpened


class _OneBlasThread:
    """While entered by anyone, BLAS works on one core: matrices of this size lose ten times by sharing.

    The setting belongs to the process, so the last to leave puts back what the first found.
    """

    def __init__(self):
        self.lock, self.inside, self.limits = threading.Lock(), 0, None

    def __enter__(self):
        with self.lock:
            if not self.inside:
                self.limits = threadpool_limits(1, "blas")
            self.inside += 1

    def __exit__(self, *_):
        with self.lock:
            self.inside -= 1
            if not self.inside:
                self.limits.restore_original_limits()


one_blas_thread = _OneBlasThread()
# nodes of a first walk and of a later one; nodes after which tightening pays (below, it costs more than
# walking); forms alive at a time (memory)
_FIRST, _WALK, _HARD, _FORMS = 20_000, 1_000_000, 10_000_000, 3_000


@dataclass(frozen=True)
class Progress:
    """What `report` is told a few times a second."""

    nodes: int
    energy: float  # the K-th lowest so far (inf: fewer are known)
    bound: float  # no unseen state lies below
    seconds: float


@dataclass(frozen=True)
class Found:
    """The states found, lowest first, and what is proved about all others."""

    x: np.ndarray  # bool [k, N]
    complete: bool  # the tree is exhausted
    lower_bound: float  # of every state that is not in x; inf: there is none
    nodes: int


class _Form:
    """A nested form with what core.spectrum.tree_walk.walk needs beside it."""

    def __init__(self, problem: Reduced, nested: Nested, rules: Rules, template: np.ndarray):
        self.problem, self.nested, self.rules, self.template = problem, nested, rules, template
        self.tasks = 0  # of this form that are open
        order = nested.order
        blocks, klass = problem.blocks[order], problem.klass[order]
        weights = np.ascontiguousarray(problem.weights[:, order])
        self.arrays = (
            nested.R,
            nested.b,
            nested.bound,
            nested.rounding,
            klass,
            problem.need,
            blocks,
            pack(template == 1)[0],
            rules.local,
            weights,
            problem.at_least,
            _heaviest(weights, klass, len(problem.need)),
            template,
            rules.max_run,
            int(rules.counts[rules.counts > 0].sum()),
        )
        self.exact = (
            np.ascontiguousarray(problem.Q[np.ix_(order, order)]),
            problem.c[order],
            problem.constant,
        )


def _heaviest(weights: np.ndarray, klass: np.ndarray, classes: int) -> np.ndarray:
    """float64 [B, n + 1, classes, n + 1]: what at most j variables of a class weigh in each budget, from the
    k-th variable on.
    """
    budgets, n = weights.shape
    most = np.zeros((budgets, n + 1, classes, n + 1))
    for k in range(n + 1 if budgets else 0):
        for g in range(classes):
            best = np.sort(weights[:, k:][:, klass[k:] == g], axis=1)[:, ::-1].cumsum(axis=1)
            size = best.shape[1]
            most[:, k, g, 1 : size + 1] = best
            most[:, k, g, size + 1 :] = best[:, -1:] if size else 0.0
    return most


class _Search:
    """One search: the tasks left, the best states, and the threads that work on them."""

    def __init__(self, blocks: int, keep: int, tolerance: float):
        self.pool = new_pool(keep, blocks)
        self.keep, self.tolerance = keep, tolerance
        self.slack = max(tolerance / 2, 1e-30)
        self.threshold = np.array([math.inf, 0.0])  # energy to stay below; whether to stop
        self.tasks: list[tuple[float, int, _Form, np.ndarray]] = []  # bound, age, form, prefix
        self.counter = itertools.count()
        self.forms = 0  # with tasks open
        self.condition = threading.Condition()
        self.running: dict[int, float] = {}
        self.failure: BaseException | None = None
        self.nodes = 0

    def push(self, bound: float, form: _Form, prefix: np.ndarray) -> None:
        form.tasks += 1
        self.forms += form.tasks == 1
        heapq.heappush(self.tasks, (bound, next(self.counter), form, prefix))

    def pop(self) -> tuple[float, _Form, np.ndarray]:
        """The task of lowest bound, as pushed."""
        bound, _, form, prefix = heapq.heappop(self.tasks)
        form.tasks -= 1
        self.forms -= form.tasks == 0
        return bound, form, prefix

    def allow(self, rounding: float) -> None:
        """Widen the slack so that it covers a form's rounding."""
        with self.condition:
            self.slack = max(self.slack, 2 * rounding)

    def lowest_open(self) -> float:
        """No unseen state lies below."""
        open_ = [*self.running.values(), *(task[0] for task in self.tasks[:1])]
        return float(min([self.threshold[0] - self.slack, *open_]))

    def finished(self) -> bool:
        return self.failure is not None or not (self.tasks or self.running)

    def step(
        self, form: _Form, prefix: np.ndarray, bound: float, budget: int
    ) -> list[tuple[float, np.ndarray]]:
        """Walk one task; what is left of it, as (bound, prefix)."""
        n = len(form.nested.order)
        x, other = np.zeros(n + 1), np.full(n + 1, np.inf)
        found = new_pool(self.keep, len(form.arrays[12]))
        nodes, depth = walk(
            form.arrays, form.exact, prefix, bound, self.threshold, self.slack, budget, found, x, other
        )
        rest = []
        for k in np.flatnonzero(np.isfinite(other[: depth + 1])) if depth >= 0 else ():
            child = x[: min(k + 1, depth)].copy()
            if k < depth:
                child[k] = 1 - child[k]
            rest.append((max(bound, form.nested.bound - form.nested.rounding + other[k]), child))
        with self.condition:
            self.nodes += nodes
            if found.size[0]:
                merge(self.pool, found, self.slack)
                self.update()
        return rest

    def tightened(self, form: _Form, prefix: np.ndarray) -> _Form | None:
        """A form of its own for what is open below `prefix`; None when nothing below the threshold is left
        there.
        """
        value = np.full(len(form.nested.order), -1, dtype=np.int8)
        value[form.nested.order[: len(prefix)]] = prefix
        template = form.template.copy()
        problem = _fix(form.problem, value, template)
        return None if problem is None else _prepare(self, problem, template, form.rules)

    def update(self) -> None:
        self.threshold[0] = min(self.threshold[0], pool_limit(self.pool))

    def next_task(self) -> tuple[float, _Form, np.ndarray] | None:
        """The task of lowest bound; None when none is left, or none below the threshold. Under the lock."""
        if not self.tasks:
            return None
        task = self.pop()
        if task[0] < self.threshold[0] - self.slack:
            return task
        self.tasks.clear()
        return None

    def finish(self, bound: float, form: _Form, prefix: np.ndarray) -> None:
        """Walk a task, and make tasks of what is left of it."""
        with self.condition:
            hard = self.nodes > _HARD and self.forms < _FORMS
            open_ = len(self.tasks)
        budget = 1 << 62 if open_ > 100_000 else _FIRST if open_ < 64 else _WALK
        rest = self.step(form, prefix, bound, budget)
        if rest and hard:  # worth a form of its own: begin again in that
            deeper = self.tightened(form, prefix)
            form = deeper or form
            rest = self.step(deeper, np.zeros(0), bound, budget) if deeper else []
        with self.condition:
            for left, child in rest:
                self.push(left, form, child)

    def work(self) -> None:
        """One thread: the task of lowest bound, again and again."""
        me = threading.get_ident()
        try:
            while True:
                with self.condition:
                    while not self.tasks and self.running and not self.threshold[1]:
                        self.condition.wait(0.05)
                    if self.threshold[1] or not self.tasks:
                        self.condition.notify_all()
                        return
                    task = self.next_task()
                    if task is None:
                        continue
                    self.running[me] = task[0]
                self.finish(*task)
                with self.condition:
                    del self.running[me]
                    self.condition.notify_all()
        except BaseException as error:
            with self.condition:
                self.failure = error
                self.threshold[1] = 1.0
                self.condition.notify_all()


def search(
    H: np.ndarray,
    linear: np.ndarray,
    rules: Rules,
    keep: int,
    tolerance: float,
    time_limit: float | None = None,
    report: Callable[[Progress], None] | None = None,
    seeds: np.ndarray | None = None,
    node_limit: float = math.inf,
) -> Found:
    """The `keep` lowest feasible states; states closer than `tolerance` to the last of them may be exchanged.

    H: float64 [N, N] symmetric; linear: float64 [N]; seeds: bool [k, N], feasible states to start from.
    Ends incomplete after `time_limit` seconds. `report` is called from this thread; what it raises
    ends the search and goes on to the caller. With a node_limit one thread works and ends incomplete after
    about so many nodes: the same list on every machine and at every time, where no time limit cuts it short.
    """
    if time_limit is not None:
        compile_engine()  # loading takes seconds, once, and is no part of a search
    unit = unit_of(H, linear)
    H, linear, tolerance = H / unit, linear / unit, tolerance / unit
    began = time.perf_counter()
    deadline = math.inf if time_limit is None else began + time_limit
    half = math.inf if time_limit is None else began + time_limit / 2  # the rest is for the bound
    n = len(H)
    run = _Search(n, keep, tolerance)
    problem, template = start_problem(H, linear, rules)
    if seeds is not None:
        insert_states(run.pool, problem, template, seeds, run.slack)
    with one_blas_thread:
        if rules.local:  # feasible states to start from, by a first look into the tree
            run.update()
            form = _prepare(run, problem, template.copy(), rules, half)
            if form is not None:
                run.step(form, np.zeros(0), -math.inf, _FIRST)
        improve(run.pool, problem, template, rules, run.slack, rounds=20, deadline=half)
        run.update()
        form = _prepare(run, problem, template, rules, deadline)
        if form is not None:
            bound = form.nested.bound - form.nested.rounding
            for left, prefix in run.step(form, np.zeros(0), bound, _FIRST):
                run.push(left, form, prefix)
            if math.isinf(node_limit):
                _run_threads(run, began, deadline, report and (lambda now: report(_in_units(now, unit))))
            else:
                _run_alone(run, deadline, node_limit)
    complete = not run.tasks
    states = pool_states(run.pool, n)
    bound = math.inf if complete and len(states) < keep else unit * run.lowest_open()
    return Found(states, complete, bound, run.nodes)


def unit_of(H: np.ndarray, linear: np.ndarray) -> float:
    """The power of two that the largest coupling is about: in units of it no step of a search is too small or
    too large for its arithmetic, and nothing is rounded.
    """
    largest = max(float(np.abs(H).max()), float(np.abs(linear).max()))
    return math.ldexp(1.0, min(max(math.frexp(largest)[1], -1000), 1000)) if largest else 1.0


def _in_units(now: Progress, unit: float) -> Progress:
    return replace(now, energy=unit * now.energy, bound=unit * now.bound)


def start_problem(H: np.ndarray, linear: np.ndarray, rules: Rules) -> tuple[Reduced, np.ndarray]:
    """The problem over the open blocks, and int8 [N] by block: 1 goes, 0 stays, -1 open."""
    n = len(H)
    template = np.full(n, -1, dtype=np.int8)
    weights, at_least = sharpened(rules.weights, rules.at_least, rules.fixed)
    size = weights.max(axis=1, initial=0.0).clip(min=1e-300)  # budgets in units of their heaviest block
    problem = Reduced(
        np.arange(n),
        H - np.diag(np.diag(H)),
        np.diag(H) + linear,
        0.0,
        rules.klass,
        rules.counts,
        weights / size[:, None],
        at_least / size,
    )
    fixed = _fix(problem, rules.fixed, template)
    assert fixed is not None  # make_rules has refused counts that no state has
    return fixed, template


def _fix(problem: Reduced, value: np.ndarray, template: np.ndarray) -> Reduced | None:
    """Fix variables, and note in `template` (by block) what is decided by now; None: no state is feasible."""
    fixed = problem.fix(value)
    if fixed is None:
        return None
    smaller, value = fixed
    template[problem.blocks] = value
    return smaller


def _prepare(
    run: _Search, problem: Reduced, template: np.ndarray, rules: Rules, deadline: float = math.inf
) -> _Form | None:
    """Fix what no state below the threshold can have otherwise, and nest the rest, as far as that goes by
    `deadline`; None when nothing is left to find.
    """
    shift, early = None, True
    while len(problem.blocks):
        if not rules.runs_fit(template[None] == 1)[0]:  # the tree looks at runs only where it removes a block
            return None
        target = run.threshold[0]
        relaxation = tighten(problem, target, run.slack / 4, early=early, start=shift, deadline=deadline)
        nested = nest(problem, relaxation.shift, np.arange(len(problem.blocks)), target)
        run.allow(nested.rounding)
        value, shift = _decided(relaxation, nested, target - run.slack), relaxation.shift
        if value is None:
            return None
        early, late = bool((value >= 0).any()), time.perf_counter() > deadline
        if not early and not relaxation.converged and not late:
            continue
        if not early or late:
            nested = nest(problem, shift, branching_order(problem, relaxation), target)
            run.allow(nested.rounding)
            return _Form(problem, nested, rules, template)
        smaller = _fix(problem, value, template)
        if smaller is None:
            return None
        shift = shift.among(np.isin(problem.blocks, smaller.blocks))
        problem = smaller
    words = pack(template == 1)[0]
    energy = problem.constant
    if rules.allows(template == 1)[0]:
        with run.condition:
            pool_insert(run.pool, energy, words, run.slack)
            run.update()
    return None


def _decided(relaxation, nested: Nested, cut: float) -> np.ndarray | None:
    """int8 [n]: the only value a variable has in states below `cut`, -1 for both; None when there is no such
    state.
    """
    variance = np.maximum(np.diag(relaxation.covariance), 1e-300)
    # the inverse is less exact than the nested form: a percent of the rise is left out
    rise = 0.99 * (np.array([[0.0], [1.0]]) - relaxation.mean) ** 2 / variance
    out = nested.bound - nested.rounding + rise >= cut
    if nested.bound - nested.rounding >= cut or out.all(axis=0).any():
        return None
    return np.where(out[0], 1, np.where(out[1], 0, -1)).astype(np.int8)


def _run_threads(run: _Search, began: float, deadline: float, report) -> None:
    """Work on the tasks with every core, telling `report`, until none is left or the time is up."""
    if not run.tasks:
        return
    threads = [threading.Thread(target=run.work, daemon=True) for _ in range(min(os.cpu_count() or 1, 16))]
    for thread in threads:
        thread.start()
    try:
        while not run.finished():
            with run.condition:
                run.condition.wait_for(run.finished, min(0.25, max(0.0, deadline - time.perf_counter())))
                place = max(0, run.keep - 2)  # one more is kept than asked for
                energy = float(np.partition(run.pool.energies, place)[place])
                progress = Progress(run.nodes, energy, run.lowest_open(), time.perf_counter() - began)
            if run.finished() or time.perf_counter() >= deadline:
                break
            if report is not None:
                report(progress)
    finally:
        run.threshold[1] = 1.0
        for thread in threads:
            thread.join()
    if run.failure is not None:
        raise run.failure


def _run_alone(run: _Search, deadline: float, node_limit: float) -> None:
    """Work on the tasks in this thread alone until none is left, or the time or the nodes are up."""
    while run.nodes < node_limit and time.perf_counter() < deadline and (task := run.next_task()):
        run.finish(*task)


@cache
def compile_engine() -> None:
    """Load what is compiled, or compile it once, into the cache beside the modules, so that nobody waits for
    it later.
    """
    H = np.diag(np.arange(1.0, 13.0)) + 0.1
    rules = make_rules(Constraints(max_run=3), 12, 5)
    for r in (make_rules(None, 12, 5), rules):
        search(H, np.zeros(12), r, 20, 1e-9)


if __name__ == "__main__":
    compile_engine()
