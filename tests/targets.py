"""What is written of a tiny model of any type: by way of memory, shard by shard, and in the portable form."""

import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file

from core.errors import InputError, first_line
from core.export.by_shard import plan_of, write_plan
from core.export.shard_proof import prove_by_shard
from core.export.verify import compare, made_up_ids
from core.export.writers import FORMS
from core.forms.names import NATIVE, PORTABLE
from core.model import partial
from core.model.gates import gated, removal
from core.model.load import LoadedModel, load_model
from core.model.skeleton import open_skeleton
from core.model.surgery import is_native
from tests import zoo

# of four blocks: the first that a type can be without, in its own words or in ours
STATES = ((1, 2), (0, 1), (0, 3), (1, 3), (2, 3), (3,), (1,))
SHARD = "40KB"
TOKENS = 6


def targets(model_type: str) -> dict[str, str]:
    """{target: why it is not proved, empty where it is}: memory, shards, portable."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        try:
            zoo.tiny_model(model_type).save_pretrained(folder / "whole", max_shard_size=SHARD)
            load_model(str(folder / "whole"), tokenizer=False)
        except Exception as error:  # of many kinds, whatever a type does
            return dict.fromkeys(("memory", "shards", "portable"), _words(error))
        return {
            "memory": _tried(_in_memory, folder),
            "shards": _tried(_by_shard, folder),
            "portable": _tried(_portable, folder),
        }


def _tried(proof: Callable[[Path], str | None], folder: Path) -> str:
    try:
        return proof(folder) or ""
    except Exception as error:
        return _words(error)


def _words(error: Exception) -> str:
    """The reason in what an error says: no folder that is gone, no remedy, no list of tensors."""
    text = re.sub(r"'/[^']*'", "it", first_line(error, 400)).partition(";")[0]
    text = re.sub(r"^it without .* can be: ", "", text)
    return text if len(text) < 200 else f"{text[:197]}..."


def _opened(folder: Path) -> LoadedModel:
    return load_model(str(folder / "whole"), tokenizer=False)


def _state(loaded: LoadedModel) -> tuple[int, ...]:
    """The first state that the type's own config can say."""
    return next((s for s in STATES if is_native(loaded, s)), STATES[0])


@torch.no_grad()
def _gated(loaded: LoadedModel, state: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    ids = made_up_ids(loaded.config.vocab_size, loaded.max_length)
    with gated(loaded, removal(loaded, state)):
        return ids, loaded.model(input_ids=ids, use_cache=False).logits


def _in_memory(folder: Path) -> str | None:
    loaded = _opened(folder)
    state = _state(loaded)
    ids, expected = _gated(loaded, state)
    FORMS[NATIVE].check(loaded, state)
    FORMS[NATIVE].write(loaded, state, folder / "memory")
    return _loaded_again(folder / "memory", ids, expected)


def _by_shard(folder: Path) -> str | None:
    loaded = _opened(folder)
    state = _state(loaded)
    write_plan(plan_of(open_skeleton(str(folder / "whole")), state), folder / "shards", _nobody)
    found = prove_by_shard(str(folder / "whole"), folder / "shards", state)
    problem = found["problem"] or differs(folder / "memory", folder / "shards")
    return problem or _loaded_again(folder / "shards", *_gated(loaded, state))  # more tokens, as in memory


def _loaded_again(folder: Path, ids: torch.Tensor, expected: torch.Tensor) -> str | None:
    return compare(load_model(str(folder), tokenizer=False).model, ids, expected, TOKENS)["problem"]


def _portable(folder: Path) -> str | None:
    wrong: str | None = None
    for state in STATES:  # some blocks hand on more than hidden states
        loaded = _opened(folder)
        ids, expected = _gated(loaded, state)
        out = folder / f"portable{state[0]}{state[-1]}"
        try:
            FORMS[PORTABLE].write(loaded, state, out)
        except InputError as error:
            wrong = wrong or _words(error)
            continue
        plan = plan_of(open_skeleton(str(folder / "whole")), state, PORTABLE)
        write_plan(plan, by_files := out.with_suffix(".files"), _nobody)
        return compare(partial.load(out).eval(), ids, expected, TOKENS)["problem"] or differs(out, by_files)
    return wrong


def _nobody(done: int, total: int, message: str) -> None:
    """Nobody is told."""


def tensors_in(folder: Path) -> dict[str, torch.Tensor]:
    """Everything in the weight files of a folder."""
    return {name: t for file in sorted(folder.glob("*.safetensors")) for name, t in load_file(file).items()}


def differs(one: Path, other: Path) -> str | None:
    """What is not the same in two checkpoints: a tensor, bit for bit, or an entry of the config."""
    a, b = tensors_in(one), tensors_in(other)
    if odd := sorted({*a} ^ {*b}):
        return f"{odd[0]} is in one alone"
    if odd := sorted(n for n in a if a[n].dtype != b[n].dtype or not torch.equal(a[n], b[n])):
        return f"{odd[0]} is another"
    configs = [json.loads((folder / "config.json").read_text()) for folder in (one, other)]
    odd = sorted(k for k in {*configs[0], *configs[1]} if configs[0].get(k) != configs[1].get(k))
    return f"the config's {odd[0]} is another" if odd else None
