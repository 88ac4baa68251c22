"""A vocabulary of 120 ids for tests: five special ones, ten sentinels, words, and tokens that continue a word."""

from __future__ import annotations

from typing import Any

import torch

from graft.training.corpus.texts import Sentences
from graft.training.objective.vocabulary import Vocabulary

SIZE = 120
PAD, CLS, SEP, MASK = 0, 1, 2, 3
SENTINELS = tuple(range(5, 15))
FIRST_WORD, FIRST_CONTINUING = 15, 90


def vocabulary() -> Vocabulary:
    ids = torch.arange(SIZE)
    return Vocabulary(
        pad_id=PAD,
        mask_id=MASK,
        cls_id=CLS,
        sep_id=SEP,
        sentinel_ids=SENTINELS,
        special_V=ids < FIRST_WORD,
        continues_V=ids >= FIRST_CONTINUING,
    )


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def documents(*lengths: int, sentence: int = 5, seed: int = 0) -> list[Sentences]:
    """Random text of so many tokens each, in sentences of `sentence` tokens; a fifth of the tokens continue a word."""
    made = []
    for index, length in enumerate(lengths):
        ids = torch.randint(FIRST_WORD, SIZE, (length,), generator=generator(seed * 1000 + index)).tolist()
        made.append([ids[at : at + sentence] for at in range(0, length, sentence)])
    return made


DECODER: dict[str, Any] = {
    "vocab_size": SIZE,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "pad_token_id": PAD,
}
"""The configuration of a small decoder of Llama's kind."""
