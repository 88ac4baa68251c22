"""A second model of the same weights: what is put around one's layers is not around the other's."""

from __future__ import annotations

import copy
from itertools import chain
from typing import TypeVar

from torch import nn

ModelT = TypeVar("ModelT", bound=nn.Module)


def twin(model: ModelT) -> ModelT:
    """Modules, configuration and hooks are copied, parameters and buffers shared, and with them what bitsandbytes knows
    of a weight's bits.
    """
    tensors = chain(model.parameters(), model.buffers())
    states = (getattr(one, "quant_state", None) for one in chain(model.modules(), model.parameters()))
    shared = {id(one): one for one in (*tensors, *states) if one is not None}
    return copy.deepcopy(model, shared)
