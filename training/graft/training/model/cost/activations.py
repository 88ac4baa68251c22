"""What a model keeps for its backward pass: its own code runs on the meta device, where tensors have shapes and no
bytes, and what autograd saves is added up.

Attention keeps queries, keys, values, output and one number for each query and head, as fused kernels do (Dao et al.
2022, arXiv:2205.14135, algorithm 2). What a compiler would compute again instead of keeping is not known here.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import PretrainedConfig, PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.pytorch_utils import Conv1D

from graft.training.errors import first_line
from graft.training.model.attention.in_blocks import LONGEST
from graft.training.model.blocks import blocks
from graft.training.model.casting import cast
from graft.training.model.family import facts_of

NAME = "graft_planned"
FORMULA_BYTES = 34
"""Per token, layer and unit of width in 16 bits (Korthikanti et al. 2022, arXiv:2205.05198, eq. 1), for models whose
code needs values, not only shapes."""
_UNTRACED = (RuntimeError, ValueError)
"""What a class says that cannot be traced: it asks for values where there are shapes only (DBRX, JetMoE, XLM), or takes
no mask of pairs (Bloom, Mamba, XLNet)."""

TRANSIENTS = 2
"""Gradients of a block's largest tensor that are there at a time: on both sides of what is computed."""


@dataclass(frozen=True, kw_only=True)
class Activations:
    """Bytes of one micro-batch between forward and backward, the output head left out."""

    blocks: tuple[int, ...]
    """Kept by each block."""
    inputs: tuple[int, ...]
    """Of each block: all that it keeps where it is computed again in full."""
    selected: tuple[int, ...]
    """Of each block where it is in part: its input, attention's output and every other product."""
    outside: int
    """Kept between the blocks and behind them."""
    largest: int
    """The largest tensor that a block keeps."""
    obstacle: str | None = None
    """Why these are a formula's, and not counted."""

    def kept(self, again: str) -> int:
        """When the forward pass has ended; ``again`` says what blocks compute again, as in ``recomputed``."""
        return sum({"none": self.blocks, "selective": self.selected, "full": self.inputs}[again]) + self.outside

    def on_the_way_back(self, again: str) -> int:
        """What comes and goes beside them: gradients of the largest tensors, and a block that is computed again."""
        return TRANSIENTS * self.largest + (0 if again == "none" else max(self.blocks, default=0))


def recomputed(model: PreTrainedModel, setting: str | bool) -> str:
    """``none``, ``selective`` or ``full``, by the setting ``gradient_checkpointing`` and what the class can do."""
    if not model.supports_gradient_checkpointing:
        return "none"
    return setting if isinstance(setting, str) else ("full" if setting else "none")


def told(found: Activations) -> list[str]:
    """What a plan says of where its activations come from, beside what it says of all."""
    if found.obstacle is None:
        return []
    return [
        f"activations by formula: {FORMULA_BYTES} bytes in 16 bits for each token, layer and unit of width, because "
        f"{found.obstacle}"
    ]


@lru_cache(maxsize=8)
def activations(model: PreTrainedModel, *, rows: int, length: int, dtype: torch.dtype) -> Activations:
    """Of a model on the meta device, which stays as it was but for the type of its weights."""
    cast(model, dtype)
    try:
        return _traced(model, rows, length)
    except _UNTRACED as error:
        obstacle = f"{type(model).__name__} cannot be traced ({type(error).__name__}: {first_line(error)})"
        return _by_formula(model, rows * length, dtype.itemsize, obstacle)


def _traced(model: PreTrainedModel, rows: int, length: int) -> Activations:
    seen = _Seen(model)
    ids = torch.zeros(rows, length, dtype=torch.long, device="meta")
    options: dict[str, Any] = {"input_ids": ids}
    if model.config.is_encoder_decoder:
        options["decoder_input_ids"] = ids
    elif getattr(model.config.get_text_config(), "is_decoder", True) or model.can_generate():
        # As it is in training: made beforehand. Else its making asks for values.
        options |= {"attention_mask": torch.ones(rows, 1, length, length, dtype=torch.bool, device="meta")}
        options |= {"use_cache": False}
        if "position_ids" in inspect.signature(model.base_model.forward).parameters:
            options["position_ids"] = ids
    with _planned(model), seen.watching(), torch.autograd.graph.saved_tensors_hooks(seen.keep, lambda one: one):
        output = model.base_model(**options)
    del output
    return seen.found()


