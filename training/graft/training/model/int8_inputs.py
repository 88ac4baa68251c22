"""LLM.int8() without what its layers were given: bitsandbytes' 8-bit products hold their inputs for the gradient of a
weight, as plain attributes. A frozen weight has none, and a checkpoint, which drops what autograd saves until it has
computed a block again, does not know of them: every layer's input would stay, 14 GB of an 8B base's at 8,192 tokens.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch import Tensor

_HELD: dict[str, tuple[str, Any]] = {"MatMul8bitLt": ("tensors", (None, None, None)), "MatMul8bitFp": ("A", None)}
"""Where each product holds its input, and what its way back reads there in its place."""


@functools.cache
def forget_inputs() -> None:
    """From now on of frozen weights. bitsandbytes must have been imported."""
    from bitsandbytes.autograd import _functions

    for name, (attribute, nothing) in _HELD.items():
        product = getattr(_functions, name)
        product.forward = staticmethod(_forgetting(product.forward, attribute, nothing))


def _forgetting(forward: Callable[..., Tensor], attribute: str, nothing: Any) -> Callable[..., Tensor]:
    @functools.wraps(forward)
    def forgetting(context: Any, *args: Any) -> Tensor:
        output = forward(context, *args)
        if not context.needs_input_grad[1]:
            setattr(context, attribute, nothing)
        return output

    return forgetting
