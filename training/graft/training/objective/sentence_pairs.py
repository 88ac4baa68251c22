"""Two segments in a row, and a question about them beside the masked tokens.

Next-sentence prediction asks whether the second segment followed the first (BERT: Devlin et al. 2019,
arXiv:1810.04805, §3.1); sentence-order prediction whether they were exchanged (ALBERT: Lan et al. 2020,
arXiv:1909.11942, §3.1), which a topic alone does not give away.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Generator, Tensor, nn
from transformers import AutoModelForPreTraining

from graft.training.batch.batch import Batch
from graft.training.batch.packing import IGNORED
from graft.training.corpus.texts import Sentences, flat
from graft.training.objective.head import labelled
from graft.training.objective.masked import RATE, choose_tokens, choose_words, masked_batch
from graft.training.objective.objective import cross_entropy, rows_of
from graft.training.objective.text_objective import TextObjective

Question = Literal["next_sentence", "sentence_order"]

_LOGITS: Mapping[str, str] = {"next_sentence": "seq_relationship_logits", "sentence_order": "sop_logits"}
"""Where BertForPreTraining and AlbertForPreTraining give the answer."""


@dataclass(frozen=True, kw_only=True)
class SentencePairObjective(TextObjective):
    """``[CLS] first [SEP] second [SEP]``: masked tokens, and one question about each row.

    Label 0 is the pair as it stood in its document, 1 the altered one, as Hugging Face has it; both are as likely. A
    document must have two sentences; of one that has not, the row asks for its masked tokens only.
    """

    model_class: ClassVar[Any] = AutoModelForPreTraining
    question: Question
    rate: float = RATE
    whole_word: bool = False

    @property
    def weights(self) -> Mapping[str, float]:
        return {"masked": 1.0, self.question: 1.0}

    def collate(
        self, documents: Sequence[Sentences], generator: Generator, others: Sequence[Sentences] | None = None
    ) -> Batch:
        """``others`` has for each row what stands in another document, where a wrong second segment comes from. Without
        it, the batch's rows are documents, and each takes from the others.
        """
        vocabulary = self.vocabulary
        rows, segments, answers = [], [], []
        for index, document in enumerate(documents):
            other = _another(documents, index, generator) if others is None else others[index]
            first, second, answer = self._pair(document, other, generator)
            first, second = _cut(first, second, self.length - 3, generator)
            rows.append([vocabulary.cls, *first, vocabulary.sep, *second, vocabulary.sep])
            segments.append([0] * (len(first) + 2) + [1] * (len(second) + 1))
            answers.append(answer)
        ids_BL = rows_of(rows, length=self.length, fill=vocabulary.pad_id)
        choose = choose_words if self.whole_word else choose_tokens
        chosen_BL = choose(ids_BL, vocabulary, self.rate, generator)
        types_BL = rows_of(segments, length=self.length, fill=0)
        batch = masked_batch(ids_BL, chosen_BL, vocabulary, generator, token_type_ids=types_BL)
        return Batch(inputs=batch.inputs, labels={**batch.labels, self.question: torch.tensor(answers)})

    def sums(self, model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        inputs = {**batch.inputs, "num_asked": batch.num_labels["masked"], "name": "prediction_logits"}
        output = labelled(model, batch.labels["masked"], **inputs)
        return {
            "masked": output.prediction_logits,
            self.question: cross_entropy(getattr(output, _LOGITS[self.question]), batch.labels[self.question]),
        }

    def _pair(
        self, document: Sentences, other: Sentences | None, generator: Generator
    ) -> tuple[list[int], list[int], int]:
        if len(document) < 2:
            return flat(document), [], IGNORED
        split = 1 + _below(len(document) - 1, generator)
        first, second = flat(document[:split]), flat(document[split:])
        if _below(2, generator) == 0:
            return first, second, 0
        if self.question == "sentence_order":
            return second, first, 1
        if other is None:
            return first, second, 0
        return first, flat(other[_below(len(other), generator) :]), 1


def _another(documents: Sequence[Sentences], index: int, generator: Generator) -> Sentences | None:
    if len(documents) < 2:
        return None
    return documents[(index + 1 + _below(len(documents) - 1, generator)) % len(documents)]


def _cut(first: list[int], second: list[int], room: int, generator: Generator) -> tuple[list[int], list[int]]:
    """Takes from the longer segment, at either end by chance, until both fit (BERT's ``truncate_seq_pair``)."""
    while len(first) + len(second) > room:
        longer = first if len(first) > len(second) else second
        del longer[0 if _below(2, generator) == 0 else -1]
    return first, second


def _below(bound: int, generator: Generator) -> int:
    return int(torch.randint(bound, (), generator=generator))
