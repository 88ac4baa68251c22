"""The gradients of several trainings of adapters on one base, from one pass over all their micro-batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from graft.training.adapt.beside.layer import ADAPTER
from graft.training.adapt.together.layer import Present, SharedLinear, Span
from graft.training.adapt.together.twin import twin
from graft.training.batch.packing import PackedBatch
from graft.training.model.attention import lines
from graft.training.model.attention.varlen import placeholder
from graft.training.model.family import facts_of
from graft.training.objective.masks import decoder_of
from graft.training.parallel.layout import Work

TOKENS_PER_PASS = {"cpu": 4096, "cuda": 16384}
"""Of several members' micro-batches. More gain nothing: what a pass costs by itself is a twentieth of it by then, while
their activations outgrow the caches, and in the end memory.
"""


@dataclass(frozen=True, kw_only=True)
class _Turn:
    """A member's micro-batch in a pass."""

    member: int
    work: Work
    batch: PackedBatch

    @property
    def num_tokens(self) -> int:
        """With padding: all that is computed."""
        found: int = self.batch.input_ids_BL.numel()
        return found


class Joint:
    """A base with the adapters of its members, each a model of its own of the same weights (``twin``), with LoRA.

    A member's result does not depend on the others: its tokens meet no other's but in products that compute each row by
    itself.
    """

    def __init__(
        self,
        base: PreTrainedModel,
        members: Sequence[nn.Module],
        *,
        attention: str,
        generators: Mapping[int, torch.Generator] | None = None,
    ) -> None:
        """``attention``: that of a member alone, by the name that transformers know. ``generators``: of members with
        dropout.
        """
        lines.register()
        self._present = Present(generators=generators or {})
        self._inner = attention
        self.model = twin(base).train()
        for one in self.model.modules():
            if isinstance(one, PreTrainedModel):
                one.config._attn_implementation = lines.NAME
        layers: dict[str, dict[int, LoraLayer]] = {}
        for number, member in enumerate(members):
            for path, layer in decoder_of(member).named_modules():
                if isinstance(layer, LoraLayer) and ADAPTER in layer.lora_A:
                    layers.setdefault(path, {})[number] = layer
        for path, adapters in layers.items():
            self.model.set_submodule(path, SharedLinear(self.model.get_submodule(path), adapters, self._present))
        self._ranks = [max(len(one.lora_A[ADAPTER].weight) for one in _layers(member)) for member in members]

    def add_gradients(self, works: Mapping[int, Work]) -> dict[int, dict[str, Tensor]]:
        """What ``Work.add_gradients`` does of each member's work, by their numbers: the micro-batches of all that come
        i-th in one pass, or in as many as their tokens ask for (``TOKENS_PER_PASS``).
        """
        means: dict[int, dict[str, Tensor]] = {member: {} for member in works}
        for number in range(max(len(work.batches) for work in works.values())):
            turns = [
                _Turn(member=member, work=work, batch=work.batches[number])
                for member, work in works.items()
                if number < len(work.batches)
            ]
            # Equals stand side by side, where their products are one.
            turns.sort(key=lambda turn: (self._ranks[turn.member], turn.num_tokens, turn.member))
            for some in _passes(turns, TOKENS_PER_PASS[self.model.device.type]):
                for turn, parts in zip(some, self._backward(some), strict=True):
                    own = means[turn.member]
                    for name, part in parts.items():
                        own[name] = own[name] + part if name in own else part.double()
        return means

    def _backward(self, turns: Sequence[_Turn]) -> list[dict[str, Tensor]]:
        spans: list[Span] = []
        for turn in turns:
            start = spans[-1].start + spans[-1].num_tokens if spans else 0
            spans.append(Span(member=turn.member, start=start, num_tokens=turn.num_tokens))
        self._present.spans = spans
        batches = [turn.batch for turn in turns]
        losses, found = [], []
        try:
            answers = self._answers(batches)
            for turn, answer in zip(turns, answers, strict=True):
                loss, parts = replace(turn.work, model=answer).loss(turn.batch)
                losses.append(loss)
                found.append(parts)
            torch.stack(losses).sum().backward()
        finally:
            self._present.spans = ()
        return found

    def _answers(self, batches: Sequence[PackedBatch]) -> list[_Answer]:
        """What the model says of each batch: an objective that calls it with the batch hears that."""
        head, states_1TD = self.model.get_output_embeddings(), list[Tensor]()
        is_plain = type(head) is nn.Linear and facts_of(self.model.config).ends_in_its_head
        if is_plain:

            def catch(states: Tensor) -> Tensor:
                states_1TD.append(states)
                return states[..., :1].detach()

            head.forward = catch
        try:
            logits = self.model(
                input_ids=torch.cat([one.input_ids_BL.flatten() for one in batches])[None],
                position_ids=torch.cat([one.position_ids_BL.flatten() for one in batches])[None],
                attention_mask=placeholder(1, batches[0].input_ids_BL.device),
                use_cache=False,
                lines=lines.Lines(batches=batches, inner=self._inner),
            ).logits
        finally:
            if is_plain:
                del head.forward
        said, answer = (states_1TD[0], head) if is_plain else (logits, _as_it_is)
        parts = said[0].split([one.input_ids_BL.numel() for one in batches])
        return [
            _Answer(self.model, part.view(*one.input_ids_BL.shape, -1), answer)
            for part, one in zip(parts, batches, strict=True)
        ]


def _passes(turns: Sequence[_Turn], most: int) -> list[list[_Turn]]:
    """Of at most so many tokens, or of one micro-batch."""
    passes: list[list[_Turn]] = []
    room = 0
    for turn in turns:
        if not passes or turn.num_tokens > room:
            passes.append([])
            room = most
        passes[-1].append(turn)
        room -= turn.num_tokens
    return passes


class _Answer(nn.Module):
    """A model that was called already."""

    def __init__(self, model: PreTrainedModel, states_BLD: Tensor, head: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self.config = model, model.config
        self._states, self._head = states_BLD, head

    def get_output_embeddings(self) -> nn.Module:
        return self.model.get_output_embeddings()

    def forward(self, **inputs: object) -> CausalLMOutput:
        return CausalLMOutput(logits=self._head(self._states))


def _as_it_is(logits: Tensor) -> Tensor:
    return logits


def _layers(member: nn.Module) -> list[LoraLayer]:
    return [one for one in member.modules() if isinstance(one, LoraLayer) and ADAPTER in one.lora_A]
