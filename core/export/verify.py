"""Verify a written checkpoint in a fresh process: what it loads as must be the gated model.

`python -m core.export.verify FOLDER PROBE [--trust-remote-code]` is that process; it prints what `verify`
returns.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from core.errors import InputError
from core.export.gguf import deci
from core.export.gguf.deci_proof import in_llama_cpp, read_back
from core.measure.evaluation import greedy
from core.model.load import load_model

PROBE_TOKENS, GREEDY_TOKENS = 24, 12
LOGITS_TOLERANCE = 1e-5  # relative to the largest logit


def made_up_ids(vocabulary: int, max_length: int | None) -> torch.Tensor:
    """int64 [2, PROBE_TOKENS or fewer]: tokens for the probe, with room behind them for greedy ones."""
    length = min(PROBE_TOKENS, (max_length or PROBE_TOKENS + GREEDY_TOKENS) - GREEDY_TOKENS)
    return torch.randint(0, vocabulary, (2, max(2, length)), generator=torch.Generator().manual_seed(0))


def verify_elsewhere(checkpoint: Path, probe: Path, own_code: bool) -> dict:
    """Run `verify` in a fresh process, own_code: with the checkpoint's; its finding.

    Errors: RuntimeError with the problem that it found.
    """
    command = ["-m", "core.export.verify", str(checkpoint.resolve()), str(probe.resolve())]
    return found_by([*command, *["--trust-remote-code"] * own_code], Path(__file__).resolve().parents[2])


def prove_elsewhere(
    source: Path, checkpoint: Path, removed: Sequence[int], probe: Path, remote_code: bool
) -> dict:
    """Run core.export.shard_proof in a fresh process, which leaves what it expects of logits at `probe`; its
    finding.

    Errors: RuntimeError with the problem that it found.
    """
    blocks = ",".join(map(str, removed))
    folders = (str(source.resolve()), str(checkpoint.resolve()))
    command = ["-m", "core.export.shard_proof", *folders, blocks, str(probe.resolve())]
    return found_by([*command, *["--trust-remote-code"] * remote_code], Path(__file__).resolve().parents[2])


def verify_portable(checkpoint: Path, probe: Path) -> dict:
    """Run check_portable in a fresh process that knows nothing of this project; its finding.

    Errors: RuntimeError with the problem that it found.
    """
    script = Path(__file__).with_name("check_portable.py")
    with tempfile.TemporaryDirectory() as code:  # where transformers copies the folder's code to
        return found_by(
            ["-P", str(script), str(checkpoint.resolve()), str(probe.resolve()), str(GREEDY_TOKENS)],
            checkpoint,
            HF_MODULES_CACHE=code,
            PYTHONDONTWRITEBYTECODE="1",
        )


def found_by(arguments: list[str], folder: Path, what: str = "checkpoint", **environment: str) -> dict:
    """What a fresh process of Python in a folder prints last, without the problem; what: was pruned, a word.

    Errors: RuntimeError with the problem that it found, or how it ended without a word; InputError where it
    was killed.
    """
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    if done.returncode == -signal.SIGKILL:
        raise InputError(
            f"The process in which the pruned {what} was tried has been killed, as a system does that runs "
            "out of memory; free some and write it again."
        )
    try:
        found = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, json.JSONDecodeError) as error:
        lines = done.stderr.strip().splitlines() or ["no output"]
        told = next((line for line in lines if "ASSERT" in line), lines[-1])[
            :200
        ]  # how llama.cpp ends itself
        if done.returncode == -signal.SIGKILL:
            told = "its process was killed, as the system does where memory runs out; free some"
        raise RuntimeError(f"The pruned {what} could not be verified: {told}") from error
    if problem := found.pop("problem"):
        raise RuntimeError(f"The pruned {what} failed verification and was not kept: {problem}.")
    return found


def verify(checkpoint: Path, probe: Path, remote_code: bool = False) -> dict:
    """{problem: sentence or None, difference: largest logit difference} of a checkpoint against a probe (ids,
    logits); of a GGUF file also llama_cpp, what that did with it.
    """
    with np.load(probe, allow_pickle=False) as expected:
        ids, logits = (torch.from_numpy(expected[name]) for name in ("ids", "logits"))
    more: dict = {}
    model: PreTrainedModel
    if (file := checkpoint / deci.FILE).is_file():
        model = read_back(file)
        more["llama_cpp"] = in_llama_cpp(file, model, ids[0].tolist(), GREEDY_TOKENS)
    else:  # refuses missing, unexpected and mismatched tensors
        model = load_model(str(checkpoint), device="cpu", remote_code=remote_code, tokenizer=False).model
    return {**compare(model, ids, logits, GREEDY_TOKENS), **more}


@torch.no_grad()
def compare(model: PreTrainedModel, ids: torch.Tensor, logits: torch.Tensor, tokens: int) -> dict:
    """{problem, difference}, as `verify` gives them, of a model that must have these logits [B, T, V] at ids
    int64 [B, T], and so many greedy tokens, with and without cache.
    """
    own = model(input_ids=ids, use_cache=False).logits.float()
    cached, plain = (greedy(model, ids, tokens, use_cache) for use_cache in (True, False))
    difference = float((own - logits).abs().max()) if own.shape == logits.shape else float("inf")
    problem = None
    if not difference <= LOGITS_TOLERANCE * float(logits.abs().max()):
        problem = f"its logits differ from the gated model's by {difference:.2g}"
    elif not torch.equal(cached, plain):
        problem = "greedy tokens differ with and without cache"
    return {"problem": problem, "difference": difference}


if __name__ == "__main__":
    try:
        finding = verify(Path(sys.argv[1]), Path(sys.argv[2]), "--trust-remote-code" in sys.argv[3:])
    except (InputError, RuntimeError) as error:
        finding = {"problem": str(error).rstrip("."), "difference": None}
    print(json.dumps(finding))
