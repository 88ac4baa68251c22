"""Every objective against the loss that Hugging Face, or the paper written out slowly, computes on the same batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AlbertConfig,
    AlbertForMaskedLM,
    AlbertForPreTraining,
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    DistilBertConfig,
    DistilBertForMaskedLM,
    ElectraConfig,
    ElectraForMaskedLM,
    ElectraForPreTraining,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedModel,
    RobertaConfig,
    RobertaForMaskedLM,
    T5Config,
    T5ForConditionalGeneration,
    XLNetConfig,
    XLNetLMHeadModel,
)

from graft.training.batch.batch import AnyBatch
from graft.training.batch.packing import IGNORED, Encoded, batch_of_rows
from graft.training.corpus.texts import flat
from graft.training.objective.causal import CausalObjective
from graft.training.objective.denoising import DenoisingObjective
from graft.training.objective.distillation import (
    DecoderDistillation,
    EncoderDistillation,
)
from graft.training.objective.experts import ExpertsObjective
from graft.training.objective.masked import MaskedObjective
from graft.training.objective.objective import Objective
from graft.training.objective.permutation import PermutationObjective
from graft.training.objective.prefix import PrefixObjective
from graft.training.objective.replaced_token import GeneratorAndDiscriminator, ReplacedTokenObjective
from graft.training.objective.sentence_pairs import SentencePairObjective
from graft.training.objective.span_boundary import SpanBoundaryModel, SpanBoundaryObjective
from graft.training.objective.span_corruption import SpanCorruptionObjective
from tests.training.objective.vocabularies import CLS, DECODER, PAD, SEP, SIZE, documents, generator, vocabulary

SMALL: dict[str, Any] = {
    "vocab_size": SIZE,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 66,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "pad_token_id": PAD,
}
LENGTHS = (40, 62, 12, 33)


def made(kind: type[PreTrainedModel], config: Any, seed: int = 0) -> PreTrainedModel:
    """Larger weights than at the start of a training: a wrong sum shows."""
    torch.manual_seed(seed)
    model = kind(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    return model


def total(objective: Objective[Any], model: nn.Module, batch: AnyBatch) -> Tensor:
    sums, counts = objective.sums(model, batch), objective.counts(batch)
    assert sums.keys() == objective.weights.keys() == counts.keys()
    return sum((objective.weights[name] * sums[name] / counts[name] for name in sums), torch.zeros(()))


def assert_is(found: Tensor, expected: Tensor) -> None:
    assert expected.item() > 0.1
    assert found.item() == pytest.approx(expected.item(), abs=1e-5)


def of(inputs: Mapping[str, Tensor], *names: str) -> dict[str, Tensor]:
    return {name: inputs[name] for name in names}


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        (BertForMaskedLM, BertConfig(**SMALL)),
        (RobertaForMaskedLM, RobertaConfig(**SMALL)),
        (AlbertForMaskedLM, AlbertConfig(**SMALL, embedding_size=16)),
        (ElectraForMaskedLM, ElectraConfig(**SMALL, embedding_size=16)),
        (
            DistilBertForMaskedLM,
            DistilBertConfig(
                vocab_size=SIZE,
                dim=32,
                n_layers=2,
                n_heads=4,
                hidden_dim=48,
                dropout=0,
                attention_dropout=0,
                pad_token_id=PAD,
            ),
        ),
    ],
)
@pytest.mark.parametrize("whole_word", [False, True])
def test_masked(kind: type[PreTrainedModel], config: Any, whole_word: bool) -> None:
    objective = MaskedObjective(vocabulary=vocabulary(), length=64, whole_word=whole_word)
    batch = objective.collate(documents(*LENGTHS), generator())
    model = made(kind, config)
    assert_is(total(objective, model, batch), model(**batch.inputs, labels=batch.labels["masked"]).loss)


def test_next_sentence() -> None:
    objective = SentencePairObjective(vocabulary=vocabulary(), length=64, question="next_sentence")
    batch = objective.collate(documents(*LENGTHS), generator())
    model = made(BertForPreTraining, BertConfig(**SMALL))
    labels = {"labels": batch.labels["masked"], "next_sentence_label": batch.labels["next_sentence"]}
    assert_is(total(objective, model, batch), model(**batch.inputs, **labels).loss)


def test_sentence_order() -> None:
    objective = SentencePairObjective(vocabulary=vocabulary(), length=64, question="sentence_order")
    batch = objective.collate(documents(*LENGTHS), generator())
    model = made(AlbertForPreTraining, AlbertConfig(**SMALL, embedding_size=16))
    labels = {"labels": batch.labels["masked"], "sentence_order_label": batch.labels["sentence_order"]}
    assert_is(total(objective, model, batch), model(**batch.inputs, **labels).loss)
    shared = {id(layer) for layer in [model.albert.encoder.albert_layer_groups[0]]}
    assert len(shared) == len(model.albert.encoder.albert_layer_groups) == 1, "one layer serves for all"


def test_span_boundary() -> None:
    """Equations 1 to 4 of SpanBERT, token by token."""
    objective = SpanBoundaryObjective(vocabulary=vocabulary(), length=64)
    batch = objective.collate(documents(*LENGTHS), generator())
    model = SpanBoundaryModel(made(BertForMaskedLM, BertConfig(**SMALL))).eval()
    inputs = of(batch.inputs, "input_ids", "attention_mask")
    masked = model.pretrained(**inputs, labels=batch.labels["masked"]).loss
    states = model.pretrained(**inputs, output_hidden_states=True).hidden_states[-1]
    first, _, first_norm, second, _, second_norm = model.boundary.layers
    losses = []
    for row, labels in enumerate(batch.labels["boundary"].tolist()):
        for at, label in enumerate(labels):
            if label == IGNORED:
                continue
            begin = max(one for one in range(at) if labels[one] == IGNORED)  # x_{s-1}
            end = min(one for one in range(at + 1, 64) if labels[one] == IGNORED)  # x_{e+1}
            place = model.boundary.places.weight[at - begin - 1]
            h = torch.cat((states[row, begin], states[row, end], place))
            h = first_norm(nn.functional.gelu(first(h)))
            h = second_norm(nn.functional.gelu(second(h)))
            logits = model.pretrained.get_input_embeddings().weight @ h
            losses.append(logits.logsumexp(0) - logits[label])
    assert len(losses) > 10
    assert_is(total(objective, model, batch), masked + torch.stack(losses).mean())


def test_replaced_token() -> None:
    objective = ReplacedTokenObjective(vocabulary=vocabulary(), length=64)
    batch = objective.collate(documents(*LENGTHS), generator())
    config = ElectraConfig(**SMALL, embedding_size=16)
    model = GeneratorAndDiscriminator(made(ElectraForMaskedLM, config, 0), made(ElectraForPreTraining, config, 1))
    seen: list[Tensor] = []
    model.discriminator.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["input_ids"]), with_kwargs=True
    )
    found = total(objective, model, batch)
    mask = of(batch.inputs, "attention_mask")
    filled = model.generator(input_ids=batch.inputs["input_ids"], **mask, labels=batch.labels["generator"])
    is_replaced = (seen[0] != batch.inputs["original"]).long()
    judged = model.discriminator(input_ids=seen[0], **mask, labels=is_replaced)
    assert is_replaced.sum() > 5
    assert not bool((is_replaced.bool() & (batch.labels["generator"] == IGNORED)).any())
    assert_is(found, filled.loss + 50 * judged.loss)
    assert model.generator.get_input_embeddings() is model.discriminator.get_input_embeddings()


def test_the_generators_words_follow_its_distribution() -> None:
    objective = ReplacedTokenObjective(vocabulary=vocabulary(), length=64)
    batch = objective.collate(documents(*[60] * 400), generator())
    chosen = batch.labels["generator"] != IGNORED
    logits = torch.full((*chosen.shape, SIZE), -30.0)
    logits[..., 20], logits[..., 30] = torch.log(torch.tensor([0.25, 0.75]))
    words = objective._replace(logits, batch)[chosen]
    assert set(words.tolist()) == {20, 30}
    assert (words == 30).float().mean().item() == pytest.approx(0.75, abs=0.03)


def test_permutation() -> None:
    objective = PermutationObjective(vocabulary=vocabulary(), length=64)
    batch = objective.collate(documents(*LENGTHS), generator())
    config = XLNetConfig(vocab_size=SIZE, d_model=32, n_layer=2, n_head=4, d_inner=48, dropout=0.0)
    model = made(XLNetLMHeadModel, config)
    assert_is(total(objective, model, batch), model(**batch.inputs, labels=batch.labels["tokens"]).loss)


def test_no_token_is_given_away_to_its_own_prediction() -> None:
    """Changing a predicted token changes the predictions of those behind it in the order, and of no others."""
    objective = PermutationObjective(vocabulary=vocabulary(), length=24)
    batch = objective.collate(documents(22), generator())
    model = made(
        XLNetLMHeadModel, XLNetConfig(vocab_size=SIZE, d_model=32, n_layer=2, n_head=4, d_inner=48, dropout=0.0)
    )
    places = batch.inputs["target_mapping"][0].argmax(-1)
    before = model(**batch.inputs).logits[0]
    for number, place in enumerate(places):
        ids = batch.inputs["input_ids"].clone()
        ids[0, place] = 15 if ids[0, place] != 15 else 16
        after = model(**{**batch.inputs, "input_ids": ids}).logits[0]
        changed = (after - before).abs().amax(-1) > 1e-6
        sees = batch.inputs["perm_mask"][0, places, place] == 0
        assert not changed[number]
        assert torch.equal(changed, sees)


def test_experts() -> None:
    """Hugging Face's loss of a Mixtral; without packing, as it cannot take a packed row's mask."""
    config = MixtralConfig(**DECODER, num_key_value_heads=2, num_local_experts=4, router_aux_loss_coef=0.02)
    model = made(MixtralForCausalLM, config)
    texts = [flat(one) for one in documents(*LENGTHS)]
    lines = [[Encoded(input_ids=text, supervised=[True] * len(text))] for text in texts]
    batch = batch_of_rows(lines, length=64, pad_id=PAD)
    mask = (batch.document_BL != 0).long()
    labels = torch.where(mask == 1, batch.input_ids_BL, IGNORED)
    expected = model(input_ids=batch.input_ids_BL, attention_mask=mask, labels=labels, output_router_logits=True).loss
    assert_is(total(ExpertsObjective(), model, batch), expected)


@pytest.mark.parametrize("objective", [SpanCorruptionObjective, DenoisingObjective])
def test_encoder_decoders(objective: type[SpanCorruptionObjective] | type[DenoisingObjective]) -> None:
    made_objective = objective(vocabulary=vocabulary(), length=64)
    batch = made_objective.collate(documents(*LENGTHS), generator())
    t5 = T5Config(
        vocab_size=SIZE,
        d_model=32,
        d_kv=8,
        d_ff=48,
        num_layers=2,
        num_heads=4,
        dropout_rate=0.0,
        decoder_start_token_id=PAD,
        pad_token_id=PAD,
        eos_token_id=SEP,
    )
    bart = BartConfig(
        vocab_size=SIZE,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        dropout=0.0,
        max_position_embeddings=64,
        pad_token_id=PAD,
        bos_token_id=CLS,
        eos_token_id=SEP,
        decoder_start_token_id=SEP,
        forced_eos_token_id=SEP,
    )
    for model in (made(T5ForConditionalGeneration, t5), made(BartForConditionalGeneration, bart)):
        assert_is(total(made_objective, model, batch), model(**batch.inputs, labels=batch.labels["tokens"]).loss)


def llama(seed: int) -> PreTrainedModel:
    return made(LlamaForCausalLM, LlamaConfig(**DECODER), seed)


def test_a_sliding_window_slides_in_packed_rows_too() -> None:
    """Mistral's own loss of each document by itself, which makes the window's mask in Hugging Face's code."""
    config = MistralConfig(**DECODER, num_key_value_heads=4, sliding_window=4)
    model = made(MistralForCausalLM, config)
    texts = [flat(one) for one in documents(20, 30)]
    batch = batch_of_rows(
        [[Encoded(input_ids=text, supervised=[True] * len(text)) for text in texts]], length=64, pad_id=PAD
    )
    alone = [
        model(input_ids=torch.tensor([text]), labels=torch.tensor([text])).loss * (len(text) - 1) for text in texts
    ]
    assert_is(total(CausalObjective(), model, batch), torch.stack(alone).sum() / batch.num_labels)


