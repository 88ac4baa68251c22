"""A base with what a method trains, where it is computed with."""

from __future__ import annotations

import logging

from torch import nn
from transformers import PreTrainedModel

from graft.adapters.form import ServingForm
from graft.training.adapt.adaptable import Adaptable
from graft.training.adapt.attending import circumstances
from graft.training.adapt.beside.layer import compute_at_once
from graft.training.adapt.method import Method
from graft.training.adapt.parts import STORAGE, BaseInParts
from graft.training.adapt.settings import AdaptSettings
from graft.training.model.blocks import recompute
from graft.training.model.loading import CPU, load_base
from graft.training.objective.attending import choose_attention
from graft.training.parallel.distributed import Distributed
from graft.training.parallel.layout import Layout
from graft.training.runtime.device import own_device

_log = logging.getLogger(__name__)


def adapted(base: Adaptable, form: ServingForm, method: Method, settings: AdaptSettings, layout: Layout) -> nn.Module:
    """The base in ``form`` with what ``method`` adds; of a sharded one each process has its parts. Every process calls
    this.

    Raises:
        ConfigurationError, InvalidBase: see ``load_base`` and ``choose_attention``.
    """
    path, is_double = base.path, settings.bnb_4bit_use_double_quant
    is_sharded = isinstance(layout, Distributed) and layout.mesh.shards_weights
    in_parts = BaseInParts.of(path, form, double_quantization=is_double) if is_sharded else None

    def inject(model: PreTrainedModel) -> nn.Module:
        return method.inject(model, base, seed=settings.seed)

    if in_parts is not None:
        model = in_parts.adapted(inject)
    elif is_sharded:  # FSDP takes shards to their device block by block
        _log.warning("the base cannot be read in parts: each process makes all of it first, in the host's memory")
        model = inject(load_base(path, form, storage=STORAGE, device=CPU, double_quantization=is_double))
    else:
        model = inject(load_base(path, form, device=own_device(layout.device), double_quantization=is_double))
    choose_attention(model, settings.attn_implementation, circumstances(settings, method.packs, layout.device))
    recompute(model, str(settings.gradient_checkpointing))
    if not is_sharded:
        compute_at_once(model)
    if isinstance(layout, Distributed):
        layout.apply(model)
    if in_parts is not None:
        in_parts.fill(model, own_device(layout.device))
    return model
