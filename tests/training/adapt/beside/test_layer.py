"""A model whose layers compute with their adapter at once beside peft's own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor

from graft.adapters.form import ServingForm
from graft.training.adapt.beside.layer import compute_at_once
from graft.training.model.loading import load_base


def adapted(base: Path, form: ServingForm, *, dropout: float = 0.0, use_dora: bool = False) -> PeftModel:
    torch.manual_seed(0)
    config = LoraConfig(r=4, lora_alpha=12, target_modules="all-linear", lora_dropout=dropout, use_dora=use_dora)
    model = get_peft_model(load_base(base, form), config, autocast_adapter_dtype=False)
    for name, one in model.named_parameters():
        if one.requires_grad:
            one.data = one.data.to(torch.float32 if form is ServingForm.FP32 else torch.bfloat16)
            if "lora_B" in name:
                torch.nn.init.normal_(one, std=0.1)
    return model.train()


def loss_and_gradients(model: PeftModel) -> tuple[Tensor, list[Tensor]]:
    ids = torch.arange(1, 41).view(2, 20)
    torch.manual_seed(1)
    loss = model(input_ids=ids, labels=ids).loss
    learned = [one for one in model.parameters() if one.requires_grad]
    return loss.detach(), list(torch.autograd.grad(loss, learned))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize(("form", "tolerance"), [(ServingForm.FP32, 1e-6), (ServingForm.NF4, 0.05)])
def test_loss_and_gradients_are_pefts(tiny_base: Path, form: ServingForm, tolerance: float, dropout: float) -> None:
    """With dropout of the same draws. In 16 bits peft rounds more often."""
    model = adapted(tiny_base, form, dropout=dropout)
    expected = loss_and_gradients(model)
    compute_at_once(model)
    found = loss_and_gradients(model)
    assert found[0] == pytest.approx(float(expected[0]), abs=tolerance)
    for one, other in zip(found[1], expected[1], strict=True):
        assert one.dtype == other.dtype
        assert (one - other).norm() <= tolerance * max(1.0, float(other.norm()))


def test_what_is_no_plain_adapter_stays_pefts(tiny_base: Path) -> None:
    with_dora = adapted(tiny_base, ServingForm.FP32, use_dora=True)
    expected = loss_and_gradients(with_dora)
    compute_at_once(with_dora)
    torch.testing.assert_close(loss_and_gradients(with_dora), expected, rtol=0, atol=0)
    plain = adapted(tiny_base, ServingForm.FP32)
    compute_at_once(plain)
    with plain.disable_adapter():
        found = plain(input_ids=torch.arange(1, 9)[None]).logits
    assert torch.equal(found, load_base(tiny_base, ServingForm.FP32)(input_ids=torch.arange(1, 9)[None]).logits)
