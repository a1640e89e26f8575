"""Take home: a state as a checkpoint, as the file that people run, on the hub; proved, or said not to be."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import streamlit as st

from core import jobs
from core.export.gguf.blocks import plan_gguf
from core.forms.commands import (
    Command,
    converter_command,
    prune_layers_command,
    quantize_command,
    run_commands,
    vllm_command,
)
from core.forms.config_changes import foretold
from core.forms.names import GGUF, NATIVE, forms_of
from core.forms.offers import Offer, gguf_at
from core.store.named_models import place_of
from core.store.runs import Run
from pages.shared.exports import (
    changes_table,
    export_card,
    export_request,
    offers_of,
    show_saving,
    show_written,
    takes,
    write_card,
)
from pages.shared.parts import run_at_hand
from pages.take_home_parts.asked import asked
from pages.take_home_parts.cards import commands_card, hub_card, recipe_card


def page() -> None:
    """The whole page."""
    st.title("Take home")
    st.caption(
        "A state as a checkpoint, or as the file that people run. Each is proved before it is called ready; "
        "what was not run here says so."
    )
    at_hand = run_at_hand("A bare matrix has no model to take home; choose a run in Explore.")
    if at_hand is None:
        return
    source, run = at_hand
    chosen = asked(source)
    if isinstance(chosen, jobs.Job):
        _healed(chosen, run)
    elif chosen is not None:
        _state(*chosen)


def _state(run: Run, removed: tuple[int, ...]) -> None:
    model, names = run.meta["model"], run.units.stored(removed)
    whole, place = [name for name in names if isinstance(name, int)], place_of(model["source"])
    found, is_gguf = offers_of(run, removed), gguf_at(place) is not None
    done = {offer.form: made for offer in found if (made := _done(run, removed, offer))}
    if is_gguf and len(whole) == len(names):  # what stays as it is comes first
        found.sort(key=lambda offer: offer.form != GGUF)
    show_saving(run, removed, found[0].form)
    _config(run, removed, found[0].form, done.get(found[0].form))
    cards = {
        offer.name.title: partial(export_card, run, removed, offer, offer is found[0]) for offer in found
    }
    if len(whole) == len(names) and not is_gguf:
        blocks = len((run.whole or run).units)
        cards["mergekit recipe"] = partial(recipe_card, model, place, blocks, whole)
    more = _commands(model, place, whole if len(whole) == len(names) else [], done)
    if more:
        cards["Run it elsewhere"] = partial(commands_card, more)
    _shown({**cards, **_hub({offer.name.title: done[offer.form] for offer in found if offer.form in done})})


def _hub(written: Mapping[str, dict]) -> dict[str, Callable[[], None]]:
    """A card for each form that is written, {its title: what was made}."""
    title = lambda form: "Hub" if len(written) == 1 else f"Hub: {form}"  # noqa: E731
    return {title(form): partial(hub_card, Path(made["out"])) for form, made in written.items()}


def _commands(model: dict, place: Path, whole: list[int], done: Mapping[str, dict]) -> dict[str, Command]:
    """{what for: command} of what is written, and of what others do with the original's file."""
    found: dict[str, Command] = {}
    if NATIVE in done:
        out = Path(done[NATIVE]["out"])
        found["vLLM"] = vllm_command(out)
        if model["type"] != "llama":
            found["to GGUF, by llama.cpp's own converter"] = converter_command(out, model["type"])
    if GGUF in done:
        file = Path(done[GGUF]["out"]) / "model.gguf"
        found |= run_commands(file)
        copied = gguf_at(place) is not None and model["bytes"] < 2 * model["parameters"]
        if not copied:  # llama-quantize refuses what is rounded already
            found["smaller, by llama.cpp"] = quantize_command(file)
    if whole and (source := gguf_at(place)):
        out = Path(f"{source.stem}-pruned.gguf")  # where the command is run: its folder is not ours
        found["the blocks out, by llama.cpp"] = prune_layers_command(source, whole, out)
    return found


def _healed(job: jobs.Job, run: Run) -> None:
    """A healed checkpoint, which is there already."""
    done, form = job.result or {}, (job.result or {}).get("form", NATIVE)
    title, gguf = forms_of(done["removed"])[form].title, forms_of(())[GGUF].title
    cards, written = {title: partial(show_written, done)}, {form: done}
    if form == NATIVE and run.meta["model"]["type"] == "llama":
        request = _as_gguf(done)
        cards[gguf] = partial(write_card, request, f"gguf-{job.id}", takes(done["bytes"][1]))
        made = jobs.find("prune", request)
        if made and made.status == "done":
            written[GGUF] = made.result or {}
    if more := _commands(run.meta["model"], Path(done["out"]), [], written):
        cards["Run it elsewhere"] = partial(commands_card, more)
    _shown({**cards, **_hub({gguf if form == GGUF else title: made for form, made in written.items()})})


def _as_gguf(done: dict) -> dict:
    """A request: what was healed, in the form that llama.cpp reads."""
    return jobs.request_of(
        done["out"], blocks=[], out=f"{done['out']}-gguf", zip=True, provenance={}, written=GGUF
    )


def _shown(cards: Mapping[str, Callable[[], None]]) -> None:
    """Cards by their titles, in rows of two where there is room: in this order where there is none."""
    shown = list(cards.items())
    for first in range(0, len(shown), 2):
        for place, (title, draw) in zip(st.columns(2), shown[first : first + 2]):
            with place.container(border=True):
                st.markdown(f"**{title}**")
                draw()


def _done(run: Run, removed: tuple[int, ...], offer: Offer) -> dict | None:
    """What a finished export in a form made."""
    job = jobs.find("prune", export_request(run, removed, offer.form))
    return job.result if job and job.status == "done" else None


def _config(run: Run, removed: tuple[int, ...], form: str, done: dict | None) -> None:
    """What changes in the config: as found where it is written (done), else as its own entries foretell."""
    if done:
        changes = done.get("config", [])
    else:
        changes = _foretold(run, removed, form)
    if changes:
        with st.expander(f"What {'changed' if done else 'will change'} in the config", expanded=True):
            st.html(changes_table(changes))


def _foretold(run: Run, removed: tuple[int, ...], form: str) -> list:
    """What the original's own entries say of whole blocks: its raw config, or a GGUF file that stays one."""
    place, names = place_of(run.meta["model"]["source"]), run.units.stored(removed)
    whole = tuple(name for name in names if isinstance(name, int))
    try:
        if form == NATIVE:
            config = json.loads((place / "config.json").read_text(encoding="utf-8"))
            return foretold(config, whole, len((run.whole or run).units))
        if form == GGUF and len(whole) == len(names) and (source := gguf_at(place)):
            return _entries(source, source.stat().st_mtime_ns, whole)
    except (OSError, ValueError):  # of the hub, or what cannot be said: the export tells why
        pass
    return []


@st.cache_data(max_entries=64, show_spinner=False)
def _entries(place: Path, changed: int, blocks: tuple[int, ...]) -> list:
    """What the header of a GGUF file says otherwise without blocks; changed: when it was written last."""
    return [(name, *change) for name, change in plan_gguf(place, blocks).changes.items()]


page()
