"""A small model with its run."""

import pytest

from core.calibration.calibrate import calibrate
from core.model.load import load_model
from core.texts import pack, read_texts


@pytest.fixture
def made(tiny, text_file):
    """(model, its run with single removals, choosing sequences)."""
    loaded = load_model(str(tiny["llama"]))
    rows, texts = (
        pack(read_texts(text_file), loaded.tokenizer, split, 32, count)
        for split, count in (("calibrate", 4), ("choose", 6))
    )
    return loaded, calibrate(loaded, rows, batch=4, singles=texts), texts
