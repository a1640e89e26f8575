"""What a healing takes, told before: against what it does take."""

import pytest
import torch
import transformers

from core.errors import InputError
from core.heal.needs import Sizes, check_room, needs, seams, widths_of
from core.heal.settings import KL, LORA, SEAMS, Settings
from core.heal.student import made_ready, trained
from core.heal.teacher import Teacher
from core.heal.training import train
from core.model.load import load_model
from core.model.surgery import remove_blocks
from tests.weights.tiny_gguf import model_of
from tests.weights.tiny_gguf import write as write_gguf


def sizes_of(teacher, removed) -> Sizes:
    blocks = [block.parameters for block in teacher.blocks]
    kept = tuple(p for b, p in enumerate(blocks) if b not in removed)
    config = teacher.config
    return Sizes(
        teacher.parameters(), kept, teacher.parameters() - sum(blocks), config.hidden_size, config.vocab_size
    )


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("method", [KL, LORA, SEAMS])
def test_what_learns_and_what_a_step_keeps(pair, sequences, kind, method):
    teacher, student = pair(kind)
    removed = [3, 4]
    settings = Settings(method, tokens=1, rank=4, batch=8)
    beside = seams(removed, 6)
    asked = needs(sizes_of(teacher, removed), settings, beside, 24, 48)
    remove_blocks(student, removed)
    head = student.head
    model = made_ready(student, removed, 6, settings)
    learns = sum(p.numel() for p in trained(model).values())
    assert learns <= asked.trained < 2 * learns

    kept: dict[int, torch.UntypedStorage] = {}

    def note(tensor):
        kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    own = {p.untyped_storage()._cdata for p in model.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        hidden = head.hidden(torch.from_numpy(sequences("calibrate", 8).ids))
    inside = sum(s.nbytes() for key, s in kept.items() if key not in own)
    assert hidden.requires_grad
    told = needs(sizes_of(teacher, removed), settings, beside, 24, 48).memory
    bare = needs(
        sizes_of(teacher, removed), Settings(method, tokens=1, rank=4, batch=1), beside, 24, 48
    ).memory
    a_batch = (told - bare) * 8 / 7  # logits grow with it, too
    logits = 7 * 24 * teacher.config.vocab_size * 4 * 6 * 8 / 7
    assert inside / 1.5 < a_batch - logits < 1.5 * inside * (2 if method == LORA else 1), (
        inside,
        a_batch - logits,
    )


def bytes_in(folder) -> int:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())


def test_the_disk_that_is_told_is_taken(pair, sequences, tmp_path, monkeypatch):
    """At its fullest: with a checkpoint more than are kept."""
    seen, rotate = [], transformers.trainer.rotate_checkpoints
    look = lambda *a, **k: (seen.append(bytes_in(tmp_path)), rotate(*a, **k))  # noqa: E731
    monkeypatch.setattr(transformers.trainer, "rotate_checkpoints", look)
    teacher, student = pair()
    settings = Settings(KL, tokens=3000, batch=4)
    told = needs(sizes_of(teacher, [2]), settings, seams([2], 6), 24, 48)
    remove_blocks(student, [2])
    parts = sequences("calibrate", 48), sequences("choose", 4)
    train(student, Teacher(teacher), [2], settings, *parts, tmp_path, states_room=1 << 20)
    assert (tmp_path / "teacher.npy").stat().st_size == pytest.approx(told.states, abs=200)
    assert told.disk < max(seen) < 1.05 * told.disk + 150_000  # some files are of no model's size
    assert bytes_in(tmp_path) < told.disk


def test_what_does_not_fit_is_refused(pair, tmp_path, monkeypatch):
    teacher, _ = pair()
    found = needs(sizes_of(teacher, [2]), Settings(KL, tokens=3000), seams([2], 6), 24, 48)
    check_room(found, 0, None, tmp_path)
    check_room(found, found.memory, 0, tmp_path)
    with pytest.raises(InputError, match="GB of memory"):
        check_room(found, 0, found.memory - 1, tmp_path)
    usage = type("Usage", (), {"free": found.disk - 1})
    monkeypatch.setattr("core.heal.needs.shutil.disk_usage", lambda folder: usage)
    with pytest.raises(InputError, match="GB of disk"):
        check_room(found, 0, None, tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "one").write_bytes(bytes(1000))
    check_room(found, 0, None, tmp_path)  # it goes on: what it has written counts


def test_widths_are_read_of_a_config_and_of_a_gguf_file(tiny, tmp_path):
    config = load_model(str(tiny["llama"])).config
    assert widths_of(tiny["llama"]) == (config.hidden_size, config.vocab_size)
    model = model_of("llama")
    file = write_gguf(tmp_path / "tiny.gguf", model, "Q8_0")
    assert widths_of(file) == (model.config.hidden_size, model.config.vocab_size)
    assert widths_of(tmp_path) is None


def test_a_larger_model_learns_at_a_third_of_the_rate():
    usual = Settings(KL, tokens=1)
    assert usual.for_size(10**6).peak_rate == usual.peak_rate == 1e-3
    assert usual.for_size(10**8).peak_rate == pytest.approx(3e-4)
    assert Settings(KL, tokens=1, rate=2e-3).for_size(10**8).peak_rate == 2e-3
    assert Settings(LORA, tokens=1).for_size(10**8).peak_rate == 3e-3
    assert Settings("linear").for_size(10**8).rate is None
