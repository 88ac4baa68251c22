"""Kernels over documents on a CUDA device against the slow reference, and a model's loss by documents and by masks."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from graft.training.batch.packing import Encoded, PackedBatch, batch_of_rows
from graft.training.model.attention import varlen
from graft.training.model.attention.varlen_kernels import Kernel, Pieces, kernel_for, reference
from graft.training.model.blocks import compile_blocks
from graft.training.model.casting import cast
from graft.training.objective.attending import Circumstances, choose_attention
from graft.training.objective.causal import CausalObjective
from graft.training.parallel.context import places

pytestmark = pytest.mark.gpu
ROUNDED = 2e-2
"""Relative L2 of bfloat16 against the reference in float32: torch's fused kernel with a mask has 4e-3."""
LENGTH = 512


@pytest.fixture
def kernel(device: None) -> Kernel:
    found = kernel_for("cuda")
    if found is None:
        pytest.skip("neither torch.nn.attention.varlen with windows nor flash-attn is installed")
    return found


def batch(*sizes: Sequence[int]) -> PackedBatch:
    """Rows of documents of these sizes, with padding behind them."""
    torch.manual_seed(0)
    ids = [[torch.randint(3, 97, (size,)).tolist() for size in row] for row in sizes]
    rows = [[Encoded(input_ids=one, supervised=[True] * len(one)) for one in row] for row in ids]
    return batch_of_rows(rows, length=LENGTH, pad_id=0)


def packed() -> PackedBatch:
    return batch([300, 1, 150], [512], [64] * 7, [])


def with_gradients(kernel: Kernel, inputs: list[Tensor], pieces: Pieces, window: int | None) -> list[Tensor]:
    query, key, value = inputs
    output = kernel(query, key, value, pieces, scale=0.2, window=window)
    towards = torch.linspace(-1, 1, output.numel(), device=output.device).view(output.shape).to(output.dtype)
    return [output, *torch.autograd.grad(output, inputs, towards)]


def assert_near(found: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    for one, exact in zip(found, expected, strict=True):
        assert bool(one.isfinite().all())
        assert (one.double() - exact.double()).norm() <= ROUNDED * exact.double().norm()


@pytest.mark.parametrize("window", [None, 2, 100])
@pytest.mark.parametrize("key_heads", [8, 2, 1])
@pytest.mark.parametrize("width", [64, 128, 256])
def test_a_kernel_computes_the_reference(kernel: Kernel, window: int | None, key_heads: int, width: int) -> None:
    """Whole rows, as a batch on the device has them."""
    documents = packed().to("cuda").documents
    pieces = Pieces(
        query_offsets=documents.query_offsets,
        key_offsets=documents.key_offsets,
        max_query=documents.max_query,
        max_key=documents.max_key,
    )
    torch.manual_seed(0)
    inputs = [
        torch.randn(4 * LENGTH, heads, width, device="cuda", dtype=torch.bfloat16, requires_grad=True)
        for heads in (8, key_heads, key_heads)
    ]
    exact = [one.detach().float().requires_grad_() for one in inputs]
    found, expected = with_gradients(kernel, inputs, pieces, window), with_gradients(reference, exact, pieces, window)
    assert_near(found, expected)


@pytest.mark.parametrize("window", [None, 100])
@pytest.mark.parametrize("num", [2, 4])
def test_parts_of_rows_are_the_whole(kernel: Kernel, window: int | None, num: int) -> None:
    """As under context parallelism: what each of ``num`` computes of its places, with the keys of all."""
    whole, parts = packed(), places(LENGTH, num)
    torch.manual_seed(0)
    shapes = [(4, 8, LENGTH, 64), (4, 2, LENGTH, 64), (4, 2, LENGTH, 64)]
    inputs = [torch.randn(shape, device="cuda", dtype=torch.bfloat16, requires_grad=True) for shape in shapes]
    query, key, value = inputs
    module = torch.nn.Module()
    arguments = whole.to("cuda").documents.arguments
    expected, _ = varlen.attention(module, query, key, value, None, sliding_window=window, **arguments)
    order = torch.cat(parts).cuda()
    found = torch.zeros_like(expected)
    for index, own in enumerate(parts):
        arguments = whole.part(parts, index).to("cuda").documents.arguments
        given = (query[:, :, own.cuda()], key[:, :, order], value[:, :, order])
        found[:, own.cuda()], _ = varlen.attention(module, *given, None, sliding_window=window, **arguments)
    is_text = (whole.document_BL != 0).cuda()  # padding sees the padding that is at hand
    towards = torch.randn_like(expected[is_text])
    assert_near(
        [found[is_text], *torch.autograd.grad(found[is_text], inputs, towards)],
        [expected[is_text], *torch.autograd.grad(expected[is_text], inputs, towards)],
    )


def model_of(model_type: str) -> PreTrainedModel:
    sizes = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 256}
    options = {"vocab_size": 97, "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": LENGTH}
    if model_type != "llama":
        options["sliding_window"] = 100
    if model_type == "gemma3_text":
        options["layer_types"] = ["sliding_attention", "full_attention"] * 2  # type: ignore[assignment]
    torch.manual_seed(0)
    found: PreTrainedModel = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **sizes, **options))
    return cast(found, torch.bfloat16, "cuda")


def learned(model: PreTrainedModel, batch: PackedBatch) -> tuple[float, Tensor]:
    model.zero_grad()
    loss = CausalObjective().sums(model, batch)["tokens"]
    loss.backward()
    return loss.item(), torch.cat([one.grad.flatten().double() for one in model.parameters() if one.grad is not None])


@pytest.mark.parametrize("compiles", [False, True])
@pytest.mark.parametrize("model_type", ["llama", "mistral", "gemma3_text"])
def test_a_model_learns_by_documents_as_by_masks(kernel: Kernel, model_type: str, compiles: bool) -> None:
    model, given = model_of(model_type), packed().to("cuda")
    loss, gradient = learned(model, given)
    choose_attention(model, "auto", Circumstances(device="cuda", dtype=torch.bfloat16))
    assert model.config._attn_implementation == varlen.NAME
    if compiles:
        counters.clear()
        compile_blocks(model)
    found, its_gradient = learned(model, given)
    assert found == pytest.approx(loss, rel=5e-3)
    assert (its_gradient - gradient).norm() <= 5e-2 * gradient.norm()
    if compiles:  # other sizes of documents, and other numbers of them
        other = batch([512], [256, 256], [100] * 5, [500]).to("cuda")
        before = counters["stats"]["unique_graphs"]
        assert learned(model, other)[0] > 0 and counters["stats"]["unique_graphs"] == before > 0


def test_nothing_waits_for_the_device_to_count_documents(kernel: Kernel) -> None:
    """What a batch says of its documents is a number of Python's before it is copied."""
    given = packed().to("cuda")
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        arguments = given.documents.arguments
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert isinstance(arguments["max_length_q"], int) and arguments["cu_seq_lens_q"].device.type == "cuda"
