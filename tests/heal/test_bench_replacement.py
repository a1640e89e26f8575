"""What measures energies for replacement: maps that are exact where a block is linear, and rows that are
derivatives.
"""

import numpy as np
import pytest

from core.blocks.structure import first_tensor, hidden_argument, replace_first
from core.measure.evaluation import sequence_losses
from tests.bench_replacement import fitted, loss_of, rows, with_one
from tests.heal.test_replacement import made_linear


def test_a_linear_block_is_its_map(pair, sequences):
    loaded, _ = pair()
    made_linear(loaded, 2)
    assert loaded.head
    learn, report = sequences("calibrate", 48), sequences("report", 8)
    maps = fitted(loaded, learn.ids)
    A = rows(loaded, learn.ids[:8], maps)
    assert np.abs(A["stream"][:, 2]).max() < 1e-3 * np.abs(A["plain"][:, 2]).max()
    assert np.abs(A["stream"][:, 3]).max() > 0.1 * np.abs(A["plain"][:, 3]).max()
    original = sequence_losses(loaded, report.ids).mean()
    assert loss_of(loaded, [2], maps["stream"], report.ids, {2}) == pytest.approx(original, abs=1e-4)
    dropped = loss_of(loaded, [2, 4], maps["stream"], report.ids, set())
    assert dropped == sequence_losses(loaded, report.ids, [2, 4]).mean() != original
    mixed = loss_of(loaded, [2, 4], maps["stream"], report.ids, {2})
    assert mixed == pytest.approx(sequence_losses(loaded, report.ids, [4]).mean(), abs=1e-3)


@pytest.mark.parametrize("gate, block", [("plain", 0), ("stream", 0), ("stream", 3)])
def test_rows_are_derivatives_of_the_gate(pair, sequences, gate, block):
    loaded, _ = pair()
    assert loaded.head
    maps = fitted(loaded, sequences("calibrate", 32).ids)
    ids = sequences("report", 4).ids
    own = maps["stream"][block] * (gate == "stream")

    def losses(a: float) -> np.ndarray:
        def mix(_module, args, kwargs, output):
            x = hidden_argument(args, kwargs)
            return replace_first(output, a * first_tensor(output) + (1 - a) * (x + with_one(x) @ own))

        handle = loaded.modules[block].register_forward_hook(mix, with_kwargs=True)
        found = sequence_losses(loaded, ids)
        handle.remove()
        return found

    slope = (losses(1 + 1e-2) - losses(1 - 1e-2)) / 2e-2
    assert slope == pytest.approx(rows(loaded, ids, maps)[gate][:, block], rel=0.05, abs=2e-3)
