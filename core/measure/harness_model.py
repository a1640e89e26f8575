"""A loaded model as lm-evaluation-harness sees it: asked once, then answered from what is kept."""

import copy
import hashlib
import json
from collections import Counter
from collections.abc import Callable

from core.measure import harness_tasks  # noqa: F401  # first: it sets what lm_eval reads

# isort: split
import torch
from lm_eval.models.huggingface import HFLM

from core.errors import InputError
from core.model.load import LoadedModel
from core.tasks.presets import Preset

_ASKED = 16  # batches asked between two writes


class AnsweringModel(HFLM):
    """The loaded model as the harness sees it, answering from the store what it has answered before."""

    def __init__(
        self,
        loaded: LoadedModel,
        preset: Preset,
        batch: int,
        answers: Callable,
        keep: Callable,
        report: Callable,
    ):
        own = copy.deepcopy(loaded.tokenizer)  # the harness gives it a padding token
        super().__init__(
            pretrained=loaded.model,
            tokenizer=own,
            batch_size=batch,
            max_length=context_length(loaded, preset),
        )
        self.first = loaded.tokenizer.bos_token if preset.bos in ("auto", "always") else None
        if preset.bos == "never":
            self.add_bos_token = False
        if preset.bos == "always" and self.first is None:
            raise InputError(
                f"The tokenizer of {loaded.source!r} has no BOS, which this preset puts first; choose "
                "another preset."
            )
        if preset.template == "chat" and not loaded.tokenizer.chat_template:
            raise InputError(
                f"The tokenizer of {loaded.source!r} has no chat template, which this preset needs; choose "
                "another preset."
            )
        self.kept, self.keep, self.told = answers, keep, report

    def tok_encode(self, string, add_special_tokens=None, **options):
        """The harness's own, with the preset's BOS first."""
        return super().tok_encode(
            self._opened(string) if add_special_tokens is None else string, add_special_tokens, **options
        )

    def tok_batch_encode(self, strings, *args, **options):
        """As `tok_encode`, of many."""
        return super().tok_batch_encode([self._opened(s) for s in strings], *args, **options)

    def _opened(self, string: str) -> str:
        return string if self.first is None or string.startswith(self.first) else self.first + string

    def _loglikelihood_tokens(self, requests, *args, **options):
        """The harness's own, which takes no answer that is longer than what the model has positions for."""
        longest = max((len(answer) for _, _, answer in requests), default=0)
        if longest > self.max_length:
            raise InputError(
                f"An answer of these tasks takes {longest} tokens and the model has room for "
                f"{self.max_length}; ask it other tasks."
            )
        return super()._loglikelihood_tokens(requests, *args, **options)

    def loglikelihood(self, requests, disable_tqdm=True):
        """[(log-likelihood in nats, whether greedy)], asked or from the store."""
        return [(value, greedy) for value, greedy in self._answered("loglikelihood", requests)]

    def loglikelihood_rolling(self, requests, disable_tqdm=True):
        """[log-likelihood in nats] of whole texts, asked or from the store."""
        return self._answered("loglikelihood_rolling", requests)

    def generate_until(self, requests, disable_tqdm=True):
        """[answer], asked or from the store."""
        return self._answered("generate_until", [self._fitting(r) for r in requests])

    def _fitting(self, request):
        """Where a task asks for answers as long as the model has positions, which the harness refuses, half
        of them.
        """
        prompt, options = request.args[:2]
        asked = options.get("max_gen_toks", self.max_gen_toks)
        if asked < self.max_length:
            return request
        fitting = copy.copy(request)
        fitting.arguments = (prompt, {**options, "max_gen_toks": self.max_length // 2})
        return fitting

    def _answered(self, kind: str, requests: list) -> list:
        seen: Counter = Counter()
        names = []
        for request in requests:
            asked = json.dumps([kind, request.args], sort_keys=True, default=str)
            # a sampled answer is asked for again
            names.append(hashlib.sha256(f"{seen[asked]}{asked}".encode()).hexdigest()[:32])
            seen[asked] += 1
        have = self.kept()
        left = list({name: request for name, request in zip(names, requests) if name not in have}.items())
        step = _ASKED * self.batch_size
        self.told([r for name, r in zip(names, requests) if name in have])
        for start in range(0, len(left), step):
            part = left[start : start + step]
            with torch.no_grad():
                values = getattr(super(), kind)([request for _, request in part], disable_tqdm=True)
            fresh = {name: json.dumps(_plain(value)) for (name, _), value in zip(part, values)}
            self.keep(fresh)
            have.update(fresh)
            self.told([request for _, request in part])
        return [json.loads(have[name]) for name in names]


def _plain(value):
    return (
        [float(value[0]), bool(value[1])]
        if isinstance(value, tuple)
        else value
        if isinstance(value, str)
        else float(value)
    )


def context_length(loaded: LoadedModel, preset: Preset) -> int:
    """Tokens of prompt and answer together: the preset's, or fewer where the model has fewer positions."""
    has = loaded.max_length or HFLM._DEFAULT_MAX_LENGTH
    return min(preset.length or has, has)
