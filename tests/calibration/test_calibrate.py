"""Gradient rows are right, independent of their batch, and finite or refused."""

import numpy as np
import pytest
import torch

from core.calibration.calibrate import calibrate
from core.calibration.gradient_rows import gradient_rows, graph_bytes
from core.errors import InputError
from core.ising.units import BRANCH
from core.measure.evaluation import sequence_losses
from core.model.gates import gated
from core.model.load import load_model, wrap
from core.model.losses import loss_gradients, sample_labels, sample_losses
from core.store.checkpoint import rows_so_far
from core.texts import pack, read_texts
from tests.conftest import TINY
from tests.zoo import tiny_model


def batch_of(loaded, count=5, length=20, seed=0):
    return torch.randint(
        2, loaded.model.config.vocab_size, (count, length), generator=torch.Generator().manual_seed(seed)
    )


def reference_row(loaded, ids):
    """One sample at a time, gates written by hand on the blocks' code path: no batching, no shared loss
    code.
    """
    alpha = torch.ones(len(loaded.blocks), requires_grad=True)
    handles = []
    names = ("attn", "mlp") if loaded.model.config.model_type == "gpt2" else ("self_attn", "mlp")
    for i, block in enumerate(loaded.modules):
        for name in names:

            def scale(_m, _a, out, i=i):
                return (out[0] * alpha[i], *out[1:]) if isinstance(out, tuple) else out * alpha[i]

            handles.append(getattr(block, name).register_forward_hook(scale))
    logits = loaded.model(input_ids=ids[None], use_cache=False).logits[0]
    for handle in handles:
        handle.remove()
    log = torch.log_softmax(logits.double(), dim=-1)
    loss = -sum(log[t, ids[t + 1]] for t in range(len(ids) - 1)) / (len(ids) - 1)
    loss.backward()
    return alpha.grad, loss.detach()


@pytest.mark.parametrize("kind", TINY)
def test_rows_equal_batch_1_autograd_and_finite_differences(tiny, kind):
    loaded = load_model(str(tiny[kind]))
    ids = batch_of(loaded)
    rows, losses, _ = gradient_rows(loaded, ids)
    for s in range(len(ids)):
        reference, loss = reference_row(loaded, ids[s])
        assert torch.allclose(rows[s], reference, atol=1e-5 * reference.norm())
        assert abs(losses[s] - loss) < 1e-5
    loaded.model.double()
    step = 0.02  # norms compute in float32 inside: a step too small would measure rounding
    for i in range(len(loaded.blocks)):
        at = {}
        for k in (-2, -1, 1, 2):
            alpha = torch.ones(len(loaded.blocks), dtype=torch.float64)
            alpha[i] += k * step
            with torch.no_grad(), gated(loaded, alpha):
                logits = loaded.model(input_ids=ids, use_cache=False).logits
            log = torch.log_softmax(logits[:, :-1], dim=-1)
            at[k] = -log.gather(-1, ids[:, 1:, None]).squeeze(-1).mean(dim=1)
        difference = (8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * step)
        assert torch.allclose(difference.float(), rows[:, i], atol=2e-4 * float(rows.norm(dim=1).max()))


@pytest.mark.parametrize("kind", TINY)
def test_rows_of_branches_equal_autograd(tiny, kind):
    loaded = load_model(str(tiny[kind])).seen(BRANCH)
    ids = batch_of(loaded)
    rows, _, _ = gradient_rows(loaded, ids)
    assert rows.shape == (len(ids), 2 * len(loaded.blocks))
    names = ("attn", "mlp") if loaded.model.config.model_type == "gpt2" else ("self_attn", "mlp")
    for s in range(len(ids)):
        alpha, handles = torch.ones(rows.shape[1], requires_grad=True), []
        for i, block in enumerate(loaded.modules):
            for k, name in enumerate(names):

                def scale(_m, _a, out, u=2 * i + k, alpha=alpha):
                    return (out[0] * alpha[u], *out[1:]) if isinstance(out, tuple) else out * alpha[u]

                handles.append(getattr(block, name).register_forward_hook(scale))
        logits = loaded.model(input_ids=ids[s][None], use_cache=False).logits[0].double()
        for handle in handles:
            handle.remove()
        torch.nn.functional.cross_entropy(logits[:-1], ids[s][1:]).backward()
        assert torch.allclose(rows[s], alpha.grad, atol=1e-5 * alpha.grad.norm())


