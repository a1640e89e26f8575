"""A text stays a text: what a model loses on our sequences is what it loses on the text as written."""

import numpy as np
import pytest

from core.measure.evaluation import sequence_losses
from core.model.load import load_model
from core.texts import pack, read_texts
from tests.texts.made import jsonl
from tests.texts.test_splits import DATA


def test_loss_of_a_text_is_the_loss_of_its_raw_windows(real_model, tmp_path):
    """Within sampling; and a text whose paragraphs are taken for documents is told from it."""
    file = DATA / "tinyshakespeare.txt"
    if not file.exists():
        pytest.skip("the play is not on this machine")
    loaded = load_model(str(real_model))
    text = file.read_text(encoding="utf-8")
    ids = loaded.tokenizer(text, add_special_tokens=False)["input_ids"]
    windows = np.array(ids[: len(ids) // 127 * 127]).reshape(-1, 127)
    windows = windows[np.random.default_rng(1).permutation(len(windows))[:192]]
    raw = np.pad(windows, ((0, 0), (1, 0)), constant_values=loaded.tokenizer.bos_token_id)
    rows = jsonl(tmp_path / "rows.jsonl", *({"text": part} for part in text.split("\n\n")))

    def loss(sequences) -> tuple[float, float]:
        losses = sequence_losses(loaded, sequences)
        return losses.mean(), losses.std(ddof=1) / np.sqrt(len(losses))

    (raw_loss, raw_se), (ours, se), (cut, cut_se) = (
        loss(sequences)
        for sequences in (
            raw,
            pack(read_texts(file), loaded.tokenizer, "calibrate", 128, 192).ids,
            pack(read_texts(rows), loaded.tokenizer, "calibrate", 128, 192).ids,
        )
    )
    assert abs(ours - raw_loss) < 3 * np.hypot(se, raw_se) < 0.25
    assert cut - raw_loss > 3 * np.hypot(cut_se, raw_se)
