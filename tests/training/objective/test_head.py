"""The fused head against logits that are computed whole."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM

from graft.training.batch.packing import IGNORED
from graft.training.objective import logits as of_logits
from graft.training.objective.head import head_cross_entropy, labelled
from graft.training.objective.logits import rows_at_once
from graft.training.objective.softmax import by_logarithms, in_place


@pytest.mark.parametrize("z", [0.0, 0.01])
@pytest.mark.parametrize("rows_at_once", [1, 3, 100])
def test_value_and_gradients_are_those_of_whole_logits(
    z: float, rows_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_logits, "CPU_ELEMENTS", rows_at_once * 11)
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(2, 5, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(11, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(11, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(11, (2, 5), generator=generator)
    labels[0, :2] = IGNORED

    logits = functional.linear(states, weight, bias)
    asked = labels != IGNORED
    expected = functional.cross_entropy(logits[asked], labels[asked], reduction="sum")
    expected = expected + z * logits[asked].logsumexp(-1).square().sum()
    wanted = torch.autograd.grad(expected / 3, (states, weight, bias))
    found = head_cross_entropy(states, weight, bias, labels, z=z)
    gradients = torch.autograd.grad(found / 3, (states, weight, bias))

    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    for one, other in zip(gradients, wanted, strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("model_type", "options"),
    [
        ("gemma2", {"final_logit_softcapping": 2.0}),
        ("granite", {"logits_scaling": 8.0}),
        ("cohere", {"logit_scale": 0.0625}),
        ("llama", {}),
    ],
)
def test_what_a_model_does_to_its_logits_counts(model_type: str, options: dict[str, float]) -> None:
    torch.manual_seed(0)
    small = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    more = {"num_key_value_heads": 2, "intermediate_size": 48, "head_dim": 16, "pad_token_id": 0}
    config = AutoConfig.for_model(model_type, **small, **more, **options)
    model = AutoModelForCausalLM.from_config(config).float()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)
    ids = torch.randint(1, 40, (2, 9))
    labels = ids.roll(-1, dims=1)
    expected = functional.cross_entropy(model(input_ids=ids).logits.flatten(0, 1), labels.flatten(), reduction="sum")
    wanted = torch.autograd.grad(expected, model.get_input_embeddings().weight)[0]
    found = labelled(model, labels, input_ids=ids).logits
    gradient = torch.autograd.grad(found, model.get_input_embeddings().weight)[0]
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.allclose(gradient, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("z", [0.0, 0.01])
@pytest.mark.parametrize("make", [in_place, by_logarithms])
def test_both_ways_of_a_part_are_the_gradient_of_its_loss(make: Any, z: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 9 * torch.randn(6, 50, generator=generator, dtype=torch.float64)
    logits[0] = torch.arange(50) * 20.0  # of whose probabilities most are below the smallest number
    labels = torch.randint(50, (6, 1), generator=generator)
    labels[1], labels[2] = logits[1].argmax(), 0
    leaf = logits.clone().requires_grad_()
    log_z = leaf.logsumexp(-1)
    expected = functional.cross_entropy(leaf, labels[:, 0], reduction="sum") + z * log_z.square().sum()
    (wanted,) = torch.autograd.grad(expected, leaf)
    losses, gradient = make(logits.clone(), labels, z, torch.float64)
    torch.testing.assert_close(losses.sum(), expected.detach())
    torch.testing.assert_close(gradient, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("num_asked", [0, 1, 9, 10])
def test_counting_beforehand_changes_nothing(num_asked: int) -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(2, 5, 7, generator=generator, requires_grad=True)
    weight = torch.randn(11, 7, generator=generator, requires_grad=True)
    labels = torch.randint(11, (10,), generator=generator)
    labels[torch.randperm(10, generator=generator)[num_asked:]] = IGNORED
    found, expected = (
        (
            total := head_cross_entropy(states, weight, None, labels.view(2, 5), num_asked=count),
            *torch.autograd.grad(total, (states, weight)),
        )
        for count in (num_asked, None)
    )
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize(("vocabulary", "rows"), [(4096, 65536), (32_000, 8192), (128_256, 2048), (262_144, 2048)])
def test_a_gpu_reads_the_heads_weights_few_times(vocabulary: int, rows: int) -> None:
    """2,048 rows and more keep an H100's products above what its memory bounds (989e12 · 4 / 3.35e12 = 1,181)."""
    assert rows_at_once(torch.device("cuda"), vocabulary) == rows > 4 * 989e12 / 3.35e12
    assert rows_at_once(torch.device("cpu"), vocabulary) * vocabulary * 4 <= 16 << 20


def test_nothing_asked_is_nothing_lost() -> None:
    states, weight = torch.ones(1, 2, 3, requires_grad=True), torch.ones(4, 3, requires_grad=True)
    labels = torch.full((1, 2), IGNORED)
    total = head_cross_entropy(states, weight, None, labels)
    total.backward()
    assert total.item() == 0 and states.grad is not None and not states.grad.any()
    with torch.no_grad():
        assert head_cross_entropy(states, weight, None, labels).item() == 0
