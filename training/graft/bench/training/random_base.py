"""A Llama of the shape 16m with random weights as a base's folder, and texts cut to lengths of what people write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Self

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from graft.bench.training.shape import SHAPES
from graft.training.corpus.byte_pairs import train_tokenizer
from graft.training.job.export import write_base


def write_random_base(folder: Path, texts: Sequence[str], *, length: int) -> PreTrainedTokenizerFast:
    """In bfloat16, of so many positions; its tokenizer, which is returned, knows the texts."""
    shape = replace(SHAPES["16m"], length=length)
    tokenizer = train_tokenizer(list(texts), vocab_size=shape.vocab_size, context_tokens=shape.length)
    folder.mkdir()
    torch.manual_seed(0)
    config = replace(shape, vocab_size=len(tokenizer)).config(pad_token_id=tokenizer.pad_token_id)
    config.eos_token_id = tokenizer.eos_token_id
    write_base(LlamaForCausalLM(config).to(torch.bfloat16), tokenizer, folder, card="# random\n")
    return tokenizer


@dataclass(frozen=True, kw_only=True)
class Cuts:
    """Pieces of texts, whose lengths are drawn evenly by their logarithm."""

    tokenizer: PreTrainedTokenizerFast
    ids: Sequence[int]
    """Tokens of all texts."""
    rng: Random

    @classmethod
    def of(cls, texts: Sequence[str], tokenizer: PreTrainedTokenizerFast, rng: Random) -> Self:
        ids = [one for text in texts for one in tokenizer(text, add_special_tokens=False)["input_ids"]]
        return cls(tokenizer=tokenizer, ids=ids, rng=rng)

    def piece(self, most: int) -> str:
        """Of 8 to ``most`` tokens."""
        num = round(8 * (most / 8) ** self.rng.random())
        start = self.rng.randrange(len(self.ids) - num)
        text: str = self.tokenizer.decode(self.ids[start : start + num])
        return text.strip() or "none"
