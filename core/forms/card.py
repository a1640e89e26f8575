"""The model card of an export: what is left, how it loads, and what the landscape said of the choice."""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from core.compare.healed import won_in_words
from core.forms.names import GGUF, NAS, NATIVE, PORTABLE, SHAPES, forms_of
from core.ising.units import written

_TRANSFORMERS = """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("FOLDER", trust_remote_code=True)
tokenizer = AutoTokenizer.from_pretrained("FOLDER", trust_remote_code=True)
```

The code that this trusts is `modeling_partial.py` of the folder, a page of Python that needs torch and
transformers. Who would rather not has the same from

```python
import sys

sys.path.append("FOLDER")
from modeling_partial import load

model = load("FOLDER")
```"""
_PLAIN = """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("FOLDER")
tokenizer = AutoTokenizer.from_pretrained("FOLDER")
```"""
_LOADS = {
    NATIVE: _PLAIN,
    PORTABLE: _TRANSFORMERS,
    SHAPES: _PLAIN
    + """

It is as large and as slow as the original, and keeps as much of a context: the last weights of what is
removed are zeros, and nothing is left out.""",
    GGUF: """```sh
llama-cli -m FOLDER/model.gguf -p "Once upon a time"
```""",
    NAS: _TRANSFORMERS
    + """

`config.nemotron-nas.json` is the config of the same tensors for vLLM and TensorRT-LLM (`block_configs` with
`no_op`). **It was not run with either.**""",
}
_DECI = """

The architecture is llama.cpp's `deci`, which may lack attention or FFN in any block. Where an attention stays
alone, llama.cpp would drop it with the missing FFN; there the file has a tiny FFN of zeros."""
PAPER = "arXiv:2602.00161, Block removal for large language models through constrained binary optimization"


def snippet(form: str, folder: str) -> tuple[str, str]:
    """(a few lines that load what was written in a folder, their language)."""
    if form == GGUF:
        return f"llama-cli -m {shlex.quote(folder + '/model.gguf')} -p 'Once upon a time'", "bash"
    trusted = ", trust_remote_code=True" if form in (PORTABLE, NAS) else ""
    lines = (
        f"from transformers import AutoModelForCausalLM, AutoTokenizer\n\nfolder = {folder!r}\n"
        f"model = AutoModelForCausalLM.from_pretrained(folder{trusted})\n"
        f"tokenizer = AutoTokenizer.from_pretrained(folder{trusted})\n"
    )
    return _as_there(lines, Path(folder)).rstrip(), "python"


def _as_there(lines: str, folder: Path) -> str:
    """Lines that load a model, without those for a tokenizer where the folder has none."""
    patterns = ("tokenizer*", "vocab.*", "*.model", "*.tiktoken")
    if any(file for pattern in patterns for file in folder.glob(pattern)):
        return lines
    return re.sub(r"tokenizer = .*\n|, AutoTokenizer", "", lines)


def card(record: Mapping, model: str, blocks: int, folder: Path) -> str:
    """README.md of an export in a folder, of which blockscape.json holds `record`; blocks: how many `model`
    has.
    """
    removed, kept = record["removed"], record["kept"]
    form = record.get("form", NATIVE)
    parts = any(isinstance(name, str) for name in removed)
    named = "A number is a block, with a letter its attention (a), its FFN (f) or another part of it. "
    before, after = record["parameters"]
    loads = _as_there(_LOADS[form], folder) + (_DECI if form == GGUF and parts else "")
    sections = [
        _front_matter(record, form),
        f"# {model} without {written(removed)}" if removed else f"# {model}",
        f"{len(kept)} of {blocks} blocks{' or parts of them' if parts else ''} are left, "
        f"{after:,} of {before:,} parameters. {named if parts else ''}`blockscape.json` has the origin, and "
        "the SHA-256 of every file.",
        forms_of(removed)[form].about,
        loads,
        *_removal(removed, kept),
        *_of(record.get("of")),
        *_healing(record.get("healed")),
        *_landscape(record.get("landscape")),
        "## How to cite",
        f"The method: {PAPER}. Made with Blockscape {record['versions']['blockscape']}. The original's "
        "licence and its authors stay what they are: name them too.",
    ]
    return "\n\n".join(filter(None, sections)) + "\n"


