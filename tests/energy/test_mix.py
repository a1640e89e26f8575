"""The domain mix: weights against rows repeated by hand, what depends on it, and what it refuses."""

from dataclasses import replace

import numpy as np
import pytest

from core.energy.couplings import (
    ESTIMATORS,
    available,
    couplings,
    first_order,
    misjudged,
    outer_mean,
    rows_of,
)
from core.energy.mix import (
    check_mix,
    domain_rows,
    in_percent,
    mix_label,
    mix_text,
    mix_weights,
    read_mix,
    sampled_percent,
    worth,
)
from core.energy.rank_stability import rank_stability
from core.energy.sources import open_source, store_matrix
from core.errors import InputError
from core.landscape.landscape import landscape
from core.spectrum.lowest import lowest_states
from core.store.folders import DEMO_RUN
from core.store.runs import Rows, Run, Singles, load_run
from core.view.lens import rank_intervals

NAMES = ["story", "fact", "a, b = c: 100%", "empty"]


def made_run(m: int = 60, n: int = 6, seed: int = 0) -> Run:
    """Rows of three domains that differ, in no order, and a fourth domain without rows."""
    rng = np.random.default_rng(seed)
    domain = rng.choice([0, 0, 0, 1, 1, 2], size=m).astype(np.int16)
    domain[:3] = 0, 1, 2

    def rows() -> Rows:
        A = rng.normal(size=(m, n)) * (1 + domain[:, None]) + np.eye(n)[domain]
        return Rows(A.astype(np.float32), np.arange(m), domain, np.ones(m, dtype=np.float32))

    meta = {"key": "k", "texts": {"domains": NAMES}, "model": {"name": "made", "blocks": []}}
    return Run(meta, rows(), rows(), Singles(rng.uniform(0.1, 1, n), np.full(n, 0.01), 8))


@pytest.fixture(scope="module")
def run() -> Run:
    return made_run()


@pytest.fixture(scope="module")
def demo() -> Run:
    return load_run(DEMO_RUN)


def test_each_domain_weighs_its_share_in_total(run):
    w = mix_weights(run, {"story": 3, "fact": 1})
    totals = [w[run.rows.domain == k].sum() for k in range(4)]
    assert np.allclose(totals, [0.75, 0.25, 0, 0], atol=1e-15) and w.dtype == np.float64
    assert (
        all(len(np.unique(w[run.rows.domain == k])) == 1 for k in range(3)) and mix_weights(run, None) is None
    )
    assert (
        mix_weights(run, {"story": 1e308, "fact": 1e308}) == mix_weights(run, {"story": 1, "fact": 1})
    ).all()


def test_h0_and_h1_are_the_shares_of_the_domains_own_matrices(run):
    mix = {"story": 20, "fact": 50, NAMES[2]: 30}
    for estimator in ("h0", "h1"):
        rows = rows_of(run, estimator)
        own = [outer_mean(rows.A[rows.domain == k]) for k in range(3)]
        np.testing.assert_allclose(
            couplings(run, estimator, mix), 0.2 * own[0] + 0.5 * own[1] + 0.3 * own[2], rtol=1e-12
        )
        np.testing.assert_allclose(couplings(run, estimator, {"fact": 7}), own[1], rtol=1e-12)
        assert not np.allclose(own[0], own[1], rtol=0.1)


def test_hybrid_mixes_the_correlations_and_keeps_the_singles(run):
    mix = {"story": 1, "fact": 3}
    H, H1 = couplings(run, "hybrid", mix), couplings(run, "h1", mix)
    np.testing.assert_allclose(np.diag(H), run.singles.increase)
    scale = np.sqrt(np.outer(np.diag(H), np.diag(H)) / np.outer(np.diag(H1), np.diag(H1)))
    np.testing.assert_allclose(H, H1 * scale, rtol=1e-12)
    assert not np.allclose(H, couplings(run, "hybrid"), rtol=0.01)


