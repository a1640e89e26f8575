"""Losses, tasks and speed."""

import math

import numpy as np
import pytest
import torch

from core.errors import InputError
from core.measure.evaluation import (
    Evaluation,
    check_same_tokens,
    evaluate,
    option_scores,
    removal_increase,
    sequence_distances,
    sequence_losses,
    task_results,
)
from core.measure.state_losses import open_forwards
from core.model.load import load_model
from core.model.surgery import remove_blocks
from core.tasks.items import TaskItem, read_tasks
from core.texts import pack, read_texts

IDS = np.random.default_rng(0).integers(2, 200, (7, 30))


def test_losses_do_not_depend_on_the_batch_and_match_the_models_own(tiny):
    loaded = load_model(str(tiny["gpt2"]))
    one = sequence_losses(loaded, IDS, batch=1)
    assert np.allclose(one, sequence_losses(loaded, IDS, batch=4), atol=1e-6)
    for k, ids in enumerate(torch.from_numpy(IDS)):
        with torch.no_grad():
            assert abs(one[k] - loaded.model(input_ids=ids[None], labels=ids[None]).loss.item()) < 1e-5


def test_removal_increase_is_paired(tiny):
    loaded = load_model(str(tiny["llama"]))
    increase = removal_increase(loaded, IDS, [(0,), (1, 3)])
    assert increase.shape == (2, 7)
    assert np.allclose(
        increase[1], sequence_losses(loaded, IDS, (1, 3)) - sequence_losses(loaded, IDS), atol=1e-7
    )


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_option_scores_against_one_option_at_a_time(tiny, kind):
    loaded = load_model(str(tiny[kind]))
    items = [
        TaskItem("t", "The lamp", (" is red.", " is blue and old."), 0),
        TaskItem("t", "A", (" b", " c", " dd"), 2),
    ]
    for item, scores in zip(items, option_scores(loaded, items, batch=3)):
        for option, score in zip(item.options, scores):
            head = loaded.tokenizer(item.context)["input_ids"]  # its BOS first
            option_ids = loaded.tokenizer(option, add_special_tokens=False)["input_ids"]
            whole = torch.tensor([head + option_ids])
            with torch.no_grad():
                log = torch.log_softmax(loaded.model(input_ids=whole).logits[0].double(), dim=-1)
            expected = sum(log[t - 1, whole[0, t]].item() for t in range(len(head), whole.shape[1]))
            assert abs(score - expected) < 1e-4


def test_results_by_hand_and_ties_count_as_their_share():
    items = [
        TaskItem("a", "", ("x", "y"), 0),
        TaskItem("a", "", ("x", "y"), 1),
        TaskItem("b", "", ("x", "y", "z", "w"), 2),
    ]
    results = task_results(items, [np.array([0.0, -1]), np.array([0.0, -1]), np.array([1.0, 0, 1, 0])])
    assert results["a"] == {"accuracy": 0.5, "chance": 0.5, "n": 2, "correct": [1.0, 0.0]}
    assert results["b"]["accuracy"] == 0.5 and results["b"]["chance"] == 0.25


def test_evaluate(tiny, text_file):
    loaded = load_model(str(tiny["llama"]))
    sequences = pack(read_texts(text_file), loaded.tokenizer, "report", 30, 7)
    done = evaluate(loaded, sequences)
    assert math.isclose(done.loss, done.losses.mean()) and math.isclose(
        done.loss_se, done.losses.std(ddof=1) / math.sqrt(7)
    )
    assert (
        done.tokens == 7 * 29
        and done.tokens_per_second > 0
        and math.isclose(done.to_json()["perplexity"], math.exp(done.loss))
    )


def test_evaluate_counts_real_tokens_only(tiny, text_file):
    loaded = load_model(str(tiny["llama"]))
    sequences = pack(read_texts(text_file), loaded.tokenizer, "report", 90, 5, mode="documents")
    done, real = evaluate(loaded, sequences), sequences.mask.sum(axis=1)
    assert done.tokens == (real - 1).sum() < 5 * 89
    for ids, length, loss in zip(sequences.ids, real, done.losses):
        assert math.isclose(loss, sequence_losses(loaded, ids[None, :length])[0], rel_tol=1e-5)


