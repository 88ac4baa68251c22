"""Answers behind their prompts, packed side by side. Legend: S answers, N tokens that are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import Self

import torch
from torch import Tensor

from graft.training.batch.packing import Encoded, PackedBatch, batch_of_rows, lines_of


@dataclass(frozen=True, kw_only=True)
class Answer(Encoded):
    """A prompt and an answer to it; ``supervised`` is what is asked for."""

    num_prompt: int
    """Tokens of the prompt."""

    @classmethod
    def of(cls, prompt_ids: Sequence[int], answer_ids: Sequence[int]) -> Self:
        """The answer alone is asked for."""
        supervised = [False] * len(prompt_ids) + [True] * len(answer_ids)
        return cls(input_ids=[*prompt_ids, *answer_ids], supervised=supervised, num_prompt=len(prompt_ids))

    @property
    def num_prompt_asked(self) -> int:
        """Of the prompt's tokens; nothing foretells the first of all."""
        return sum(self.supervised[1 : self.num_prompt])

    @property
    def num_answer(self) -> int:
        return len(self.input_ids) - self.num_prompt

    @property
    def num_answer_asked(self) -> int:
        return len(self.input_ids) - max(1, self.num_prompt)

    def whole(self) -> Self:
        """The same with its prompt asked for, too."""
        return replace(self, supervised=[True] * len(self.input_ids))

    def behind(self, other: Answer) -> Answer:
        """The same answer behind another's prompt."""
        return Answer.of(other.input_ids[: other.num_prompt], self.input_ids[self.num_prompt :])


@dataclass(frozen=True, kw_only=True)
class _Numbered(Encoded):
    number: int


@dataclass(frozen=True, kw_only=True)
class AnswerBatch:
    """Several answers, each of which has a sum of its own. Where they lie in lines, they have another order."""

    packed: PackedBatch
    asked_S: Tensor
    """How many tokens are asked for of each, as they lie."""
    place_S: Tensor
    """Of each answer, among those as they lie."""
    end_S: Tensor
    """Where in the flattened lines each answer's last token is."""
    is_answer_N: Tensor
    """False for a prompt's token, as they lie."""
    length_S: Tensor
    """Tokens of each answer that are asked for, in float32."""

    @classmethod
    def of(cls, answers: Sequence[Answer], *, packing: bool, pad_id: int) -> Self:
        numbered = [
            _Numbered(input_ids=one.input_ids, supervised=one.supervised, number=number)
            for number, one in enumerate(answers)
        ]
        lines, length = lines_of(numbered, packing=packing)
        order = torch.tensor([one.number for line in lines for one in line])
        ends = [
            number * length + end - 1
            for number, line in enumerate(lines)
            for end in accumulate(len(one.input_ids) for one in line)
        ]
        lying = [answers[number] for number in order.tolist()]
        asked = [(one.num_prompt_asked, one.num_answer_asked) for one in lying]
        place_S = order.argsort()
        return cls(
            packed=batch_of_rows(lines, length=length, pad_id=pad_id),
            asked_S=torch.tensor([sum(each) for each in asked]),
            place_S=place_S,
            end_S=torch.tensor(ends)[place_S],
            is_answer_N=torch.tensor([False, True]).repeat(len(asked)).repeat_interleave(torch.tensor(asked).flatten()),
            length_S=torch.tensor([one.num_answer_asked for one in answers]).float(),
        )

    @property
    def num(self) -> int:
        return len(self.place_S)

    @cached_property
    def num_tokens(self) -> int:
        """All tokens but padding."""
        return self.packed.num_tokens

    def sums(self, value_N: Tensor) -> tuple[Tensor, Tensor]:
        """Of each answer's own tokens, and of all that are asked for with it. Shapes: (S,)."""
        return self._sums(value_N.where(self.is_answer_N, 0.0)), self._sums(value_N)

    def _sums(self, value_N: Tensor) -> Tensor:
        """By segments: an answer's tokens lie together, and they are added in the same order each time."""
        sum_S = torch.segment_reduce(value_N, "sum", lengths=self.asked_S, initial=0.0, unsafe=True)
        return sum_S.index_select(0, self.place_S)

    def spread(self, value_S: Tensor) -> Tensor:
        """To each token that is asked for its answer's value, as they lie. Shape: (N,)."""
        lying_S = value_S.index_select(0, self.place_S.argsort())
        return lying_S.repeat_interleave(self.asked_S, output_size=len(self.is_answer_N))

    def laid(self, values: Sequence[Sequence[float]]) -> Tensor:
        """One value for each token that is asked for, given answer by answer, as they lie: in float32, on the CPU.

        Raises ``ValueError`` where an answer has another number of values. Shape: (N,).
        """
        lying = [values[number] for number in self.place_S.argsort().tolist()]
        given = [len(each) for each in lying]
        if given != self.asked_S.tolist():
            raise ValueError(f"{given} values are given for answers of {self.asked_S.tolist()} tokens, as they lie")
        return torch.tensor([value for each in lying for value in each], dtype=torch.float32)

    def apart(self, value_N: Tensor) -> list[list[float]]:
        """The values of each answer's tokens, in the answers' order: what ``laid`` takes."""
        lying = value_N.split(self.asked_S.tolist())
        return [lying[place].tolist() for place in self.place_S.tolist()]

    def silent(self) -> Self:
        """The same lines, in which there are no answers."""
        none = {name: getattr(self, name)[:0] for name in _TENSORS}
        return replace(self, packed=self.packed.silent(), **none)

    def to(self, device: str) -> Self:
        """The same on another device."""
        return self.each(lambda one: one.to(device, non_blocking=True))

    def each(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The same with tensors that ``change`` has copied."""
        return replace(
            self, packed=self.packed.each(change), **{name: change(getattr(self, name)) for name in _TENSORS}
        )


_TENSORS = ("asked_S", "place_S", "end_S", "is_answer_N", "length_S")
