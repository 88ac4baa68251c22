"""The divergences beside TRL's, and what is learned from a teacher beside whole logits and automatic derivatives."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaConfig, LlamaForCausalLM
from trl.experimental.gkd import GKDTrainer

from graft.training.batch.packing import IGNORED, Encoded, PackedBatch, batch_of_rows
from graft.training.objective import logits as logits_module
from graft.training.objective.distillation import DecoderDistillation
from graft.training.objective.divergence import Divergence
from graft.training.objective.taught_head import taught, teaching

BETAS, TEMPERATURES = (0.0, 0.1, 0.5, 0.9, 1.0), (0.7, 1.0, 2.0)
VOCABULARY = 97


def logits(seed: int, *shape: int) -> Tensor:
    return 3 * torch.randn(*shape, VOCABULARY, generator=torch.Generator().manual_seed(seed))


def llama(width: int = 32, seed: int = 0, **options: Any) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        initializer_range=0.3,
        **options,
    )
    return LlamaForCausalLM(config)


def gemma() -> Gemma2ForCausalLM:
    """Its logits are capped behind the head."""
    torch.manual_seed(3)
    config = Gemma2Config(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=64,
        initializer_range=0.3,
        final_logit_softcapping=5.0,
    )
    return Gemma2ForCausalLM(config)


@pytest.fixture
def batch() -> PackedBatch:
    """Two rows of two documents each; only some tokens are asked for."""
    generator = torch.Generator().manual_seed(5)
    rows = [
        [
            Encoded(
                input_ids=torch.randint(VOCABULARY, (length,), generator=generator).tolist(),
                supervised=[at >= length // 3 for at in range(length)],
            )
            for length in lengths
        ]
        for lengths in ((9, 6), (12, 4))
    ]
    return batch_of_rows(rows, length=16, pad_id=0)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("beta", BETAS)
def test_the_divergence_is_trls(beta: float, temperature: float) -> None:
    """Of masked rows, as TRL averages them; the square of the temperature is our factor."""
    student, teacher = logits(0, 3, 5), logits(1, 3, 5)
    labels = torch.zeros(3, 5, dtype=torch.long)
    labels[0, :2] = labels[2] = IGNORED
    expected = GKDTrainer.generalized_jsd_loss(student, teacher, labels=labels, beta=beta, temperature=temperature)
    asked = labels != IGNORED
    found = Divergence(beta=beta, temperature=temperature).losses(student[asked], teacher[asked])
    assert float(found.mean()) / temperature**2 == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("beta", BETAS)
def test_the_gradient_is_that_of_trls_loss(beta: float, temperature: float) -> None:
    student, teacher = logits(0, 7).double().requires_grad_(), logits(1, 7).double()
    loss = GKDTrainer.generalized_jsd_loss(student, teacher, beta=beta, temperature=temperature, reduction="sum")
    (expected,) = torch.autograd.grad(loss, student)
    _, found = Divergence(beta=beta, temperature=temperature).losses_and_gradient(student.detach(), teacher)
    torch.testing.assert_close(found / temperature**2, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("beta", BETAS)
def test_a_student_like_its_teacher_has_nothing_to_learn(beta: float) -> None:
    same = logits(0, 4)
    losses, gradient = Divergence(beta=beta).losses_and_gradient(same, same + 2.0)
    assert float(losses.abs().max()) < 1e-5 and float(gradient.abs().max()) < 1e-5


def test_with_one_half_it_is_symmetric_and_below_log_2() -> None:
    """Lin 1991: the Jensen–Shannon divergence."""
    one, other = 5 * logits(0, 8), 5 * logits(1, 8)
    divergence = Divergence(beta=0.5, temperature=1.0)
    torch.testing.assert_close(divergence.losses(one, other), divergence.losses(other, one))
    assert bool((divergence.losses(one, other) < math.log(2) + 1e-6).all())


def whole(student: nn.Module, teacher: nn.Module, batch: PackedBatch, divergence: Divergence) -> Tensor:
    """Both terms from whole logits."""
    row = torch.arange(batch.document_BL.shape[1])
    sees = (batch.document_BL[:, :, None] == batch.document_BL[:, None]) & (row[:, None] >= row)
    inputs = {"input_ids": batch.input_ids_BL, "position_ids": batch.position_ids_BL, "attention_mask": sees[:, None]}
    asked = batch.labels_BL != IGNORED
    own, its = student(**inputs).logits[asked], teacher(**inputs).logits[asked].detach()
    loss = GKDTrainer.generalized_jsd_loss(
        own, its, beta=divergence.beta, temperature=divergence.temperature, reduction="sum"
    )
    hard = functional.cross_entropy(own, batch.labels_BL[asked], reduction="sum")
    return torch.stack([loss * divergence.temperature**2, hard])


@pytest.mark.parametrize("tied", [True, False], ids=["tied head", "head of its own"])
@pytest.mark.parametrize("make", [lambda: llama(48, seed=1), gemma], ids=["plain head", "capped logits"])
@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_loss_and_gradients_equal_those_of_whole_logits(
    beta: float, make: Any, tied: bool, batch: PackedBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In parts of three rows; the teacher is wider than the student, or has logits that are not its head's."""
    monkeypatch.setattr(logits_module, "CPU_ELEMENTS", 3 * VOCABULARY)
    student, teacher = llama(tie_word_embeddings=tied), make()
    objective = DecoderDistillation(teacher=teacher, divergence=Divergence(beta=beta, temperature=1.5))
    sums = objective.sums(student, batch)
    expected = whole(student, teacher, batch, objective.divergence)
    torch.testing.assert_close(torch.stack([sums["soft"], sums["tokens"]]), expected, rtol=1e-5, atol=1e-4)
    factors = torch.tensor([0.3, 0.7])
    found = torch.autograd.grad(0.3 * sums["soft"] + 0.7 * sums["tokens"], list(student.parameters()))
    for one, other in zip(found, torch.autograd.grad(expected @ factors, list(student.parameters())), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_a_student_whose_logits_are_capped_learns_from_whole_ones(beta: float, batch: PackedBatch) -> None:
    student, teacher = gemma(), llama(seed=1)
    objective = DecoderDistillation(teacher=teacher, divergence=Divergence(beta=beta))
    sums = objective.sums(student, batch)
    expected = whole(student, teacher, batch, objective.divergence)
    torch.testing.assert_close(torch.stack([sums["soft"], sums["tokens"]]), expected, rtol=1e-5, atol=1e-4)
    found, other = (torch.autograd.grad(one.sum(), student.model.norm.weight)[0] for one in (sums["soft"], expected[0]))
    torch.testing.assert_close(found, other, rtol=1e-4, atol=1e-4)


def test_whole_logits_of_neither_are_ever_there(batch: PackedBatch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logits_module, "CPU_ELEMENTS", 2 * VOCABULARY)
    largest, linear = [], functional.linear

    def watched(states: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        found = linear(states, weight, bias)
        if found.shape[-1] == VOCABULARY:
            largest.append(found.numel() // VOCABULARY)
        return found

    monkeypatch.setattr(functional, "linear", watched)
    monkeypatch.setattr(nn.functional, "linear", watched)
    student, teacher = llama(), llama(48, seed=1)
    rows = teaching(
        teacher,
        batch.labels_BL,
        num_asked=batch.num_labels,
        inputs={"input_ids": batch.input_ids_BL, "use_cache": False},
    )
    taught(
        student,
        rows,
        batch.labels_BL,
        num_asked=batch.num_labels,
        divergence=Divergence(),
        input_ids=batch.input_ids_BL,
        use_cache=False,
    ).sum().backward()
    assert largest and max(largest) == 2