class _Seen:
    """Storages that autograd keeps, by the block in which they were first kept."""

    def __init__(self, model: nn.Module) -> None:
        self._blocks = blocks(model)
        self._now: int | None = None
        weights = (*model.parameters(), *model.buffers())
        self._sizes: dict[int, tuple[int | None, int]] = {one.untyped_storage()._cdata: (None, 0) for one in weights}
        self._alive: list[Tensor] = []
        """So that no other storage is taken for one of these."""
        self._inputs = [0] * len(self._blocks)
        self._products: list[list[int]] = [[] for _ in self._blocks]

    def keep(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._sizes:
            self._sizes[storage._cdata] = (self._now, storage.nbytes())
            self._alive.append(tensor)
        return tensor

    @contextmanager
    def watching(self) -> Iterator[None]:
        handles = []
        for index, block in enumerate(self._blocks):
            handles.append(block.register_forward_pre_hook(self._enter(index), with_kwargs=True))
            handles.append(block.register_forward_hook(lambda *ignored: setattr(self, "_now", None)))
            products = [one for one in block.modules() if isinstance(one, nn.Linear | Conv1D)]
            handles += [one.register_forward_hook(self._multiplied) for one in products]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, index: int) -> Any:
        def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._now = index
            states = [one for one in (*args, *kwargs.values()) if isinstance(one, Tensor) and one.requires_grad]
            self._inputs[index] += sum(one.nbytes for one in states)

        return enter

    def _multiplied(self, module: nn.Module, args: Any, output: Any) -> None:
        if self._now is not None:
            own = output if isinstance(output, Tensor) else output[0]  # routers tell their choice, too
            self._products[self._now].append(own.nbytes)

    def found(self) -> Activations:
        kept = [0] * len(self._blocks)
        outside = 0
        for index, size in self._sizes.values():
            if index is None:
                outside += size
            else:
                kept[index] += size
        largest = max((size for index, size in self._sizes.values() if index is not None), default=0)
        selected = [  # attention's output is as large as a block's input, about
            min(2 * inputs + sum(products[::2]), whole)
            for inputs, products, whole in zip(self._inputs, self._products, kept, strict=True)
        ]
        return Activations(
            blocks=tuple(kept),
            inputs=tuple(self._inputs),
            selected=tuple(selected),
            outside=outside,
            largest=largest,
        )


@contextmanager
def _planned(model: PreTrainedModel) -> Iterator[None]:
    """Attention as fused kernels keep it, and experts in a form that asks for no values."""
    ALL_ATTENTION_FUNCTIONS.register(NAME, _attention)
    ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, lambda *args, **options: None)
    configs = {id(one.config): one.config for one in model.modules() if isinstance(one, PreTrainedModel)}.values()
    before = [(one, one._attn_implementation, one._experts_implementation) for one in configs]
    was_training = model.training
    model.train()
    try:
        for one, attention, _ in before:
            if attention != "eager":
                one._attn_implementation = NAME
            one._experts_implementation = "grouped_mm"
        yield
    finally:
        model.train(was_training)
        for one, attention, experts in before:
            one._attn_implementation, one._experts_implementation = attention, experts


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        rows, heads, length, _ = query.shape
        output_BLHD = query.new_empty(rows, length, heads, value.shape[-1])
        context.save_for_backward(query, key, value, output_BLHD, query.new_empty(rows, heads, length).float())
        return output_BLHD

    @staticmethod
    @once_differentiable
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return context.saved_tensors[:3]  # type: ignore[no-any-return]


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Hugging Face's interface; see ``graft.training.model.attention.in_blocks``."""
    return _Fused.apply(query, key, value), None


def _by_formula(model: PreTrainedModel, num_tokens: int, itemsize: int, obstacle: str) -> Activations:
    config = model.config.get_text_config()
    num = max(1, len(blocks(model)))
    unit = num_tokens * config.hidden_size * itemsize
    each = unit * FORMULA_BYTES // 2
    return Activations(
        blocks=(each,) * num,
        inputs=(unit,) * num,
        selected=(each // 2,) * num,
        outside=4 * unit,
        largest=4 * unit,
        obstacle=obstacle,
    )


def probability_bytes(config: PretrainedConfig, *, rows: int, length: int) -> float:
    """Of a layer in bfloat16 on a CPU: what ``attention.in_blocks`` keeps beyond a fused kernel; half of it where
    attention is causal.
    """
    if length > LONGEST:
        return 0.0
    share = 0.5 if facts_of(config).kind == "decoder" else 1.0
    return float(2 * rows * length * config.get_text_config().num_attention_heads * length * share)
