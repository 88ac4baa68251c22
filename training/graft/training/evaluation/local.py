"""Asking a model in this process, through transformers."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from graft.adapters.form import ServingForm
from graft.adapters.text.spelling import Spelling
from graft.training.batch.encoding import end_ids
from graft.training.evaluation.answerer import Prompt
from graft.training.model.loading import load_base, load_tokenizer
from graft.training.runtime.device import device_kind, own_device


class LocalAnswerer:
    """A base, or a base with a PEFT adapter, loaded in one form. Prompts of similar length are answered together."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, *, batch_size: int = 64) -> None:
        self.model, self.tokenizer, self.batch_size = model, tokenizer, batch_size
        stops = model.generation_config.eos_token_id
        self._ends = end_ids(tokenizer, [stops] if isinstance(stops, int) else stops or ())
        self._spelling = Spelling(tokenizer, self._ends)
        self._pad_id = tokenizer.pad_token_id or 0  # no padding is seen: any id will do

    @classmethod
    def load(cls, base: Path, form: ServingForm, adapter: Path | None = None) -> "LocalAnswerer":
        """Loads the base and, where given, an adapter's folder, onto a GPU where there is one."""
        model = load_base(base, form, device=own_device(device_kind()))
        if adapter is not None:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, adapter).eval()
        return cls(model, load_tokenizer(base))

    @torch.inference_mode()
    def complete(self, prompts: Sequence[Prompt], *, max_tokens: int, stop: str | None) -> list[str]:
        answers = [""] * len(prompts)
        encoded = [self._encode(prompt) for prompt in prompts]
        order = sorted(range(len(prompts)), key=lambda index: len(encoded[index]))
        for start in tqdm(range(0, len(order), self.batch_size), unit="batch", leave=False, disable=None):
            chosen = order[start : start + self.batch_size]
            for index, text in zip(chosen, self._generate([encoded[i] for i in chosen], max_tokens, stop), strict=True):
                answers[index] = text
        return answers

    @torch.inference_mode()
    def score(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[list[float]]:
        endings = [self._spelling.continuation(text) for text in continuations]
        scores = []
        for prompt in tqdm(prompts, unit="prompt", leave=False, disable=None):
            ids = self._encode(prompt)
            scores.append(self._score(ids, endings))
        return scores

    def _encode(self, prompt: Prompt) -> list[int]:
        if isinstance(prompt, str):
            return self._spelling.prompt(prompt)
        marked = self._spelling.marked(list(prompt))
        text = self.tokenizer.apply_chat_template(marked, tokenize=False, add_generation_prompt=True)
        return self._spelling.rendered(text)

    def _generate(self, encoded: list[list[int]], max_tokens: int, stop: str | None) -> list[str]:
        batch = self._pad_left(encoded)
        ends = list(self._ends)
        if stop is not None:  # a stop of one token ends generation early; any other is cut off afterwards
            stop_ids = self.tokenizer(stop, add_special_tokens=False)["input_ids"]
            ends += stop_ids if len(stop_ids) == 1 else []
        output = self.model.generate(
            **batch,
            max_new_tokens=max_tokens,
            do_sample=False,
            eos_token_id=ends or None,
            pad_token_id=self._pad_id,
        )
        made = output[:, batch["input_ids"].shape[1] :].tolist()
        said = [row[: next((at for at, id in enumerate(row) if id in ends), None)] for row in made]
        texts = self.tokenizer.batch_decode(said, skip_special_tokens=True)
        return [text if stop is None else text.split(stop)[0] for text in texts]

    def _score(self, prompt: list[int], endings: list[list[int]]) -> list[float]:
        """Padding stands behind: no token sees it, and none has another position for it."""
        length = len(prompt) + max(map(len, endings))
        rows = [prompt + ending for ending in endings]
        ids_BL = torch.tensor([row + [self._pad_id] * (length - len(row)) for row in rows])
        logprobs_BLV = self.model(input_ids=ids_BL.to(self.model.device)).logits.float().log_softmax(-1)
        scores = []
        for row, ending in enumerate(endings):
            predicted_LV = logprobs_BLV[row, len(prompt) - 1 : len(prompt) - 1 + len(ending)]
            asked_L1 = torch.tensor(ending, dtype=torch.long)[:, None].to(predicted_LV.device)
            scores.append(float(predicted_LV.gather(1, asked_L1).sum()))
        return scores

    def _pad_left(self, encoded: list[list[int]]) -> dict[str, Tensor]:
        """As generation needs it, which counts positions by the mask."""
        length = max(len(ids) for ids in encoded)
        ids = torch.tensor([[self._pad_id] * (length - len(row)) + row for row in encoded])
        mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in encoded])
        return {"input_ids": ids.to(self.model.device), "attention_mask": mask.to(self.model.device)}
