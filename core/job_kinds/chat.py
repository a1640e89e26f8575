"""One prompt, answered by the original and by a pruned model."""

import time
from dataclasses import asdict

from core.job_kinds.common import load
from core.jobs.progress import Progress
from core.measure.chat import is_chat, reply
from core.model.named import seen_for, state_of


def run(request: dict, progress: Progress) -> dict:
    """What each says next in its own chat (`original` and `pruned` of the request: [[role, text]]), without
    `blocks` the pruned one; see core.measure.chat.reply.

    The result: template, whether there is a chat template; load_seconds; original and pruned, a Reply each.
    What is said is noted while it is said (core.jobs.said_of).
    """
    progress.report(0, 1, "loading the model")
    began = time.monotonic()
    loaded = seen_for(load(request), [request["blocks"]])
    blocks, tokens = state_of(request["blocks"], loaded), request["tokens"]
    found: dict = {"template": is_chat(loaded), "load_seconds": time.monotonic() - began}
    note = progress.said()
    for number, (name, removed) in enumerate((("original", ()), ("pruned", blocks))):

        def heard(count: int, text: str, name=name, before=number * tokens) -> None:
            progress.report(before + count, 2 * tokens, f"the {name} answers")
            note(name, text)

        answer = reply(
            loaded,
            [(role, text) for role, text in request[name]],
            removed,
            tokens=tokens,
            temperature=request["temperature"],
            seed=request["seed"],
            heard=heard,
        )
        progress.kept(tokens - answer.tokens)  # who ends by itself is no faster for it
        found[name] = asdict(answer)
    return found
