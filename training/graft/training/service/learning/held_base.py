"""The one base of a trainer, held once for all adapters that learn on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from torch import nn
from transformers import PreTrainedModel

from graft.adapters.base.base import Base
from graft.adapters.form import ServingForm
from graft.training.adapt.adaptable import Adaptable
from graft.training.adapt.attending import circumstances
from graft.training.adapt.beside.layer import compute_at_once
from graft.training.adapt.method import Method
from graft.training.adapt.methods.catalog import method_of
from graft.training.adapt.settings import AdaptSettings
from graft.training.adapt.together.twin import twin
from graft.training.model.loading import load_base
from graft.training.objective.attending import choose_attention
from graft.training.runtime.device import device_kind, own_device
from graft.training.service.learning.shape import Shape


@dataclass(frozen=True, kw_only=True)
class HeldBase:
    """Frozen; adapters are put on twins of it, whose weights are its own."""

    base: Base
    form: ServingForm
    device: str
    """``cpu`` or ``cuda``."""
    max_rank: int
    adaptable: Adaptable
    model: PreTrainedModel

    @classmethod
    def load(cls, base: Base, form: ServingForm, *, max_rank: int) -> Self:
        """Raises ``ConfigurationError``, ``InvalidBase``."""
        adaptable, device, settings = Adaptable.of(base), device_kind(), AdaptSettings()
        model = load_base(base.path, form, device=own_device(device))
        choose_attention(model, settings.attn_implementation, circumstances(settings, True, device))
        return cls(base=base, form=form, device=device, max_rank=max_rank, adaptable=adaptable, model=model)

    @property
    def num_tokens(self) -> int:
        """Of the vocabulary."""
        return self.adaptable.num_embeddings

    def adapted(self, shape: Shape) -> tuple[Method, nn.Module]:
        """An adapter that changes nothing yet, on a twin of the base. Raises ``Refusal``."""
        method = method_of(shape.settings(self.adaptable, max_rank=self.max_rank))
        model = method.inject(twin(self.model), self.adaptable, seed=shape.seed)
        compute_at_once(model)
        return method, model
