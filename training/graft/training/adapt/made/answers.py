"""What a model answers before and after it was trained, to rows that people know."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from peft import MultitaskPromptTuningConfig, PeftModel
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from graft.training.batch.packing import Encoded
from graft.training.model.configuration import num_positions
from graft.training.objective.masks import decoder_of
from graft.training.report.examples import Example
from graft.training.runtime.compiling import uncompiled

MAX_NEW_TOKENS = 48
MAX_TOKENS = 512
"""Of a prompt, of which the last are read, and of what a row says: a page shows no more."""
_OPENING = 16
"""Tokens that a row of text alone opens with, where all of it was learned."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Token ids of a prompt, of one at least, and of what a row says to it."""

    prompt: Sequence[int]
    row_says: Mapping[str, Sequence[int]]

    @classmethod
    def of_row(cls, row: Encoded) -> Self:
        """What stands before the first learned token, and what is learned behind it. A row needs two tokens."""
        ids, supervised = list(row.input_ids), list(row.supervised)
        start = supervised.index(True)
        if start == 0:
            start = min(_OPENING, len(ids) // 2)
        end = next((at for at in range(start, len(ids)) if not supervised[at]), len(ids))
        return cls(prompt=ids[:start], row_says={"expected": ids[start:end]})


def examples(
    model: nn.Module, asked: Sequence[Asked], tokenizer: PreTrainedTokenizerBase, *, stop_ids: Sequence[int]
) -> list[Example]:
    """Greedy answers to prompts, one at a time: those of the base first, where it is still there below an adapter that
    can be switched off.

    Leaves the model in evaluation.
    """
    model.eval()
    found = []
    with uncompiled(), torch.no_grad():
        for one in asked:
            prompt = list(one.prompt[-MAX_TOKENS:])
            before = None
            if isinstance(model, PeftModel):
                with model.disable_adapter():
                    before = _said(model, prompt, tokenizer, stop_ids)
            found.append(
                Example(
                    prompt=tokenizer.decode(prompt),
                    row_says={name: _text(tokenizer, ids, stop_ids, MAX_TOKENS) for name, ids in one.row_says.items()},
                    before=before,
                    after=_said(model, prompt, tokenizer, stop_ids),
                )
            )
    return found


def _said(model: nn.Module, prompt: Sequence[int], tokenizer: PreTrainedTokenizerBase, stop_ids: Sequence[int]) -> str:
    room = num_positions(decoder_of(model).config)
    most = MAX_NEW_TOKENS if room is None else min(MAX_NEW_TOKENS, room - _num_ahead(model) - len(prompt))
    if most < 1:
        return "–"
    ids_1L = torch.tensor([list(prompt)], device=next(model.parameters()).device)
    with warnings.catch_warnings():
        # Which transformers makes; peft makes its own, counting the vectors ahead.
        warnings.filterwarnings("ignore", "Position ids are not supported")
        said_1L = model.generate(
            input_ids=ids_1L,
            attention_mask=torch.ones_like(ids_1L),
            do_sample=False,
            max_new_tokens=most,
            eos_token_id=list(stop_ids) or None,
            pad_token_id=stop_ids[0] if stop_ids else 0,
            **task_of(model),
        )
    said = said_1L[0].tolist()
    new = said[len(prompt) :] if said[: len(prompt)] == list(prompt) else said
    return _text(tokenizer, new, stop_ids, MAX_NEW_TOKENS)


def task_of(model: nn.Module) -> dict[str, Tensor]:
    """What peft's ``generate`` asks for beside a prompt: of multitask prompt tuning the task, of which
    only one is trained. Nothing while the adapter is switched off.
    """
    is_on = isinstance(model, PeftModel) and not model._adapters_disabled
    if is_on and isinstance(model.active_peft_config, MultitaskPromptTuningConfig):
        return {"task_ids": torch.zeros(1, dtype=torch.long)}
    return {}


def _num_ahead(model: nn.Module) -> int:
    """Vectors that stand before a prompt."""
    return int(getattr(model.active_peft_config, "num_virtual_tokens", 0)) if isinstance(model, PeftModel) else 0


def _text(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], stop_ids: Sequence[int], most: int) -> str:
    """To the end that an answer is to have; one that did not come to it in so many tokens is shown as cut."""
    end = next((at for at, id in enumerate(ids[:most]) if id in stop_ids), None)
    text: str = tokenizer.decode(list(ids[:most][:end]))
    return text if end is not None or len(ids) < most else text + " …"
