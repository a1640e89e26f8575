"""Does a model still behave? Short prompts (core.tasks.short_prompts) answered greedily, with blocks removed.

What is wrong with an answer is for core.tasks.verdicts to say.
"""

import importlib.metadata
import json
import math
import time
from collections.abc import Callable, Sequence

import torch

import core
from core.measure.chat import ends_of
from core.model.generation import by_itself, by_itself_unlike_before
from core.model.surgery import without
from core.store.results import Key, Results
from core.store.runs import canonical_key
from core.tasks.short_prompts import DIGEST, PROMPTS, TOKENS
from core.tasks.verdicts import CHECKS, Answer, compare, verdicts
from core.texts.special_tokens import begins, begins_unlike_before


def ask(loaded, prompts: Sequence[str], removed: Sequence[int] = (), tokens: int = TOKENS) -> list[Answer]:
    """The greedy answers to the prompts, one BOS first where the tokenizer itself writes one, with the blocks
    of `removed` gone.
    """
    tokenizer, answers = loaded.tokenizer, []
    head = begins(tokenizer)
    ends = ends_of(loaded)
    with without(loaded, removed), by_itself(loaded.model), torch.no_grad():
        for prompt in prompts:  # one at a time: padding would change what some models say
            ids = head + tokenizer(prompt, add_special_tokens=False)["input_ids"]
            room = min(tokens, (loaded.max_length or math.inf) - len(ids))
            if room < 1:
                answers.append(Answer("", False))
                continue
            out = loaded.model.generate(
                torch.tensor([ids], device=loaded.device),
                do_sample=False,
                num_beams=1,
                max_new_tokens=room,
                eos_token_id=ends or None,
                pad_token_id=tokenizer.pad_token_id or 0,
            )[0, len(ids) :].tolist()
            answers.append(
                Answer(tokenizer.decode(out, skip_special_tokens=True), bool(out) and out[-1] in ends)
            )
    return answers


def measure(
    loaded,
    states: Sequence[Sequence[int]],
    report: Callable[[int, int, str], None] = lambda done, total, message: None,
    tokens: int = TOKENS,
) -> dict:
    """Every prompt answered by the original and every state, each once; what is wrong with the answers,
    against the original.

    Answers are kept under the model's weights; verdicts are in core.store.results as behaviour:CHECK, one
    item a prompt. Returns {prompts, states: [{removed, checks: {check: Change}, broken: [check], answers:
    [{text, ended, wrong}]}]}, the original first.
    """
    results, model = Results(), canonical_key(loaded.digest())
    unusual = {
        **begins_unlike_before(loaded.tokenizer),
        **by_itself_unlike_before(loaded.model),
        **loaded.arithmetic(),
    }
    settings = json.dumps(
        {"tokens": tokens, "tokenizer": loaded.tokenizer_digest(), **unusual}, sort_keys=True
    )
    versions = {"blockscape": core.__version__, "transformers": importlib.metadata.version("transformers")}
    listed = list(dict.fromkeys([(), *(tuple(sorted(s)) for s in states)]))
    total = len(listed) * len(PROMPTS)
    found: dict[tuple[int, ...], list[dict]] = {}
    answered: dict[tuple[int, ...], list[Answer]] = {}
    for number, state in enumerate(listed):
        source = canonical_key({"behaviour": settings, "model": model, "removed": loaded.units.stored(state)})
        have = results.responses(source)
        began, asked = time.monotonic(), 0
        for k, prompt in enumerate(PROMPTS):
            report(
                number * len(PROMPTS) + k,
                total,
                f"{'without ' + loaded.units.write(state)[:40] if state else 'original'}: prompts",
            )
            if prompt.text not in have:
                (answer,) = ask(loaded, [prompt.text], state, tokens)
                have[prompt.text] = json.dumps(vars(answer))
                asked += results.put_responses(source, {prompt.text: have[prompt.text]})
        seconds = time.monotonic() - began if asked else 0.0
        answered[state] = [Answer(**json.loads(have[p.text])) for p in PROMPTS]
        found[state] = [verdicts(p, a) for p, a in zip(PROMPTS, answered[state])]
        for check in CHECKS:
            values = {k: v[check] for k, v in enumerate(found[state]) if check in v}
            key = Key(model, loaded.units.stored(state), DIGEST, "prompts", f"behaviour:{check}", settings)
            results.put(key, values, seconds if check == "sound" else 0.0, versions)
    rows = []
    for state in listed:
        changes = compare(found[()], found[state])
        rows.append(
            {
                "removed": loaded.units.listed(state),
                "checks": {check: change.to_json() for check, change in changes.items()},
                "broken": [check for check, change in changes.items() if change.broken],
                "answers": [
                    {**vars(a), "wrong": [c for c, fine in v.items() if not fine and c != "sound"]}
                    for a, v in zip(answered[state], found[state])
                ],
            }
        )
    report(total, total, "done")
    return {"prompts": [p.text for p in PROMPTS], "states": rows}
