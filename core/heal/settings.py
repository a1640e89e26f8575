"""What is asked of a healing, as the app and the command line know it. Loads no torch."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace

from core.errors import InputError

LONGEST = 10_000.0  # minutes, a week: who writes more has mistaken the unit
MINUTES = 5.0  # of a training that names no budget
KL, LORA, SEAMS, LINEAR, MERGE = "kl", "lora", "seams", "linear", "merge"


@dataclass(frozen=True)
class Method:
    """A way to heal, in words, and the rate that it learns with unless another is asked for."""

    title: str
    about: str
    rate: float | None  # of AdamW, at its highest; None: nothing is trained


# rates: the best of those tried on the demo (docs/healing.md); SmolLM2, a hundred times as large, learns
# little at that of `kl` and well at a third of it, and well at that of `lora`
LARGE, SLOWER = 10_000_000, {KL: 0.3}
METHODS: Mapping[str, Method] = {
    KL: Method("distillation, all weights", "Every weight learns from the original's predictions.", 1e-3),
    LORA: Method(
        "distillation, LoRA",
        "Small matrices beside the linear layers learn, and are merged into them at the end.",
        3e-3,
    ),
    SEAMS: Method(
        "distillation, beside the cuts",
        "Only the blocks next to what was removed learn: nothing below the lowest of them needs a backward.",
        3e-3,
    ),
    LINEAR: Method(
        "linear map",
        "What removed blocks did becomes a least-squares map, folded into the block before "
        "(ReplaceMe, arXiv 2505.02819). No training.",
        None,
    ),
    MERGE: Method(
        "merged weights",
        "What removed blocks' weights differ in is added to the block before (LaCo, arXiv 2402.11187). "
        "No training.",
        None,
    ),
}
TRAINED = tuple(name for name, method in METHODS.items() if method.rate is not None)
REPLACED = tuple(name for name, method in METHODS.items() if method.rate is None)


@dataclass(frozen=True)
class Settings:
    """One healing: a method and its budget, in minutes or in tokens; what is None is the method's default."""

    method: str = KL
    replace: str | None = None  # LINEAR or MERGE, in place of plain removal before a training
    minutes: float | None = None
    tokens: int | None = None
    rate: float | None = None
    batch: int = 8  # sequences a step
    accumulate: int = 1  # such batches before the weights move
    seed: int = 0
    temperature: float = 1.0  # of both distributions in the KL
    next_token: float = 0.0  # weight of the next-token loss beside the KL
    hidden: float = 0.0  # weight of the relative squared distance of the last hidden states
    rank: int = 16  # of LoRA
    evaluations: int = 10  # of the held-out sequences, and checkpoints, over the whole budget
    patience: int = 5  # evaluations without a better one that end it

    def __post_init__(self):
        """Errors: InputError, one sentence for the first that cannot be."""
        if self.method not in METHODS:
            raise InputError(f"There is no method {self.method[:40]!r}; choose one of {', '.join(METHODS)}.")
        if self.replace not in (None, *REPLACED):
            raise InputError(
                f"{self.replace[:40]!r} replaces no blocks; choose {' or '.join(REPLACED)}, or leave it out."
            )
        if not self.trains:
            if self.replace:
                raise InputError(
                    f"The method {self.method!r} trains nothing that {self.replace!r} could come before; "
                    f"choose one of {', '.join(TRAINED)}."
                )
            return
        if (self.minutes is None) == (self.tokens is None):
            raise InputError("Training takes one budget, minutes or tokens; give one of the two.")
        self._check_numbers()

    def _check_numbers(self) -> None:
        least = {"batch": 1, "accumulate": 1, "rank": 1, "evaluations": 1, "patience": 1, "seed": 0}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise InputError(f"{name} must be at least {low}, not {getattr(self, name)}; raise it.")
        for name in ("minutes", "tokens", "rate", "temperature"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"{name} must be a number above 0, not {value}; give another.")
        if self.minutes is not None and self.minutes > LONGEST:
            raise InputError(
                f"minutes must be at most {LONGEST:,.0f}, a week, not {self.minutes:g}; give fewer."
            )
        for name in ("next_token", "hidden"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"The weight {name} must be 0 or more, not {getattr(self, name)}.")

    @property
    def trains(self) -> bool:
        """Whether anything is trained."""
        return self.method in TRAINED

    @property
    def replacement(self) -> str | None:
        """What takes the removed blocks' place before any training: LINEAR, MERGE, or None."""
        return self.replace if self.trains else self.method

    def for_size(self, parameters: int) -> "Settings":
        """The same with its rate named, where none is asked for: of a model of LARGE parameters or more a
        method may have another.
        """
        if not self.trains or self.rate:
            return self
        slower = SLOWER.get(self.method, 1.0) if parameters >= LARGE else 1.0
        return replace(self, rate=self.peak_rate * slower)

    @property
    def peak_rate(self) -> float:
        """The learning rate at its highest."""
        return self.rate or METHODS[self.method].rate or 0.0

    def to_json(self) -> dict:
        """The fields that are not as usual, and the method."""
        usual = {field.name: field.default for field in fields(self)}
        own = asdict(self)
        return {"method": self.method, **{k: v for k, v in own.items() if v != usual[k]}}
