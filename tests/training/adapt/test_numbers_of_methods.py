"""Methods beside slow code and beside peft: what they begin with, how they learn, what a bottleneck computes."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AdaLoraConfig, LoraConfig, PeftModel, get_peft_model
from peft.optimizers import create_loraplus_optimizer
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import AdamW
from transformers import PreTrainedModel

from graft.adapters.base.base import Base
from graft.adapters.form import ServingForm
from graft.training.adapt.adaptable import Adaptable
from graft.training.adapt.made.written import whole_adapter
from graft.training.adapt.method import Method
from graft.training.adapt.methods.bottleneck import load_bottlenecks
from graft.training.adapt.methods.catalog import method_of
from graft.training.adapt.optimizers import optimizers_of
from graft.training.adapt.settings import AdaptSettings
from graft.training.batch.packing import Encoded, PackedBatch, batch_of_rows
from graft.training.loop.step import Step
from graft.training.model.loading import load_base
from graft.training.objective.causal import CausalObjective

IDS = [5, 9, 13, 40, 41, 9, 77, 12, 60]


def made(folder: Path, **settings: Any) -> tuple[PreTrainedModel, Method, Any]:
    """A base in float32, a method, and the two together."""
    base, model = Adaptable.of(Base.from_folder(folder)), load_base(folder, ServingForm.FP32)
    plain = copy.deepcopy(model)
    method = method_of(AdaptSettings.from_mapping(settings))
    return plain, method, method.inject(model, base, seed=0)


def batch(ids: list[int]) -> PackedBatch:
    return batch_of_rows([[Encoded(input_ids=ids, supervised=[True] * len(ids))]], length=len(ids), pad_id=0)


@pytest.mark.parametrize("name", ["pissa", "olora"])
def test_what_begins_with_the_base_s_weights_begins_with_peft_s_numbers(name: str, tiny_base: Path) -> None:
    plain, _, model = made(tiny_base, method=name, r=4)
    config = LoraConfig(r=4, lora_alpha=32, init_lora_weights=name, target_modules=["q_proj", "down_proj"])
    theirs = dict(get_peft_model(plain, config).named_modules())
    for path, layer in model.named_modules():
        if isinstance(layer, LoraLayer) and path.endswith(("q_proj", "down_proj")):
            product = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
            other = theirs[path].lora_B["default"].weight @ theirs[path].lora_A["default"].weight
            assert torch.allclose(product, other, atol=1e-5)
    ids = torch.tensor([IDS])
    base = load_base(tiny_base, ServingForm.FP32)
    assert torch.allclose(model(input_ids=ids).logits, base(input_ids=ids).logits, atol=1e-5)


def test_lora_plus_has_the_rates_of_peft_s_optimizer(tiny_base: Path) -> None:
    settings = AdaptSettings.from_mapping({"method": "lora+", "r": 4, "loraplus_lr_ratio": 5})
    _, method, model = made(tiny_base, method="lora+", r=4, loraplus_lr_ratio=5)
    parameters = {name: one for name, one in model.named_parameters() if one.requires_grad}
    (own,) = optimizers_of(settings, method.learning(model, 3).rate_of)(parameters)
    theirs = create_loraplus_optimizer(model, AdamW, lr=1.0, loraplus_lr_ratio=5)
    found, expected = (
        {id(one): group["lr"] for group in optimizer.param_groups for one in group["params"]}
        for optimizer in (own, theirs)
    )
    assert found == expected and len(set(found.values())) == 2


def test_adalora_takes_the_ranks_away_that_peft_s_loop_takes(tiny_base: Path, tmp_path: Path) -> None:
    """Step by step: AdamW on the loss with its penalty, and then what peft scores."""
    num_steps, options = 8, {"init_r": 6, "target_r": 2, "tinit": 1, "tfinal": 2}
    settings = AdaptSettings.from_mapping({"method": "adalora", **options})
    plain, method, model = made(tiny_base, method="adalora", **options)
    config = AdaLoraConfig(
        **options, total_step=num_steps, lora_alpha=32, target_modules=Adaptable.of(Base.from_folder(tiny_base)).names,
        task_type="CAUSAL_LM",
    )  # fmt: skip
    theirs = get_peft_model(plain, config)
    theirs.load_state_dict(model.state_dict())
    learning = method.learning(model, num_steps)
    step = Step(
        model,
        objective=learning.objective(CausalObjective()),
        optimizers=optimizers_of(settings, learning.rate_of),
        max_gradient_norm=1e9,
        companion=learning.companion,
    )
    learned = [one for one in theirs.parameters() if one.requires_grad]
    optimizer, ids = AdamW(learned, lr=1e-2, weight_decay=0.0), torch.tensor([IDS])
    for number in range(num_steps):
        loss = theirs(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        theirs.base_model.update_and_allocate(number + 1)
        optimizer.zero_grad()
        found = step.learn(step.prepare([batch(IDS)]), 1e-2)
        assert found["loss"] == pytest.approx(loss.item(), abs=1e-5)
    step.finish()
    method.save(model, whole_adapter(model), tmp_path)
    pattern = json.loads((tmp_path / "adapter_config.json").read_text())["rank_pattern"]
    expected = {name.replace(".default", ""): left for name, left in theirs.peft_config["default"].rank_pattern.items()}
    assert pattern == expected
    assert sum(map(sum, pattern.values())) == 2 * len(pattern)
    read = PeftModel.from_pretrained(load_base(tiny_base, ServingForm.FP32), tmp_path)
    assert torch.allclose(read(input_ids=ids).logits, model(input_ids=ids).logits, atol=1e-5)


def slowly(model: nn.Module, weights: Mapping[str, Tensor], path: str, x: Tensor) -> Tensor:
    """y + U·gelu(D·y + d) + u, token by token."""
    y = model.get_submodule(path)(x)
    down, up = (weights[f"base_model.model.{path}.adapter_{part}.weight"] for part in ("down", "up"))
    d, u = (weights[f"base_model.model.{path}.adapter_{part}.bias"] for part in ("down", "up"))
    return torch.stack([row + up @ functional.gelu(down @ row + d) + u for row in y])


@pytest.mark.parametrize(("name", "ends"), [("houlsby", ("o_proj", "down_proj")), ("pfeiffer", ("down_proj",))])
def test_a_bottleneck_stands_behind_sublayers_and_is_read_again(
    name: str, ends: tuple[str, ...], tiny_base: Path, tmp_path: Path
) -> None:
    plain, method, model = made(tiny_base, method=name, reduction_factor=8)
    ids = torch.tensor([IDS])
    assert torch.equal(model(input_ids=ids).logits, plain(input_ids=ids).logits)
    generator = torch.Generator().manual_seed(0)
    for one in model.parameters():
        if one.requires_grad:
            one.data = torch.randn(one.shape, generator=generator) / 10
    method.save(model, whole_adapter(model), tmp_path)
    from safetensors.torch import load_file

    weights = load_file(tmp_path / "adapter_model.safetensors")
    paths = {key.removeprefix("base_model.model.").rpartition(".adapter_")[0] for key in weights}
    assert {path.rpartition(".")[2] for path in paths} == set(ends)
    for path in paths:
        assert weights[f"base_model.model.{path}.adapter_down.weight"].shape == (128 // 8, 128)
        x = torch.randn(3, plain.get_submodule(path).in_features, generator=generator)
        assert torch.allclose(model.get_submodule(path)(x), slowly(plain, weights, path, x), atol=1e-5)
    read = load_bottlenecks(load_base(tiny_base, ServingForm.FP32), tmp_path)
    assert torch.equal(read(input_ids=ids).logits, model(input_ids=ids).logits)


def test_double_quantization_quantizes_scales(tiny_base: Path) -> None:
    single, double = (load_base(tiny_base, ServingForm.NF4, double_quantization=one) for one in (False, True))
    path = "model.layers.0.self_attn.q_proj"
    scales = [model.get_submodule(path).weight.quant_state.absmax for model in (single, double)]
    assert [one.dtype for one in scales] == [torch.float32, torch.uint8]
    ids = torch.tensor([IDS])
    apart = (single(input_ids=ids).logits - double(input_ids=ids).logits).abs().max()
    assert 0 < apart < 0.2
