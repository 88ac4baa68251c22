"""A base whose blocks are in memory one at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from graft.adapters.form import ServingForm
from graft.training.model.deferred import Deferred, give
from graft.training.model.in_parts import decoder_in_parts
from graft.training.model.loading import CPU, load_base

_FORMS = {torch.bfloat16: ServingForm.BF16, torch.float32: ServingForm.FP32}


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """Frozen, and on the CPU but for the block that is computed with."""

    model: PreTrainedModel
    _deferred: Deferred | None
    """None where the folder's weights cannot be read one by one: the model is whole then."""

    @classmethod
    def of(cls, folder: Path, dtype: torch.dtype) -> Self:
        """Plain weights in a folder, computed with as bfloat16 or float32."""
        deferred = decoder_in_parts(folder, dtype)
        if deferred is None:
            return cls(model=load_base(folder, _FORMS[dtype]), _deferred=None)
        model = deferred.model
        assert isinstance(model, PreTrainedModel)
        found = cls(model=model, _deferred=deferred)
        inside = {id(one) for one in found.blocks.parameters()}
        give(model, lambda name, one: one if id(one) in inside else found._read(name, one))
        return found

    @property
    def blocks(self) -> nn.ModuleList:
        found = self.model.get_submodule(path_of_blocks(self.model))
        assert isinstance(found, nn.ModuleList)
        return found

    @contextlib.contextmanager
    def block(self, index: int, device: torch.device = CPU) -> Iterator[nn.Module]:
        """One with its weights on a device. They are dropped behind it, whatever was made of them."""
        block, deferred = self.blocks[index], self._deferred
        if deferred is not None:
            prefix = f"{path_of_blocks(self.model)}.{index}"
            give(block, lambda name, one: self._read(f"{prefix}.{name}", one))
        block.to(device)
        try:
            yield block
        finally:
            block.to(CPU)
            if deferred is not None:
                _empty(block)

    def _read(self, name: str, one: nn.Parameter) -> Tensor:
        assert self._deferred is not None
        return self._deferred.read(name, (slice(None),) * one.ndim).to(one.dtype)


def path_of_blocks(model: PreTrainedModel) -> str:
    """Of the list of modules that holds most parameters."""
    lists = [(path, module) for path, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    path, _ = max(lists, key=lambda one: sum(parameter.numel() for parameter in one[1].parameters()))
    return str(path)


def _empty(block: nn.Module) -> None:
    for module in block.modules():
        for name, one in module.named_parameters(recurse=False):
            module._parameters[name] = nn.Parameter(one.to("meta"), requires_grad=False)
