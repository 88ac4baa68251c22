"""A base for adapters in several processes, each of which reads and holds its parts alone: no more than one parameter
is ever whole, and 4-bit layers are quantized as they are read, one after the other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.initialization import no_tie_weights
from transformers.pytorch_utils import Conv1D
from transformers.quantizers import AutoHfQuantizer
from transformers.quantizers.base import get_keys_to_not_convert

from graft.adapters.form import ServingForm
from graft.training.model.deferred import Deferred, Part, undrawn
from graft.training.model.in_parts import decoder_in_parts
from graft.training.model.quantized import nf4_config
from graft.training.parallel.filling import fill

STORAGE = torch.bfloat16
"""In whose numbers the bits of NF4 lie: FSDP shards no bytes."""
_DTYPES = {ServingForm.BF16: torch.bfloat16, ServingForm.NF4: torch.bfloat16, ServingForm.FP32: torch.float32}


@dataclass(frozen=True, kw_only=True)
class BaseInParts:
    """Plain weights in a folder, to be computed with in a form."""

    model: PreTrainedModel
    """Frozen; its parameters lie on torch's ``meta`` device, in the shapes that they will have."""
    _deferred: Deferred
    _dtype: torch.dtype
    _layers: Mapping[str, _Layer]
    """Those that are quantized, by the names of their weights."""

    @classmethod
    def of(cls, folder: Path, form: ServingForm, *, double_quantization: bool = False) -> Self | None:
        """None where the folder's weights are not the model's as they lie there, such as single experts of a stack."""
        dtype = _DTYPES[form]
        deferred = decoder_in_parts(folder, dtype)
        if deferred is None:
            return None
        model = deferred.model
        assert isinstance(model, PreTrainedModel)
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        layers = _quantized(model, _unconverted(config), double_quantization) if form is ServingForm.NF4 else {}
        model.requires_grad_(False)
        return cls(model=model, _deferred=deferred, _dtype=dtype, _layers=layers)

    def adapted(self, inject: Callable[[PreTrainedModel], nn.Module]) -> nn.Module:
        """With adapters, whose numbers are there."""
        with _seeming_there(self.model):
            return inject(self.model)

    def fill(self, adapted: nn.Module, device: torch.device) -> None:
        """This process's parts of the base, once it is sharded."""
        fill(adapted, lambda name, part: self._read(_in_base(name), part, device), device=str(device), dtype=None)

    def _read(self, name: str, part: Part, device: torch.device) -> Tensor:
        layer = self._layers.get(name)
        if layer is None:
            return self._deferred.read(name, part).to(self._dtype)
        whole = tuple(slice(None) for _ in range(2))
        weight = self._deferred.read(name, whole).to(self._dtype)
        return layer.bits(weight, device)[part]


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """One whose weight becomes 4-bit numbers."""

    module: nn.Module
    options: Mapping[str, Any]
    """How, in bitsandbytes' words."""

    def bits(self, weight: Tensor, device: torch.device) -> Tensor:
        """Of the whole weight. Its scales are left in the module, which needs all of them whatever bits it holds."""
        from bitsandbytes.nn import Params4bit

        if issubclass(self.module.source_cls, Conv1D):
            weight = weight.T
        packed: Tensor = Params4bit(weight, requires_grad=False, **self.options).to(device).data
        return packed


def _unconverted(config: PretrainedConfig) -> list[str]:
    """The layers that ``from_pretrained`` leaves as they are. It asks a model whose weights are not tied yet: which one
    is the last depends on that.
    """
    with no_tie_weights():
        untied = undrawn(lambda: AutoModelForCausalLM.from_config(config))
    found: list[str] = get_keys_to_not_convert(untied)
    return found


def _quantized(model: PreTrainedModel, unconverted: list[str], double_quantization: bool) -> dict[str, _Layer]:
    """The other linear layers become 4-bit ones, as ``from_pretrained`` makes them. Their weights get the shape of
    their bits.
    """
    config = nf4_config(storage=STORAGE, double_quantization=double_quantization)
    config.llm_int8_skip_modules = unconverted
    quantizer = AutoHfQuantizer.from_config(config, pre_quantized=False)
    quantizer.preprocess_model(model, device_map=None)
    quantizer.postprocess_model(model)
    found = {}
    for path, layer in model.named_modules():
        name = f"{path}.weight"
        if path and hasattr(layer, "quant_state") and quantizer.param_needs_quantization(model, name):
            found[name] = _Layer(module=layer, options=dict(vars(layer.weight)))
            num = layer.weight.numel() // (2 * STORAGE.itemsize)
            bits, options = torch.empty(num, 1, dtype=STORAGE, device="meta"), vars(layer.weight)
            layer.weight = type(layer.weight)(bits, requires_grad=False, **{**options, "bnb_quantized": True})
    return found


@contextlib.contextmanager
def _seeming_there(model: nn.Module) -> Iterator[None]:
    """Parameters seem to lie on the CPU meanwhile, and take no memory: peft moves adapters to where the base's lie, and
    ``meta`` would keep no numbers of theirs.
    """
    places = [(module, name, one) for module in model.modules() for name, one in module.named_parameters(recurse=False)]
    for module, name, one in places:
        module._parameters[name] = _stand_in(one)
    try:
        yield
    finally:
        for module, name, one in places:
            module._parameters[name] = one


def _stand_in(parameter: nn.Parameter) -> nn.Parameter:
    one_for_all = torch.zeros((), dtype=parameter.dtype).expand(parameter.shape)
    options = vars(parameter) if hasattr(parameter, "quant_state") else {}
    return type(parameter)(one_for_all, requires_grad=False, **options)


def _in_base(name: str) -> str:
    """A parameter's name in the base itself."""
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".")
