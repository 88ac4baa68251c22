"""Rows on which two models are compared, and how far apart they are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from graft.adapters.folder.reference import Reference
from graft.training.adapt.made.reference import drawn
from graft.training.batch.packing import Encoded
from graft.training.errors import NotTheSame

NUM_DRAWN = 4
NUM_TOKENS = 24
"""Of a drawn row."""
MAX_TOKENS = 256
"""Of a recorded row."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Between what two models say to the same rows."""

    nats: float
    """|Δ log p| of the rows' own tokens, on average."""
    logits: float
    """The largest |Δ| of all logits, their mean at each place aside, which changes no probability."""


@dataclass(frozen=True, kw_only=True)
class Probes:
    """Each runs alone, without padding."""

    rows: tuple[Encoded, ...]

    @classmethod
    @torch.no_grad()
    def of(cls, model: nn.Module, reference: Reference | None, *, vocab_size: int) -> Probes:
        """The rows that the adapter's trainer recorded, and rows that the adapted model draws itself; their first
        tokens are drawn from the vocabulary, the same for all adapters of it.
        """
        generator = torch.Generator().manual_seed(0)
        recorded = [] if reference is None else reference.rows
        found = [
            _encoded(row.token_ids[:MAX_TOKENS], row.num_prompt_tokens)
            for row in recorded
            if row.num_prompt_tokens < min(len(row.token_ids), MAX_TOKENS)
        ]
        for first_token in torch.randint(vocab_size, (NUM_DRAWN,), generator=generator).tolist():
            found.append(_encoded(drawn(model, first_token, generator, num_tokens=NUM_TOKENS), 1))
        return cls(rows=tuple(found))

    @property
    def num_tokens(self) -> int:
        """On which models are compared."""
        return sum(sum(row.supervised) for row in self.rows)

    @torch.no_grad()
    def logits(self, model: nn.Module) -> list[Tensor]:
        """Of each row alone, in float32 on the CPU: places × vocabulary."""
        device = next(model.parameters()).device
        return [model(input_ids=torch.tensor([row.input_ids]).to(device)).logits[0].float().cpu() for row in self.rows]

    def difference(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> Difference:
        """Raises ``NotTheSame`` where one says what is no number."""
        nats, logits = [], 0.0
        for row, one_LV, other_LV in zip(self.rows, first, second, strict=True):
            ids_L = torch.tensor(row.input_ids[1:])[:, None]
            seen_L = torch.tensor(row.supervised[1:])
            one, other = (
                each_LV[:-1].log_softmax(-1).gather(1, ids_L).flatten()[seen_L] for each_LV in (one_LV, other_LV)
            )
            nats.append((one - other).abs())
            centred = [each_LV - each_LV.mean(-1, keepdim=True) for each_LV in (one_LV, other_LV)]
            logits = max(logits, float((centred[0] - centred[1]).abs().max()))
        found = Difference(nats=float(torch.cat(nats).mean()), logits=logits)
        if not (found.nats < float("inf") and found.logits < float("inf")):
            raise NotTheSame(
                "logits of the probe rows are not finite: the numbers of the adapter overflow on this base."
            )
        return found


def _encoded(token_ids: Sequence[int], num_prompt_tokens: int) -> Encoded:
    return Encoded(
        input_ids=list(token_ids),
        supervised=[place >= num_prompt_tokens for place in range(len(token_ids))],
    )
