"""The model card of a checkpoint without attention or FFN here and there: what it lacks, how it loads."""

import shlex
from collections.abc import Sequence

from core.export.form_names import GGUF, NAS, PARTIAL, PORTABLE, SHAPES
from core.ising.units import Name, written

_TRANSFORMERS = """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("FOLDER", trust_remote_code=True)
tokenizer = AutoTokenizer.from_pretrained("FOLDER")
```

The code that this trusts is `modeling_partial.py` of the folder, a page of Python that needs torch and
transformers. Who would rather not has the same from

```python
import sys

sys.path.append("FOLDER")
from modeling_partial import load

model = load("FOLDER")
```"""
_LOADS = {
    PORTABLE: _TRANSFORMERS,
    SHAPES: """```python
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("FOLDER")
```

It is as large and as slow as the original, and keeps as much of a context: the last weights of what is
removed are zeros, and nothing is left out.""",
    GGUF: """```sh
llama-cli -m FOLDER/model.gguf -p "Once upon a time"
```

The architecture is llama.cpp's `deci`, which may lack attention or FFN in any block. Where an attention stays
alone, llama.cpp would drop it with the missing FFN; there the file has a tiny FFN of zeros.""",
    NAS: _TRANSFORMERS
    + """

`config.nemotron-nas.json` is the config of the same tensors for vLLM and TensorRT-LLM (`block_configs` with
`no_op`). **It was not run with either.**""",
}


def snippet(form: str, folder: str) -> tuple[str, str]:
    """(a few lines that load what was written, their language)."""
    if form == GGUF:
        return f"llama-cli -m {shlex.quote(folder + '/model.gguf')} -p 'Once upon a time'", "bash"
    trusted = ", trust_remote_code=True" if form in (PORTABLE, NAS) else ""
    return (
        f"from transformers import AutoModelForCausalLM, AutoTokenizer\n\nfolder = {folder!r}\n"
        f"model = AutoModelForCausalLM.from_pretrained(folder{trusted})\ntokenizer = "
        "AutoTokenizer.from_pretrained(folder)",
        "python",
    )


def card(form: str, model: str, removed: Sequence[Name], units: tuple[int, int]) -> str:
    """README.md of a folder in a form; units: before and after."""
    return (
        f"# {model} without {written(removed)}\n\n"
        f"{units[1]} of {units[0]} parts are left: a number is a block, with a letter its attention (a), its "
        "FFN (f) or another part of it. `blockscape.json` has the origin, and the SHA-256 of every file.\n\n"
        f"{PARTIAL[form].about}\n\n{_LOADS[form]}\n"
    )
