"""A healing at work, and what it won back."""

from pathlib import Path

import streamlit as st

from core import jobs
from core.compare.healed import won_in_words
from core.forms.card import snippet
from core.forms.names import NATIVE
from core.view.heal_figures import healing
from pages.shared.parts import chart, html_table, offer_zip, watch
from pages.shared.view import plain

FEW = 20  # steps: fewer teach little
_TASKS = (  # docs/healing.md: 2.0 of 13.0, 2.5 of 8.0 and 7.0 of 21.0 points
    "Loss comes back sooner than answers do: SmolLM2 without six blocks won back 92 % of its loss on "
    "WikiText-2, and a third or less of what it had lost on three tasks. Texts that the original wrote "
    "itself won back 34 % of that loss where as many of the file's own kind won 77 % (docs/healing.md)."
)


def show(job: jobs.Job) -> None:
    """The bar and the live curve, or the result."""
    st.fragment(_healing, run_every=1 if job.active else None)(job.id, job.active)


def _healing(job_id: str, polled: bool) -> None:
    job = watch(job_id, polled)
    curves = {name: [(x, y) for x, y, _ in points] for name, points in jobs.curves_of(job).items()}
    if curves:
        chart(st, healing(curves), key=f"curve-{job_id}")
    if job.status == "done":
        _result(job.result)


def _result(done: dict) -> None:
    """The three models side by side, what they answer, and the way home."""
    table, training = done["table"], done["training"]
    if done["won"] is not None:
        said = won_in_words(done["won"])
        st.markdown(f"**{said[0].upper()}{said[1:]}.**")
    steps = f"{training['steps']:,} step{'s' if training['steps'] != 1 else ''}"
    if training["stopped"]:
        st.warning(plain(training["stopped"]))
    elif 0 < training["steps"] < FEW:
        st.warning(f"The budget held {steps}, too few to learn much; give more minutes.")
    tasks = list(table["original"]["tasks"])
    head = ["", "loss, nats", "perplexity", *tasks]
    rows = [
        [
            name,
            f"{row['loss']:.4f} ± {row['loss_se'] or 0:.4f}",
            f"{row['perplexity']:.2f}",
            *(f"{100 * row['tasks'][task]['accuracy']:.0f} %" for task in tasks),
        ]
        for name, row in table.items()
    ]
    st.html(html_table(head, rows))
    if training["steps"]:
        st.caption(
            f"{training['tokens']:,} tokens in {steps} and "
            f"{training['seconds'] / 60:.1f} minutes; the best held-out KL, "
            f"{training['after']['kl']:.4f} nats (before {training['before']['kl']:.4f}), "
            f"at step {training['best_step']:,}. {_TASKS}"
        )
    for place, (name, text) in zip(st.columns(max(1, len(done["replies"]))), done["replies"].items()):
        place.caption(name)
        place.code(text or " ", language=None, wrap_lines=True)
    _home(done)


def _home(done: dict) -> None:
    st.success(
        "Written, reloaded in a fresh process and verified against the healed model's own logits. "
        "blockscape.json says how it was healed."
    )
    code, language = snippet(done.get("form", NATIVE), done["out"])
    st.code(code, language=language, wrap_lines=True)
    curve = Path(done["curve"])
    with st.container(horizontal=True):
        if curve.is_file():
            st.download_button("Curve as CSV", curve.read_bytes, curve.name, "text/csv", on_click="ignore")
        offer_zip(done)
