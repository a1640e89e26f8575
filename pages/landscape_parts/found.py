"""The minima that the Landscape page is about, found once for all its sections."""

from dataclasses import dataclass

import streamlit as st

from core.energy.sources import Source
from core.shape import BarrierTree, barrier_tree, lowest_minima
from core.shape.bootstrap import RESAMPLES, Stability, stability
from core.shape.valleys import Minima
from core.spectrum.constraints import Constraints, Rules, make_rules
from core.spectrum.lowest import Spectrum
from pages.shared.view import AS_WRITTEN, source_of

WAIT, LISTED = 5.0, 5000  # seconds that a list may take; states that it holds at most
CONFIG = {"displaylogo": False, "toImageButtonOptions": {"format": "svg"}}  # of charts
# what `shown` is asked: source, estimator, mix, M, constraints, moves, minima
Named = tuple[str, str, dict | None, int | None, Constraints, str, int]


@dataclass(frozen=True)
class Shown:
    """What every section reads."""

    source: Source
    estimator: str
    mix: dict | None
    removed: int | None
    constraints: Constraints
    moves: str
    minima: Minima
    tree: BarrierTree

    @property
    def spectrum(self) -> Spectrum:
        """The listed states."""
        return self.minima.valleys.spectrum

    @property
    def H(self):
        """float64 [N, N]"""
        return self.source.couplings(self.estimator, self.mix)

    @property
    def rules(self) -> Rules:
        """Those that the states keep."""
        return make_rules(self.constraints, self.source.blocks, self.removed)

    @property
    def named(self) -> Named:
        """What names it in a cache."""
        view = self.source.key, self.estimator, self.mix, self.removed
        return (*view, self.constraints, self.moves, self.minima.asked)


@st.cache_resource(max_entries=12, show_spinner="Finding minima", hash_funcs=AS_WRITTEN)
def shown(
    key: str,
    estimator: str,
    mix: dict | None,
    removed: int | None,
    constraints: Constraints,
    moves: str,
    count: int,
) -> Shown:
    """The lowest `count` minima of a view and their tree. Errors: InputError."""
    source = source_of(key)
    H = source.couplings(estimator, mix)
    found = lowest_minima(
        H,
        removed,
        count,
        constraints=constraints,
        moves=moves,
        units=source.units,
        most=LISTED,
        time_limit=WAIT,
    )
    return Shown(source, estimator, mix, removed, constraints, moves, found, barrier_tree(found.valleys))


@st.cache_resource(max_entries=6, show_spinner="Drawing the sample again", hash_funcs=AS_WRITTEN)
def resampled(view: Named) -> Stability:
    """How sure the minima and barriers of a run are."""
    found = shown(*view)
    run = found.source.run
    assert run is not None  # a bare matrix has no sample: the page does not ask
    return stability(found.tree, run, found.estimator, found.mix, found.rules, resamples=RESAMPLES)
