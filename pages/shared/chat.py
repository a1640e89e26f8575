"""A chat with the original and a pruned model side by side, each answer a job."""

import html

import streamlit as st

from core import jobs
from core.errors import InputError
from core.jobs.costs import chat_seconds
from core.store.named_models import is_demo, missing
from core.store.runs import Run
from pages.shared.parts import show_progress

DEMO_PROMPT = "Emil met Rosa in Marsh. She carried the spoon. The spoon belongs to"
FIRST_PROMPT = "What is the capital of France?"
SIDES = ("original", "pruned")
LONGEST = 1024  # tokens of an answer
IN_MEMORY = 4  # bytes of a parameter, where there is no GPU
state = st.session_state


def first_prompt(run: Run) -> str:
    """Something that the run's model could be asked to begin with."""
    return DEMO_PROMPT if is_demo(run.meta["model"]["source"]) else FIRST_PROMPT


def chat_panel(run: Run, removed: tuple[int, ...]) -> None:
    """What was said in this session, and the field for what is asked next; nothing without the weights."""
    if missing(run.meta["model"]["source"]):
        return
    said = [job for job in map(_kept, _talk(run, removed)) if job]
    active = bool(said and said[-1].active)
    st.fragment(_chat, run_every=0.5 if active else None)(run, removed, active)


def _talk(run: Run, removed: tuple[int, ...]) -> list[str]:
    """The ids of the jobs of this chat, in order."""
    return state.setdefault("chats", {}).setdefault((run.view_key, removed), [])


def _kept(job_id: str) -> jobs.Job | None:
    try:
        return jobs.read(job_id)
    except InputError:  # its folder was removed
        return None


def _chat(run: Run, removed: tuple[int, ...], polled: bool) -> None:
    said = [job for job in map(_kept, _talk(run, removed)) if job]
    last = said[-1] if said else None
    if polled and not (last and last.active):
        st.rerun()
    name = "without " + run.units.said(removed)
    st.html('<div class="panelhead"><b>Chat: the original beside this one</b></div>')
    for job in said:
        st.html(_turn(job, name))
    if last and last.status != "done":
        show_progress(last)
    if last and last.status == "done" and not last.result["template"]:
        st.caption("This model knows no chats (no template): each prompt is gone on from by itself.")
    _ask(run, removed, [job for job in said if job.status == "done"], polled)


def _turn(job: jobs.Job, name: str) -> str:
    """HTML: what was asked, and both answers as far as they are."""
    so_far, cells = jobs.said_of(job), []
    for side, title in zip(SIDES, ("original", name)):
        done = job.result[side] if job.status == "done" else None
        text = done["text"] if done else so_far.get(side, "…" if job.active else "")
        cells.append(
            f"<div><b>{html.escape(title)}</b><p>{html.escape(text.strip() or '(nothing)')}</p>"
            f"<span>{_measured(done) if done else ''}</span></div>"
        )
    asked = html.escape(job.request["original"][-1][1])
    return f'<div class="turn"><p class="asked">{asked}</p>{"".join(cells)}</div>'


def _measured(done: dict) -> str:
    rate = done["tokens"] / max(done["seconds"], 1e-3)
    cut = "" if done["ended"] else ", cut at the limit"
    return f"{done['tokens']} tokens, {rate:.0f} a second{cut}"


def _ask(run: Run, removed: tuple[int, ...], said: list[jobs.Job], busy: bool) -> None:
    """The field and its settings; what is asked is a job, which goes on when the page is closed."""
    key = "-".join(map(str, removed))
    with st.form(f"chat-{key}", border=False):
        field, button = st.columns([5, 1], vertical_alignment="bottom")
        asked = len(_talk(run, removed))  # each question has a field of its own, an empty one
        first = "" if asked else first_prompt(run)
        text = field.text_input("Ask both", first, key=f"chat-text-{key}-{asked}", max_chars=20_000)
        sent = button.form_submit_button("Ask", type="primary", disabled=busy, width="stretch")
    left, middle, right = st.columns(3)
    tokens = left.number_input("Tokens at most", 1, LONGEST, 64, key=f"chat-tokens-{key}")
    heat = middle.number_input(
        "Temperature", 0.0, 2.0, 0.0, 0.1, key=f"chat-heat-{key}", help="0: greedy. Else sampled."
    )
    seed = right.number_input("Seed", 0, 2**31 - 1, 0, key=f"chat-seed-{key}", help="Of the sampling.")
    seconds = chat_seconds(IN_MEMORY * run.meta["model"]["parameters"], tokens, _earlier(run))
    st.caption(
        f"At most about {seconds:.0f} s for {tokens} tokens each; the model is loaded for every question."
    )
    if said and st.button("Begin anew", key=f"chat-anew-{key}", disabled=busy):
        _talk(run, removed).clear()
        st.rerun()
    if sent and not text.strip():
        st.warning("Nothing was asked; write what both are to answer.")
    elif sent:
        original, pruned = ([*_history(said, side), ["user", text.strip()]] for side in SIDES)
        request = jobs.request_for(
            run,
            blocks=list(run.units.stored(removed)),
            original=original,
            pruned=pruned,
            tokens=tokens,
            temperature=heat,
            seed=seed,
        )
        job = jobs.start("chat", request)
        _talk(run, removed)[:] = dict.fromkeys([*(j.id for j in said), job.id])
        st.rerun()


def _history(said: list[jobs.Job], side: str) -> list[list[str]]:
    """What one of the two has heard and said so far."""
    return [turn for job in said for turn in (job.request[side][-1], ["assistant", job.result[side]["text"]])]


def _earlier(run: Run) -> dict | None:
    """The result of the last chat with the run's model."""
    source = run.meta["model"]["source"]
    return next(
        (
            job.result
            for job in jobs.list_jobs()
            if job.kind == "chat" and job.status == "done" and job.request["model"] == source
        ),
        None,
    )