def test_prefix() -> None:
    """Row by row without padding, with a mask written out by hand; Hugging Face's own loss over it."""
    objective = PrefixObjective(vocabulary=vocabulary(), length=64)
    batch = objective.collate(documents(*LENGTHS), generator())
    model = llama(0)
    losses = []
    for row, length in enumerate([one + 1 for one in LENGTHS]):
        ids = batch.inputs["input_ids"][row : row + 1, :length]
        asked = batch.labels["tokens"][row, :length] != IGNORED
        prefix = int(asked.nonzero()[0]) + 1
        mask = torch.zeros(1, 1, length, length, dtype=torch.bool)
        for query in range(length):
            for key in range(length):
                mask[0, 0, query, key] = key <= query or key < prefix
        labels = ids.clone()
        labels[:, :prefix] = IGNORED
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        losses.append(loss * (length - prefix))
    assert_is(total(objective, model, batch), torch.stack(losses).sum() / batch.num_labels["tokens"])


def test_encoder_distillation() -> None:
    """The published training code's terms, with torch's own loss classes."""
    student, teacher = made(BertForMaskedLM, BertConfig(**SMALL), 0), made(BertForMaskedLM, BertConfig(**SMALL), 1)
    objective = EncoderDistillation(masked=MaskedObjective(vocabulary=vocabulary(), length=64), teacher=teacher)
    batch = objective.collate(documents(*LENGTHS), generator())
    own = student(**batch.inputs, labels=batch.labels["masked"], output_hidden_states=True)
    its = teacher(**batch.inputs, output_hidden_states=True)
    asked = batch.labels["masked"] != IGNORED
    soft = (
        nn.KLDivLoss(reduction="batchmean")(
            (own.logits[asked] / 2.0).log_softmax(-1), (its.logits[asked] / 2.0).softmax(-1)
        )
        * 4.0
    )
    text = batch.inputs["attention_mask"].bool()
    states = own.hidden_states[-1][text], its.hidden_states[-1][text]
    direction = nn.CosineEmbeddingLoss(reduction="mean")(*states, torch.ones(int(text.sum())))
    assert_is(total(objective, student, batch), 5.0 * soft + 2.0 * own.loss + direction)


def test_decoder_distillation() -> None:
    student, teacher = llama(0), llama(1)
    texts = [flat(document) for document in documents(*LENGTHS)]
    rows = [[Encoded(input_ids=ids, supervised=[True] * len(ids))] for ids in texts]
    batch = batch_of_rows(rows, length=max(map(len, texts)), pad_id=PAD)
    objective = DecoderDistillation(teacher=teacher)
    inputs = {"input_ids": batch.input_ids_BL, "attention_mask": (batch.document_BL != 0).long()}
    own, its = student(**inputs).logits, teacher(**inputs).logits
    asked = batch.labels_BL != IGNORED
    soft = torch.zeros(())
    for mine, theirs in zip(own[asked], its[asked], strict=True):
        p, q = (theirs / 2.0).softmax(-1), (mine / 2.0).softmax(-1)
        soft = soft + 4.0 * (p * (p / q).log()).sum() / int(asked.sum())
    hard = nn.CrossEntropyLoss()(own[asked], batch.labels_BL[asked])
    assert_is(total(objective, student, batch), 0.5 * soft + 0.5 * hard)
