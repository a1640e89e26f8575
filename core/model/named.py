"""States by the names of what they remove, as people and requests write them, of a loaded model."""

from collections.abc import Iterable

from core.ising.states import check_blocks
from core.ising.units import BLOCK, BRANCH, Name, State, name_text
from core.model.load import LoadedModel


def seen_for(loaded: LoadedModel, states: Iterable[Iterable[Name]]) -> LoadedModel:
    """The model by branch where a state names one, else by block; states: by names, as core.ising.units lists
    them.
    """
    return loaded.seen(BRANCH if any(isinstance(name, str) for state in states for name in state) else BLOCK)


def state_of(listed: Iterable[Name], loaded: LoadedModel) -> State:
    """A state that is listed by names, of the model as it is seen.

    Errors: InputError for one that the model does not have: nothing is measured under its name.
    """
    names = list(listed)
    if loaded.by == BLOCK:
        return check_blocks(names, len(loaded.units))  # type: ignore[arg-type]  # numbers all
    return check_blocks(loaded.units.parse(name_text(names)), len(loaded.units)) if names else ()
