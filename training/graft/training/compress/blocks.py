"""Changing a decoder block by block, so that each layer is fitted to what the changed blocks before it really give."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from tqdm import tqdm
from transformers import PreTrainedModel

from graft.training.compress.decoder import Decoder
from graft.training.errors import ConfigurationError
from graft.training.model.loading import CPU

Change = Callable[[str, nn.Linear, Tensor], None]
"""Gets a layer's path, the layer and its Hessian (the sum of x xᵀ over its inputs), and changes the layer's weight."""


@dataclass(frozen=True, kw_only=True)
class _Given:
    """What a block is given beside the hidden states: masks and positions, which depend on the shape only."""

    others: tuple[Any, ...]
    keywords: dict[str, Any]

    def to(self, device: torch.device) -> _Given:
        others, keywords = tree_map(
            lambda one: one.to(device) if isinstance(one, Tensor) else one, (self.others, self.keywords)
        )
        return _Given(others=others, keywords=keywords)


@torch.inference_mode()
def change_blocks(
    decoder: Decoder,
    layers: Collection[str],
    batches: list[Tensor],
    change: Change,
    *,
    doing: str,
    device: torch.device = CPU,
) -> None:
    """Every layer, given by its path. Each block is on ``device`` meanwhile. Batches must have one shape but for the
    last, whose rows may be fewer.

    Raises ``ConfigurationError`` where what goes into a layer is not finite.
    """
    model, blocks = decoder.model, decoder.blocks
    with decoder.block(0) as first:
        is_tuple = _returns_tuple(model, first, batches[0])
    hidden, given = [], dict[int, list[_Given]]()
    for batch in batches:
        states, given[len(batch)] = _inputs(model, blocks, batch, is_tuple=is_tuple)
        hidden.append(states)
    paths = {model.get_submodule(path): path for path in layers}
    for index in tqdm(range(len(blocks)), unit="block", desc=doing, disable=None):
        with decoder.block(index, device) as block:
            mine = [module for module in block.modules() if module in paths]
            runs = [(states, given[len(states)][index]) for states in hidden]
            with _hessians(mine) as hessians:
                for states, one in runs:
                    _computed(block, states, one, device)
            for layer in mine:
                _require_finite(paths[layer], hessians[layer])
                change(paths[layer], layer, hessians.pop(layer))
            hidden = [_computed(block, states, one, device) for states, one in runs]


def _require_finite(path: str, hessian_II: Tensor) -> None:
    if not hessian_II.isfinite().all():
        raise ConfigurationError(
            f"what goes into {path} on the calibration text is not finite: the model's numbers overflow."
        )


class _Enough(Exception):
    """Ends a forward pass where its rest is not needed."""


def _returns_tuple(model: PreTrainedModel, block: nn.Module, batch: Tensor) -> bool:
    """Whether the blocks of this architecture give their hidden states as the first of several things."""
    seen: list[bool] = []

    def note(block: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        seen.append(isinstance(output, tuple))
        raise _Enough

    hook = block.register_forward_hook(note)
    try:
        model(input_ids=batch[:1, :2], use_cache=False)
    except _Enough:
        pass
    finally:
        hook.remove()
    return seen[0]


def _inputs(
    model: PreTrainedModel, blocks: nn.ModuleList, batch: Tensor, *, is_tuple: bool
) -> tuple[Tensor, list[_Given]]:
    """What goes into the first block, and what each block is given beside it. Neither a block nor the head computes."""
    seen: list[tuple[Tensor, _Given]] = []

    def note(hidden_states: Tensor, *others: Any, **keywords: Any) -> Any:
        seen.append((hidden_states, _Given(others=others, keywords=keywords)))
        if len(seen) == len(blocks):
            raise _Enough
        return (hidden_states,) if is_tuple else hidden_states

    for block in blocks:
        block.forward = note
    try:
        model(input_ids=batch, use_cache=False)
    except _Enough:
        pass
    finally:
        for block in blocks:
            del block.forward
    return seen[0][0], [given for _, given in seen]


def _computed(block: nn.Module, states: Tensor, given: _Given, device: torch.device) -> Tensor:
    """What a block that lies on the device makes of hidden states on the CPU; on the CPU again."""
    there = given.to(device)
    output = block(states.to(device), *there.others, **there.keywords)
    found: Tensor = (output[0] if isinstance(output, tuple) else output).to(CPU)
    return found


@contextmanager
def _hessians(layers: list[nn.Linear]) -> Iterator[dict[nn.Linear, Tensor]]:
    """Sums x xᵀ over everything that goes into each layer meanwhile."""
    sums = {layer: torch.zeros(layer.in_features, layer.in_features, device=layer.weight.device) for layer in layers}

    def add(layer: nn.Linear, args: tuple[Tensor, ...]) -> None:
        inputs = args[0].flatten(0, -2).float()
        sums[layer].addmm_(inputs.T, inputs)

    hooks = [layer.register_forward_pre_hook(add) for layer in layers]
    try:
        yield sums
    finally:
        for hook in hooks:
            hook.remove()
