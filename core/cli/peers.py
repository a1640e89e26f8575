"""`python -m core peers`."""

import argparse

from core import jobs
from core.cli.searches import add_search, searched
from core.store.results import KL, LOSS


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_search(
        command,
        "forwards that each search may spend over the choosing sequences; what greedy takes, if that is more",
    )


def run(args: argparse.Namespace) -> dict:
    """What every method chooses, its losses on the choosing sequences and on unseen ones, and the curves of
    the searches.
    """
    return searched("peers", args)


def describe(result: dict) -> str:
    """The methods for a person, the best on unseen texts first."""
    methods = result["methods"]
    ruler = KL if any(KL in found for found in methods.values()) else LOSS
    unseen = {name: _unseen(found["report"], ruler) for name, found in methods.items()}
    wide = max(16, *map(len, methods))
    lines = [f"{'method':<{wide}}  forwards  chosen at  on unseen texts      removed blocks"]
    for name in sorted(methods, key=lambda name: unseen[name][0]):
        found, removed = methods[name], ",".join(map(str, methods[name]["removed"]))
        spent = found["forwards"]
        lines.append(f"{name:<{wide}}  {spent:>8.1f}  {found[ruler]:>9.4f}  {unseen[name][1]:<19}  {removed}")
    if without := jobs.unpaid(result):
        lines.append(
            f"{result['budget']:.1f} forwards do not pay for the first states of: {', '.join(without)}"
        )
    if ruler == KL:
        return "\n".join([*lines, "KL to the original, nats a token"])
    return "\n".join(
        [*lines, f"losses in nats; the original has {result['original']:.4f} on the choosing sequences"]
    )


def _unseen(report: dict, ruler: str) -> tuple[float, str]:
    """(what a choice loses on unseen texts, the same in words)."""
    mean, se = (
        (report["kl"]["mean"], report["kl"]["se"])
        if ruler == KL
        else (report["increase"], report["increase_se"])
    )
    return mean, f"{mean:+.4f}" + ("" if se is None else f" ± {se:.4f}")
