"""Generated documents, packed: the data of the bases that Graft ships."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from transformers import PreTrainedTokenizerFast

from graft.training.batch.data import WHOLE, Share
from graft.training.batch.packing import Encoded, PackedBatch, pack
from graft.training.rootstock.corpus.mixture import Mixture


@dataclass(frozen=True, kw_only=True)
class PackedMixture:
    """Every token of every document of a mixture is learned; one micro-batch a step."""

    mixture: Mixture
    tokenizer: PreTrainedTokenizerFast
    num_rows: int
    """Rows per batch."""
    length: int
    """Tokens per row."""
    seed: int

    def batches(self, step: int, share: Share = WHOLE) -> list[PackedBatch]:
        return [self._batch(number) for number in share.of([step])]

    def _batch(self, step: int) -> PackedBatch:
        encoded = self._encoded(Random(f"{self.seed}/{step}"))
        return pack(encoded, num_rows=self.num_rows, length=self.length, pad_id=self.tokenizer.pad_token_id)

    def _encoded(self, rng: Random) -> Iterator[Encoded]:
        for document in self.mixture.documents(rng):
            ids = self.tokenizer(document.text)["input_ids"] + [self.tokenizer.eos_token_id]
            yield Encoded(input_ids=ids, supervised=[True] * len(ids))
