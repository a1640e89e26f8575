"""Load a portable checkpoint as anybody would, with transformers alone, and say what it gives.

`python -P check_portable.py FOLDER PROBE TOKENS` prints JSON: what core.export.verify.verify returns, and kv,
the numbers that its cache keeps of a token. Run by path, which -P keeps out of the places of modules: nothing
of this project is there.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM


def look(folder: str, probe: str, tokens: int) -> dict:
    """See the module's docstring."""
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, dtype=torch.float32).eval()
    with np.load(probe, allow_pickle=False) as expected:
        ids, logits = torch.from_numpy(expected["ids"]), expected["logits"]
    options = {"do_sample": False, "num_beams": 1, "min_new_tokens": tokens, "max_new_tokens": tokens}
    mask = torch.ones_like(ids)
    with torch.no_grad():
        own = model(input_ids=ids, use_cache=False).logits.numpy()
        cached, plain = (
            model.generate(ids, attention_mask=mask, use_cache=use, pad_token_id=0, **options)
            for use in (True, False)
        )
        few = ids[:, :2]  # within every window
        layers = getattr(getattr(model(input_ids=few, use_cache=True), "past_key_values", None), "layers", ())
    difference = float(np.abs(own - logits).max()) if own.shape == logits.shape else float("inf")
    problem = None
    if not difference <= 1e-5 * float(np.abs(logits).max()):
        problem = f"its logits differ from the gated model's by {difference:.2g}"
    elif not torch.equal(cached, plain):
        problem = "greedy tokens differ with and without cache"
    held = (getattr(layer, name, None) for layer in layers for name in ("keys", "values"))
    kept = sum(t.numel() for t in held if isinstance(t, torch.Tensor) and t.ndim == 4)
    assert "core" not in sys.modules and str(Path(__file__).parent) not in sys.path
    return {"problem": problem, "difference": difference, "kv": kept // few.numel()}


if __name__ == "__main__":
    try:
        found = look(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    except Exception as error:  # whatever a stranger would see
        found = {"problem": f"{type(error).__name__}: {str(error)[:200]}", "difference": None, "kv": 0}
    print(json.dumps(found))
