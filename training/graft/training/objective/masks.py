"""Attention masks of packed rows, for each kind of a decoder's layers, and whether a decoder can take them."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from graft.training.batch.packing import Encoded, PackedBatch, batch_of_rows
from graft.training.errors import ConfigurationError

_FULL, _SLIDING = "full_attention", "sliding_attention"
_LEAK = 1e-4
"""Part of what a change of its own tokens makes, from which on a change of its neighbour's is more than rounding."""


def mask_for(model: nn.Module, batch: PackedBatch) -> Tensor | dict[str, Tensor] | None:
    """``attention_mask`` for a Hugging Face decoder: as every layer needs it, by their kind where they differ.

    None where every line holds one document, behind which padding may follow: a decoder's own mask is that, faster.
    """
    if batch.is_apart:
        return None
    decoder = _decoder(model)
    reach = attention_windows(decoder)
    masks = {kind: _masked(decoder, batch.attention_mask(window)) for kind, window in reach.items()}
    return masks if len(masks) > 1 else next(iter(masks.values()))


def attention_windows(model: nn.Module) -> Mapping[str, int | None]:
    """How far back the layers of each kind see; None is to the first token."""
    decoder = _decoder(model)
    config = decoder.config.get_text_config()
    window: int | None = getattr(config, "sliding_window", None)
    if kinds := sorted(_kinds(decoder) & {_FULL, _SLIDING}):
        return {kind: window if kind == _SLIDING else None for kind in kinds}
    return {
        _FULL: window
        if window is not None and _has_windows(type(decoder.base_model).__module__, type(decoder.base_model).__name__)
        else None
    }


def _decoder(model: nn.Module) -> PreTrainedModel:
    """The model itself, or what adapters were put on."""
    return next(one for one in model.modules() if isinstance(one, PreTrainedModel))


def _kinds(decoder: PreTrainedModel) -> set[str]:
    """Of its layers, where they are told apart."""
    return set(getattr(decoder.config.get_text_config(), "layer_types", None) or ())


@functools.cache
def _has_windows(module: str, name: str) -> bool:
    """Whether a class that does not tell its layers apart looks at the setting at all."""
    return "sliding_window" in inspect.getsource(getattr(sys.modules[module], name).forward)


def _masked(decoder: PreTrainedModel, mask: Tensor) -> Tensor:
    """Classes without fused attention add what they are given to the scores."""
    if decoder.config._attn_implementation != "eager":
        return mask
    dtype = next(one.dtype for one in decoder.parameters() if one.is_floating_point())
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, torch.finfo(dtype).min)


def check_packing(model: nn.Module) -> None:
    """Raises ``ConfigurationError`` for a decoder whose layers reach over the border of two rows in a line, as
    convolutions and recurrent layers do, or that takes no mask of ours.
    """
    decoder = _decoder(model)
    reason = None
    if others := sorted(_kinds(decoder) - {_FULL, _SLIDING}):
        reason = f"has layers ({', '.join(others)}) for which no mask keeps the rows of a line apart"
    else:
        try:
            if leaks(model):
                reason = "has layers that carry something of a row into the next one"
        except torch.OutOfMemoryError:
            raise
        except (TypeError, ValueError, RuntimeError, AttributeError, KeyError):
            reason = "takes no mask that keeps the rows of a line apart"
    if reason is not None:
        raise ConfigurationError(
            f"a {decoder.config.model_type} {reason}: rows cannot be packed. Add --no-packing, which takes the same "
            "rows one by one."
        )


@torch.no_grad()
def leaks(model: nn.Module, *, length: int = 12) -> bool:
    """Whether a row's neighbour in a packed line changes what is computed for the row.

    Another line can change nothing but the rounding, as where experts or 8-bit columns are chosen for all tokens
    together: what the neighbour changes must be more than that.
    """
    highest = min(_decoder(model).config.get_text_config().vocab_size, 1000)
    ids = torch.randint(highest, (4, length), generator=torch.Generator().manual_seed(0)).tolist()
    device = str(next(model.parameters()).device)

    def outputs(neighbour: list[int], other: list[int]) -> tuple[Tensor, Tensor]:
        lines = [
            [Encoded(input_ids=one, supervised=[True] * length) for one in (first, ids[0])]
            for first in (neighbour, other)
        ]
        batch = batch_of_rows(lines, length=2 * length, pad_id=0).to(device)
        torch.manual_seed(0)  # dropout: the same each time
        found = model(
            input_ids=batch.input_ids_BL,
            attention_mask=mask_for(model, batch),
            position_ids=batch.position_ids_BL,
            use_cache=False,
        )
        logits_LV: Tensor = found.logits[0].float()
        return logits_LV[:length], logits_LV[length:]

    def apart(one: Tensor, other: Tensor) -> float:
        return float((one - other).abs().max())

    was_training = model.training
    model.train()  # bitsandbytes lays NF4 out anew in evaluation, for a kernel that has no gradient
    try:
        with torch.random.fork_rng():
            own, row = outputs(ids[1], ids[2])
            changed, beside_another = outputs(ids[3], ids[2])
            _, above_another = outputs(ids[1], ids[3])
    finally:
        model.train(was_training)
    return apart(row, beside_another) > max(_LEAK * apart(own, changed), 8 * apart(row, above_another))
