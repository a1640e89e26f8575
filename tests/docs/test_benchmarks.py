"""The script behind docs/smollm2.md's Benchmarks: one more rounding, the words, the place on the page."""

import numpy as np
import torch

from tests import benchmarks
from tests.benchmarks import rounded_again, section, write


def quantised(rows: int = 8, columns: int = 64) -> torch.nn.Linear:
    """A layer whose weights lie on 16 levels of each 32, as Q4_1 leaves them."""
    layer = torch.nn.Linear(columns, rows, bias=False)
    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(0, 16, (rows * columns // 32, 32), generator=generator)
    levels[:, 0], levels[:, 1] = 0, 15
    step, least = (torch.rand(len(levels), 1, generator=generator) + k for k in (0.1, -1))
    layer.weight.data = (levels * step + least).reshape(rows, columns)
    return layer


def test_one_more_rounding_moves_by_at_most_half_a_level_and_is_taken_back():
    model = torch.nn.Sequential(quantised(), torch.nn.Linear(64, 8, bias=False))  # the second: not rounded
    before = [p.detach().clone() for p in model.parameters()]
    with rounded_again(model, 1) as share:
        assert share == 0.5
        moved, still = (p.detach() - b for p, b in zip(model.parameters(), before))
        blocks = before[0].reshape(-1, 32)
        step = (blocks.max(1).values - blocks.min(1).values) / 15
        steps = moved.reshape(-1, 32) / step[:, None]
        assert steps.abs().max() <= 0.5 and abs(float(steps.std()) - 12**-0.5) < 0.02 and not still.any()
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before))


def test_the_section_says_what_lies_within_its_interval_and_stands_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmarks, "PAGE", tmp_path / "page.md")
    (tmp_path / "page.md").write_text("# Model\n\n## First\n\nkeep\n")
    row = {"value": 0.55, "se": 0.01, "low": 0.53, "high": 0.57, "n": 9}
    rows = {task: dict(row) for task in benchmarks.PUBLISHED}
    write(section(rows, None))
    write(section(rows, (3.0, 0.1, 0.01, 0.79)))
    page = (tmp_path / "page.md").read_text()
    assert page.count("## Benchmarks") == 1 and page.startswith(
        "# Model\n\n## First\n\nkeep\n\n## Benchmarks"
    )
    assert "| arc_easy | acc | 9 | 0.550 [0.530 0.570] | 0.541 | yes |" in page
    assert "| piqa | acc_norm | 9 | 0.550 [0.530 0.570] | 0.669 | no |" in page
    gap = 100 * np.mean([0.55 - published for _, published in benchmarks.PUBLISHED.values()])
    assert f"{gap:+.1f} ± 0.6 points" in page  # .01 / sqrt(3)
    assert "grows by 0.100 ± 0.010 (2 draws)" in page and "79 %" in page
    (tmp_path / "page.md").write_text(page + "\n## Last\n\nstays\n")
    write(section(rows, None))
    assert (tmp_path / "page.md").read_text().endswith("## Last\n\nstays\n")
