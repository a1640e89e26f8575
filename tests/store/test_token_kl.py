"""Histograms of the KL of tokens: quantiles to the grid, few bytes, one state's apart from another's."""

import numpy as np

from core.store.results import Key, Results
from core.store.token_kl import BINS, median_and_99, packed, put_token_kl, quantile, token_kl, unpacked

KEY = Key("model", (3, 7), "texts", "report", "loss", '{"length": 128}')


def test_quantiles_are_within_the_grid_of_those_of_the_tokens():
    rng = np.random.default_rng(0)
    parts = [np.exp(rng.normal(-6 + k, 2, 127)).astype(np.float32) for k in range(6)]
    tokens = np.concatenate(parts)
    found = median_and_99(map(packed, parts))
    exact = np.quantile(tokens, [0.5, 0.99], method="inverted_cdf")
    assert np.abs(np.log(np.array(found) / exact)).max() < 0.0415  # 10 ** (0.5 / 28)
    counts = sum(unpacked(packed(p)) for p in parts)
    assert counts.sum() == len(tokens) and len(counts) == BINS
    for share in (0.01, 0.25, 0.9, 1.0):
        want = np.quantile(tokens, share, method="inverted_cdf")
        assert abs(np.log(quantile(counts, share) / want)) < 0.0415


def test_what_float32_cannot_tell_from_0_is_0_and_what_is_large_is_held():
    text = packed(np.array([0.0, -3e-8, 5e-8, 9e-8]))
    assert unpacked(text)[0] == 4 and median_and_99([text]) == (0.0, 0.0)
    high = unpacked(packed(np.array([90.0, 1e9])))
    assert high[-1] == 1 and high.sum() == 2
    assert median_and_99([]) is None and median_and_99([packed(np.array([]))]) is None


def test_a_sequence_takes_few_bytes():
    kl = np.exp(np.random.default_rng(1).normal(-4, 2.5, 127))
    assert len(packed(kl)) == 64


def test_each_state_and_each_setting_has_its_own():
    results, text = Results(), packed(np.array([0.1, 0.2]))
    put_token_kl(results, KEY, {5: text, 9: "other"})
    put_token_kl(results, Key("model", (), "texts", "report", "kl", KEY.settings), {5: text})
    assert token_kl(results, KEY) == {(3, 7): {5: text, 9: "other"}, (): {5: text}}
    for other in (
        Key("another", (3, 7), "texts", "report", "loss", KEY.settings),
        Key("model", (3, 7), "texts", "choose", "loss", KEY.settings),
        Key("model", (3, 7), "texts", "report", "loss"),
    ):
        assert token_kl(results, other) == {}
