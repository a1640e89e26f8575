"""What a model takes, and how many blocks must go, against every subset."""

import itertools

import numpy as np
import pytest

from core.errors import InputError
from core.ising.states import indicator
from core.spectrum.constraints import Constraints, make_rules
from core.spectrum.lowest import lowest_states
from core.spectrum.memory_budget import (
    Budget,
    Share,
    budget_text,
    needs,
    read_budget,
    smallest_removal,
    with_budget,
)
from core.store.folders import DEMO_RUN
from core.store.runs import load_run
from core.store.unit_times import keep_times, model_key

N = 8
RNG = np.random.default_rng(0)
UNEVEN = [
    {
        "parameters": int(p),
        "active_parameters": int(p // 3) if i % 2 else int(p),
        "bytes": int(2 * p),
        "kv_bytes": 0 if i % 2 else 64,
    }
    for i, p in enumerate(RNG.integers(1000, 9000, N))
]
MODEL = {
    "parameters": 50_000 + sum(b["parameters"] for b in UNEVEN),
    "bytes": 100_000 + sum(b["bytes"] for b in UNEVEN),
    "blocks": UNEVEN,
}
SUBSETS = [s for m in range(N) for s in itertools.combinations(range(N), m)]


def test_needs_are_those_of_what_is_left():
    b = Budget(bytes=1, context=100, batch=3)
    for s in [(), (0,), (1, 4, 6)]:
        left = [UNEVEN[i] for i in range(N) if i not in s]
        found = needs(MODEL, s, b)
        assert found.weights == 100_000 + sum(x["bytes"] for x in left) and found.cache == 300 * sum(
            x["kv_bytes"] for x in left
        )
        assert (
            found.active == 50_000 + sum(x["active_parameters"] for x in left)
            and found.bytes == found.weights + found.cache
        )
    demo = load_run(DEMO_RUN).meta["model"]
    assert needs(demo, (3,), Budget(bytes=1)).active == demo["parameters"] - demo["blocks"][3]["parameters"]


RULES = [
    None,
    Constraints(keep=(0,), remove=(5,)),
    Constraints(max_run=1),
    Constraints(groups=(((0, 1, 2), 1),)),
]


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("share", [0.05, 0.3, 0.55, 0.8, 1.0])
def test_the_fewest_blocks_and_the_states_that_fit_are_those_of_all_subsets(share, rules):
    for kind in ("bytes", "active"):
        whole = needs(MODEL, (), Budget(context=200, batch=2))
        whole, rest = (whole.bytes, 100_000) if kind == "bytes" else (whole.active, 50_000)
        limit = rest + share * (whole - rest)
        b = Budget(context=200, batch=2, **{kind: limit})
        takes = {s: getattr(needs(MODEL, s, b), kind) for s in SUBSETS}
        allowed = {}
        for m in range(1, N):
            try:
                states = list(itertools.combinations(range(N), m))
                allowed[m] = [
                    s for s, ok in zip(states, make_rules(rules, N, m).allows(indicator(states, N))) if ok
                ]
            except InputError:
                allowed[m] = []
        least = next((m for m in allowed if any(takes[s] <= limit for s in allowed[m])), None)
        sure = next((m for m in allowed if allowed[m] and all(takes[s] <= limit for s in allowed[m])), None)
        if share == 1.0:
            assert smallest_removal(MODEL, b, rules).least == 0 and with_budget(MODEL, b, rules) == (
                rules or Constraints()
            )
            continue
        if least is None:
            with pytest.raises(InputError):
                smallest_removal(MODEL, b, rules)
            continue
        found = smallest_removal(MODEL, b, rules)
        assert (found.least, found.sure) == (least, sure) and found.said("unit")
        A = np.random.default_rng(1).normal(size=(N, N))
        for m in range(least, N):
            fits = {s for s in allowed[m] if takes[s] <= limit}
            if fits:
                assert (
                    set(lowest_states(A + A.T, m, 99, constraints=with_budget(MODEL, b, rules)).removed)
                    == fits
                )


def test_equal_blocks_need_a_number_only():
    demo = load_run(DEMO_RUN).meta["model"]
    blocks, cache = demo["blocks"], 8192 * 4 * 512
    limit = demo["bytes"] + 24 * cache - 5 * (blocks[0]["bytes"] + cache)
    found = smallest_removal(demo, Budget(bytes=limit, context=8192, batch=4))
    assert found.least == found.sure == 5 and "whichever they are" in found.said("block")
    assert smallest_removal(demo, Budget(bytes=limit - 1, context=8192, batch=4)).least == 6
    both = Budget(
        bytes=limit, context=8192, batch=4, active=demo["parameters"] - 6.5 * blocks[0]["parameters"]
    )
    assert smallest_removal(demo, both).least == 7  # the two are proportional here, the tighter counts


def test_what_cannot_be_met_is_said():
    whole = needs(MODEL, (), Budget())
    for b in (Budget(bytes=99_999), Budget(active=10.0), Budget(shares=(Share("weights", 0.01),))):
        with pytest.raises(InputError, match="Without any of its blocks"):
            smallest_removal(MODEL, b)
    with pytest.raises(InputError, match="python -m core speed --model MODEL --context 8192"):
        with_budget(MODEL, read_budget("time at 8k 75 %"))
    two = with_budget(MODEL, Budget(bytes=whole.bytes - 5), Constraints(weights=(1.0,) * N, at_least=2))
    assert two.weights == ((1.0,) * N, tuple(float(b["bytes"]) for b in UNEVEN)) and two.at_least == (2, 5)


def test_several_shares_of_the_original_are_kept_together():
    """Weights, cache, active parameters and time at once, against every subset."""
    times = {"attention": 3.0, "FFN": 1.0}
    blocks = [{**b, "kind": "FFN" if i % 2 else "attention"} for i, b in enumerate(UNEVEN)]
    model = {**MODEL, "blocks": blocks, "config": "c", "weights": ["w"], "source": "here"}
    keep_times(model_key(model), 8192, "cpu", 20.0, times)
    took = np.array([times[b["kind"]] for b in blocks])
    whole, A = needs(model, (), Budget()), np.random.default_rng(1).normal(size=(N, N))
    for text, shares in (
        ("weights 80 %, KV cache 75%", (0.8, 0.75, 1.0, 1.0)),
        ("kv 50 %, active 85 %", (1.0, 0.5, 0.85, 1.0)),
        ("time at 8k 75 %, weights 85 %", (0.85, 1.0, 1.0, 0.75)),
        ("time at 8192 tokens 60 %", (1.0, 1.0, 1.0, 0.6)),
    ):
        budget, fits = read_budget(text), []
        for s in SUBSETS:
            left, kv = needs(model, s, Budget(context=1)), needs(model, s, Budget(context=1)).cache
            has = (left.weights / whole.weights, kv / 256, left.active / whole.active)
            time = (20 - took[list(s)].sum()) / 20
            if all(h <= share + 1e-12 for h, share in zip((*has, time), shares)):
                fits.append(s)
        found = smallest_removal(model, budget)
        assert found.least == min(map(len, fits))
        assert found.sure is None or set(itertools.combinations(range(N), found.sure)) <= set(fits)
        listed = lowest_states(A.T @ A, None, 2**N, constraints=with_budget(model, budget)).removed
        assert {s for s in listed if len(s) < N} == set(fits)
        assert read_budget(budget_text(budget)) == budget


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("24 GB at 8k context, batch 4", Budget(24e9, 8192, 4)),
        ("24GiB, context 1000", Budget(24 * 2**30, 1000, 1)),
        ("0.5 gb, 300 tokens", Budget(0.5e9, 300)),
        ("3B active parameters", Budget(active=3e9)),
        ("kv 60 %", Budget(shares=(Share("kv", 0.6),))),
        (
            "Weights 80%, KV cache 62.5 %, time at 8k 75 %, time at 1000 tokens 90 %",
            Budget(
                shares=(
                    Share("weights", 0.8),
                    Share("kv", 0.625),
                    Share("time", 0.75, 8192),
                    Share("time", 0.9, 1000),
                )
            ),
        ),
        ("24 GB at 8k context, active 50 %", Budget(24e9, 8192, shares=(Share("active", 0.5),))),
        ("1.5 TB at 128k tokens of context, batch 2, 12.5 m active", Budget(1.5e12, 131072, 2, 12.5e6)),
    ],
)
def test_budgets_are_read_and_written(text, budget):
    assert read_budget(text) == budget and read_budget(budget_text(budget)) == budget


@pytest.mark.parametrize(
    "text",
    [
        "",
        "24",
        "kv 0 %",
        "weights 101 %",
        "kv 60 %, kv cache 50 %",
        "time at 0.5 75 %",
        "time 75 %",
        "GB",
        "24 GB, 25 GB",
        "8k context",
        "24 GB, batch 0",
        "24 GB, batch 1.5",
        "-3 GB",
        "0 GB",
        "24 GB; batch 2",
        "24 GB,",
        "9" * 30 + " GB",
        "٣ GB",
    ],
)
def test_bad_budgets_are_one_sentence(text):
    with pytest.raises(InputError) as caught:
        read_budget(text)
    assert "\n" not in str(caught.value)
