"""What can be done to blocks changes how they are computed, not what comes out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from graft.training.errors import ConfigurationError
from graft.training.model import float8
from graft.training.model.blocks import RECOMPUTATIONS, compile_blocks, recompute
from graft.training.model.float8 import reason_against_float8
from graft.training.pretrain.settings import PretrainSettings
from tests.training.objective.vocabularies import DECODER, SIZE

NUM_LAYERS = 4


def model_of(kind: str = "llama", **options: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    made: PreTrainedModel = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(kind, **{**DECODER, "num_hidden_layers": NUM_LAYERS, **options})
    )
    return made.train()


def gradients(model: nn.Module, seed: int = 0) -> list[Tensor]:
    """With dropout, where the model has it, from this seed on."""
    ids = torch.randint(SIZE, (2, 16), generator=torch.Generator().manual_seed(1))
    torch.manual_seed(seed)
    model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


class Products(TorchDispatchMode):
    """Counts products of matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.num = Counter[str]()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self.num[function._schema.name.removeprefix("aten::")] += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("llama", {}),
        ("gpt2", {"resid_pdrop": 0.1, "n_layer": NUM_LAYERS}),
        ("mixtral", {"num_local_experts": 4, "num_key_value_heads": 4}),
    ],
)
@pytest.mark.parametrize("how", RECOMPUTATIONS)
def test_recomputation_changes_no_bit_of_the_gradients(how: str, kind: str, options: dict[str, Any]) -> None:
    expected, model = gradients(model_of(kind, **options)), model_of(kind, **options)
    recompute(model, how)
    assert all(torch.equal(one, other) for one, other in zip(gradients(model), expected, strict=True))


def test_selective_recomputation_repeats_every_other_product_and_no_attention() -> None:
    """A Llama's layer has seven products and one attention; what the last one gives is needed by nobody again."""
    attention = "_scaled_dot_product_flash_attention_for_cpu"
    found = {}
    for how in RECOMPUTATIONS:
        model = model_of()
        recompute(model, how)
        with Products() as products:
            gradients(model)
        found[how] = products.num["mm"], products.num[attention]
    plain, once = found["none"]
    assert once == NUM_LAYERS
    assert found["full"] == (plain + 6 * NUM_LAYERS, 2 * NUM_LAYERS)
    assert found["selective"] == (plain + 3 * NUM_LAYERS, NUM_LAYERS)


@pytest.mark.slow
@pytest.mark.parametrize("how", RECOMPUTATIONS)
def test_blocks_are_compiled_once_for_all_with_their_recomputation(how: str) -> None:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    expected, model = gradients(model_of()), model_of()
    recompute(model, how)
    compile_blocks(model)
    found = gradients(model)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert not torch._dynamo.utils.counters["graph_break"]
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("given", "meant"),
    [(True, "full"), (False, "none"), ("selective", "selective"), ("full", "full")],
)
def test_the_words_for_recomputation_and_the_truth_values_of_before(given: object, meant: str) -> None:
    assert PretrainSettings.from_mapping({"gradient_checkpointing": given}).gradient_checkpointing == meant


def test_another_word_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'gradient_checkpointing' has the value 'some'; it must be 'none' or"):
        PretrainSettings(gradient_checkpointing="some")


@pytest.mark.parametrize(
    ("device", "capability", "is_installed", "reason"),
    [
        ("cpu", None, True, "float8 needs a GPU, and this training computes on a CPU: leave it out"),
        ("cuda", (8, 0), True, "float8 needs a GPU of compute capability 8.9, and this one has 8.0: leave it out"),
        ("cuda", (9, 0), False, "float8 is done by torchao, which is not installed: pip install torchao, or leave it"),
        ("cuda", (8, 9), True, None),
    ],
)
def test_where_float8_cannot_be_had_the_reason_is_said(
    device: str, capability: Any, is_installed: bool, reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(float8.importlib.util, "find_spec", lambda name: object() if is_installed else None)
    found = reason_against_float8(device)
    assert found == reason if reason is None else (found or "").startswith(reason)
