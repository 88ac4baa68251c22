"""Next-token prediction (Bengio et al. 2003, eq. 1; Radford et al. 2018, eq. 1)."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from graft.training.corpus.mixture import Mixture
from graft.training.corpus.packing import IGNORED, Batch, Encoded, pack
from graft.training.objective.objective import Loss


def next_token_loss(model: PreTrainedModel, batch: Batch) -> Loss:
    """Cross-entropy summed over the supervised tokens, computed in float32. Attention stays within each document."""
    output = model(
        input_ids=batch.input_ids_BL,
        attention_mask=batch.attention_mask(),
        position_ids=batch.position_ids_BL,
        use_cache=False,
    )
    logits_NV = output.logits.flatten(0, 1).float()
    total = functional.cross_entropy(logits_NV, batch.labels_BL.flatten(), ignore_index=IGNORED, reduction="sum")
    return Loss(total=total, num_tokens=batch.num_supervised_tokens)


@dataclass(frozen=True, kw_only=True)
class CausalObjective:
    """Every token of every document of a mixture is learned."""

    mixture: Mixture
    tokenizer: PreTrainedTokenizerFast
    num_rows: int
    """Rows per batch."""
    length: int
    """Tokens per row."""
    seed: int

    def batches(self, step: int) -> list[Batch]:
        encoded = self._encoded(Random(f"{self.seed}/{step}"))
        pad_id = self.tokenizer.pad_token_id
        return [pack(encoded, num_rows=self.num_rows, length=self.length, pad_id=pad_id)]

    def loss(self, model: PreTrainedModel, batch: Batch) -> Loss:
        return next_token_loss(model, batch)

    def _encoded(self, rng: Random) -> Iterator[Encoded]:
        for document in self.mixture.documents(rng):
            ids = self.tokenizer(document.text)["input_ids"] + [self.tokenizer.eos_token_id]
            yield Encoded(input_ids=ids, supervised=[True] * len(ids))