def test_too_long_is_one_sentence(tiny):
    loaded = load_model(str(tiny["llama"]))
    with pytest.raises(InputError, match="96 positions"):
        sequence_losses(loaded, np.zeros((1, 97), dtype=np.int64))
    with pytest.raises(InputError, match="positions"):
        option_scores(loaded, [TaskItem("t", "x" * 200, ("a", "b"), 0)])


def test_bundled_tasks_are_well_formed():
    items = read_tasks()
    assert len({i.task for i in items}) == 6 and all(0 <= i.answer < len(i.options) for i in items)
    assert len({(i.context, i.options) for i in items}) == len(items)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_the_distance_of_a_checkpoint_is_that_of_the_gated_model_and_of_whole_distributions(
    tiny, text_file, kind, monkeypatch
):
    monkeypatch.setattr("core.model.losses.TOKENS", 7)  # in pieces
    original = load_model(str(tiny[kind]))
    sequences = pack(read_texts(text_file), original.tokenizer, "report", 24, 10)
    pruned = load_model(str(tiny[kind]))
    remove_blocks(pruned, (1, 3))
    values, tokens = sequence_distances(pruned, original, sequences, batch=3)
    gated = open_forwards(original, sequences, keep=False, distances=True)
    assert np.abs(values - gated.every((1, 3), 0)).max() < 1e-5
    log = [log_probabilities(model, sequences.ids) for model in (original, pruned)]
    kl = (log[0].exp() * (log[0] - log[1])).sum(-1).flatten().numpy()
    assert np.abs(tokens - kl).max() < 1e-5 and kl.max() > 0.01
    found = evaluate(pruned, sequences, batch=3, original=original).to_json()
    exact = np.quantile(kl, [0.5, 0.99])
    assert (found["kl"]["median"], found["kl"]["p99"]) == pytest.approx(tuple(exact), rel=1e-3)
    assert found["kl"]["low"] < found["kl"]["mean"] == pytest.approx(kl.mean(), rel=1e-4)
    assert found["loss"] == pytest.approx(sequence_losses(pruned, sequences.ids).mean(), abs=1e-6)
    backwards, _ = sequence_distances(original, pruned, sequences)
    assert abs(backwards[1].mean() - values[1].mean()) > 1e-6  # the other way round is another number
    none, tokens = sequence_distances(original, original, sequences)
    assert none[1].max() == 0 == tokens.max() and none[2].min() == 1


def log_probabilities(loaded, ids):
    with torch.no_grad():
        return loaded.model(torch.from_numpy(ids), use_cache=False).logits[:, :-1].double().log_softmax(-1)


def test_models_of_other_tokens_are_not_compared(tiny, text_file):
    demo, other = load_model("demo"), load_model(str(tiny["llama"]))
    with pytest.raises(InputError, match="do not have the same tokens"):
        check_same_tokens(other, demo)
    sequences = pack(read_texts(text_file), other.tokenizer, "report", 24, 4)
    renamed = load_model(str(tiny["llama"]))
    renamed.tokenizer.add_tokens(["a token of its own"])
    with pytest.raises(InputError, match="name the model it was made from"):
        sequence_distances(renamed, other, sequences)


def test_a_model_that_overflows_is_told_so(tiny):
    loaded = load_model(str(tiny["llama"]))
    real = loaded.head.logits
    loaded.head.logits = lambda hidden: real(hidden) * math.nan
    items = read_tasks()[:3]
    found = task_results(items, option_scores(loaded, items))
    assert all(row["accuracy"] == pytest.approx(row["chance"]) for row in found.values())  # nothing is known
    worth = Evaluation(800.0, 0.1, 2, 3, np.zeros(2), {}, 1.0).to_json()
    assert worth["loss"] == 800 and 1e300 < worth["perplexity"] < math.inf
