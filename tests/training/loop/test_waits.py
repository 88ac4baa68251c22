"""How often a step waits for the device: counted on a second device, from which every number must be fetched."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import (
    BertConfig,
    BertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from graft.training.batch.packing import Encoded, batch_of_rows
from graft.training.loop.optim import adamw, muon
from graft.training.loop.step import Step
from graft.training.objective.causal import CausalObjective
from graft.training.objective.distillation import DecoderDistillation, EncoderDistillation
from graft.training.objective.masked import MaskedObjective
from graft.training.objective.prefix import PrefixObjective
from graft.training.objective.span_boundary import SpanBoundaryModel, SpanBoundaryObjective
from graft.training.objective.span_corruption import SpanCorruptionObjective
from graft.training.parallel.layout import Alone
from tests.training import second_device as device_module
from tests.training.objective.vocabularies import (
    DECODER,
    FIRST_WORD,
    PAD,
    SEP,
    SIZE,
    documents,
    generator,
    vocabulary,
)
from tests.training.second_device import SECOND, SecondDeviceTensor, second_device

WAITING = {
    "aten::_local_scalar_dense",
    "aten::item",
    "aten::is_nonzero",
    "aten::equal",
    "aten::nonzero",
    "aten::masked_select",
    "aten::unique",
    "aten::_unique2",
    "aten::repeat_interleave",
}
"""Operations whose result, or its size, the host must know."""
ENCODER = {"vocab_size": SIZE, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
TEXT = {"vocabulary": vocabulary(), "length": 32}


class Waits(TorchDispatchMode):
    """Names of the operations on the second device that the host waited for, but for those inside of Hugging Face's
    models: encoders look once a forward pass whether their mask hides anything.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        values = tree_leaves((args, kwargs or {}))
        is_there = any(isinstance(one, SecondDeviceTensor) for one in values)
        if is_there and self._waits(function, values) and not _in_a_model():
            self.names.append(function._schema.name)
        return function(*args, **(kwargs or {}))

    def _waits(self, function: Any, values: Sequence[Any]) -> bool:
        name, target = function._schema.name, values[0]
        if name.startswith("aten::index"):
            return any(isinstance(one, Tensor) and one.dtype == torch.bool for one in values[1:])
        to_cpu = any(isinstance(one, torch.device) and one.type == "cpu" for one in values)
        is_fetched = name == "aten::copy_" and not isinstance(target, SecondDeviceTensor)
        return name in WAITING or is_fetched or (name == "aten::_to_copy" and to_cpu)


def _in_a_model() -> bool:
    caller = next(
        one
        for one in reversed(traceback.extract_stack())
        if f"{os.sep}torch{os.sep}" not in one.filename and one.filename not in (__file__, device_module.__file__)
    )
    return f"{os.sep}transformers{os.sep}" in caller.filename


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    with second_device(), Waits() as mode:
        fetch = SecondDeviceTensor.tolist

        def tolist(tensor: SecondDeviceTensor) -> Any:
            mode.names.append("tolist")
            return fetch(tensor)

        monkeypatch.setattr(SecondDeviceTensor, "tolist", tolist)
        yield mode.names


def packed(number: int) -> Any:
    rows = [
        [Encoded(input_ids=list(range(FIRST_WORD, FIRST_WORD + size)), supervised=[True] * size) for size in sizes]
        for sizes in ((9, 7), (12, 3 + number))
    ]
    return batch_of_rows(rows, length=24, pad_id=PAD)


def llama() -> LlamaForCausalLM:
    return LlamaForCausalLM(LlamaConfig(**DECODER))


def bert() -> BertForMaskedLM:
    return BertForMaskedLM(BertConfig(**ENCODER, intermediate_size=48, pad_token_id=PAD))


def t5() -> T5ForConditionalGeneration:
    return T5ForConditionalGeneration(
        T5Config(vocab_size=SIZE, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, pad_token_id=PAD,
                 decoder_start_token_id=PAD, eos_token_id=SEP)
    )  # fmt: skip


def teacher(model: nn.Module) -> Any:
    return model.requires_grad_(False).to(SECOND)


def collated(objective: Any) -> Callable[[int], Any]:
    return lambda number: objective.collate(documents(25, 30, seed=number), generator(number))


CASES: dict[str, Callable[[], tuple[nn.Module, Any, Callable[[int], Any]]]] = {
    "causal": lambda: (llama(), CausalObjective(z_loss=1e-4), packed),
    "decoder distillation": lambda: (llama(), DecoderDistillation(teacher=teacher(llama())), packed),
    "prefix": lambda: (llama(), made := PrefixObjective(**TEXT), collated(made)),
    "masked": lambda: (bert(), made := MaskedObjective(**TEXT), collated(made)),
    "encoder distillation": lambda: (
        bert(),
        made := EncoderDistillation(masked=MaskedObjective(**TEXT), teacher=teacher(bert())),
        collated(made),
    ),
    "span boundary": lambda: (SpanBoundaryModel(bert()), made := SpanBoundaryObjective(**TEXT), collated(made)),
    "span corruption": lambda: (t5(), made := SpanCorruptionObjective(**TEXT), collated(made)),
}


@pytest.mark.parametrize("case", CASES)
def test_a_step_waits_once_whatever_is_accumulated(case: str, waits: list[str]) -> None:
    torch.manual_seed(0)
    model, objective, batch = CASES[case]()
    layout = Alone(SECOND.type)
    step = Step(model.to(SECOND), objective=objective, optimizers=adamw(), layout=layout)
    for number in range(2):
        prepared = step.prepare([batch(number), batch(number + 1), batch(number + 2)])
        del waits[:]
        told = step.learn(prepared, 1e-3)
        assert waits == ["tolist"]
        assert told["loss"] > 1 and told["gradient_norm"] > 0


@pytest.mark.parametrize("optimizers", [adamw, muon])
def test_two_calls_wait_twice(optimizers: Any, waits: list[str]) -> None:
    torch.manual_seed(0)
    step = Step(llama().to(SECOND), objective=CausalObjective(), optimizers=optimizers(), layout=Alone(SECOND.type))
    step.forward_backward([packed(0), packed(1)])
    step.optimizer_step(1e-3)
    assert waits == ["tolist"] * 2
