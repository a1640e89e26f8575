"""Replacing blocks: exact where a block is linear, refused with the reason where nothing folds."""

import pytest
import torch
from torch import nn

from core.errors import InputError
from core.heal.replacement import _writer, cuts, replace_blocks
from core.model.load import load_model, wrap
from tests.conftest import TINY, write_tiny
from tests.zoo import tiny_model


class Nothing(nn.Module):
    """An attention that writes nothing."""

    def forward(self, hidden_states, **_):
        return torch.zeros_like(hidden_states), None


def made_linear(loaded, block: int) -> None:
    """The model with a block that is linear on the residual stream, and reads of it only what the MLP before
    writes: in a half of the stream that nothing below writes to.
    """
    generator = torch.Generator().manual_seed(0)
    half = loaded.config.hidden_size // 2
    with torch.no_grad():
        loaded.model.get_input_embeddings().weight[:, half:] = 0
        for module in loaded.modules[: block - 1]:
            module.self_attn.o_proj.weight[half:] = 0
            module.mlp.down_proj.weight[half:] = 0
        before, own = loaded.modules[block - 1], loaded.modules[block]
        before.self_attn.o_proj.weight[half:] = 0
        before.mlp.down_proj.weight[:half] = 0
        own.self_attn, own.post_attention_layernorm = Nothing(), nn.Identity()
        own.mlp = nn.Linear(2 * half, 2 * half, bias=False)
        own.mlp.weight.zero_()
        own.mlp.weight[half:, half:] = torch.randn(half, half, generator=generator) / 4
    loaded.model.requires_grad_(False)


def logits(loaded) -> torch.Tensor:
    ids = torch.randint(2, 200, (3, 24), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return loaded.model(input_ids=ids, use_cache=False).logits


@pytest.mark.parametrize("taken", [1.0, 0.22])
def test_the_linear_map_is_exact_for_a_block_that_is_linear(tmp_path, sequences, monkeypatch, taken):
    """Granite's residual stream takes a part of what a branch writes."""
    monkeypatch.setitem(TINY, "granite", {**TINY["llama"], "residual_multiplier": taken})
    folder = str(write_tiny(tmp_path / "granite", "granite"))
    teacher, student = load_model(folder), load_model(folder)
    for loaded in (teacher, student):
        made_linear(loaded, 2)
    expected, count = logits(teacher), student.parameters()
    own = sum(p.numel() for p in student.modules[2].parameters())
    replace_blocks(student, teacher, [2], "linear", sequences("calibrate", 64))
    assert student.parameters() == count - own and len(student.blocks) == 5
    assert float((logits(student) - expected).abs().max()) < 1e-4 * float(expected.abs().max())
    plain = load_model(teacher.source)
    made_linear(plain, 2)
    from core.model.surgery import remove_blocks

    remove_blocks(plain, [2])  # the linear block does something
    assert float((logits(plain) - expected).abs().max()) > 1e-2 * float(expected.abs().max())


@pytest.mark.parametrize("kind", TINY)
def test_the_map_brings_the_stream_nearer_to_the_originals(pair, sequences, kind):
    teacher, student = pair(kind)
    texts = sequences("calibrate", 48)
    behind = teacher.modules[3]
    ids = torch.from_numpy(texts.ids)

    def stream(loaded, module):
        seen = []
        with module.register_forward_hook(
            lambda _m, _a, out: seen.append(out[0] if isinstance(out, tuple) else out)
        ):
            loaded.model(input_ids=ids, use_cache=False)
        return seen[0]

    with torch.no_grad():
        wanted = stream(teacher, behind)
        plain = stream(teacher, teacher.modules[1])  # what comes out where 2 and 3 are removed
        replace_blocks(student, teacher, [2, 3], "linear", texts)
        mapped = stream(student, student.modules[1])
    assert float((mapped - wanted).norm()) < 0.95 * float((plain - wanted).norm())


def test_merged_weights_are_the_sum_of_differences(pair, sequences):
    teacher, student = pair()
    replace_blocks(student, teacher, [2, 3, 5], "merge", sequences("calibrate", 4))
    of = [dict(module.named_parameters()) for module in teacher.modules]
    for name, p in student.modules[1].named_parameters():
        assert torch.allclose(p, of[2][name] + of[3][name] - of[1][name], atol=1e-6)
    for name, p in student.modules[2].named_parameters():
        assert torch.allclose(p, of[5][name], atol=1e-6)
    assert len(student.blocks) == 3


def test_cuts_are_runs_of_neighbours():
    assert list(cuts([7, 3, 4, 9, 8])) == [(3, 4), (7, 9)]


@pytest.mark.parametrize("how", ["linear", "merge"])
def test_nothing_takes_over_for_the_first_block(pair, sequences, how):
    teacher, student = pair()
    with pytest.raises(InputError, match="Block 0 is the first one"):
        replace_blocks(student, teacher, [0, 1, 4], how, sequences("calibrate", 4))
    assert len(student.blocks) == 6 and torch.equal(logits(student), logits(teacher))


def test_a_map_does_not_fold_behind_a_norm(tmp_path, sequences, monkeypatch):
    monkeypatch.setitem(TINY, "gemma2", {**TINY["mistral"], "pad_token_id": 0})
    folder = write_tiny(tmp_path / "gemma2", "gemma2")
    teacher, student = load_model(str(folder)), load_model(str(folder))
    with pytest.raises(InputError, match="not the output of one linear layer"):
        replace_blocks(student, teacher, [2], "linear", sequences("calibrate", 4))
    assert len(student.blocks) == 6
    replace_blocks(student, teacher, [2], "merge", sequences("calibrate", 4))
    assert len(student.blocks) == 5


def test_a_map_does_not_fold_where_two_branches_are_one_sum():
    """Falcon adds what its attention writes to what its FFN does, in place."""
    with pytest.raises(InputError, match="summed with another's"):
        _writer(wrap(tiny_model("falcon"), None, "falcon", None), 0)


def test_blocks_of_another_build_are_not_merged(pair, sequences):
    teacher, student = pair()
    student.modules[3].mlp.down_proj = nn.Linear(48, 32, bias=True)
    with pytest.raises(InputError, match="Block 3 .* is not built as block 2"):
        replace_blocks(student, teacher, [3], "merge", sequences("calibrate", 4))
