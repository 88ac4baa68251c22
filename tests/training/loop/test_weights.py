import torch
from bitsandbytes.nn import Linear4bit
from torch import nn

from graft.training.loop.weights import Weights, bfloat16_form, nf4_form
from graft.training.model.quantized import nf4_round_trip


def test_the_round_trip_is_what_a_bitsandbytes_layer_computes_with() -> None:
    weight = torch.randn(96, 64, dtype=torch.bfloat16)
    layer = Linear4bit(64, 96, bias=False, compute_dtype=torch.bfloat16, quant_type="nf4", compress_statistics=False)
    layer.load_state_dict({"weight": weight})
    layer = layer.to("cpu")
    identity = torch.eye(64, dtype=torch.bfloat16)
    assert torch.equal(layer(identity).T, nf4_round_trip(weight))


def test_the_round_trip_twice_is_the_round_trip_once() -> None:
    once = nf4_round_trip(torch.randn(256, 704).to(torch.bfloat16) * 0.05)
    assert torch.equal(nf4_round_trip(once), once)


def test_only_matrices_of_the_blocks_are_rounded_to_nf4() -> None:
    matrix = torch.randn(64, 64)
    assert torch.equal(nf4_form("model.embed_tokens.weight", matrix), matrix.bfloat16())
    assert torch.equal(nf4_form("model.layers.0.input_layernorm.weight", matrix[0]), matrix[0].bfloat16())
    assert torch.equal(nf4_form("model.layers.0.mlp.up_proj.weight", matrix), nf4_round_trip(matrix.bfloat16()))


def test_gradients_reach_float32_masters_and_the_form_comes_back() -> None:
    model = nn.Linear(4, 2, bias=False).to(torch.bfloat16)
    weights = Weights(model)
    master = weights.masters["weight"]
    assert master.dtype == torch.float32
    for _ in range(2):
        (model(torch.ones(1, 4, dtype=torch.bfloat16)).sum() / 8).backward()
    assert master.grad is not None and torch.equal(master.grad, torch.full((2, 4), 0.25))
    assert model.weight.grad is None
    with torch.no_grad():
        master += 1e-5  # below bfloat16's resolution: kept by the master only
    weights.push(bfloat16_form)
    assert torch.equal(model.weight, master.bfloat16()) and not torch.equal(model.weight.float(), master)


def test_a_float32_parameter_is_its_own_master() -> None:
    model = nn.Linear(4, 2)
    weights = Weights(model)
    assert weights.masters["weight"] is model.weight
    weights.push(bfloat16_form)
    assert model.weight.dtype == torch.float32
