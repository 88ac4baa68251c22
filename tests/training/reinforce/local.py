"""A sampler in the process: the model itself, token by token, without a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from graft.training.reinforce.asking.sampler import Files, Prompt
from graft.training.reinforce.rollout import Rollout

END = 1


class LocalSampler:
    """Its versions are names: what was published last is what the model is."""

    def __init__(self, model: Any, *, num_answers: int, max_tokens: int) -> None:
        self._model, self._num, self._max = model, num_answers, max_tokens
        self.published = [0]

    def sample(self, prompts: Sequence[Prompt], *, seed: int) -> list[list[Rollout]]:
        self._model.train()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            return [[self._answer(prompt, generator) for _ in range(self._num)] for prompt in prompts]

    def score(self, prompt_ids: Sequence[int], answers: Sequence[Sequence[int]]) -> list[list[float]]:
        found = []
        for one in answers:
            logits = self._model(input_ids=torch.tensor([[*prompt_ids, *one]])).logits[0]
            logs = logits.detach().log_softmax(-1)[len(prompt_ids) - 1 : -1]
            found.append(logs.gather(-1, torch.tensor([list(one)]).T)[:, 0].tolist())
        return found

    def publish(self, files: Files, *, step: int) -> str:
        assert files
        self.published.append(step)
        return f"step-{step}"

    def _answer(self, prompt: Prompt, generator: torch.Generator) -> Rollout:
        ids, logprobs = list(prompt.ids), list[float]()
        while len(logprobs) < self._max and (not logprobs or ids[-1] != END):
            logs = self._model(input_ids=torch.tensor([ids])).logits[0, -1].log_softmax(-1)
            ids.append(int(torch.multinomial(logs.exp(), 1, generator=generator)))
            logprobs.append(float(logs[ids[-1]]))
        step = self.published[-1]
        return Rollout(
            prompt_ids=prompt.ids,
            answer_ids=ids[len(prompt.ids) :],
            logprobs=logprobs,
            step=step,
            version=f"step-{step}",
            is_whole=ids[-1] == END,
        )
