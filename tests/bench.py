"""Everything that measures: `make bench`. Ratios are taken side by side in one run; figures depend on the machine.

Prints each figure with its bar; exits with 1 when a bar is missed.
"""

import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from core.couplings import couplings
from core.models import load_model, wrap
from core.rows import gradient_rows
from core.runs import load_run
from core.spectrum import lowest_states
from core.store import DEMO_RUN
from core.texts import pack, read_texts

FIGURES: list[tuple[str, float, float | None, str]] = []


def figure(name: str, value: float, bar: float | None, unit: str) -> None:
    FIGURES.append((name, value, bar, unit))
    print(f"{name:<58} {value:8.2f} {unit:<3}" + ("" if bar is None else f"  bar {bar:g} {'ok' if value <= bar else 'MISSED'}"), flush=True)


def rows_against_a_forward() -> None:
    """CPU time of one batched forward + backward for all rows, over a plain forward of the same batch, alternating.

    On the demo, and on a random Llama of four times its width: narrow matrices leave more of the time
    to attention and norms, whose backward costs more than twice their forward.
    """
    demo = load_model("demo")
    wide = LlamaConfig(
        hidden_size=256, intermediate_size=704, num_hidden_layers=8, num_attention_heads=8, vocab_size=1024, attn_implementation="sdpa"
    )
    model = LlamaForCausalLM(wide).eval().requires_grad_(False)
    random = wrap(model, demo.tokenizer, "random", demo.folder)
    ids = torch.from_numpy(pack(read_texts(), demo.tokenizer, "calibrate", 128, 16).ids)

    def cpu(action) -> float:
        began = time.process_time()
        action()
        return time.process_time() - began

    for name, loaded in (("demo, width 64", demo), ("random Llama, width 256", random)):

        def forward(loaded=loaded):
            with torch.no_grad():
                loaded.model(input_ids=ids, use_cache=False)

        def rows(loaded=loaded):
            gradient_rows(loaded, ids)

        torch.set_num_threads(1)
        forward(), rows()
        ratio = statistics.median(r / f for f, r in [(cpu(forward), cpu(rows)) for _ in range(15)])
        figure(f"gradient rows / forward, 16 x 128, {name}", ratio, 2.6, "x")


def spectrum() -> None:
    H = couplings(load_run(DEMO_RUN))
    slowest = max((lowest_states(H, m, 2600).seconds, m) for m in range(1, 24))
    figure(f"slowest spectrum of the demo, 2600 states (M = {slowest[1]})", 1e3 * slowest[0], None, "ms")


def browser() -> None:
    import shutil

    path = shutil.which("chromium")
    if path is None:
        print("no Chromium here: the browser's figures are not measured")
        return
    from playwright.sync_api import sync_playwright

    from tests.browser.conftest import FLAGS, Server

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        home = Path(folder) / "home"
        home.mkdir()
        server = Server(home)
        server.stop()
        ups = []
        for _ in range(3):
            ups.append(server.start())
            server.stop()
        figure("server up, median of 3", statistics.median(ups), 2.0, "s")
        server.start()
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        drawn = []
        for _ in range(3):
            page = chromium.new_context(viewport={"width": 1280, "height": 800}).new_page()
            began = time.perf_counter()
            page.goto(server.url)
            page.locator(".lens .chip").first.wait_for()
            drawn.append(time.perf_counter() - began)
        figure("landscape drawn, first visit after the server's start", drawn[0], 4.0, "s")
        figure("landscape drawn, new browser context on a warm server", min(drawn[1:]), 4.0, "s")
        page.add_script_tag(path=Path(__file__).parent / "browser" / "probes.js")
        field = page.get_by_test_id("stNumberInputField")
        changes = []
        for m in (5, 9, 12, 6, 11, 7):  # first visits of each M: solved, sent, drawn
            field.fill(str(m))
            changes.append(page.evaluate("(m) => window.untilChips(m)", m))
            page.wait_for_timeout(400)
        figure("M changed -> repainted, worst of 6 new values", max(changes), 300, "ms")
        page.locator(".lens .frame").focus()
        keys = page.evaluate("() => window.pressDown(40)")
        figure("arrow key -> repainted, worst of 40", max(keys), 300, "ms")
        figure("hover, 95th percentile of 200 moves", float(np.percentile(page.evaluate("() => window.hoverMoves(200)"), 95)), 16, "ms")
        chromium.close()
        server.stop()


def main() -> int:
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}, torch {torch.__version__}, Python {platform.python_version()}"
    )
    rows_against_a_forward()
    spectrum()
    browser()
    return 1 if any(bar is not None and value > bar for _, value, bar, _ in FIGURES) else 0


if __name__ == "__main__":
    sys.exit(main())
