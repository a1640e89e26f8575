"""Milliseconds a token at a context."""

import time

import pytest
import torch

from core.errors import InputError
from core.measure.token_time import KindTime, cache_bytes, filled_cache, milliseconds_a_token, time_by_kind
from core.model.load import load_model, wrap
from core.model.surgery import without
from tests import zoo

CONTEXT = 60


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_the_cache_is_as_full_as_a_forward_over_the_context_makes_it(tiny, kind):
    loaded = load_model(str(tiny[kind]))
    filled = filled_cache(loaded, CONTEXT)
    ids = torch.randint(2, 200, (1, CONTEXT))
    read = loaded.model(input_ids=ids, use_cache=True).past_key_values
    assert [x.keys.shape for x in filled.layers] == [x.keys.shape for x in read.layers]
    assert cache_bytes(filled) == CONTEXT * sum(b.kv_bytes for b in loaded.blocks)


def test_a_window_keeps_its_window_and_a_state_its_state():
    for kind in ("gemma2", "qwen3_next"):
        loaded = wrap(zoo.tiny_model(kind), None, kind, None)
        read = loaded.model(input_ids=torch.zeros(1, CONTEXT, dtype=torch.long), use_cache=True)
        kept = read.past_key_values
        assert cache_bytes(filled_cache(loaded, CONTEXT)) == cache_bytes(kept)
        assert filled_cache(loaded, CONTEXT).get_seq_length() == kept.get_seq_length() == CONTEXT


def test_a_token_is_decoded_at_the_context_and_fewer_blocks_take_less(tiny, monkeypatch):
    loaded = load_model(str(tiny["llama"]))
    seen, plain = [], loaded.model.forward
    monkeypatch.setattr("core.measure.token_time.probe_ids", lambda model: torch.full((2, 5), 7))

    def forward(*args, cache=None, **given):
        seen.append((0 if cache is None else cache.get_seq_length()) + given["input_ids"].shape[1])
        return plain(*args, cache=cache, **given)

    monkeypatch.setattr(loaded.model, "forward", forward)
    assert milliseconds_a_token(loaded, CONTEXT, 3) > 0
    assert seen == [4, CONTEXT - 3, CONTEXT - 2, CONTEXT - 1, CONTEXT]
    monkeypatch.undo()
    monkeypatch.setattr("time.perf_counter", time.process_time)  # others may take the processor
    whole = min(milliseconds_a_token(loaded, CONTEXT) for _ in range(3))
    with without(loaded, (1, 2, 3, 4)):
        assert min(milliseconds_a_token(loaded, CONTEXT) for _ in range(3)) < 0.8 * whole


def test_what_cannot_be_timed_is_one_sentence(tiny):
    loaded = load_model(str(tiny["llama"]))
    with pytest.raises(InputError, match="97 tokens is more than the 96 positions"):
        milliseconds_a_token(loaded, 97)
    with pytest.raises(InputError, match="context of 9 tokens is too short to time; choose 10"):
        milliseconds_a_token(loaded, 9)
    with pytest.raises(InputError, match="tokens per second instead"):
        milliseconds_a_token(wrap(zoo.tiny_model("rwkv"), None, "rwkv", None), CONTEXT)


def test_the_time_of_a_kind_is_what_half_of_them_save(tiny, monkeypatch):
    loaded = load_model(str(tiny["llama"]))

    def by_weights(model, context):
        assert model.by == "branch" and context == CONTEXT
        return float(model.parameters())

    monkeypatch.setattr("core.measure.token_time.milliseconds_a_token", by_weights)
    found = time_by_kind(loaded, CONTEXT)
    attention, ffn = loaded.blocks[0].branches
    assert found.milliseconds == loaded.parameters() and found.context == CONTEXT
    assert found.kinds == {"attention": KindTime(6, attention.parameters), "FFN": KindTime(6, ffn.parameters)}
    both = loaded.parameters() - 2 * attention.parameters - ffn.parameters
    assert found.without({"attention": 2, "FFN": 1}) == both


def test_a_job_keeps_the_times_where_budgets_of_blocks_and_branches_find_them(tiny, monkeypatch):
    from core.job_kinds import speed
    from core.jobs.progress import Progress
    from core.measure.token_time import TokenTime
    from core.spectrum.memory_budget import read_budget, with_budget
    from core.store.unit_times import unit_times

    monkeypatch.setattr(Progress, "report", lambda *args: None)
    kinds = {"attention": KindTime(6, 2.0), "FFN": KindTime(6, 0.5)}
    monkeypatch.setattr(speed, "time_by_kind", lambda loaded, context: TokenTime(context, 20.0, kinds))
    told = speed.run({"model": str(tiny["llama"]), "context": CONTEXT}, Progress.__new__(Progress))
    assert told["kinds"]["FFN"] == {"units": 6, "milliseconds": 0.5} and told["milliseconds"] == 20.0
    whole = {"kind": "attention + FFN", "parameters": 5, "bytes": 10, "kv_bytes": 4}
    model = {**load_model(str(tiny["llama"])).digest(), "parameters": 99, "bytes": 198, "blocks": [whole] * 6}
    has, times = unit_times(model, CONTEXT)
    assert has == 20.0 and times.tolist() == [2.5] * 6 and unit_times(model, CONTEXT + 1) is None
    halves = [{**whole, "kind": "attention"}, {**whole, "kind": "FFN"}] * 6
    by_branch = with_budget({**model, "blocks": halves}, read_budget(f"time at {CONTEXT} 75 %"))
    assert by_branch.weights == ((2.0, 0.5) * 6,) and by_branch.at_least == (5.0,)