@pytest.mark.parametrize("kind", ["llama", "gpt2", "mamba"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(tiny, kind, side):
    loaded = wrap(tiny_model(kind), None, kind, None) if kind not in TINY else load_model(str(tiny[kind]))
    short, long = batch_of(loaded, 1, 9)[0], batch_of(loaded, 1, 20, seed=1)[0]
    ids = torch.full((2, 20), 5)
    mask = torch.zeros(2, 20, dtype=torch.bool)
    own = slice(0, 9) if side == "right" else slice(11, 20)
    ids[0, own], ids[1] = short, long
    mask[0, own], mask[1] = True, True
    rows, losses, _ = gradient_rows(loaded, ids, mask)
    for s, alone in enumerate((short, long)):
        reference, loss, _ = gradient_rows(loaded, alone[None])
        assert torch.allclose(rows[s], reference[0], atol=1e-5 * reference.norm())
        assert abs(losses[s] - loss) < 1e-5
    measured = sequence_losses(loaded, ids.numpy(), mask=mask.numpy())
    assert np.allclose(measured, losses.numpy(), atol=1e-5)


def test_only_scored_tokens_count(tiny):
    loaded = load_model(str(tiny["qwen3"]))
    ids = batch_of(loaded, 2, 12)
    scored = torch.zeros(2, 12, dtype=torch.bool)
    scored[0, 7:], scored[1, [3, 9]] = True, True
    alpha = torch.ones(len(loaded.blocks), requires_grad=True)
    rows, losses, own = gradient_rows(
        loaded, ids, scored=scored, sampled_uniforms=torch.rand(2, 12, dtype=torch.float64)
    )
    for s in range(2):
        with gated(loaded, alpha):
            log = torch.log_softmax(loaded.model(input_ids=ids[s : s + 1], use_cache=False).logits[0], dim=-1)
        where = torch.nonzero(scored[s]).flatten()
        loss = -log[where - 1, ids[s, where]].mean()
        (reference,) = torch.autograd.grad(loss, alpha)
        assert torch.allclose(rows[s], reference, atol=1e-5 * reference.norm()) and torch.isclose(
            losses[s], loss, atol=1e-5
        )
    assert torch.isfinite(own[0]).all() and not torch.equal(own[1], losses)
    assert np.allclose(sequence_losses(loaded, ids.numpy(), scored=scored.numpy()), losses.numpy(), atol=1e-5)


@pytest.mark.parametrize("kind", ["llama", "gemma2", "mamba"])
def test_rows_equal_a_float64_reference(kind):
    loaded = wrap(tiny_model(kind), None, kind, None)
    ids = batch_of(loaded, 4, 16)
    rows, _, _ = gradient_rows(loaded, ids)
    loaded.model.double()
    alpha = torch.ones(len(loaded.blocks), dtype=torch.float64, requires_grad=True)
    for s in range(len(ids)):
        with gated(loaded, alpha):
            log = torch.log_softmax(
                loaded.model(input_ids=ids[s : s + 1], use_cache=False).logits[0, :-1].double(), dim=-1
            )
        (reference,) = torch.autograd.grad(-log.gather(-1, ids[s, 1:, None]).mean(), alpha)
        assert float((rows[s] - reference).norm()) <= 1e-5 * float(reference.norm())


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_checkpointed_rows_are_the_same_and_keep_less(tiny, kind):
    loaded = load_model(str(tiny[kind]))
    ids = batch_of(loaded)
    uniforms = torch.rand(ids.shape, dtype=torch.float64)
    plain, sparing = (
        gradient_rows(loaded, ids, sampled_uniforms=uniforms, checkpointed=on) for on in (False, True)
    )
    assert torch.allclose(plain[0], sparing[0], atol=1e-6 * plain[0].norm())
    assert torch.allclose(plain[2][0], sparing[2][0], atol=1e-6 * plain[2][0].norm())
    assert graph_bytes(loaded, 64, checkpointed=True) < graph_bytes(loaded, 64) / 3
    assert all("forward" not in vars(block) for block in loaded.modules)


def test_memory_that_runs_out_halves_the_batch_and_loses_no_row(tiny, text_file, monkeypatch, tmp_path):
    import core.calibration.calibrate as calibration

    loaded = load_model(str(tiny["llama"]))
    sequences = pack(read_texts(text_file), loaded.tokenizer, "calibrate", 32, 21)
    whole = calibrate(loaded, sequences, batch=8, sampled=True)
    honest, sizes = calibration.gradient_rows, []

    def small(loaded, ids, **options):
        sizes.append(len(ids))
        if len(ids) > 3:
            raise RuntimeError(
                "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
            )
        return honest(loaded, ids, **options)

    monkeypatch.setattr(calibration, "gradient_rows", small)
    halved = calibrate(loaded, sequences, batch=8, sampled=True, checkpoint=tmp_path)
    assert halved.meta["plan"]["batch"] == 8 and halved.meta["plan"]["at_once"] == 2 and sizes.count(8) == 1
    for a, b in ((whole.rows, halved.rows), (whole.sampled, halved.sampled)):
        assert (a.sample == b.sample).all()
        assert (np.linalg.norm(a.A - b.A, axis=1) <= 1e-5 * np.linalg.norm(a.A, axis=1)).all()
    monkeypatch.setattr(calibration, "gradient_rows", lambda *a, **options: small(loaded, torch.zeros(9)))
    with pytest.raises(InputError, match="Memory ran out on one sequence"):
        calibrate(loaded, sequences, batch=1)


def test_the_batch_is_measured_and_fits(tiny, text_file, monkeypatch):
    import core.calibration.gradient_rows as rows

    loaded = load_model(str(tiny["llama"]))
    assert 1 <= rows.measure_batch(loaded, 32, True, False) <= rows.LARGEST_BATCH
    monkeypatch.setattr(rows, "_room", lambda loaded: 3.5 * rows.graph_bytes(loaded, 32))
    assert rows.measure_batch(loaded, 32, False, False) <= 2 and rows.at_once(loaded, 16, 32) == 3
    run = calibrate(loaded, pack(read_texts(text_file), loaded.tokenizer, "calibrate", 32, 5), batch=None)
    assert run.meta["plan"]["batch"] in (1, 2)


def test_a_batch_that_memory_does_not_hold_is_computed_in_parts(tiny, text_file, monkeypatch):
    import core.calibration.calibrate as calibration
    import core.calibration.gradient_rows as rows

    loaded = load_model(str(tiny["llama"]))
    sequences = pack(read_texts(text_file), loaded.tokenizer, "calibrate", 32, 20)
    whole = calibrate(loaded, sequences, batch=8)
    room, honest, sizes = 3.5 * rows.graph_bytes(loaded, 32), calibration.gradient_rows, []
    monkeypatch.setattr(rows, "_room", lambda loaded: room)
    monkeypatch.setattr(
        calibration, "gradient_rows", lambda m, ids, **o: sizes.append(len(ids)) or honest(m, ids, **o)
    )
    parts = calibrate(loaded, sequences, batch=8)
    assert sizes == [3, 3, 2, 3, 3, 2, 3, 1] and "at_once" not in whole.meta["plan"]
    assert parts.meta["plan"]["at_once"] == 3 and parts.meta["plan"]["batch"] == 8
    assert parts.key == whole.key and (parts.rows.sample == whole.rows.sample).all()
    assert np.allclose(parts.rows.A, whole.rows.A, atol=1e-5 * np.abs(whole.rows.A).max())


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_single_removals_share_what_is_in_front_and_go_on_where_they_were(
    tiny, text_file, monkeypatch, kind, tmp_path
):
    import core.calibration.calibrate as calibration

    class Stop(Exception):
        pass

    def stop(done, total, message):
        if message == "single removals" and done > 0.9 * total:
            raise Stop

    loaded, meters, opened = load_model(str(tiny[kind])), [], calibration.open_forwards
    sequences, singles = (
        pack(read_texts(text_file), loaded.tokenizer, split, 32, n)
        for split, n in (("calibrate", 4), ("choose", 11))
    )

    def counted(*args, **options):
        meters.append(opened(*args, **options))
        return meters[-1]

    monkeypatch.setattr(calibration, "open_forwards", counted)
    whole = calibrate(loaded, sequences, batch=4, singles=singles)
    n = len(loaded.blocks)
    # blocks from the one behind on, and each of two branches with its own block
    assert meters[0].forwards == pytest.approx(1 + (n - 1) / 2 + 2 * (n + 1) / 2)
    assert len(meters[0].chunks) == 3
    assert "singles" not in whole.meta["plan"] and meters[0].room == 2 * n
    for i in range(n):
        apart = sequence_losses(loaded, singles.ids, [i]) - sequence_losses(loaded, singles.ids)
        assert np.isclose(whole.singles.increase[i], apart.mean(), atol=1e-5)
    monkeypatch.setattr("core.store.checkpoint.Checkpoint.INTERVAL", 0)
    with pytest.raises(Stop):
        calibrate(loaded, sequences, batch=4, singles=singles, checkpoint=tmp_path, report=stop)
    taken = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)  # what this attempt has, not what the first had
    monkeypatch.setattr(torch, "set_num_threads", taken.append)
    resumed = calibrate(loaded, sequences, batch=4, singles=singles, checkpoint=tmp_path)
    assert taken == [3] and resumed.meta["plan"]["threads"] == 3 and whole.meta["plan"]["threads"] == 1
    assert (resumed.singles.increase == whole.singles.increase).all()
    assert (rows_so_far(tmp_path) == resumed.rows.A).all()  # what the page shows as they arrive
    assert 0 < meters[2].forwards < meters[1].forwards
    monkeypatch.setattr("core.calibration.gradient_rows.GRAPH", 5 * n * meters[0].run.bytes * 32)
    assert calibrate(loaded, sequences, batch=4, singles=singles).meta["plan"]["singles"] == 2


@pytest.mark.parametrize("kind", ["llama", "gemma2", "granite", "opt", "xlnet"])
def test_losses_and_rows_in_pieces_are_those_of_whole_logits(kind, monkeypatch):
    import core.model.losses as losses

    monkeypatch.setattr(losses, "TOKENS", 7)
    loaded = wrap(tiny_model(kind), None, kind, None)
    assert loaded.head.pieces
    ids, scored = batch_of(loaded, 4, 12), torch.rand(4, 12, generator=torch.Generator().manual_seed(2)) < 0.7
    uniforms = torch.rand(4, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    sizes, head = [], loaded.head.logits
    monkeypatch.setattr(loaded.head, "logits", lambda h: sizes.append(len(h)) or head(h))
    with torch.no_grad():
        plain = loaded.model(input_ids=ids, use_cache=False).logits
        for marks in (None, scored):
            found = sample_losses(loaded.head.hidden(ids), ids, marks, loaded.head.logits)
            assert torch.allclose(found, sample_losses(plain, ids, marks), atol=1e-5)
    assert max(sizes) == 7 and sum(sizes) == 4 * 11 + int(scored[:, 1:].sum())  # only of what counts
    pieces = gradient_rows(loaded, ids, scored=scored, sampled_uniforms=uniforms)
    loaded.head.pieces = False
    whole = gradient_rows(loaded, ids, scored=scored, sampled_uniforms=uniforms)
    for a, b in zip((pieces[0], pieces[2][0]), (whole[0], whole[2][0])):
        assert float((a - b).norm()) <= 2e-6 * float(b.norm())
    assert torch.allclose(pieces[1], whole[1], atol=1e-5)


def test_a_head_that_is_more_than_its_tokens_is_not_cut_off():
    loaded = wrap(tiny_model("llama"), None, "llama", None)
    plain = loaded.model.lm_head.forward
    loaded.model.lm_head.forward = lambda x: plain(x) + x.mean(dim=1, keepdim=True).sum()
    ids = batch_of(loaded, 3, 9)
    assert not loaded.head.pieces
    with torch.no_grad():
        whole = loaded.model(input_ids=ids, use_cache=False).logits
        assert torch.equal(loaded.head.hidden(ids), whole)
    reference, _ = reference_row(loaded, ids[1])
    assert torch.allclose(gradient_rows(loaded, ids[1:2])[0][0], reference, atol=1e-5 * reference.norm())


def test_no_weight_gradients_are_computed(tiny):
    loaded = load_model(str(tiny["llama"]))
    gradient_rows(loaded, batch_of(loaded))
    assert all(p.grad is None and not p.requires_grad for p in loaded.model.parameters())


def test_runs_are_equal_at_the_same_plan_and_close_at_another(tiny, text_file):
    loaded = load_model(str(tiny["llama"]))
    sequences = pack(read_texts(text_file), loaded.tokenizer, "calibrate", 48, 21, seed=1)
    singles = pack(read_texts(text_file), loaded.tokenizer, "choose", 48, 8)
    first, again, other = (
        calibrate(loaded, sequences, batch=b, sampled=True, singles=singles, seed=4) for b in (4, 4, 7)
    )
    assert first.key == again.key == other.key
    for name in ("rows", "sampled"):
        a, b, c = (getattr(run, name) for run in (first, again, other))
        assert (a.A == b.A).all() and (a.sample == c.sample).all()
        assert (np.linalg.norm(a.A - c.A, axis=1) <= 1e-5 * np.linalg.norm(a.A, axis=1)).all()
    for i in range(len(loaded.blocks)):
        difference = sequence_losses(loaded, singles.ids, [i]) - sequence_losses(loaded, singles.ids)
        assert np.isclose(first.singles.increase[i], difference.mean(), atol=1e-5)
        assert np.isclose(first.singles.se[i], difference.std(ddof=1) / np.sqrt(8), atol=1e-5)


def test_sampled_labels_follow_the_distribution():
    logits = torch.log(torch.tensor([0.2, 0.5, 0.3]))[None, None]
    u = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    labels = sample_labels(logits.expand(1, 1000, 3), u[None])
    assert torch.bincount(labels[0], minlength=3).tolist() == [200, 500, 300]


def test_key_changes_with_what_changes_rows_and_with_nothing_else(tiny, text_file, tmp_path):
    from shutil import copytree

    from core.calibration.calibrate import run_key

    texts = read_texts(text_file)
    loaded = load_model(str(tiny["llama"]))
    base = pack(texts, loaded.tokenizer, "calibrate", 48, 20)
    key = run_key(loaded, base, False, None, 0)
    assert key == run_key(
        load_model(str(copytree(tiny["llama"], tmp_path / "renamed"))), base, False, None, 0
    )
    others = [
        run_key(load_model(str(tiny["qwen2"])), base, False, None, 0),
        run_key(loaded, base, True, None, 0),
        run_key(loaded, base, False, base, 0),
        run_key(loaded, pack(texts, loaded.tokenizer, "calibrate", 48, 19), False, None, 0),
        run_key(loaded, pack(texts, loaded.tokenizer, "calibrate", 47, 20), False, None, 0),
        run_key(loaded, pack(texts, loaded.tokenizer, "calibrate", 48, 20, seed=1), False, None, 0),
        run_key(loaded, base, True, None, 1),
    ]
    flipped = copytree(tiny["llama"], tmp_path / "flipped")
    data = bytearray((flipped / "model.safetensors").read_bytes())
    data[-3] ^= 1
    (flipped / "model.safetensors").write_bytes(data)
    others.append(run_key(load_model(str(flipped)), base, False, None, 0))
    assert len({key, *others}) == len(others) + 1


def test_rows_that_are_not_finite_are_dropped_and_above_one_percent_refused(tiny, text_file, monkeypatch):
    import core.calibration.calibrate as calibration

    loaded = load_model(str(tiny["llama"]))
    sequences = pack(read_texts(text_file), loaded.tokenizer, "calibrate", 16, 200)
    honest = calibration.gradient_rows

    def poisoned(count):
        bad = set(sequences.index[:count].tolist())
        position = iter(range(0, len(sequences.ids), 50))

        def rows(model, ids, **options):
            a, loss, own = honest(model, ids, **options)
            start = next(position)
            for k in range(len(ids)):
                if int(sequences.index[start + k]) in bad:
                    a[k, 0] = float("nan")
            return a, loss, own

        return rows

    monkeypatch.setattr(calibration, "gradient_rows", poisoned(2))
    run = calibrate(loaded, sequences, batch=50)
    assert (
        run.meta["dropped"] == sequences.index[:2].tolist()
        and len(run.rows.A) == 198
        and np.isfinite(run.rows.A).all()
    )
    monkeypatch.setattr(calibration, "gradient_rows", poisoned(3))
    with pytest.raises(InputError, match="3 of 200 gradient rows are not finite"):
        calibrate(loaded, sequences, batch=50)


def test_the_mean_loss_counts_real_tokens_only():
    logits = torch.zeros(1, 4, 10)
    ids = torch.tensor([[1, 2, 3, 0]])
    logits[0, 2, 0] = 50.0  # would be a certain hit on the padding
    mask = torch.tensor([[True, True, True, False]])
    assert torch.isclose(sample_losses(logits, ids, mask), torch.tensor([float(np.log(10))]))
    ((losses, gradient),) = loss_gradients(logits, ids, mask)
    assert torch.isclose(losses, torch.tensor([float(np.log(10))])) and not gradient[:, 2:].any()


def test_the_closed_form_of_the_losses_gradient_is_autograds():
    logits = torch.randn(3, 7, 11, generator=torch.Generator().manual_seed(0), requires_grad=True)
    ids = torch.randint(0, 11, (3, 7), generator=torch.Generator().manual_seed(1))
    for mask in (None, torch.arange(7)[None] < torch.tensor([[7], [4], [2]])):
        losses = sample_losses(logits, ids, mask)
        (expected,) = torch.autograd.grad(losses.sum(), logits)
        ((again, gradient),) = loss_gradients(logits, ids, mask)
        assert torch.allclose(losses, again, atol=1e-6) and torch.allclose(gradient, expected, atol=1e-7)


def test_real_pretrained_model(real_model):
    loaded = load_model(str(real_model))
    ids = batch_of(loaded, 3, 32)
    rows, _, _ = gradient_rows(loaded, ids)
    reference, _ = reference_row(loaded, ids[1])
    assert torch.allclose(rows[1], reference, atol=1e-5 * reference.norm())