def _front_matter(record: Mapping, form: str) -> str:
    """What a hub reads; the base is named where it can be one of a hub."""
    source = record["source"]
    hub = source.count("/") == 1 and not source.startswith((".", "/", "~")) and not source.endswith(".gguf")
    lines = [
        f"base_model: {source}" if hub else "",
        f"library_name: {'gguf' if form == GGUF else 'transformers'}",
        "tags: [blockscape, block-removal, pruned]",
    ]
    return "\n".join(["---", *filter(None, lines), "---"])


def _removal(removed: Sequence, kept: Sequence[int]) -> list[str]:
    if not removed:
        return []
    return [
        "## What was removed",
        f"Removed, by the original's numbers from 0: {written(removed)}. Kept: {_ranges(kept)}.",
    ]


def _of(earlier: Mapping | None) -> list[str]:
    """Of what was itself made with Blockscape: blocks of the first original have other numbers here."""
    if not earlier:
        return []
    return [
        "## Its origin",
        f"The model that this was made from is {earlier['source']} without {written(earlier['removed'])}; "
        "`blockscape.json` has its record under `of`.",
        *_healing(earlier.get("healed")),
    ]


def _ranges(kept: Sequence[int]) -> str:
    """Numbers with runs of neighbours as from-to."""
    runs: list[list[int]] = []
    for b in kept:
        if runs and b == runs[-1][1] + 1:
            runs[-1][1] = b
        else:
            runs.append([b, b])
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in runs)


def _healing(healed: Mapping | None) -> list[str]:
    """What was won back, of a model that learned since."""
    if not healed:
        return []
    asked, training, won = healed["asked"], healed["training"], healed["won"]
    said = "" if won is None else won_in_words(won)
    came_back = f" {said[:1].upper()}{said[1:]}." if said else ""
    seed = asked["settings"].get("seed", 0)
    budget = (
        f"{training['tokens']:,} tokens of {_texts(healed['texts']['source'])}, seed {seed}"
        if training["tokens"]
        else "without training"
    )
    return [
        "## Healed",
        f"By `{asked['settings']['method']}`, {budget}.{came_back}",
        _table(
            ("", "loss, nats", "perplexity"),
            [
                (name, f"{row['loss']:.4f}", f"{row['perplexity']:.2f}")
                for name, row in healed["report"].items()
            ],
        ),
    ]


def _texts(source: str) -> str:
    """A source of texts for who does not know how they are named here."""
    return {"own": "the model's own samples", "bundled": "texts of Blockscape's demo"}.get(source, source)


def _landscape(told: Mapping | None) -> list[str]:
    """What core.compare.facts found of the state."""
    if not told:
        return []
    mean = f"Energy {told['energy']:.6g} by the estimator {told['estimator']} ({told['meaning']})."
    health = f"Is that landscape to be trusted? {told['health']['sentence']}"
    where = f"Calibrated on {_texts(told['texts'])} (run {told['run'][:8]})."
    rank = "" if not told["rank"] else " Ranks begin at 0, the ground state."
    return [
        "## What the landscape says",
        f"{mean} {told['place']}{rank} {where}",
        health,
        *_scores(told["measured"]),
    ]


def _scores(rows: Sequence[Mapping]) -> list[str]:
    """Measured losses and tasks of the original and the state."""
    if not rows:
        return ["Nothing was measured of this state when it was written."]
    tasks = sorted({name for row in rows for name in row["tasks"]})
    head = ("", "loss, nats", *tasks)
    cell = lambda t: f"{100 * t['accuracy']:.1f} % [{100 * t['low']:.1f}, {100 * t['high']:.1f}]"  # noqa: E731
    body = [
        (
            row["name"],
            f"{row['loss']:.4f}" if row["loss"] is not None else "",
            *(cell(row["tasks"][t]) if t in row["tasks"] else "" for t in tasks),
        )
        for row in rows
    ]
    return ["Measured before it was written, on texts that no choice used:", _table(head, body)]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
