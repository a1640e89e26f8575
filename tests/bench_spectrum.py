"""The exact engine beside brute force, other solvers and its own heuristic, in one run.

    python -m tests.bench_spectrum [--instances DIR] [--only a_,d_] [--limit 10] [--no-peers]

`recall` is the share of the 100 lowest states that a method lists, members of a cut last
level counted whichever. Peers that prove nothing are marked so.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from core.ising.energies import check_matrix
from core.spectrum.branch_and_bound import compile_engine
from core.spectrum.heuristic import heuristic_states
from core.spectrum.lowest import Spectrum, lowest_states
from tests.families import INSTANCES, duplicated, integer, llm_like, wishart

COUNT = 100


def problems(folder: Path, only: list[str]) -> list[tuple[str, np.ndarray]]:
    """(name, H): the instances of `folder`, or generated ones of the same families."""
    if folder.is_dir():
        named = []
        for path in sorted(folder.glob("*.npz")):
            with np.load(path) as arrays:
                named.append((path.stem, check_matrix(arrays["H"], path.stem)))
    else:
        named = [(f"llm_N{n}", llm_like(n, 1)) for n in (24, 32, 40, 52, 80, 128)]
        named += [(f"wishart_N{n}", wishart(n, 1, rows=4.0)) for n in (24, 40, 80)]
        named += [("duplicated_N32", duplicated(32, 1)), ("integer_N32", integer(32, 1))]
    return [(name, H) for name, H in named if not only or any(name.startswith(o) for o in only)]


def recall(x: np.ndarray, H: np.ndarray, truth: Spectrum) -> float:
    """Share of the true list among the distinct rows of x."""
    x = np.unique(x, axis=0).astype(float)
    e = np.einsum("ki,ki->k", x @ H, x) if len(x) else np.empty(0)
    return min(1.0, float((e <= truth.energies[-1] + truth.tolerance).sum()) / len(truth.energies))


def cp_sat(H: np.ndarray, m: int, limit: float) -> str:
    """The ground state only, couplings rounded to 1e-7 of the largest; proved when it says so."""
    from ortools.sat.python import cp_model

    n = len(H)
    Q = np.round(H / np.abs(H).max() * 10**7).astype(np.int64)
    model = cp_model.CpModel()
    x = [model.new_bool_var("") for _ in range(n)]
    model.add(sum(x) == m)
    terms = [int(Q[i, i]) * x[i] for i in range(n)]
    for i in range(n):
        for j in range(i):
            y = model.new_bool_var("")
            model.add_implication(y, x[i])
            model.add_implication(y, x[j])
            model.add_bool_or([~x[i], ~x[j], y])
            terms.append(2 * int(Q[i, j]) * y)
    model.minimize(sum(terms))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers, solver.parameters.max_time_in_seconds = 2, limit
    began = time.perf_counter()
    status = solver.solve(model)
    seconds = time.perf_counter() - began
    if status == cp_model.OPTIMAL:
        return f"CP-SAT, ground state only  {seconds:7.2f} s  proved"
    return (
        f"CP-SAT, ground state only  {seconds:7.2f} s  not proved, bound "
        f"{solver.best_objective_bound / max(1.0, solver.objective_value):.3f} of its best"
    )


def samplers(H: np.ndarray, m: int, truth: Spectrum) -> list[str]:
    """dwave-samplers on the model with its penalty; infeasible samples are dropped."""
    from dwave.samplers import SimulatedAnnealingSampler, TabuSampler

    from core.ising.interchange import to_bqm

    # the penalty that is proved drowns the couplings; one block less saves about 2 E0 / M, so this one
    # suffices near the ground
    bqm = to_bqm(H, removed=m, penalty=4 * abs(float(truth.energies[0])) / m)
    lines = []
    for name, sampler, options in (
        ("simulated annealing", SimulatedAnnealingSampler(), {"num_reads": 500, "seed": 1}),
        ("tabu", TabuSampler(), {"num_reads": 20, "timeout": 50, "seed": 1}),
    ):
        began = time.perf_counter()
        answer = sampler.sample(bqm, **options)
        seconds = time.perf_counter() - began
        order = [answer.variables.index(i) for i in range(len(H))]
        x = answer.record.sample[:, order] > 0
        x = x[x.sum(axis=1) == m]
        lines.append(
            f"{name:26s} {seconds:7.2f} s  proves nothing, {len(x)} feasible, recall "
            f"{recall(x, H, truth):.2f}"
        )
    return lines


def best_of(repeats: int, call) -> Spectrum:
    """The quickest of some runs; slow ones are not repeated."""
    found = call()
    for _ in range(repeats - 1 if found.seconds < 1 else 0):
        again = call()
        found = again if again.seconds < found.seconds else found
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--instances", type=Path, default=INSTANCES)
    parser.add_argument("--only", default="", help="comma-separated beginnings of names")
    parser.add_argument("--limit", type=float, default=10.0, help="seconds for one search")
    parser.add_argument("--no-peers", action="store_true")
    args = parser.parse_args()
    compile_engine()
    for name, H in problems(args.instances, [o for o in args.only.split(",") if o]):
        n = len(H)
        for m in sorted({max(1, n // 5), n // 3, n // 2, 3 * n // 4}):
            ours = best_of(
                3, lambda H=H, m=m: lowest_states(H, m, COUNT, method="search", time_limit=args.limit)
            )
            proof = (
                "exact" if ours.exact else f"NOT exact, bound {ours.lower_bound / ours.energies[0]:.3f} E0"
            )
            guess = heuristic_states(H, m, COUNT, time_limit=0.2)
            print(f"{name:18s} M={m:3d} {ours.seconds:7.3f} s  {ours.nodes:9.2e} nodes  {proof};", end=" ")
            against = "" if ours.exact else " of the best known"
            print(
                f"heuristic {guess.seconds:.2f} s recall {recall(guess.x, H, ours):.2f}{against}", flush=True
            )
            if not ours.exact or m != n // 3:
                continue
            for count in (10 * COUNT, 100 * COUNT):
                wide = best_of(
                    3,
                    lambda H=H, m=m, k=count: lowest_states(H, m, k, method="search", time_limit=args.limit),
                )
                print(
                    f"    K = {count:<20d} {wide.seconds:9.3f} s  {wide.seconds / ours.seconds:.1f} times K "
                    f"= {COUNT}, exact {wide.exact}"
                )
            if ours.total <= 5e7 and n <= 32:
                brute = best_of(2, lambda H=H, m=m: lowest_states(H, m, COUNT, method="enumerate"))
                print(
                    f"    {'full enumeration':26s} {brute.seconds:7.3f} s  exact, "
                    f"{brute.seconds / ours.seconds:.1f} times ours"
                )
            if not args.no_peers and n <= 80:
                for line in (cp_sat(H, m, args.limit), *samplers(H, m, ours)):
                    print(f"    {line}", flush=True)


if __name__ == "__main__":
    main()
