"""The study of the shape: its figures on landscapes that are known, and its page from what was measured."""

import json
import re

import numpy as np
import pytest

from core.choose import shape_figures, shape_rules
from core.choose.shape_page import FITTED, page
from core.choose.shape_rules import FIRST, Judge
from core.choose.study_parts import ROOT
from core.energy.sources import open_source
from core.ising.energies import energies
from core.ising.states import indicator
from core.landscape.landscape import landscape
from core.landscape.rules import RULES, Listed, per_basin
from core.measure.prefix_walk import walk_order
from core.shape.moves import adjacency
from core.shape.ruggedness import ruggedness
from core.spectrum.lowest import lowest_states

N, M = 10, 4


@pytest.fixture(scope="module")
def known():
    """(H, x, losses that are the energy and what every sequence adds)."""
    rng = np.random.default_rng(1)
    H = rng.normal(size=(N, N))
    H = H + H.T
    x = indicator(walk_order(N, M), N)
    return H, x, energies(H, x)[:, None] + rng.normal(size=16)[None]


def test_an_energy_that_is_the_loss_has_its_minima_barriers_and_best_state(known):
    H, x, losses = known
    moves = shape_figures.moves_at(N, M, "swap")
    own, same = shape_figures.of_loss(x, losses, moves), shape_figures.of_energy(x, losses, H, moves)
    assert same["shared"] == same["minima"] == own["minima"] > 1 and same["by chance"] < 0.01
    assert same["valleys agree"] == 1 and same["spearman"] == pytest.approx(1)
    assert same["ground"] == same["best minimum"] == pytest.approx([0, 0], abs=1e-9)
    assert own["of them of the other"] == own["kept on a half"] == 1
    assert own["pairs explain"] == pytest.approx(1) and own["blocks explain"] < 0.9
    assert own["step"] == pytest.approx(same["step"]) == pytest.approx(own["step without noise"])
    found = shape_figures.barriers(x, losses, H, moves)
    assert found["in the loss"] == found["both halves"] == 1 and found["spearman"] == pytest.approx(1)
    assert found["climbs"] == 1 and found["of others"] < 1 and found["climb spearman"] == pytest.approx(1)
    fit = shape_figures.fitted(x, losses.mean(axis=1))
    assert np.allclose(energies(fit, x), losses.mean(axis=1))


def test_an_energy_that_knows_nothing_shares_what_chance_shares(known):
    _, x, losses = known
    other = np.random.default_rng(2).normal(size=(N, N))
    moves = shape_figures.moves_at(N, M, "swap")
    found = shape_figures.of_energy(x, losses, other + other.T, moves)
    assert found["shared"] <= found["expected"] + 2 and abs(found["spearman"]) < 0.3
    mean, error = found["ground"]
    gap = np.delete(losses, [], axis=1)[:, 0]
    k = energies(other + other.T, x).argmin()
    assert mean == pytest.approx(gap[k] - gap.min()) and error < 1e-9


def test_noise_of_the_sequences_does_not_lower_the_step_that_is_corrected(known):
    H, x, losses = known
    near = adjacency(x, shape_figures.moves_at(N, M, "swap"))
    noisy = losses + np.random.default_rng(3).normal(scale=losses.std(), size=losses.shape)
    one, two = noisy[:, ::2].mean(axis=1), noisy[:, 1::2].mean(axis=1)
    true = ruggedness(H, M).step
    assert shape_figures.step(near, one) < true - 0.02
    assert shape_figures.step(near, one, two) == pytest.approx(true, abs=0.05)


def test_rules_propose_as_many_states_each_once():
    source = open_source("demo")
    H = source.couplings("h0")
    found = landscape(H, lowest_states(H, 6, 300))
    listed = Listed(H, found.tree)
    ground = found.spectrum.removed[0]
    for name, rule in RULES.items():
        states = rule(listed, 8)
        assert len(states) == len(set(states)) == 8, name
        assert ground in states or name == "medoids"
    count = len(found.valleys.minimum)
    filled = per_basin(listed, count + 3)
    assert set(filled[:count]) == set(found.valleys.removed)
    assert filled[count:] == [s for s in found.spectrum.removed if s not in found.valleys.removed][:3]


def test_a_rule_is_judged_on_what_it_has_not_seen():
    source = open_source("demo")
    cost = np.random.default_rng(4).random((source.blocks, 6))
    judge = Judge(lambda s: cost[list(s), :3].sum(axis=0), lambda s: cost[list(s), 3:].sum(axis=0))
    found = shape_rules.compared(source, "h0", 6, [judge])
    for count, rules in found["counts"].items():
        lowest = lowest_states(source.couplings("h0"), 6, int(count)).removed[: int(count)]
        best = min(lowest, key=lambda s: judge.choosing(s).mean())
        assert rules[FIRST]["state"] == list(best) and rules[FIRST]["gap"] == []
        assert rules[FIRST]["loss"] == pytest.approx(judge.unseen(best).mean())
        for rule in rules.values():
            gap = judge.unseen(tuple(rule["state"])) - judge.unseen(best)
            assert rule["gap"] == [] or np.allclose(rule["gap"], gap, atol=1e-5)


@pytest.fixture(scope="module")
def results():
    return json.loads((ROOT / "docs" / "landscape.json").read_text(encoding="utf-8"))


def test_the_page_is_what_the_file_holds(results):
    text = (ROOT / "docs" / "landscape.md").read_text(encoding="utf-8")
    assert text == page(results)
    assert (ROOT / "docs" / "landscape.json").stat().st_size < 300_000
    cells = [line for line in text.splitlines() if line.startswith("| demo | 2 | swap | h0 |")]
    own = results["demo"]["same-2"]["energy"]["h0"]["swap"]
    assert len(cells) == 1 and f"{own['ground'][0]:+.3f} ± {own['ground'][1]:.3f}" in cells[0]
    changed = json.loads(json.dumps(results))
    for rules in changed["demo"]["rules-6-h0"]["counts"].values():  # a rule that wins is told so
        rules["medoids"]["gap"] = [-1.0] * 31 + [-1.1]
    said = re.search(r"medoids better in (\d+)", page(changed))
    before = re.search(r"medoids better in (\d+)", text)
    assert said and before and int(said[1]) > int(before[1])


@pytest.mark.parametrize("m", [2, 3])
def test_the_kept_losses_give_the_figures_again(results, m):
    source = open_source("demo")
    with np.load(ROOT / "docs" / "beds" / "demo-all.npz") as kept:
        losses = kept[str(m)].T
    x = indicator(walk_order(source.blocks, m), source.blocks)
    part, moves = results["demo"][f"same-{m}"], shape_figures.moves_at(source.blocks, m, "swap")
    near, loss = adjacency(x, moves), losses.mean(axis=1, dtype=float)
    assert shape_figures.minima_of(near, loss).sum() == part["loss"]["swap"]["minima"]
    for estimator, own in part["energy"].items():
        H = shape_figures.fitted(x, loss) if estimator == FITTED else source.couplings(estimator)
        again = shape_figures.of_energy(x, losses, H, moves)
        for figure in ("minima", "shared", "loss rank of the ground"):
            assert again[figure] == own["swap"][figure], (estimator, figure)
        assert again["spearman"] == pytest.approx(own["swap"]["spearman"], abs=1e-4)
        assert again["ground"][0] == pytest.approx(own["swap"]["ground"][0], abs=1e-4)
