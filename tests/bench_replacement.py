"""Energies for replacement: does a landscape of the gate that mixes a block with its linear map, in place of
with nothing, order the losses of replaced states better?

`python -m tests.bench_replacement --model demo --folded --out FILE.json` measures what FILE lacks and prints
the tables of docs/healing.md. Four removals: `plain`; `stream`, an affine map of what comes into a block in
its place, D (D + 1) new numbers, fitted by least squares to what the block adds; `mixed`, that map for blocks
that lose less with it alone on the choose split, and nothing for the others; `folded`, the map of what the
branch before a cut writes, which core.heal.replacement folds into that branch.

The gate y = x + a B(x) + (1 - a) L(x) of a block with its map L has at a = 1 the derivative g (B(x) - L(x)),
g the loss's gradient on the stream: the row of `plain` with B - L in place of B. A map's rows come from one
forward and backward, then, and H0 is A^T A / m as ever. `plain` is this gate of whole blocks; `branches` is
the gate of attention and FFN of the rest of this project, for which a replacement is not defined.
"""

import argparse
import json
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import torch

from core.blocks.structure import first_tensor, hidden_argument, replace_first
from core.calibration.corpus import draw, read_sources
from core.calibration.gradient_rows import gradient_rows
from core.choose.bed import drawn
from core.compare.agreement import RESAMPLES, agreement, spearman
from core.errors import InputError
from core.heal.replacement import replace_blocks
from core.ising.units import read_names
from core.jobs import default_texts
from core.measure.evaluation import sequence_losses
from core.model.load import LoadedModel, load_model
from core.model.losses import sample_losses
from core.spectrum.lowest import lowest_states
from core.texts import Sequences
from core.texts.sequences import part_of

RIDGE = 1e-6  # of the mean square of what is mapped
BATCH = 8
REMOVALS = ("plain", "stream", "mixed", "folded")
GATES = ("plain", "stream", "folded")


@contextmanager
def streams(loaded: LoadedModel):
    """Inside the context a list: of each block as it runs (what comes in, what goes out)."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def note(_module, args, kwargs, output):
        seen.append((hidden_argument(args, kwargs), first_tensor(output)))

    with ExitStack() as stack:
        for module in loaded.modules:
            stack.callback(module.register_forward_hook(note, with_kwargs=True).remove)
        yield seen


@contextmanager
def writers(loaded: LoadedModel):
    """Inside the context a list: of each block what its last branch writes."""
    seen: list[torch.Tensor] = []
    with ExitStack() as stack:
        for module, block in zip(loaded.modules, loaded.blocks):
            branch = module.get_submodule(block.branches[-1].path)
            note = lambda _module, _args, output: seen.append(first_tensor(output))  # noqa: E731
            stack.callback(branch.register_forward_hook(note).remove)
        yield seen


def with_one(hidden: torch.Tensor) -> torch.Tensor:
    """[..., D + 1]: a constant behind what is mapped."""
    return torch.cat([hidden, hidden.new_ones(*hidden.shape[:-1], 1)], dim=-1)


@torch.no_grad()
def fitted(loaded: LoadedModel, ids: np.ndarray) -> dict[str, torch.Tensor]:
    """{stream: [N, D + 1, D], folded: [N, D, D]}: of each block what takes its place, zeros where none does
    (folded, of the first).
    """
    blocks, size = len(loaded.blocks), loaded.config.hidden_size
    sides = {"stream": size + 1, "folded": size}
    squares = {n: torch.zeros(blocks, k, k, dtype=torch.float64) for n, k in sides.items()}
    products = {n: torch.zeros(blocks, k, size, dtype=torch.float64) for n, k in sides.items()}
    for start in range(0, len(ids), BATCH):
        with streams(loaded) as passed, writers(loaded) as written:
            loaded.head.hidden(torch.from_numpy(ids[start : start + BATCH]))
        for b, (x, y) in enumerate(passed):
            own = {"stream": with_one(x), **({"folded": written[b - 1]} if b else {})}
            for name, rows in own.items():
                flat, added = rows.flatten(0, 1), (y - x).flatten(0, 1)
                squares[name][b] += (flat.T @ flat).double()
                products[name][b] += (flat.T @ added).double()
    maps = {}
    for name, k in sides.items():
        scale = squares[name].diagonal(dim1=1, dim2=2).mean(dim=1).clamp(min=1e-30)
        ridge = RIDGE * scale[:, None, None] * torch.eye(k, dtype=torch.float64)
        maps[name] = torch.linalg.solve(squares[name] + ridge, products[name]).float()
    return maps


def rows(loaded: LoadedModel, ids: np.ndarray, maps: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """{gate, or branches: float64 [S, N]}: of each sequence the derivative of its loss by each gate."""
    embedding = loaded.model.get_input_embeddings().weight.requires_grad_()
    found: dict[str, list] = {name: [] for name in (*GATES, "branches")}
    for start in range(0, len(ids), BATCH):
        tokens = torch.from_numpy(ids[start : start + BATCH])
        with streams(loaded) as passed, writers(loaded) as written, torch.enable_grad():
            losses = sample_losses(loaded.head.hidden(tokens), tokens, None, loaded.head.logits)
        gradients = torch.autograd.grad(losses.sum(), [y for _, y in passed])
        own: dict[str, list] = {name: [] for name in GATES}
        with torch.no_grad():
            for b, ((x, y), g) in enumerate(zip(passed, gradients)):
                before = written[b - 1] if b else torch.zeros_like(x)
                stand_in = {"plain": 0.0, "stream": with_one(x) @ maps["stream"][b]}
                stand_in["folded"] = before @ maps["folded"][b]
                for name, mapped in stand_in.items():
                    own[name].append((g * (y - x - mapped)).sum(dim=(1, 2)))
        for name, columns in own.items():
            found[name].append(torch.stack(columns, dim=1).double().numpy())
        found["branches"].append(gradient_rows(loaded, tokens)[0].double().numpy())
    embedding.requires_grad_(False)
    return {name: np.concatenate(parts) for name, parts in found.items()}


@contextmanager
def mapped(loaded: LoadedModel, state, maps: torch.Tensor):
    """Inside the context these blocks' maps [N, D + 1, D] stand in their places."""

    def stand_in(own: torch.Tensor):
        def hook(_module, args, kwargs, output):
            x = hidden_argument(args, kwargs)
            return replace_first(output, x + with_one(x) @ own)

        return hook

    with ExitStack() as stack:
        for b in state:
            handle = loaded.modules[b].register_forward_hook(stand_in(maps[b]), with_kwargs=True)
            stack.callback(handle.remove)
        yield


