"""Which weights of a pruned model a method trains, and how they are kept."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn

from core.errors import InputError, first_line
from core.heal.needs import seams
from core.heal.settings import KL, LORA, Settings
from core.model.load import LoadedModel


def made_ready(student: LoadedModel, removed: Sequence[int], blocks: int, settings: Settings) -> nn.Module:
    """The pruned model with the weights that the method trains made trainable, and no others; with LoRA
    peft's model around it. What is trained is float32, wherever it lies, and but for LoRA all of the model:
    blocks of two types do not go together.

    removed, blocks: as `seams`. Errors: InputError where there is nothing that the method could train.
    """
    if settings.method == LORA:
        return _with_lora(student, settings)
    model = student.model.float()
    if settings.method == KL:
        return model.requires_grad_(True)
    for number in seams(removed, blocks):
        student.modules[number].requires_grad_(True)
    return model


def _with_lora(student: LoadedModel, settings: Settings) -> PeftModel:
    config = LoraConfig(
        r=settings.rank, lora_alpha=2 * settings.rank, lora_dropout=0.0, target_modules="all-linear"
    )
    torch.manual_seed(settings.seed)  # of the matrices' start
    try:
        return get_peft_model(student.model, config)
    except Exception as error:  # of many kinds: no linear layers that peft knows
        raise InputError(
            f"LoRA does not fit {student.source!r} ({first_line(error, 120)}); choose the method 'seams' or "
            "'kl'."
        ) from error


def merged(model: nn.Module) -> None:
    """What LoRA has learned merged into the model that it lies around; any other method's is there already.
    Everything is frozen again.
    """
    if isinstance(model, PeftModel):
        model = model.merge_and_unload()
    model.requires_grad_(False)


def trained(model: nn.Module) -> dict[str, torch.Tensor]:
    """{name: values} of what is trained, each once."""
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def keep(model: nn.Module, path: Path) -> None:
    """What is trained, in a safetensors file: whole or absent."""
    staging = path.with_name(f".{path.name}")
    save_file({name: p.cpu().contiguous() for name, p in trained(model).items()}, staging)
    staging.replace(path)


@torch.no_grad()
def take(model: nn.Module, kept: Path | Mapping[str, torch.Tensor]) -> None:
    """Values that `keep` has kept, into the model. Errors: KeyError for those of another."""
    values = load_file(kept) if isinstance(kept, Path) else kept
    for name, p in trained(model).items():
        p.copy_(values[name])
