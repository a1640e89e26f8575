"""What the lens is told of minima, barriers and temperatures is what the library found."""

import base64

import numpy as np
import pytest

from core.energy.couplings import couplings
from core.energy.uncertainty import energy_error
from core.landscape.landscape import landscape
from core.spectrum.lowest import lowest_states
from core.store import folders
from core.store.runs import load_run
from core.thermal.ensemble import ensemble
from core.view.lens_shape import GAPS, temperature_data, tree_data


def decoded(text: str, dtype: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype)


def spiky(count: int = 3000):
    """A landscape of many minima."""
    A = np.random.default_rng(1).normal(size=(6, 22))
    return landscape(A.T @ A, lowest_states(A.T @ A, 10, count))


def test_the_tree_that_is_sent_is_the_landscape_s():
    found = spiky()
    tree, sent = found.tree, tree_data(found.tree)
    assert len(tree.valleys.minimum) > 200 and not sent["whole"]
    assert (decoded(sent["valley"], "<i4") == tree.valleys.valley).all()
    for name in ("survivor", "dying", "saddle"):
        assert (decoded(sent[name], "<u2") == getattr(tree, name)).all()
    assert (found.spectrum.energies[decoded(sent["saddle"], "<u2")] == tree.energy).all()
    orders = [decoded(order, "<u2") for order in sent["orders"]]
    assert [len(order) for order in orders] == [10, 20, 30, 50, 100, len(tree.valleys.minimum)]
    for order in orders:
        assert sorted(order) == tree.lasting(len(order)).tolist()
    assert tree_data(landscape(np.diag(np.arange(6.0)), lowest_states(np.diag(np.arange(6.0)), 2, 99)).tree)[
        "whole"
    ]


def test_temperatures_ascend_in_gaps_and_what_they_say_is_the_ensemble_s():
    H = couplings(load_run(folders.DEMO_RUN))
    found = landscape(H, lowest_states(H, 6, 300))
    run = load_run(folders.DEMO_RUN)
    sent = temperature_data(found, run.rows.A)
    assert [round(one["gaps"]) for one in sent if not one["noise"]] == list(GAPS)
    assert [one["temperature"] for one in sent] == sorted(one["temperature"] for one in sent)
    (noisy,) = (one for one in sent if one["noise"])
    assert noisy["temperature"] == pytest.approx(energy_error(run.rows.A, found.spectrum.x[0]))
    for one in sent:
        assert one["temperature"] == pytest.approx(one["gaps"] * found.spectrum.gap)
        exact = ensemble(H, found.spectrum, one["temperature"])
        assert one["how"] == "exact" and np.allclose(decoded(one["removed"], "<f8"), exact.removed, atol=1e-9)
    assert all(not one["noise"] for one in temperature_data(found))
    flat = landscape(np.eye(6), lowest_states(np.eye(6), 3, 99))  # one level: no gap to measure T in
    assert temperature_data(flat) == []


def test_where_only_sampling_could_tell_nothing_is_sent():
    A = np.random.default_rng(0).normal(size=(90, 40))
    H = A.T @ A
    sent = temperature_data(landscape(H, lowest_states(H, 15, 100)))
    assert sent[-1] | {"how": "unknown", "removed": "", "error": 1.0} == sent[-1]


def test_the_error_of_an_energy_is_what_a_bootstrap_tends_to():
    A = np.random.default_rng(1).normal(size=(300, 8)) ** 2
    state = np.arange(8) < 3
    draws = np.random.default_rng(2)
    each = (A @ state) ** 2
    weights = draws.random(300)
    for w in (None, weights):
        p = np.ones(300) if w is None else w
        drawn = draws.multinomial(300, np.full(300, 1 / 300), size=4000)
        spread = ((drawn * p) @ each / (drawn @ p)).std()
        assert energy_error(A, state, w) == pytest.approx(spread, rel=0.06)
