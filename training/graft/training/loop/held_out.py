"""What a model knows of text that it is not trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn
from transformers import PreTrainedModel

from graft.training.model.quantized import keep_laid_out
from graft.training.objective.objective import Objective
from graft.training.parallel.layout import Alone, Layout, counted


class Measure(Protocol):
    """What a run measures while it goes."""

    def measure(self, model: nn.Module, layout: Layout | None = None) -> dict[str, float]:
        """Figures by their names in ``metrics.jsonl``. Every process of the layout calls this."""


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Batches that are read in order and never learned from."""

    objective: Objective[Any]
    batches: Sequence[Any]

    def measure(self, model: nn.Module, layout: Layout | None = None) -> dict[str, float]:
        """``validation_loss``, the objective's metrics as ``validation_<metric>``, and ``validation_perplexity``
        of next tokens or ``masked_accuracy`` of masked ones.

        Every process of the layout calls this; pipelines cannot.
        """
        layout = layout or Alone()
        was_training = model.training
        model.eval()
        keep_laid_out(model)
        with torch.no_grad():
            metrics = self._measured(model, layout)
        model.train(was_training)
        return metrics

    def _measured(self, model: nn.Module, layout: Layout) -> dict[str, float]:
        own = list(layout.share.of(self.batches))
        # Sharded weights are gathered by all at once: who has no batch left computes one that does not count.
        rounds = -(-len(self.batches) // layout.share.num)
        sums, right = dict[str, float](), 0.0
        for number in range(rounds):
            batch = layout.local(own[number] if number < len(own) else self.batches[0])
            found = {name: total.item() for name, total in self.objective.sums(model, batch).items()}
            hits = _num_right(model, batch)
            is_own = number < len(own)
            sums = {name: sums.get(name, 0.0) + (total if is_own else 0.0) for name, total in found.items()}
            right += hits if is_own else 0.0
        asked = counted(self.objective.counts(layout.local(batch)) for batch in own)
        counts = layout.total({name: asked.get(name, 0) for name in sums})
        sums, right = layout.total(sums), layout.total({"right": right})["right"]
        means = {name: total / max(1, counts[name]) for name, total in sums.items()}
        weights = self.objective.weights
        metrics = {"validation_loss": sum(weights[name] * mean for name, mean in means.items() if name in weights)}
        metrics |= {f"validation_{name}": mean for name, mean in means.items() if name not in weights}
        if "tokens" in means:
            metrics["validation_perplexity"] = math.exp(min(means["tokens"], 700.0))
        if "masked" in means:
            metrics["masked_accuracy"] = right / max(1, counts["masked"])
        return metrics


def _num_right(model: nn.Module, batch: Any) -> float:
    """How many of the masked tokens the model would fill in as they were."""
    labels = getattr(batch, "labels", {}).get("masked")
    if labels is None or not isinstance(model, PreTrainedModel):
        return 0.0
    output = model(**batch.inputs)
    logits = output.logits if "logits" in output else output.prediction_logits
    return float((logits.argmax(-1) == labels).sum())
