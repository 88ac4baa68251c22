"""The head that answers for each label by itself, against logits that are computed whole."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM

from graft.training.batch.packing import IGNORED
from graft.training.objective import logits as of_logits
from graft.training.objective.label_logprobs import head_logprobs, label_logprobs


@pytest.mark.parametrize("head_learns", [False, True])
@pytest.mark.parametrize("rows_at_once", [1, 3, 100])
def test_value_and_weighted_gradients_are_those_of_whole_logits(
    rows_at_once: int, head_learns: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_logits, "CPU_ELEMENTS", rows_at_once * 11)
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(2, 5, 7, generator=generator, requires_grad=True)
    weight = torch.randn(11, 7, generator=generator).requires_grad_(head_learns)
    bias = torch.randn(11, generator=generator).requires_grad_(head_learns)
    labels = torch.randint(11, (2, 5), generator=generator)
    labels[0, :2] = IGNORED
    factors = torch.randn(8, generator=generator)
    leaves = [states, weight, bias] if head_learns else [states]

    asked = labels != IGNORED
    expected = functional.linear(states, weight, bias)[asked].log_softmax(-1).gather(1, labels[asked, None])[:, 0]
    found = head_logprobs(states, weight, bias, labels)

    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    # Behind it each label's weight depends on the others, as that of an answer does.
    for one, other in zip(_gradients(found, factors, leaves), _gradients(expected, factors, leaves), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def _gradients(logprobs: Tensor, factors: Tensor, leaves: list[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(functional.logsigmoid((logprobs * factors).sum()) + logprobs[0], leaves)


def test_logits_are_never_there_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """No tensor as large as half of the logits is ever made, forward or backward."""
    monkeypatch.setattr(of_logits, "CPU_ELEMENTS", 3 * 400)
    states, weight = torch.randn(50, 4, requires_grad=True), torch.randn(400, 4)
    largest = 0

    class Sizes(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), options=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            made = function(*arguments, **(options or {}))
            largest = max(largest, *(one.numel() for one in (made,) if isinstance(one, Tensor)), 0)
            return made

    with Sizes():
        head_logprobs(states, weight, None, torch.randint(400, (50,))).sum().backward()
    assert 0 < largest < 50 * 400 / 2


@pytest.mark.parametrize("options", [{"model_type": "llama"}, {"model_type": "gemma2", "final_logit_softcapping": 2.0}])
def test_what_a_model_does_to_its_logits_counts(options: dict[str, object]) -> None:
    torch.manual_seed(0)
    small = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    more = {"num_key_value_heads": 2, "intermediate_size": 48, "head_dim": 16, "pad_token_id": 0}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**options, **small, **more)).float()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)
    ids = torch.randint(1, 40, (2, 9))
    labels = ids.roll(-1, dims=1)
    labels[1, 3:] = IGNORED
    whole = model(input_ids=ids).logits.log_softmax(-1)
    expected = whole[labels != IGNORED].gather(1, labels[labels != IGNORED][:, None])[:, 0]
    found = label_logprobs(model, labels, input_ids=ids)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    embeddings = model.get_input_embeddings().weight
    factors = torch.randn(len(found))
    one, other = (torch.autograd.grad((each * factors).sum(), embeddings)[0] for each in (found, expected))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_nothing_asked_has_a_gradient_of_zero() -> None:
    states, weight = torch.ones(1, 2, 3, requires_grad=True), torch.ones(4, 3)
    found = head_logprobs(states, weight, None, torch.full((1, 2), IGNORED))
    found.sum().backward()
    assert found.shape == (0,) and states.grad is not None and not states.grad.any()
