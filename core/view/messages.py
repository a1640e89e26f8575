"""What the page sends to the lens and what the lens sends back; assets/lens/messages.js says the same to the
script.

Arrays travel as base64 of little-endian bytes. A state is the sorted list of the units that it removes, whole
blocks or their branches by number; energies are those of the couplings, unscaled.
"""

from typing import Literal, NotRequired, TypedDict


class TreeData(TypedDict):
    """The barrier tree: minima are told by their position among them, states by their rank."""

    valley: str  # int32 [count]: the minimum that each state drains into; -1: out of the list
    survivor: str  # uint16 [merges], lowest barrier first: the lowest minimum of the part that goes on
    dying: str  # uint16 [merges]: that of the other
    saddle: str  # uint16 [merges]: the state in which they meet; its energy is the barrier
    orders: list[str]  # uint16 [n] each: the n most persistent minima from left to right; the last: all
    whole: bool  # every state is listed; else minima may be not connected below the last one


class TemperatureData(TypedDict):
    """How likely each unit is removed at one temperature."""

    temperature: float  # energy
    gaps: float  # the same in gaps
    noise: bool  # it is the standard error of the ground state's energy
    how: str  # exact, bounded or unknown
    error: float  # a probability is off by at most so much
    removed: str  # float64 [blocks]; empty where unknown


class LandscapeData(TypedDict):
    """One solved landscape: it depends on run, M, estimator, mix, count and rules only."""

    blocks: int  # N, how many units a state is made of
    names: list[str]  # of each unit: "12", "12a"
    block: list[int]  # of each unit
    word: str  # what people call a unit: "block", "unit"
    removed: int | None  # M; None: the rules say how much goes
    count: int
    sizes: str  # uint16 [count]: units that each state removes
    states: str  # uint16 [sum of sizes], one state after the other
    energy: str  # float64 [count]
    own: str  # float64 [count]: sum of H_ii over the removed units
    changed: str  # uint16 [count]: units changed against the ground state
    pearson: str  # float64 [count]: to the ground state
    minimum: str  # uint8 [count]: 1 where no swap lowers the energy
    hash: list[str]
    ranks: list[list[int]]  # [low, high], 95 %, of the lowest; [] without rows
    matrix: str  # float64 [blocks, blocks]
    edges: list[list[float]]  # [i, j, H_ij], strongest first
    frequency: str  # float64 [blocks]: share of the listed states that remove a unit
    exponent: int  # of the power of ten that energies are shown in
    tolerance: float
    exact: bool
    tree: TreeData
    temperatures: list[TemperatureData]  # ascending; [] where all listed states are on one level
    title: str
    unit: str
    kinds: list[str]  # of each unit, as the next two; [] without a model
    parameters: list[int]
    kv: list[int]  # bytes a token
    total_parameters: int
    warnings: dict[str, str]  # unit -> what to know before it is removed
    keep: NotRequired[list[int]]  # the rules, the source's key and the landscape's: added by the page
    remove: NotRequired[list[int]]
    source: NotRequired[str]
    version: NotRequired[str]


class PickData(TypedDict):
    """A state of the tray, of this M or another."""

    removed: list[int]
    hash: str
    rank: int | None
    energy: float
    delta: float | None  # above the ground state; None for another M than was asked for
    pearson: float | None
    diversity: float | None
    reason: str | None


class MarkData(TypedDict):
    """A state marked on the axes."""

    removed: list[int]
    label: str
    rank: int | None
    delta: float | None
    energy: float
    reason: str
    hash: str
    own: bool  # marked by hand or from a list: it can be taken away


class Snippets(TypedDict):
    """The view as code and as a command line."""

    python: str
    cli: str


class FileData(TypedDict):
    """What the browser saves."""

    kind: str
    text: str


class LensData(TypedDict):
    """All that the component draws."""

    measured: dict[str, list]  # units joined by "-" -> [loss increase, standard error, items, KL if known]
    landscape: LandscapeData
    tray: list[PickData]
    marks: list[MarkData]
    cursor: list[int]
    seq: int  # of the last message that the page has heard
    moves: int  # how often the page itself moved the view, by a link or Back: what was said before is void
    panel: str | None  # one panel alone, by link
    look: str
    snippets: Snippets
    files: list[FileData]  # that are saved once, with the message that asked for them


Ask = Literal[
    "add",
    "drop",
    "keep",
    "remove",
    "free",
    "prune",
    "open",
    "mark",
    "unmark",
    "panel",
    "compare",
    "pick",
    "basins",
    "file",
]


class Asked(TypedDict):
    """One thing that is asked for."""

    ask: Ask
    state: NotRequired[list[int]]  # to add to the tray, to drop from it, to prune, open, mark, unmark
    unit: NotRequired[int]  # that always stays (keep), always goes (remove) or is free
    panel: NotRequired[str | None]  # to show alone
    kind: NotRequired[str]  # of the file: csv, json, html


class Commit(TypedDict):
    """What the component sends: where it is, and what is asked for, in order.

    Streamlit may lose a message, so each is said until it is heard: seq grows from one to the next, and one
    that is said again has that of before.
    """

    seq: int
    cursor: list[int] | None  # None where nothing was selected since the page last said what is
    look: str
    source: str  # key of the source that was shown
    asks: list[Asked]