def loss_of(loaded: LoadedModel, state, maps: torch.Tensor, report: np.ndarray, with_map) -> float:
    """The mean loss on the reported sequences of a state, those of its blocks that are in with_map mapped."""
    with mapped(loaded, [b for b in state if b in with_map], maps):
        return float(sequence_losses(loaded, report, [b for b in state if b not in with_map]).mean())


def folded_loss(loaded: LoadedModel, state, learn, report: np.ndarray) -> float | None:
    """As core.heal.replacement folds it; None where a map does not fold: the first block has none before."""
    student = load_model(loaded.source)
    try:
        replace_blocks(student, loaded, list(state), "linear", part_of(learn, slice(0, 128)))
    except InputError:
        return None
    return float(sequence_losses(student, report).mean())


def states_of(N: int, m: int, count: int, singles: np.ndarray, H: dict[str, np.ndarray]) -> dict[str, list]:
    """{group: states}: random ones, random ones of the cheap blocks, and the lowest of each landscape."""
    groups = {k: v for k, v in drawn(N, singles, [m], count).items() if k.endswith(f"-{m}")}
    for name, own in H.items():
        lowest = lowest_states(own, m, max(1, count // 10)).removed
        groups[f"lowest of {name}"] = [tuple(map(int, s)) for s in lowest]
    return groups


def opened(args) -> tuple[LoadedModel, Sequences, Sequences, Sequences]:
    """(the model, sequences for maps and rows, to choose by, to report on)."""
    loaded = load_model(args.model)
    assert loaded.head  # tried before anything is recorded
    texts = read_sources(args.texts or default_texts(args.model))
    parts = (("calibrate", args.learn), ("choose", args.report), ("report", args.report))
    return loaded, *(draw(loaded, texts, split, args.length, n) for split, n in parts)


def measure_some(args) -> None:
    """Print the losses of the original and of the states that are named: dropped, mapped, folded."""
    loaded, learn, _, report = opened(args)
    maps = fitted(loaded, learn.ids)["stream"]
    for text in ("", *args.blocks):
        state = [int(b) for b in read_names(text)] if text else []
        values = [loss_of(loaded, state, maps, report.ids, with_map) for with_map in (set(), set(state))]
        values.append(folded_loss(loaded, state, learn, report.ids) if args.folded and state else None)
        print(_line(len(state), text or "the original", values), flush=True)


def measure(args, kept: dict, keep) -> None:
    """Fill `kept` with what it lacks of a model: couplings, losses of singles and of the states of each M."""
    loaded, learn, choose, report = opened(args)
    maps, N = fitted(loaded, learn.ids), len(loaded.blocks)
    found, mapped_in = kept.setdefault("losses", {}), {"plain": set(), "stream": set(range(N))}

    def need(states) -> None:
        for state in states:
            own = found.setdefault(",".join(map(str, state)), {})
            for name, with_map in mapped_in.items():
                if name not in own:
                    own[name] = loss_of(loaded, state, maps["stream"], report.ids, with_map)
            if args.folded and state and "folded" not in own:
                own["folded"] = folded_loss(loaded, state, learn, report.ids)
            keep()

    need([(), *((b,) for b in range(N))])
    on_choose = lambda b, with_map: loss_of(loaded, [b], maps["stream"], choose.ids, with_map)  # noqa: E731
    mapped_in["mixed"] = {b for b in range(N) if on_choose(b, {b}) < on_choose(b, set())}
    A = rows(loaded, learn.ids[: args.rows], maps)
    better = np.isin(np.arange(N), list(mapped_in["mixed"]))
    A["mixed"] = np.where(better, A["stream"], A["plain"])
    H = {name: own.T @ own / len(own) for name, own in A.items()}
    kept |= {"H": {name: own.tolist() for name, own in H.items()}, "mapped": np.flatnonzero(better).tolist()}
    singles = np.array([found[str(b)]["plain"] - found[""]["plain"] for b in range(N)])
    kept["groups"] = {}
    for m in args.remove:
        groups = states_of(N, m, args.states, singles, H)
        kept["groups"][str(m)] = {g: [",".join(map(str, s)) for s in own] for g, own in groups.items()}
        for own in groups.values():
            need(own)


def energy(H: np.ndarray, name: str) -> float:
    state = [int(b) for b in name.split(",")]
    return float(H[np.ix_(state, state)].sum())


def gain(better: np.ndarray, usual: np.ndarray, loss: np.ndarray) -> tuple[float, float]:
    """95 % bootstrap interval over states of the difference of two energies' Spearman."""
    picks = np.random.default_rng(0).integers(0, len(loss), (RESAMPLES, len(loss)))
    apart = [spearman(better[p], loss[p]) - spearman(usual[p], loss[p]) for p in picks]
    return tuple(np.nanquantile(apart, [0.025, 0.975]))


def told(kept: dict) -> str:
    """Both tables, Markdown: how energies order, and the lowest state of each by each removal."""
    H = {name: np.array(own) for name, own in kept["H"].items()}
    losses = kept["losses"]
    kinds = [n for n in REMOVALS if any(own.get(n) is not None for own in losses.values())]
    head = ["M", "states", "n", "losses of", "better than plain"]
    head += ["H0", "gate of whole blocks", "of the replacement", "gain"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for m, groups in kept["groups"].items():
        for group in (f"random-{m}", f"cheapest-{m}"):
            for kind in kinds:
                names = [s for s in groups[group] if losses.get(s, {}).get(kind) is not None]
                loss = np.array([losses[s][kind] for s in names])
                by = {n: np.array([energy(H[n], s) for s in names]) for n in ("branches", "plain", kind)}
                own = [agreement(e, loss) for e in by.values()]
                cells = [f"{a.spearman:.2f} ({a.low:.2f} to {a.high:.2f})" if a else "" for a in own]
                if kind != "plain":
                    low, high = gain(by[kind], by["plain"], loss)
                    cells.append(f"{low:+.2f} to {high:+.2f}")
                cells += [""] * (4 - len(cells))
                word = group.partition("-")[0]
                wins = sum(losses[s][kind] < losses[s]["plain"] for s in names)
                cells = [str(wins) if kind != "plain" else "", *cells]
                lines.append(f"| {m} | {word} | {len(names)} | {kind} | {' | '.join(cells)} |")
    lines += ["", "| M | | " + " | ".join(kinds) + " |", "|---|---|" + "---|" * len(kinds)]
    for m, groups in kept["groups"].items():
        every = {s for own in groups.values() for s in own if s in losses}
        named = {f"lowest of H0, {n}": groups[f"lowest of {n}"][0] for n in H if f"lowest of {n}" in groups}
        for name, s in named.items():
            lines.append(_line(m, f"{name}: {s}", [losses.get(s, {}).get(k) for k in kinds]))
        best = [min((losses[s][k] for s in every if losses[s].get(k)), default=None) for k in kinds]
        lines.append(_line(m, f"best of {len(every)} states", best))
    lines.append(_line("", "the original", [losses[""]["plain"]] + [None] * (len(kinds) - 1)))
    return "\n".join(lines)


def _line(m, name: str, values: list) -> str:
    return f"| {m} | {name} | " + " | ".join("" if v is None else f"{v:.4f}" for v in values) + " |"


def main() -> None:
    """Measure what is not in the file yet, then print."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--model", default="demo")
    asked.add_argument("--texts")
    asked.add_argument("--remove", type=int, nargs="+", default=[6, 12], help="M")
    asked.add_argument("--states", type=int, default=60, help="of a group")
    asked.add_argument("--length", type=int, default=128)
    asked.add_argument("--learn", type=int, default=512, help="sequences for maps and rows")
    asked.add_argument("--rows", type=int, help="sequences for rows alone (default all of these)")
    asked.add_argument("--report", type=int, default=64)
    asked.add_argument("--blocks", action="append", metavar="LIST", help="the losses of this state alone")
    asked.add_argument("--folded", action="store_true", help="also core.heal.replacement's, a fit a state")
    asked.add_argument("--out", type=Path, help="a file that holds what was measured so far")
    args = asked.parse_args()
    kept = json.loads(args.out.read_text()) if args.out and args.out.exists() else {}
    if args.blocks:
        measure_some(args)
        return
    measure(args, kept, lambda: args.out.write_text(json.dumps(kept)) if args.out else None)
    print(told(kept))


if __name__ == "__main__":
    main()
