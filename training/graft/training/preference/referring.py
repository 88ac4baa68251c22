"""What the reference finds of every row, asked once before a training: of the model as it is before its first step.

A policy begins as its reference, whatever the method adds to the base; so no copy is needed, and none of the base's
weights may be left as they were.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from graft.training.model.quantized import keep_laid_out
from graft.training.objective.policy import answer_logprobs, read_only
from graft.training.parallel.layout import Layout
from graft.training.preference.batches import PreferenceData


def references(model: nn.Module, data: PreferenceData[Any], layout: Layout, *, learned: bool) -> list[list[float]]:
    """Σ log p of each row's answers, the rows in their order, rounded as what is ``learned`` is, or what is measured.
    Every process calls this and has all of them after it.
    """
    model.train(learned)
    keep_laid_out(model)
    with read_only(model), torch.set_grad_enabled(learned):
        return _references(model, data, layout)


def _references(model: nn.Module, data: PreferenceData[Any], layout: Layout) -> list[list[float]]:
    batches = data.in_order()
    own, found = layout.share.of(range(len(batches))), dict[str, float]()
    # Sharded weights are gathered by all at once: who has no batch left computes one that does not count.
    for turn in range(-(-len(batches) // layout.share.num)):
        number = own[turn] if turn < len(own) else 0
        sum_S, _ = answer_logprobs(model, layout.local(batches[number]).answers)
        if turn < len(own):
            found |= {f"{number}/{place}": value for place, value in enumerate(sum_S.tolist())}
    all_names = [f"{number}/{place}" for number, batch in enumerate(batches) for place in range(batch.answers.num)]
    total = layout.total({name: found.get(name, 0.0) for name in all_names})
    return [row for number, batch in enumerate(batches) for row in _rows(total, number, batch, data)]


def _rows(total: dict[str, float], number: int, batch: Any, data: PreferenceData[Any]) -> list[list[float]]:
    """Of a batch: all first answers stand before all second ones."""
    values = [total[f"{number}/{place}"] for place in range(batch.answers.num)]
    num = min(data.epochs.rows_per_batch, data.epochs.num_rows - number * data.epochs.rows_per_batch)
    return [values[place::num] for place in range(num)]
