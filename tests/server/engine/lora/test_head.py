"""A head's outputs among other rows' logits, and its weights on their way through a slot image."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from graft.adapters.base.base import Base
from graft.server.engine.lora.head import HeadWeights, with_outputs
from graft.server.engine.lora.slot_image import SlotLayout, write_image
from graft.server.engine.lora.vllm_image import image_model, map_image
from tests.server.engine.making import write_classifier


def head(num_labels: int, *, has_bias: bool) -> HeadWeights:
    generator = torch.Generator().manual_seed(num_labels)
    bias = torch.randn(num_labels, generator=generator) if has_bias else None
    return HeadWeights(weight_NH=torch.randn(num_labels, 4, generator=generator), bias_N=bias)


def test_rows_of_heads_tell_outputs_and_others_what_they_told() -> None:
    torch.manual_seed(0)
    logits_RV, hidden_RH = torch.randn(5, 9).to(torch.bfloat16), torch.randn(5, 4).to(torch.bfloat16)
    before, heads = (
        logits_RV.clone(),
        {7: head(3, has_bias=True), 8: head(1, has_bias=False), 9: head(8, has_bias=False)},
    )
    made_RV = with_outputs(logits_RV, hidden_RH, [0, 7, 8, 7, 5], heads)
    assert torch.equal(logits_RV, before) and made_RV.dtype == torch.float32
    assert torch.equal(made_RV[[0, 4]], before[[0, 4]].float())
    told_RV = made_RV.log_softmax(-1)
    for row, adapter in ((1, 7), (2, 8), (3, 7)):
        one = heads[adapter]
        num = len(one.weight_NH)
        right = one.weight_NH @ hidden_RH[row].float() + (0 if one.bias_N is None else one.bias_N)
        torch.testing.assert_close(told_RV[row, :num] - told_RV[row, num], right)
        assert torch.isneginf(told_RV[row, num + 1 :]).all()
    assert with_outputs(logits_RV, hidden_RH, [0, 5, 0, 5, 0], heads) is logits_RV


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_an_image_holds_a_head_to_the_bit(base: Base, tmp_path: Path, dtype: torch.dtype) -> None:
    """Whatever the slots' type is; a bias, too, and none of another adapter's."""
    folder, image = write_classifier(tmp_path / "adapter", base, num_labels=3, seed=1), tmp_path / "one.slot"
    layers = {name: [name] for name in base.modules if ".layers." in name}
    write_image(folder, image, SlotLayout(layers, dtype, max_rank=8))
    model = image_model(map_image(str(image), layers), 1, layers)
    assert model.head is not None and model.head.bias_N is None
    right = load_file(folder / "adapter_model.safetensors")["base_model.model.score.weight"]
    assert torch.equal(model.head.weight_NH, right) and model.head.weight_NH.dtype == torch.float32
    assert model.loras.keys() == layers.keys()
