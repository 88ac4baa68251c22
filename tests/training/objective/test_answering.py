"""Losses of models with heads: Hugging Face's own of the same batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
)

from graft.training.batch.batch import Batch
from graft.training.batch.packing import IGNORED
from graft.training.objective.multiple_choice import MultipleChoice
from graft.training.objective.objective import Objective
from graft.training.objective.score_and_language import ScoreAndLanguage, WithLanguageHead
from graft.training.objective.sequence_classification import SequenceClassification
from graft.training.objective.span_extraction import SpanExtraction
from graft.training.objective.text_to_text import TextToText
from graft.training.objective.token_classification import TokenClassification

PAD, END, VOCABULARY = 0, 2, 64
SIZES: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {"pad_token_id": PAD},
    "albert": {"embedding_size": 16},
    "electra": {},
    "distilbert": {"dim": 32, "n_heads": 2, "n_layers": 2, "hidden_dim": 48},
    "gpt2": {"n_embd": 32, "n_head": 2, "n_layer": 2},
    "llama": {"num_key_value_heads": 2},
    "qwen3": {"num_key_value_heads": 2, "head_dim": 16},
    "bart": {
        "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
        "encoder_attention_heads": 2, "decoder_attention_heads": 2, "decoder_start_token_id": END,
    },
    "t5": {"d_model": 32, "d_kv": 16, "d_ff": 48, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": PAD},
}  # fmt: skip
LENGTHS = (9, 5, 7)
Losses = Callable[[PreTrainedModel, Batch], Tensor]


def made(auto: Any, kind: str, **options: Any) -> PreTrainedModel:
    """With random weights, in float32 and evaluation."""
    torch.manual_seed(0)
    common = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
        "vocab_size": VOCABULARY, "pad_token_id": PAD, "eos_token_id": END, "bos_token_id": 1,
    }  # fmt: skip
    config = AutoConfig.for_model(kind, **{**common, **SIZES[kind], **options})
    model: PreTrainedModel = auto.from_config(config, dtype=torch.float32)
    for name, one in model.named_parameters():
        if one.ndim > 1:  # so that heads say something
            torch.nn.init.normal_(one, std=0.2 if "embed" not in name else 1.0)
    return model.eval()


def ids_of(lengths: tuple[int, ...] = LENGTHS) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.full((len(lengths), max(lengths)), PAD)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(3, VOCABULARY, (length,), generator=generator)
        ids[row, length - 1] = END
    return {"input_ids": ids, "attention_mask": (ids != PAD).long()}


def mean(objective: Objective[Batch], model: torch.nn.Module, batch: Batch) -> Tensor:
    sums, counts = objective.sums(model, batch), objective.counts(batch)
    return torch.stack([objective.weights[name] * one / counts[name] for name, one in sums.items()]).sum()


def row_of(one: Tensor, at: int) -> Tensor:
    """Without its padding."""
    row = one[at : at + 1]
    return row[:, : LENGTHS[at]] if one.shape[1:] == (max(LENGTHS),) else row


def parts_add_up(objective: Objective[Batch], model: torch.nn.Module, batch: Batch) -> None:
    """Sums of single rows are the sum of all of them, whatever they are padded to."""
    whole = {name: one.item() for name, one in objective.sums(model, batch).items()}
    rows = [
        objective.sums(
            model,
            Batch(
                inputs={name: row_of(one, at) for name, one in batch.inputs.items()},
                labels={name: row_of(one, at) for name, one in batch.labels.items()},
            ),
        )
        for at in range(len(LENGTHS))
    ]
    for name, total in whole.items():
        assert sum(row[name].item() for row in rows) == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("kind", SIZES)
def test_a_class_of_a_row(kind: str) -> None:
    model = made(AutoModelForSequenceClassification, kind, num_labels=3)
    labels = torch.tensor([2, 0, 1])
    batch = Batch(inputs=ids_of(), labels={"label": labels})
    expected = model(**batch.inputs, labels=labels).loss
    objective = SequenceClassification()
    assert torch.allclose(mean(objective, model, batch), expected, atol=1e-5)
    parts_add_up(objective, model, batch)


@pytest.mark.parametrize("kind", ["bert", "llama", "bart"])
def test_several_classes_of_a_row_and_a_number(kind: str) -> None:
    several = made(AutoModelForSequenceClassification, kind, num_labels=3, problem_type="multi_label_classification")
    labels = torch.tensor([[1, 0, 1], [0, 0, 0], [0, 1, 0]])
    batch = Batch(inputs=ids_of(), labels={"label": labels})
    expected = several(**batch.inputs, labels=labels.float()).loss
    objective = SequenceClassification(problem="multi_label_classification")
    assert torch.allclose(mean(objective, several, batch), expected, atol=1e-5)
    parts_add_up(objective, several, batch)

    one = made(AutoModelForSequenceClassification, kind, num_labels=1, problem_type="regression")
    targets = torch.tensor([0.5, -100.0, 3.25])  # what else means "not asked" is a number like any other
    batch = Batch(inputs={**ids_of(), "target": targets}, labels={"label": torch.zeros(3, dtype=torch.long)})
    expected = one(**ids_of(), labels=targets).loss
    objective = SequenceClassification(problem="regression")
    assert torch.allclose(mean(objective, one, batch), expected, rtol=1e-5)
    parts_add_up(objective, one, batch)


@pytest.mark.parametrize("objective", [SequenceClassification(problem="regression"), SequenceClassification()])
def test_a_silent_batch_asks_nothing(objective: SequenceClassification) -> None:
    model = made(AutoModelForSequenceClassification, "bert", num_labels=1)
    inputs = {**ids_of(), "target": torch.ones(3)}
    batch = Batch(inputs=inputs, labels={"label": torch.zeros(3, dtype=torch.long)}).silent()
    assert objective.counts(batch) == {"label": 0}
    assert objective.sums(model, batch)["label"].item() == 0.0


@pytest.mark.parametrize("kind", ["bert", "distilbert", "gpt2", "llama", "t5"])
def test_a_class_of_each_word(kind: str) -> None:
    model = made(AutoModelForTokenClassification, kind, num_labels=4)
    inputs = ids_of()
    labels = (inputs["input_ids"] % 4).masked_fill(inputs["attention_mask"] == 0, IGNORED)
    labels[:, 0] = IGNORED
    batch = Batch(inputs=inputs, labels={"tags": labels})
    expected = model(**inputs, labels=labels).loss
    assert torch.allclose(mean(TokenClassification(), model, batch), expected, atol=1e-5)
    parts_add_up(TokenClassification(), model, batch)


@pytest.mark.parametrize("kind", ["bert", "albert", "gpt2", "llama", "bart"])
def test_a_span_of_a_text(kind: str) -> None:
    model = made(AutoModelForQuestionAnswering, kind)
    inputs = ids_of()
    start, end = torch.tensor([3, 0, 2]), torch.tensor([6, 0, 2])
    batch = Batch(inputs=inputs, labels={"start": start, "end": end})
    expected = model(**inputs, start_positions=start, end_positions=end).loss
    assert torch.allclose(mean(SpanExtraction(), model, batch), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "electra"])
def test_a_choice_among_continuations(kind: str) -> None:
    model = made(AutoModelForMultipleChoice, kind)
    rows = ids_of((9, 5, 7, 6, 8, 4))
    inputs = {name: one.view(2, 3, -1) for name, one in rows.items()}
    labels = torch.tensor([2, 0])
    batch = Batch(
        inputs={**inputs, "is_there": torch.ones(2, 3, dtype=torch.bool)},
        labels={"choice": labels},
    )
    expected = model(**inputs, labels=labels).loss
    assert torch.allclose(mean(MultipleChoice(), model, batch), expected, atol=1e-5)


def test_a_choice_by_a_decoder_and_of_fewer_than_others_have() -> None:
    model = made(AutoModelForSequenceClassification, "llama", num_labels=1)
    rows = ids_of((9, 5, 7, 6, 8, 4))
    scores = model(**rows).logits.view(2, 3)
    is_there = torch.tensor([[True, True, True], [True, True, False]])
    batch = Batch(
        inputs={**{name: one.view(2, 3, -1) for name, one in rows.items()}, "is_there": is_there},
        labels={"choice": torch.tensor([1, 0])},
    )
    cross_entropy = torch.nn.functional.cross_entropy
    expected = cross_entropy(scores[:1], torch.tensor([1])) + cross_entropy(scores[1:, :2], torch.tensor([0]))
    assert torch.allclose(mean(MultipleChoice(by_rows=True), model, batch), expected / 2, atol=1e-5)


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_a_text_from_a_text(kind: str) -> None:
    model = made(AutoModelForSeq2SeqLM, kind)
    inputs = ids_of()
    labels = ids_of((4, 6, 3))["input_ids"]
    labels = labels.masked_fill(labels == PAD, IGNORED)
    batch = Batch(inputs=inputs, labels={"tokens": labels})
    expected = model(**inputs, labels=labels).loss
    assert torch.allclose(mean(TextToText(), model, batch), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_next_tokens_beside_a_class(kind: str) -> None:
    """Radford et al. 2018, eq. 5: the sum of what two models with the same weights say."""
    language = made(AutoModelForCausalLM, kind, tie_word_embeddings=True)
    classifier = made(AutoModelForSequenceClassification, kind, num_labels=2)
    classifier.base_model.load_state_dict(language.base_model.state_dict())
    inputs = ids_of()
    labels = torch.tensor([1, 0, 1])
    tokens = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, IGNORED)
    shifted = torch.cat([tokens[:, 1:], torch.full((3, 1), IGNORED)], dim=1)
    batch = Batch(inputs=inputs, labels={"label": labels, "tokens": shifted})
    expected = classifier(**inputs, labels=labels).loss + 0.5 * language(**inputs, labels=tokens).loss
    both = WithLanguageHead(classifier, language.get_output_embeddings())
    objective = ScoreAndLanguage(score=SequenceClassification(), lm_coef=0.5)
    found = mean(objective, both, batch)
    assert torch.allclose(found, expected, atol=1e-5)
    found.backward()
    assert classifier.get_input_embeddings().weight.grad is not None
