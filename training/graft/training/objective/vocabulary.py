"""What objectives must know of a tokenizer: its special ids, and which tokens continue a word."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count, takewhile

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from graft.training.corpus.byte_pairs import SENTINEL
from graft.training.errors import ConfigurationError
from graft.training.model.configuration import first_id
from graft.training.objective.words import word_parts


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Ids of a tokenizer. Legend: V ids."""

    pad_id: int
    mask_id: int | None = None
    cls_id: int | None = None
    """What a sequence begins with."""
    sep_id: int | None = None
    """What ends a segment."""
    sentinel_ids: tuple[int, ...] = ()
    """Stand for the first, second, … span that was taken out (T5)."""
    special_V: Tensor
    """True for ids that are no text: never masked, never drawn as a random word."""
    continues_V: Tensor
    """True for tokens that go on with the word before them."""
    ends_word_V: Tensor | None = None
    """True for tokens after which no word goes on; None where that is so of special ones alone."""

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> Vocabulary:
        """Reads a tokenizer. Raises ``ConfigurationError`` where it has no padding token."""
        if tokenizer.pad_token_id is None:
            raise ConfigurationError("the tokenizer has no pad token; batches need one: set tokenizer.pad_token.")
        tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        special = torch.zeros(len(tokenizer), dtype=torch.bool)
        special[list(tokenizer.all_special_ids)] = True
        ids = {token: id for id, token in enumerate(tokens)}
        names = takewhile(ids.__contains__, map(SENTINEL.format, count()))
        sentinels = [ids[name] for name in names]
        special[sentinels] = True
        goes_on, ends = word_parts(tokens)
        return cls(
            pad_id=tokenizer.pad_token_id,
            mask_id=tokenizer.mask_token_id,
            cls_id=first_id(tokenizer.cls_token_id, tokenizer.bos_token_id),
            sep_id=first_id(tokenizer.sep_token_id, tokenizer.eos_token_id),
            sentinel_ids=tuple(sentinels),
            special_V=special,
            continues_V=torch.tensor(goes_on) & ~special,
            ends_word_V=torch.tensor(ends) | special,
        )

    def begins_word(self, ids_BL: Tensor) -> Tensor:
        """True for each token with which a word begins, and at each row's beginning. Shape: (B, L)."""
        ends_word_V = self.special_V if self.ends_word_V is None else self.ends_word_V
        begins_BL = ~self.continues_V[ids_BL] | ends_word_V[ids_BL].roll(1, dims=1)
        begins_BL[:, :1] = True
        return begins_BL

    @property
    def mask(self) -> int:
        return self._needed("mask")

    @property
    def cls(self) -> int:
        return self._needed("cls")

    @property
    def sep(self) -> int:
        return self._needed("sep")

    def require(self, *names: str) -> None:
        """Raises ``ConfigurationError`` for the first token that an objective needs and the tokenizer has not."""
        for name in names:
            self._needed(name)

    def _needed(self, name: str) -> int:
        found: int | None = self.sentinel_ids[0] if self.sentinel_ids else None
        if name != "sentinel":
            found = getattr(self, f"{name}_id")
        if found is None:
            raise ConfigurationError(
                f"the tokenizer has no {name} token, which this objective needs: add it to the tokenizer."
            )
        return found