def test_as_sampled_is_what_it_was_bit_for_bit(demo):
    A, S = demo.rows.A.astype(np.float64), demo.sampled.A.astype(np.float64)
    H0, H1 = A.T @ A / len(A), S.T @ S / len(S)
    root = np.sqrt(demo.singles.increase.clip(min=0.0))
    hybrid = H1 / np.outer(np.sqrt(np.diag(H1)), np.sqrt(np.diag(H1))) * np.outer(root, root)
    np.fill_diagonal(hybrid, root**2)
    for name, H in (("h0", H0), ("h1", H1), ("hybrid", hybrid)):
        assert (couplings(demo, name) == (H + H.T) / 2).all(), name


def test_the_shares_of_the_sample_give_the_matrix_as_sampled(demo):
    for estimator in (name for name in available(demo) if ESTIMATORS[name].mixes):
        np.testing.assert_allclose(
            couplings(demo, estimator, domain_rows(demo)), couplings(demo, estimator), rtol=1e-9, atol=1e-18
        )


@pytest.mark.parametrize(
    ("mix", "says"),
    [
        ({"poem": 1}, "no domain 'poem'"),
        ({"story": 0, "fact": 0}, "all 0"),
        ({}, "all 0"),
        ({"story": -1, "fact": 2}, "'story' is -1"),
        ({"story": float("nan")}, "'story' is nan"),
        ({"story": float("inf")}, "'story' is inf"),
        ({"story": "2"}, "'story' is 2"),
        ({"story": True}, "'story' is True"),
        ({"empty": 1, "story": 1}, "no row of it"),
    ],
)
def test_a_mix_that_cannot_be_is_one_sentence_everywhere(run, mix, says):
    for refuse in (
        lambda: couplings(run, "h0", mix),
        lambda: couplings(run, "hybrid", mix),
        lambda: mix_weights(run, mix),
        lambda: first_order(run, mix),
    ):
        with pytest.raises(InputError) as error:
            refuse()
        assert says in str(error.value) and "\n" not in str(error.value) and str(error.value).endswith(".")


def test_a_domain_without_rows_may_be_given_nothing(run):
    assert check_mix(run, {"empty": 0, "story": 2}) == {"story": 1.0}
    assert domain_rows(run) == {name: int((run.rows.domain == k).sum()) for k, name in enumerate(NAMES[:3])}
    lost = replace(run, sampled=replace(run.sampled, domain=np.zeros_like(run.sampled.domain)))
    assert len(couplings(lost, "h0", {"fact": 1}))
    with pytest.raises(InputError, match="no row of it"):
        couplings(lost, "h1", {"fact": 1})


def test_a_run_without_domains_and_a_bare_matrix_have_no_mix(run):
    bare = replace(run, meta={**run.meta, "texts": {}})
    assert domain_rows(bare) == {}
    with pytest.raises(InputError, match="it has none"):
        couplings(bare, "h0", {"text": 1})
    source = store_matrix(np.eye(3), "mine")
    assert source.domains == {} and (source.couplings("matrix") == np.eye(3)).all()
    with pytest.raises(InputError, match="bare matrix"):
        source.couplings("matrix", {"story": 1})


def test_a_source_passes_the_mix_on(demo):
    mix = {"story": 60, "memory": 40}
    assert (open_source("demo").couplings("h1", mix) == couplings(demo, "h1", mix)).all()


@pytest.mark.parametrize("text", ["story=2, fact=1", "story:2,fact:1", " story = 2.0 ,fact : 1e0"])
def test_text_forms(text):
    assert read_mix(text) == {"story": 2, "fact": 1}


def test_any_name_survives_a_link():
    mix = {NAMES[2]: 60.0, "wiki:en": 25.0, "ä %2C": 15.0, "none": 0.0}
    assert read_mix(mix_text(mix)) == {name: share for name, share in mix.items() if share}
    assert (
        mix_text({"a": 0, "b": 0}) == "a:0,b:0"
        and mix_text({"stories": 60, "facts": 40}) == "stories:60,facts:40"
    )


