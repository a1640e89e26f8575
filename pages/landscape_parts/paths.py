"""The easiest way from one state to another, and whether its barrier is there in the loss as well."""

import numpy as np
import streamlit as st

from core import jobs
from core.errors import InputError
from core.landscape.wording import exponent, with_power
from core.shape.paths import Path, path
from core.store import folders
from core.store.named_models import missing
from core.store.results import Results
from core.view.shape_figures import path_figure
from pages.landscape_parts.found import CONFIG, Shown
from pages.shared.evidence import follow, measured_so_far, measuring, start_measuring, time_of
from pages.shared.parts import chart
from pages.shared.view import plain

ENDS = 30  # minima that are offered
state = st.session_state


def show(found: Shown) -> None:
    """Two states, the path between them, the measurement along it."""
    ends = _ends(found)
    if len(ends) < 2:
        st.caption(
            "There is one state to choose from; add another to the tray in Explore, or ask for more minima."
        )
        return
    left, right = st.columns(2)
    names = list(ends)
    start = left.selectbox("From", names, index=0, key="shape_from")
    others = [name for name in names if name != start]
    end = right.selectbox("To", others, index=0, key="shape_to")
    try:
        way = path(found.H, found.minima.valleys, ends[start], ends[end], found.rules)
    except InputError as error:
        st.warning(plain(str(error)))
        return
    power = exponent(found.spectrum.energies)
    above = way.barrier - float(way.energies[0])
    least = "" if way.exact else f", and not below {with_power(way.at_least - float(way.energies[0]), power)}"
    st.markdown(
        plain(
            f"{len(way.removed) - 1} moves; the highest state is step {way.top}, {with_power(above, power)} "
            "above "
            f"the start ({way.why}{least})."
        )
    )
    losses = _losses(found, way)
    chart(st, path_figure(way, found.source.units, losses), key="shape_path", config=CONFIG)
    _said_of_losses(losses)
    _measure(found, way, losses)


def _ends(found: Shown) -> dict[str, tuple[int, ...]]:
    """{what a person calls it: state}: the selection, the tray, the lowest minima."""
    v, units = found.minima.valleys, found.source.units
    ends = {f"#{int(k)}: {units.said(s)}": s for s, k in list(zip(v.removed, v.minimum))[:ENDS]}
    known = set(ends.values())
    fits = lambda s: s not in known and bool(found.rules.allows(_row(s, found.source.blocks))[0])  # noqa: E731
    picked = {f"in the tray: {units.said(s)}": s for s in state.tray if fits(s)}
    if state.cursor and fits(state.cursor) and state.cursor not in picked.values():
        picked[f"selected in Explore: {units.said(state.cursor)}"] = state.cursor
    return {**ends, **picked}


def _row(removed: tuple[int, ...], n: int) -> np.ndarray:
    return np.isin(np.arange(n), removed)[None]


Losses = list[tuple[float, float] | None]  # of each step, nats and their standard error


def _losses(found: Shown, way: Path) -> Losses | None:
    """Measured increases along the path; None where nothing can be measured."""
    if found.source.run is None:
        return None
    known = measured_so_far(found.source.key, str(folders.home()), Results().stamp)
    return [known[s][:2] if s in known else None for s in way.removed]


def _said_of_losses(losses: Losses | None) -> None:
    steps = [one for one in losses or () if one is not None]
    if not losses or len(steps) < len(losses):
        return
    values, errors = np.array(steps).T
    top = int(values.argmax())
    end = 0 if values[0] >= values[-1] else -1
    over, error = values[top] - values[end], float(np.hypot(errors[top], errors[end]))
    if over > 2 * error:
        st.caption(
            f"In the measured loss the path rises {over:.3f} ± {error:.3f} nats above its worse end, at step "
            f"{top} (estimated from a sample of texts): the barrier is there as well."
        )
    elif over > 0:
        st.caption(
            f"In the measured loss step {top} is {over:.3f} ± {error:.3f} nats above the worse end "
            "(estimated): that cannot be told from no barrier."
        )
    else:
        st.caption(
            "In the measured loss no state of the path is worse than its ends (estimated): no barrier there."
        )


def _measure(found: Shown, way: Path, losses: Losses | None) -> None:
    if losses is None:
        st.caption("A bare matrix has no model, so no loss can be measured along the path.")
        return
    run = found.source.run
    if missing(run.meta["model"]["source"]) is not None:
        st.caption("The weights of the model are not here, so the loss along the path cannot be measured.")
        return
    request = measuring(run, [(), *way.removed])
    job = jobs.find("benchmark", request)
    if any(v is None for v in losses) and (job is None or not job.active):
        st.button(
            f"Measure the loss along the path ({time_of(run, request)})",
            on_click=start_measuring,
            args=(request,),
        )
    follow(request)
