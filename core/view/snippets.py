"""The code and the command line that list the same states again."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from core.energy.mix import mix_text
from core.energy.sources import Source
from core.errors import InputError
from core.ising.units import BLOCK
from core.spectrum.constraints import Constraints
from core.spectrum.memory_budget import Budget, budget_text, with_budget
from core.store import folders

_DIGITS = 16  # of a key: enough that it names one


@dataclass(frozen=True)
class View:
    """What decides which states are listed: `count` of the lowest with `removed` units removed, None: as many
    as the rules ask for.

    constraints: without the budget.
    """

    source: Source
    estimator: str
    removed: int | None
    count: int
    mix: Mapping[str, float] | None = None
    constraints: Constraints = Constraints()
    budget: Budget | None = None
    time_limit: float | None = None  # seconds; None: until it is proved

    @property
    def asked(self) -> str:
        """How much goes, in words: 6 of 24 blocks."""
        goes = "as many" if self.removed is None else str(self.removed)
        ruled = " as the rules ask for" * (self.removed is None)
        return f"{goes} of {self.source.blocks} {self.source.units.word}s{ruled}"

    @property
    def ruled(self) -> Constraints:
        """The constraints with the budget among them.

        Errors: InputError as core.spectrum.memory_budget.with_budget, and for a budget of a bare matrix.
        """
        if self.budget is None:
            return self.constraints
        if self.source.run is None:
            raise InputError(
                f"{self.source.name} is a bare matrix, which does not say what its blocks take; leave the "
                "budget out."
            )
        return with_budget(self.source.run.meta["model"], self.budget, self.constraints)


def _opened(source: Source, estimator: str, mix: Mapping[str, float] | None) -> list[str]:
    """The lines that make H."""
    mixed = "" if mix is None else f", { ({str(name): float(share) for name, share in mix.items()})!r}"
    seen = "" if source.by == BLOCK else f".seen({source.by!r})"
    return [
        f"source = open_source({_reference(source)!r}){seen}",
        f"H = source.couplings({estimator!r}{mixed})",
    ]


def couplings_snippet(source: Source, estimator: str, mix: Mapping[str, float] | None = None) -> str:
    """A program that makes the couplings H, float64 [N, N], to be run in Blockscape's folder.

    Errors: as `python_snippet`.
    """
    return (
        "\n".join(["from core.energy.sources import open_source", "", *_opened(source, estimator, mix)])
        + "\n"
    )


def python_snippet(view: View) -> str:
    """A program that prints the listed states, to be run in Blockscape's folder.

    Errors: InputError for a source that is kept nowhere.
    """
    lines = [
        f"found = lowest_states({_asked(view)})",
        "for removed, energy in zip(found.removed, found.energies):",
        '    print(f"{energy:.12g}", *removed)',
    ]
    about = f"The {view.count} lowest ways to remove {view.asked}"
    return _program(view, about, ["from core.spectrum.lowest import lowest_states"], lines)


def landscape_snippet(view: View, moves: str, most: int) -> str:
    """A program that prints the `view.count` lowest minima and their barriers; moves, most: as
    core.shape.lowest_minima. Errors: as `python_snippet`.
    """
    seen = "" if moves == "swap" else f", moves={moves!r}, units=source.units"
    lines = [
        f"found = lowest_minima({_asked(view)}, most={most}{seen})",
        "print(found.why)",
        "valleys, tree = found.valleys, barrier_tree(found.valleys)",
        "for removed, energy in list(zip(valleys.removed, valleys.energies))[: found.count]:",
        '    print(f"{energy:.12g}", *removed)',
        "for survivor, dying, energy in zip(tree.survivor, tree.dying, tree.energy):",
        "    if dying < found.count:",
        '        print(f"{dying} joins {survivor} at {energy:.12g}")',
    ]
    about = f"The {view.count} lowest minima where {view.asked} are removed"
    return _program(view, about, ["from core.shape import barrier_tree, lowest_minima"], lines)


def _asked(view: View) -> str:
    """The arguments of what lists states."""
    words = [f"H, {view.removed}, {view.count}"]
    words += ["constraints=constraints"] * bool(_constraints_code(view.constraints) or view.budget)
    return ", ".join(words + [f"time_limit={view.time_limit!r}"] * (view.time_limit is not None))


def _program(view: View, about: str, imports: list[str], lines: list[str]) -> str:
    """The lines with those before them that make H and the constraints."""
    source = view.source
    imports = ["from core.energy.sources import open_source", *imports]
    opened = _opened(source, view.estimator, view.mix)
    rules = _constraints_code(view.constraints)
    if rules or view.budget:
        imports.append("from core.spectrum.constraints import Constraints")
        opened.append(f"constraints = Constraints({rules})")
    if view.budget:
        imports.append("from core.spectrum.memory_budget import read_budget, with_budget")
        opened.append(
            f'constraints = with_budget(source.run.meta["model"], read_budget({budget_text(view.budget)!r}), '
            "constraints)"
        )
    name = " ".join(source.name.split())
    head = f"# {about}: {name}, {view.estimator}. Run it in Blockscape's folder."
    return "\n".join([head, *sorted(imports), "", *opened, *lines]) + "\n"


def cli_line(view: View) -> str:
    """The command that prints the listed states, for a POSIX shell in Blockscape's folder.

    Errors: as `python_snippet`.
    """
    return _command(view, "states", ["--count", str(view.count)])


def landscape_line(view: View, moves: str, most: int) -> str:
    """The command that prints what `landscape_snippet` prints."""
    own = ["--minima", str(view.count), "--most", str(most)]
    return _command(view, "landscape", own + ([] if moves == "swap" else ["--moves", moves]))


def _command(view: View, command: str, own: list[str]) -> str:
    c, source = view.constraints, view.source
    words = ["python", "-m", "core", command]
    words += (
        ["--matrix", str(_matrix_file(source))]
        if source.run is None
        else ["--run", _reference(source), "--estimator", view.estimator]
    )
    words += [] if source.by == BLOCK else ["--by", source.by]
    words += [] if view.removed is None else ["--remove", str(view.removed)]
    words += own
    if view.mix is not None:
        words += ["--mix", mix_text(view.mix)]
    groups = "; ".join(f"{source.units.write(members)}: {count}" for members, count in c.groups)
    limits = {
        "--keep": source.units.write(c.keep),
        "--go": source.units.write(c.remove),
        "--groups": groups,
        "--max-run": "" if c.max_run is None else str(c.max_run),
    }
    for name, value in limits.items():
        words += [name, value] if value else []
    if view.budget:
        words += ["--fits", budget_text(view.budget)]
    if view.time_limit is not None:
        words += ["--time-limit", f"{view.time_limit:g}"]
    return shlex.join(words)


def _constraints_code(c: Constraints) -> str:
    """The arguments of Constraints that are not left at their default.

    Errors: InputError for weights, which a budget says.
    """
    if c.weights is not None:
        raise InputError("The constraints of a view hold no weights; give the budget that they come from.")
    tuples: dict[str, tuple] = {"keep": tuple(map(int, c.keep)), "remove": tuple(map(int, c.remove))}
    tuples["groups"] = tuple((tuple(map(int, members)), int(count)) for members, count in c.groups)
    parts = [f"{name}={value!r}" for name, value in tuples.items() if value]
    return ", ".join(parts + ([] if c.max_run is None else [f"max_run={int(c.max_run)}"]))


def _reference(source: Source) -> str:
    """What core.energy.sources.open_source opens it by."""
    if source.run is None:
        _matrix_file(source)
        return source.key[:_DIGITS]
    folder = source.run.folder
    if folder is None:
        raise InputError(
            f"The run {source.name} is kept in no folder, so nothing can open it again; save it first."
        )
    for name, shipped in folders.SHIPPED_RUNS.items():
        if folder.resolve() == shipped.resolve():
            return name
    return (
        source.run.key[:_DIGITS]
        if folder.resolve() == (folders.home() / "runs" / source.run.key).resolve()
        else str(folder.resolve())
    )


def _matrix_file(source: Source):
    path = folders.home() / "matrices" / f"{source.key}.npz"
    if not path.is_file():
        raise InputError(
            f"The matrix {source.name} is not in the store, so nothing can open it again; store it first."
        )
    return path