@pytest.mark.parametrize(
    "text", ["", "story", "story=", "=1", "story=x", "story=1,", "story=1,story=2", "story=1_0", "story=٣"]
)
def test_text_that_is_no_mix(text):
    with pytest.raises(InputError):
        read_mix(text)


def test_labels_and_percents(run, demo):
    assert (
        mix_label({"fact": 1, "story": 3}) == "story 75 %, fact 25 %"
        and mix_label({"a": 5, "b": 3, "c": 2}, 1) == "a 50 % and 2 more"
    )
    assert (
        mix_label({"a": 1e308, "b": 1e308}) == "a 50 %, b 50 %"
        and mix_label({"a": 1000, "b": 1}) == "a 100 %, b < 1 %"
    )
    assert in_percent({"a": 60, "b": 40.0}) == {"a": 60, "b": 40} and in_percent(
        {"a": 0.75, "b": 0.25, "c": 0}
    ) == {"a": 75, "b": 25, "c": 0}
    assert in_percent({"a": 1e9, "b": 1}) == {"a": 100, "b": 1}
    percent = sampled_percent(demo)
    assert set(percent) == set(demo.meta["texts"]["domains"]) and 98 <= sum(percent.values()) <= 102
    assert worth(np.ones(7)) == pytest.approx(7) and worth(np.array([1.0, 0, 0])) == pytest.approx(1)


def test_the_bootstrap_uses_the_weights():
    """Against a loop written out; and equal weights rank as no weights do."""
    run = made_run(m=40)
    A, w = run.rows.A.astype(float), mix_weights(run, {"story": 1, "fact": 5})
    x = lowest_states(couplings(run, "h0", {"story": 1, "fact": 5}), 3, 12).x
    found = rank_stability(A, x, weights=w, k=3, resamples=200, seed=5)
    B, v = A[w > 0], w[w > 0]
    ranks = []
    for drawn in np.random.default_rng(5).multinomial(len(B), np.full(len(B), 1 / len(B)), size=200):
        H = sum(c * weight * np.outer(a, a) for c, weight, a in zip(drawn, v, B)) / (drawn * v).sum()
        ranks.append(
            np.argsort(np.argsort([s @ H @ s for s in x.astype(float)], kind="stable"), kind="stable")
        )
    np.testing.assert_allclose(found.top, (np.array(ranks) < 3).mean(axis=0), atol=0.011)
    np.testing.assert_allclose(found.low, np.quantile(ranks, 0.025, axis=0), atol=1)
    plain, equal = rank_stability(A, x, seed=1), rank_stability(A, x, weights=np.full(40, 0.3), seed=1)
    np.testing.assert_allclose(equal.top, plain.top, atol=0.002)
    assert (rank_stability(A, x, weights=w, seed=1).top != plain.top).any()
    for bad in (np.zeros(40), -w, w[:-1], np.where(w > 0, np.nan, 0)):
        with pytest.raises(InputError):
            rank_stability(A, x, weights=bad)


def test_rank_intervals_of_a_rare_domain_are_wide():
    """Two domains alike, one of 30 rows and one of 3000: who weighs the rare one alone knows less of the
    order.
    """
    rng = np.random.default_rng(2)
    domain = np.array([0] * 3000 + [1] * 30, dtype=np.int16)
    A = (rng.normal(size=(3030, 6)) * np.linspace(1, 2, 6)).astype(np.float32)
    run = replace(made_run(), rows=Rows(A, np.arange(3030), domain, np.ones(3030, dtype=np.float32)))

    def width(mix) -> float:
        H = couplings(run, "h0", mix)
        found = landscape(H, lowest_states(H, 3, 20))
        return np.diff(rank_intervals(A, found, mix_weights(run, mix)), axis=1).mean()

    assert width({"fact": 1}) > 2 * width({"story": 1}) > 0


