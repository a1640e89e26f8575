"""Take home: a state as a checkpoint, as the file that people run, on the hub; proved, or said not to be."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import streamlit as st

from core import jobs
from core.export.config_changes import foretold
from core.export.form_names import NATIVE, WHOLE
from core.export.offers import Offer
from core.store.named_models import place_of
from core.store.runs import Run
from pages.shared.exports import (
    changes_table,
    export_card,
    export_request,
    offers_of,
    show_saving,
    show_written,
)
from pages.shared.link import opened_source
from pages.shared.parts import lacks_weights
from pages.take_home_parts.asked import asked
from pages.take_home_parts.cards import hub_card


def page() -> None:
    """The whole page."""
    st.title("Take home")
    st.caption(
        "A state as a checkpoint, or as the file that people run. Each is proved before it is called ready; "
        "what was not run here says so."
    )
    source = opened_source()
    if source is None:
        return
    if source.run is None:
        st.info("A bare matrix has no model to take home; choose a run in Explore.")
        return
    if lacks_weights(source.run):
        return
    chosen = asked(source.run)
    if isinstance(chosen, jobs.Job):
        _healed(chosen.result or {})
    elif chosen is not None:
        _state(*chosen)


def _state(run: Run, removed: tuple[int, ...]) -> None:
    found = offers_of(run, removed)
    show_saving(run, removed, found[0].form)
    _config(run, removed, found[0])
    done = _done(run, removed, found[0])
    _shown(
        {offer.name.title: partial(export_card, run, removed, offer) for offer in found}
        | ({"Hub": partial(hub_card, Path(done["out"]))} if done else {})
    )


def _healed(done: dict) -> None:
    """A healed checkpoint, which is there already."""
    _shown({WHOLE[NATIVE].title: partial(show_written, done), "Hub": partial(hub_card, Path(done["out"]))})


def _shown(cards: Mapping[str, Callable[[], None]]) -> None:
    """Cards by their titles, two beside each other where there is room."""
    own = list(cards.items())
    for start in range(0, len(own), 2):
        for place, (title, draw) in zip(st.columns(2), own[start : start + 2]):
            with place.container(border=True):
                st.markdown(f"**{title}**")
                draw()


def _done(run: Run, removed: tuple[int, ...], offer: Offer) -> dict | None:
    """What a finished export in a form made."""
    job = jobs.find("prune", export_request(run, removed, offer.form))
    return job.result if job and job.status == "done" else None


def _config(run: Run, removed: tuple[int, ...], offer: Offer) -> None:
    """What changes in the config: as found where it is written, else as its own entries foretell."""
    done = _done(run, removed, offer)
    if done:
        changes = done.get("config", [])
    else:
        changes = _foretold(run, removed) if offer.form == NATIVE else []
    if changes:
        with st.expander(f"What {'changed' if done else 'will change'} in the config", expanded=True):
            st.html(changes_table(changes))


def _foretold(run: Run, removed: tuple[int, ...]) -> list:
    try:
        file = place_of(run.meta["model"]["source"]) / "config.json"
        config = json.loads(file.read_text(encoding="utf-8"))
        names = [name for name in run.units.stored(removed) if isinstance(name, int)]
        return foretold(
            config, names, len(run.meta["model"]["blocks"] if run.whole is None else run.whole.units)
        )
    except (OSError, ValueError):  # a GGUF file, or a model of the hub
        return []


page()
