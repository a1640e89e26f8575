"""`python -m core peers`."""

import argparse

from core.cli.searches import add_search, searched


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
    lines = ["method            forwards  chosen at  on unseen texts      removed blocks"]
    for name, found in sorted(result["methods"].items(), key=lambda item: item[1]["report"]["increase"]):
        report, removed = found["report"], ",".join(map(str, found["removed"]))
        error = "" if report["increase_se"] is None else f" ± {report['increase_se']:.4f}"
        spent = "–" if found["forwards"] is None else f"{found['forwards']:.1f}"
        unseen = f"{report['increase']:+.4f}{error}"
        lines.append(f"{name:<16}  {spent:>8}  {found['loss']:>9.4f}  {unseen:<19}  {removed}")
    return "\n".join(
        [*lines, f"losses in nats; the original has {result['original']:.4f} on the choosing sequences"]
    )