def test_the_mean_gradient_is_the_mean_with_its_standard_error(run):
    A = run.rows.A.astype(float)

    def mean_gradient(run, mix=None):
        found = first_order(run, mix)
        return found.gradient, found.se

    g, se = mean_gradient(run)
    np.testing.assert_allclose(g, A.mean(axis=0))
    np.testing.assert_allclose(se, A.std(axis=0, ddof=1) / np.sqrt(len(A)))
    g, se = mean_gradient(run, {"fact": 2})  # one domain: as if there were no other rows
    own = A[run.rows.domain == 1]
    np.testing.assert_allclose(g, own.mean(axis=0))
    np.testing.assert_allclose(se, own.std(axis=0, ddof=1) / np.sqrt(len(own)))
    np.testing.assert_allclose(mean_gradient(run, domain_rows(run)), mean_gradient(run))
    one = replace(run, rows=Rows(*(v[:1] for v in vars(run.rows).values())))
    assert np.isnan(mean_gradient(one)[1]).all() and first_order(one).significant == 0


def test_a_first_order_term_is_seen_and_noise_is_not(run, demo):
    rng = np.random.default_rng(1)
    A = rng.normal(size=(4000, 6))
    rows = Rows(
        A.astype(np.float32), np.arange(4000), np.zeros(4000, dtype=np.int16), np.ones(4000, dtype=np.float32)
    )
    quiet = first_order(replace(run, rows=rows))
    assert (
        quiet.significant <= 2
        and 0.4 < quiet.ratio / quiet.noise < 1.8
        and quiet.noise == pytest.approx(4000**-0.5)
    )
    shifted = first_order(replace(run, rows=replace(rows, A=(A + [1, 1, 0, 0, 0, 0]).astype(np.float32))))
    assert shifted.significant >= 2 and shifted.ratio == pytest.approx(0.5, abs=0.03)
    zero = first_order(replace(run, rows=replace(rows, A=rows.A * 0)))
    assert (zero.significant, zero.ratio) == (0, 0.0)
    assert first_order(demo).ratio < 2 * first_order(demo).noise  # a trained model: about 0
    assert first_order(demo, {"story": 1}).noise == pytest.approx(46**-0.5)


def guarded(increase, own, se=0.001) -> list[int]:
    n = len(own)
    A = np.sqrt(np.array(own, dtype=float) * n) * np.eye(n)
    rows = Rows(A.astype(np.float32), np.arange(n), np.zeros(n, dtype=np.int16), np.ones(n, dtype=np.float32))
    run = Run(made_run().meta, rows, None, Singles(np.array(increase, dtype=float), np.full(n, se), 8))
    return [b.block for b in misjudged(run)]


def test_blocks_whose_gradient_hides_what_they_cost():
    usual = [0.01] * 7
    assert guarded([3.1, *usual], [0.5, *[1] * 7]) == [0]  # cheap by its gradient, fatal alone
    assert guarded([3.1, *usual], [400, *[1] * 7]) == []  # its gradient says so too
    assert guarded([0.2, *usual], [0.5, *[1] * 7]) == [0]  # 20 times the median
    assert guarded([0.08, *usual], [0.5, *[1] * 7]) == []  # only 8 times
    assert guarded([0.2, *usual], [0.5, *[1] * 7], se=0.15) == []  # not beyond two standard errors
    assert guarded([0.7] * 8, [1] * 8) == []  # all cost alike: no gradient misleads
    assert guarded([0.6, 0, 0, 0, 0, -0.01], [1] * 6) == [0]  # most are free
    assert misjudged(replace(made_run(), singles=None)) == []


def test_the_demos_first_block_is_the_one(demo):
    (found,) = misjudged(demo)
    assert found.block == 0 and found.increase == demo.singles.increase[0] and found.predicted < 0.1


@pytest.mark.parametrize("estimator", ["singles", "secant", "pairs"])
def test_what_was_measured_on_texts_as_sampled_takes_no_mix(demo, estimator):
    with pytest.raises(InputError, match=f"'{estimator}' were measured on the texts as sampled"):
        couplings(demo, estimator, {"story": 1.0})
