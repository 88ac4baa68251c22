"""Log-probabilities recorded by the trainer, so that a server can show it computes the same (the parity receipt)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from graft.adapters.folder.reference import MAX_ROW_TOKENS, Reference, ReferenceRow
from graft.adapters.form import ServingForm
from graft.training.batch.packing import Encoded
from graft.training.errors import Diverged
from graft.training.model.quantized import keep_laid_out
from graft.training.runtime.compiling import uncompiled

NUM_ROWS = 8
NUM_DRAWN_ROWS = 2
NUM_DRAWN_TOKENS = 16


@torch.no_grad()
def recorded(model: PreTrainedModel, rows: Sequence[Encoded], form: ServingForm) -> Reference:
    """Of the first eight rows the answers' log-probabilities, and of two short rows that the adapter draws itself those
    of every token but the first.

    A server that has no time for whole rows compares the drawn ones: they cost no prompt, and tokens that the model
    finds likely carry little of bfloat16's rounding noise (see DECISIONS). Every row runs alone, without padding. Where
    a model's weights are sharded, every process calls this: all compute the same.
    """
    model.eval()
    if any(isinstance(one, DTensor) for one in model.parameters()):
        keep_laid_out(model)  # a part of NF4's bytes is in no layout
    with uncompiled():  # each row has a length of its own
        return _recorded(model, rows, form)


def _recorded(model: PreTrainedModel, rows: Sequence[Encoded], form: ServingForm) -> Reference:
    seen = [row.input_ids[:MAX_ROW_TOKENS] for row in rows[:NUM_ROWS]]
    starts = [max(1, list(row.supervised).index(True)) for row in rows[:NUM_ROWS]]
    found = [_scored(model, ids, start) for ids, start in zip(seen, starts, strict=True) if start < len(ids)]
    generator = torch.Generator().manual_seed(0)
    first_tokens = [ids[0] for ids in seen]
    for index in range(NUM_DRAWN_ROWS):
        ids = drawn(model, first_tokens[index % len(first_tokens)], generator)
        found.append(_scored(model, ids, 1))
    return Reference(form=form, rows=tuple(found))


def _scored(model: PreTrainedModel, ids: Sequence[int], start: int) -> ReferenceRow:
    """Nats of each token from ``start`` on."""
    ids_1L = torch.tensor([list(ids)]).to(model.device)
    logprobs_LV: Tensor = model(input_ids=ids_1L).logits[0].float().log_softmax(-1)
    chosen = logprobs_LV[start - 1 : -1].gather(1, ids_1L[0, start:, None]).flatten()
    return ReferenceRow(
        token_ids=tuple(ids),
        num_prompt_tokens=start,
        logprobs=tuple(min(0.0, round(value, 6)) for value in chosen.tolist()),
    )


def drawn(
    model: nn.Module, first_token: int, generator: torch.Generator, *, num_tokens: int = NUM_DRAWN_TOKENS
) -> list[int]:
    """``first_token`` and what the model goes on to say, drawn at temperature 1, with the numbers of a CPU's generator
    on any device. Raises ``Diverged`` where it says nothing.
    """
    ids, device = [first_token], next(model.parameters()).device
    while len(ids) < num_tokens:
        logits_V: Tensor = model(input_ids=torch.tensor([ids]).to(device)).logits[0, -1]
        if not torch.isfinite(logits_V).all():
            raise Diverged(
                "what the model says next is no number: its weights are too large to be computed with; take an earlier "
                "checkpoint."
            )
        probabilities_V = logits_V.float().softmax(-1).cpu()
        ids.append(int(torch.multinomial(probabilities_V, 1, generator=generator)))
    return ids
