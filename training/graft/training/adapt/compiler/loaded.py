"""An adapter on its base, as peft computes it: what every compiled form is measured by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor
from transformers import PreTrainedModel

from graft.training.adapt.compiler.closed_forms import ADAPTER, closed_form
from graft.training.adapt.compiler.factors import Factors
from graft.training.adapt.compiler.initial import Initial
from graft.training.adapt.compiler.original import Original
from graft.training.adapt.compiler.peft_model import PREFIX, empty, fill, layers_of
from graft.training.errors import ConfigurationError, first_line


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """In float32, whatever the adapter's files are in."""

    model: PeftModel
    method: str
    lacking: Mapping[str, Factors]
    """By layer what the base's weights were lessened by before the training began, of methods that do so (PiSSA)."""

    @classmethod
    def of(cls, base: PreTrainedModel, original: Original, initial: Initial | None) -> Loaded:
        """Raises ``ConfigurationError`` where the files fit the base, or their own configuration, in part only."""
        config = original.config if initial is None else initial.config(original.config)
        try:
            model = empty(base, config)
            lacking = {} if initial is None else initial.taken_from(model)
            fill(model, original.tensors)
        # What peft raises differs from method to method.
        except (
            AssertionError,
            AttributeError,
            LookupError,
            NotImplementedError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as error:
            told = first_line(error).rstrip(".")
            raise ConfigurationError(f"{original.folder} does not fit the base: {told}.") from None
        model.eval()
        return cls(model=model, method=original.method, lacking=lacking)

    @property
    def layers(self) -> dict[str, BaseTunerLayer]:
        """Those that are adapted, by their paths in the base."""
        return dict(layers_of(self.model))

    def whole_modules(self) -> list[str]:
        """Paths of what was trained as a whole, or row by row: no LoRA stands for it."""
        wrapped = [path for path, one in self.model.named_modules() if isinstance(one, AuxiliaryTrainingWrapper)]
        return [path.removeprefix(PREFIX) for path in wrapped]

    def exact(self, path: str, layer: BaseTunerLayer) -> Factors | None:
        """A layer's update to the base's own weight, where it has a closed form."""
        found: Factors | None = closed_form(layer)
        if found is None or path not in self.lacking:
            return found
        return found.plus(self.lacking[path].negated()).no_longer_than_needed()

    @torch.no_grad()
    def measured(self, path: str, layer: BaseTunerLayer) -> Tensor:
        """A layer's update, outputs × inputs in float64, as peft merges it. The layer is spent by that.

        Raises ``ConfigurationError`` where its bias is changed as well.
        """
        below = layer.get_base_layer()
        layer.double()
        weight_OI, bias = below.weight.detach().clone(), None if below.bias is None else below.bias.detach().clone()
        layer.merge(adapter_names=[ADAPTER])
        if bias is not None and not torch.equal(bias, below.bias):
            raise ConfigurationError(f"{path}: its bias is changed, too, which no LoRA does: merge it with --merge.")
        found: Tensor = below.weight.detach() - weight_OI
        return found - self.lacking[path].product() if path in self.lacking else found
