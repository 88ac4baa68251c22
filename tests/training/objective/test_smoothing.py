"""Label smoothing against Hugging Face's and torch's; noise on embeddings against transformers' NEFTune."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import LlamaForCausalLM
from transformers.integrations.neftune import neftune_post_forward_hook
from transformers.trainer_pt_utils import LabelSmoother

from graft.training.batch.packing import Encoded, batch_of_rows
from graft.training.objective.causal import CausalObjective
from graft.training.objective.noise import document_lengths
from graft.training.objective.softmax import SmoothedSoftmax, by_logarithms, in_place


def encoded(size: int, first: int = 10) -> Encoded:
    return Encoded(input_ids=list(range(first, first + size)), supervised=[False] * 3 + [True] * (size - 3))


@pytest.mark.parametrize("epsilon", [0.1, 0.5])
def test_a_smoothed_loss_is_hugging_faces(model: LlamaForCausalLM, epsilon: float) -> None:
    row = encoded(20)
    batch = batch_of_rows([[row]], length=32, pad_id=0)
    model.train()
    found = CausalObjective(label_smoothing=epsilon).sums(model, batch)["tokens"]
    labels = torch.where(torch.tensor([row.supervised]), torch.tensor([row.input_ids]), -100)
    output = model(input_ids=torch.tensor([row.input_ids]))
    expected = LabelSmoother(epsilon=epsilon)(output, labels, shift_labels=True)
    torch.testing.assert_close(found / batch.num_labels, expected, rtol=1e-5, atol=1e-5)
    model.eval()
    plain = CausalObjective().sums(model, batch)["tokens"]
    assert CausalObjective(label_smoothing=epsilon).sums(model, batch)["tokens"] == plain  # what is measured is not


@pytest.mark.parametrize("z", [0.0, 1e-2])
def test_a_smoothed_gradient_is_torchs(z: float) -> None:
    torch.manual_seed(0)
    logits = torch.randn(7, 33, requires_grad=True)
    labels = torch.randint(33, (7, 1))
    losses, gradient = SmoothedSoftmax(smoothing=0.2).losses_and_gradient(
        logits.detach().clone(), labels, z, torch.float32
    )
    total = functional.cross_entropy(logits, labels[:, 0], label_smoothing=0.2, reduction="none")
    total = total + z * logits.logsumexp(-1).square()
    torch.testing.assert_close(losses[:, 0], total)
    total.sum().backward()
    torch.testing.assert_close(gradient, logits.grad)
    alike = [one(logits.detach().clone(), labels, z, torch.float32)[1] for one in (in_place, by_logarithms)]
    torch.testing.assert_close(alike[0], alike[1])


def test_noise_is_that_of_transformers(model: LlamaForCausalLM) -> None:
    batch = batch_of_rows([[encoded(32)]], length=32, pad_id=0)
    model.train()
    torch.manual_seed(3)
    found = CausalObjective(neftune_noise_alpha=5.0).sums(model, batch)["tokens"]
    embeddings: nn.Module = model.get_input_embeddings()
    embeddings.neftune_noise_alpha = 5.0
    handle = embeddings.register_forward_hook(neftune_post_forward_hook)
    torch.manual_seed(3)
    expected = CausalObjective().sums(model, batch)["tokens"]
    handle.remove()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    plain = CausalObjective().sums(model, batch)["tokens"]
    assert not torch.isclose(found, plain, rtol=1e-3)
    model.eval()
    assert (
        CausalObjective(neftune_noise_alpha=5.0).sums(model, batch)["tokens"]
        == CausalObjective().sums(model, batch)["tokens"]
    )


def test_documents_side_by_side_have_the_noise_of_their_own_length() -> None:
    batch = batch_of_rows([[encoded(5), encoded(9)], [encoded(12)]], length=16, pad_id=0)
    lengths = document_lengths(batch.document_BL)
    assert lengths[0].tolist() == [5.0] * 5 + [9.0] * 9 + [2.0] * 2
    assert lengths[1].tolist() == [12.0] * 12 + [4.0] * 4
