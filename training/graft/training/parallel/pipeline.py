"""Pipeline parallelism: consecutive layers in different processes, by torch's schedules.

1F1B (PipeDream: Narayanan et al. 2019; Megatron: 2021, arXiv:2104.04473, §2.2), or interleaved, where each process has
two stages that do not follow one another and waits less (§2.2.2 there).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleInterleaved1F1B
from transformers import PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from graft.training.batch.packing import PackedBatch
from graft.training.errors import ConfigurationError
from graft.training.model.family import facts_of
from graft.training.objective.masks import attention_inputs
from graft.training.parallel.layout import Work

STAGES_PER_PROCESS = {"1f1b": 1, "interleaved": 2}


class Stage(nn.Module):
    """Some layers of a decoder; the first stage has the embedding, too, the last one the norm and the output head, and
    computes the loss: under sharding its weights are whole only while it runs.
    """

    loss: Callable[[Callable[[], Tensor], int], Tensor]
    """Of the last stage: from how its logits are made and the number of the micro-batch."""

    def __init__(self, model: PreTrainedModel, layers: Sequence[str], *, is_first: bool, is_last: bool) -> None:
        super().__init__()
        base = model.base_model
        self.embedding = model.get_input_embeddings() if is_first else None
        self.layers = nn.ModuleDict({name: base.layers[name] for name in layers})
        self.norm = _norm(model) if is_last else None
        self.head = model.get_output_embeddings() if is_last else None
        self.rotary = base.rotary_emb
        self.offsets: Sequence[Mapping[str, Any]] = ()
        """Of each micro-batch, where attention goes by documents: of any size, so they are not cut as masks are."""

    def forward(self, x: Tensor, position_ids: Tensor, attention_mask: Tensor, number: Tensor) -> Tensor:
        """Token ids or the states of the stage before; gives states or the loss."""
        offsets = self.offsets[int(number)] if self.offsets else {}
        states_BLD = x if self.embedding is None else self.embedding(x)
        rotary = self.rotary(states_BLD, position_ids)
        for layer in self.layers.values():
            output = layer(
                states_BLD,
                attention_mask=attention_mask,
                position_ids=position_ids,
                position_embeddings=rotary,
                **offsets,
            )
            states_BLD = output[0] if isinstance(output, tuple) else output
        norm, head = self.norm, self.head
        if norm is None or head is None:
            return states_BLD
        return self.loss(lambda: head(norm(states_BLD)), int(number))


def _norm(model: PreTrainedModel) -> nn.Module:
    found: nn.Module = model.base_model.get_submodule(facts_of(model.config).final_norm)
    return found


def cut(model: PreTrainedModel, *, rank: int, num: int, schedule: str) -> dict[int, Stage]:
    """Takes away from a model, in place, what other processes have; returns this one's stages by their number.

    What stays keeps its name. The embedding must not be the output head as well (see ``Mesh.check``).
    """
    num_stages = num * STAGES_PER_PROCESS[schedule]
    base = model.base_model
    names = [str(index) for index in range(len(base.layers))]
    bounds = [round(len(names) * stage / num_stages) for stage in range(num_stages + 1)]
    numbers = list(range(rank, num_stages, num))
    own = {stage: names[bounds[stage] : bounds[stage + 1]] for stage in numbers}
    kept = {name for part in own.values() for name in part}
    base.layers = nn.ModuleDict({name: layer for name, layer in zip(names, base.layers, strict=True) if name in kept})
    stages = {
        stage: Stage(model, own[stage], is_first=stage == 0, is_last=stage == num_stages - 1) for stage in numbers
    }
    ends = (model.get_input_embeddings(),), (model.get_output_embeddings(), _norm(model))
    for stage, modules in zip((0, num_stages - 1), ends, strict=True):
        for module in modules if stage not in stages else ():
            _remove(model, module)
    return stages


def _remove(model: nn.Module, module: nn.Module) -> None:
    name = next(name for name, one in model.named_modules() if one is module)
    parent, _, last = name.rpartition(".")
    delattr(model.get_submodule(parent), last)


class Pipeline:
    """Runs the micro-batches of a step through the stages of all processes."""

    def __init__(self, stages: Mapping[int, Stage], *, group: dist.ProcessGroup, schedule: str, device: str) -> None:
        self._stages, self._group, self._schedule, self._device = stages, group, schedule, device
        self._num_stages = dist.get_world_size(group) * STAGES_PER_PROCESS[schedule]
        self._made: dict[int, Any] = {}
        self._parts: dict[int, dict[str, Tensor]] = {}
        """Of the terms' means, by the number of the micro-batch."""

    def run(self, work: Work) -> dict[str, Tensor]:
        """Forward and backward of all; returns the means, in every process and left on its device. Gradients are added.

        Raises ``ConfigurationError`` where the batches are not packed, or not of one size.
        """
        batches: Sequence[PackedBatch] = work.batches
        if not all(isinstance(batch, PackedBatch) for batch in batches):
            raise ConfigurationError("pp takes packed rows of text only; train other objectives without it.")
        if len({batch.input_ids_BL.shape for batch in batches}) != 1:
            raise ConfigurationError("the micro-batches of a step must be of one size for pp.")
        numbers = torch.arange(len(batches))
        given = [attention_inputs(work.model, batch, is_made_here=True) for batch in batches]
        masks = [one.pop("attention_mask") for one in given]
        for stage in self._stages.values():
            stage.offsets = given
        kwargs = {
            "position_ids": torch.cat([batch.position_ids_BL for batch in batches]),
            "attention_mask": torch.cat(masks),
            "number": numbers,
        }
        inputs = (torch.cat([batch.input_ids_BL for batch in batches]),) if 0 in self._stages else ()
        last = self._stages.get(self._num_stages - 1)
        if last is not None:
            last.loss = functools.partial(self._loss, work)
        target = None if last is None else numbers
        self._of(len(batches)).step(*inputs, target=target, return_outputs=False, **kwargs)
        names = list(dict.fromkeys((*work.objective.weights, *work.counts)))
        means = torch.zeros(len(names), dtype=torch.float64, device=self._device)
        for part in self._parts.values():
            means += torch.stack([part[name] for name in names])
        dist.all_reduce(means, group=self._group)
        self._parts.clear()
        return dict(zip(names, means.unbind(), strict=True))

    def _of(self, num_batches: int) -> Any:
        """torch's schedule for so many micro-batches; it keeps what it has found out of their shapes."""
        if num_batches not in self._made:
            stages = [
                PipelineStage(stage, number, self._num_stages, torch.device(self._device), group=self._group)
                for number, stage in self._stages.items()
            ]
            options: dict[str, Any] = {"loss_fn": lambda loss, number: loss, "scale_grads": False}
            self._made[num_batches] = (
                Schedule1F1B(stages[0], num_batches, **options)
                if self._schedule == "1f1b"
                else ScheduleInterleaved1F1B(stages, num_batches, **options)
            )
        return self._made[num_batches]

    def _loss(self, work: Work, logits: Callable[[], Tensor], number: int) -> Tensor:
        """The objective's loss of a micro-batch, for which the stages have computed what the model would."""
        with _answering(work.model, logits):
            loss, self._parts[number] = work.loss(work.batches[number])
        return loss


@contextlib.contextmanager
def _answering(model: nn.Module, logits: Callable[[], Tensor]) -> Iterator[None]:
    model.forward = lambda **inputs: CausalLMOutput(logits=logits())
    try:
        yield
    finally:
        del model.forward
