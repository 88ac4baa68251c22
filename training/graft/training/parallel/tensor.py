"""Tensor parallelism with sequence parallelism, by the model's own plan (Shoeybi et al. 2019, arXiv:1909.08053, §3;
Korthikanti et al. 2022, arXiv:2205.05198, §4.2).

Parameters are DTensors, so that checkpoints and FSDP know what of them is where; computed is with their local parts.
Inside an attention or a feed-forward every process has all tokens and some channels; between them all channels of some
tokens. The embedding and the output head are split along the vocabulary. Dropout between layers draws the same for each
part of the tokens, as all processes of a group have one generator.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard
from transformers import PreTrainedModel

from graft.training.model.family import facts_of
from graft.training.objective.sharded_head import SplitHead
from graft.training.parallel.plan import COLUMNS, EMBEDDING, ROWS
from graft.training.parallel.sequence import Tokens, add_up, divide, join


class SplitColumns(nn.Linear):
    """Some outputs of all tokens."""

    tokens: Tokens
    gathers: bool

    def forward(self, x: Tensor) -> Tensor:
        found = nn.functional.linear(x, _own(self.weight), None if self.bias is None else _own(self.bias))
        return join(found, -1, self.tokens.group) if self.gathers else found


class SplitRows(nn.Linear):
    """Some inputs of all tokens; what comes out is summed, and each process keeps its tokens of it."""

    tokens: Tokens
    gathers: bool

    def forward(self, x: Tensor) -> Tensor:
        own = divide(x, -1, self.tokens.group) if self.gathers else x
        found = self.tokens.summed(nn.functional.linear(own, _own(self.weight)))
        return found if self.bias is None else found + self.bias


class SplitEmbedding(nn.Embedding):
    """Some entries of the vocabulary."""

    tokens: Tokens

    def forward(self, ids: Tensor) -> Tensor:
        weight = _own(self.weight)
        size = -(-self.num_embeddings // self.tokens.num)
        places = ids - size * self.tokens.rank
        is_here = (places >= 0) & (places < len(weight))
        found = nn.functional.embedding(places.where(is_here, 0), weight)
        if self.padding_idx is not None:  # its row learns nothing
            found = found.where((ids != self.padding_idx)[..., None], found.detach())
        return add_up(found.where(is_here[..., None], 0.0), self.tokens.group)


class GatheredHead(SplitHead):
    """Logits of some entries of the vocabulary for all tokens, gathered where they are asked for whole."""

    tokens: Tokens

    def forward(self, x: Tensor) -> Tensor:
        found = nn.functional.linear(x, _own(self.weight), None if self.bias is None else _own(self.bias))
        filled = nn.functional.pad(found, (0, self.num_entries - found.shape[-1]))
        return join(filled, -1, self.tokens.group)[..., : self.out_features]


def _own(parameter: Tensor) -> Tensor:
    assert isinstance(parameter, DTensor)
    return parameter.to_local()


def split_tensors(model: nn.Module, mesh: DeviceMesh) -> list[str]:
    """Splits a model in place, and names the whole parameters of whose gradients each process finds a part.

    Every process must hold the same weights; none are exchanged.
    """
    assert isinstance(model, PreTrainedModel)
    tokens, base = Tokens(mesh.get_group()), model.base_model
    regions: dict[str, nn.Module] = {}
    alike: dict[int, nn.Parameter] = {}
    """By their id: with which every process computes the same."""
    for path, style in _planned(base, model.config.base_model_tp_plan or {}):
        module, region = base.get_submodule(path), path.rpartition(".")[0]
        regions[region] = base.get_submodule(region)
        if style in COLUMNS:
            _split(module, SplitColumns, mesh, tokens=tokens, gathers=COLUMNS[style])
        elif style in ROWS:
            _split(module, SplitRows, mesh, tokens=tokens, gathers=ROWS[style])
        if COLUMNS.get(style):
            alike |= {id(one): one for one in regions[region].parameters()}
        if style in ROWS and module.bias is not None:
            alike.pop(id(module.bias), None)
    for module in regions.values():
        module.register_forward_pre_hook(functools.partial(_take_all, tokens), with_kwargs=True)
    _split_ends(model, mesh, tokens)
    return [name for name, one in model.named_parameters() if not isinstance(one, DTensor) and id(one) not in alike]


def _planned(base: nn.Module, plan: Mapping[str, str]) -> list[tuple[str, str]]:
    """Paths and styles; those of the layers that gather their outputs first."""
    found = [
        (path, style)
        for path, _ in base.named_modules()
        for pattern, style in plan.items()
        if style != EMBEDDING and re.fullmatch(pattern.replace(".", r"\.").replace("*", r"\d+"), path)
    ]
    return sorted(found, key=lambda one: one[1] in ROWS)


def _split_ends(model: PreTrainedModel, mesh: DeviceMesh, tokens: Tokens) -> None:
    base, head = model.base_model, model.get_output_embeddings()
    embedding = model.get_input_embeddings()
    is_tied = head.weight is embedding.weight
    _split(embedding, SplitEmbedding, mesh, tokens=tokens)
    if is_tied:
        head.weight = embedding.weight
    _split(head, GatheredHead, mesh, tokens=tokens)
    layers = list(base.layers)
    layers[0].register_forward_pre_hook(functools.partial(_take_part, tokens), with_kwargs=True)
    for layer in layers:
        layer.register_forward_pre_hook(functools.partial(_take_length, tokens), with_kwargs=True, prepend=True)
    norm = base.get_submodule(facts_of(model.config).final_norm)
    norm.register_forward_hook(lambda module, inputs, output: tokens.whole(output))


def _split(module: nn.Module, kind: type[nn.Module], mesh: DeviceMesh, **facts: Any) -> None:
    module.__class__ = kind
    for name, value in facts.items():
        setattr(module, name, value)
    dim = 1 if kind is SplitRows else 0
    for name, one in list(module.named_parameters(recurse=False)):
        if not isinstance(one, DTensor) and (name == "weight" or kind is not SplitRows):
            setattr(module, name, nn.Parameter(part_of(one.detach(), mesh, dim), requires_grad=one.requires_grad))


def part_of(whole: Tensor, mesh: DeviceMesh, dim: int) -> DTensor:
    """This process's part of what all have."""
    size = -(-whole.shape[dim] // mesh.size())
    first = min(size * mesh.get_local_rank(), whole.shape[dim])
    own = whole.narrow(dim, first, min(size, whole.shape[dim] - first)).clone(memory_format=torch.contiguous_format)
    return DTensor.from_local(
        own, mesh, [Shard(dim)], run_check=False, shape=whole.shape, stride=whole.contiguous().stride()
    )


def _take_length(tokens: Tokens, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    tokens.length = kwargs["position_ids"].shape[1]


def _take_part(tokens: Tokens, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return _with_states(tokens.part, args, kwargs)


def _take_all(tokens: Tokens, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return _with_states(tokens.whole, args, kwargs)


def _with_states(change: Callable[[Tensor], Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A module's arguments, of which the states are the first or have their name."""
    if args:
        return (change(args[0]), *args[1:]), kwargs
    return args, {**kwargs, "hidden_states": change(kwargs["hidden_states"])}
