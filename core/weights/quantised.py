"""Quantised checkpoints: which are read, and why every other is refused.

What is read becomes plain bf16 matrices as it is loaded: gradients flow through those, and no kernel is
fetched. They are the model that an export writes. Activations are not rounded, as native fp8 kernels would
do.
"""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field

from core.errors import InputError


@dataclass(frozen=True)
class Method:
    """What happens to weights of one quant_method."""

    config: str = ""  # class of transformers that reads them; "": they are refused
    package: str = ""  # that reading them takes
    # values that a number of a header's type holds, where not 1
    packed: Mapping[str, int] = field(default_factory=dict)
    later: bool = False  # they become plain matrices once all is read, not one by one as it is
    why: str = ""  # they are refused


_UNCHECKED = "reading them takes the package {package}, with which gradients have not been checked"


def _refused(package: str) -> Method:
    return Method(why=_UNCHECKED.format(package=package))


METHODS = {
    "fp8": Method("FineGrainedFP8Config"),
    "mxfp4": Method("Mxfp4Config", packed={"U8": 2}),
    "compressed-tensors": Method("CompressedTensorsConfig", "compressed_tensors", {"I32": 8, "U8": 2}),
    "bitsandbytes": Method("BitsAndBytesConfig", "bitsandbytes", {"U8": 2}, later=True),
    "gptq": _refused("gptqmodel"),
    "awq": _refused("gptqmodel"),
    "auto-round": _refused("auto-round"),
    "aqlm": _refused("aqlm"),
    "hqq": _refused("hqq"),
    "quanto": _refused("optimum-quanto"),
    "torchao": _refused("torchao"),
    "quark": _refused("amd-quark"),
    "vptq": _refused("vptq"),
    "spqr": _refused("spqr_quant"),
    "eetq": _refused("kernels"),
    "fbgemm_fp8": _refused("fbgemm-gpu"),
    "bitnet": Method(why="its activations are rounded too, and a rounded step has no derivative"),
}
_UNKNOWN = Method(why="no way is known here to turn them into plain matrices")


def method_name(settings) -> str:
    """quant_method of a raw quantization_config; bitsandbytes once went without."""
    settings = settings if isinstance(settings, dict) else {}
    old = (
        "bitsandbytes"
        if settings.get("load_in_4bit") or settings.get("load_in_8bit")
        else "of no named method"
    )
    return str(settings.get("quant_method") or old)[:40]


def check_method(settings, where: str, source: str) -> None:
    """Errors: InputError where weights quantised by these settings, found at `where`, cannot be read here."""
    name = method_name(settings)
    method = METHODS.get(name, _UNKNOWN)
    why, remedy = method.why, "take the unquantised model"
    if method.config and method.package and importlib.util.find_spec(method.package) is None:
        why, remedy = (
            f"reading them takes the package {method.package}, which is not installed",
            "install it, or take the unquantised model",
        )
    if why:
        raise InputError(
            f"{source!r} has quantised weights ({where}: {name}), which this version does not support: "
            f"{why}; {remedy}."
        )


def quantisation(config: dict) -> Method | None:
    """The method of a raw config; None where its weights are not quantised. Which are read, `check_method`
    says.
    """
    settings = config.get("quantization_config")
    return METHODS.get(method_name(settings), _UNKNOWN) if settings else None
