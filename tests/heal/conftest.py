"""A student and its teacher of the tiny models, and texts for both."""

import numpy as np
import pytest

from core.calibration.corpus import draw, read_sources
from core.model.load import load_model
from tests.conftest import TEXT


@pytest.fixture(scope="session")
def some_texts(tmp_path_factory):
    file = tmp_path_factory.mktemp("texts") / "some.txt"
    file.write_text(TEXT)
    return str(file)


@pytest.fixture
def pair(tiny):
    """A function type -> (teacher, whole student)."""
    return lambda kind="llama": (load_model(str(tiny[kind])), load_model(str(tiny[kind])))


@pytest.fixture
def sequences(pair, some_texts):
    """A function (split, count) -> sequences of 24 tokens."""
    teacher, _ = pair()
    read = read_sources(some_texts)
    return lambda split, count: draw(teacher, read, split, 24, count)


def losses_of(loaded, sequences) -> float:
    from core.measure.evaluation import sequence_losses

    return float(
        np.mean(sequence_losses(loaded, sequences.ids, mask=sequences.mask, scored=sequences.scored))
    )
