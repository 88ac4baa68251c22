"""Log-probabilities recorded by the trainer, so that a server can show it computes the same (the parity receipt)."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from graft.adapters.form import ServingForm
from graft.training.corpus.packing import Encoded

FILE_NAME = "reference.json"
NUM_ROWS = 8


@torch.inference_mode()
def write_reference(model: PreTrainedModel, rows: Sequence[Encoded], form: ServingForm, folder: Path) -> Path:
    """Writes ``reference.json``: of the first eight rows the token ids, how many come before the answer, and the
    answer's log-probabilities.

    Nats, one per token from ``num_prompt_tokens`` on. Every row runs alone, without padding.
    """
    recorded = []
    for row in rows[:NUM_ROWS]:
        ids = torch.tensor([row.input_ids])
        logprobs_LV: Tensor = model(input_ids=ids).logits[0].float().log_softmax(-1)
        start = list(row.supervised).index(True)
        targets = ids[0, start:]
        chosen = logprobs_LV[start - 1 : -1].gather(1, targets[:, None]).flatten() if start else logprobs_LV[:0, 0]
        recorded.append(
            {
                "token_ids": list(row.input_ids),
                "num_prompt_tokens": start,
                "logprobs": [round(value, 6) for value in chosen.tolist()],
            }
        )
    path = folder / FILE_NAME
    path.write_text(json.dumps({"form": form.value, "rows": recorded}) + "\n", encoding="utf-8")
    return path
