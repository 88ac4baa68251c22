"""What a soft prompt says, as peft computes it: its matrix before the embedded tokens (`PeftModelForCausalLM.forward`).

Said here in transformers' words: to make peft's own module of it, peft would read the tokenizer that the configuration
names, and a base that is adapted by it is none that LoRA can be put into afterwards.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from graft.adapters.folder.soft_prompt import read_soft_prompt


class SoftPrompted:
    """A base with the soft prompt in `folder` before whatever it reads."""

    def __init__(self, base: Any, folder: str) -> None:
        self._base = base
        self._prompt_ND = torch.from_numpy(read_soft_prompt(Path(folder))).to(base.dtype)

    @property
    def config(self) -> Any:
        """The base's."""
        return self._base.config

    def __call__(self, *, input_ids: torch.Tensor) -> Any:
        """`logits` behind each of `input_ids`, of shape (rows, tokens)."""
        embedded_RLD = self._base.get_input_embeddings()(input_ids)
        prompt_RND = self._prompt_ND.expand(len(input_ids), -1, -1)
        logits = self._base(inputs_embeds=torch.cat([prompt_RND, embedded_RLD], dim=1)).logits
        return SimpleNamespace(logits=logits[:, len(self._prompt_ND) :])
