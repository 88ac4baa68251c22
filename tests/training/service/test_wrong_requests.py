"""What a caller may get wrong is said to it, and is nobody's fault here."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest

from graft.training.service.refusal import Refusal
from graft.training.service.rpc.messages import adam_of
from graft.training.service.sessions.limits import Limits
from graft.training.service.sessions.served import Caller
from graft.training.service.sessions.session import is_number
from graft.training.service.sessions.sessions import Sessions
from graft.training.service.sessions.training import Place
from graft.training.service.tinker.bodies import OptimStep, read
from graft.training.service.tinker.tensors import lesson_of
from graft.v1 import train_pb2 as pb
from graft.v1.tinker_pb2 import Tinker

ODD = b"\0" * 7


@pytest.mark.parametrize("eps", [0.0, 1e-40, -1.0, float("nan"), float("inf")])
def test_an_eps_that_gradients_of_nothing_are_divided_by_in_vain(eps: float) -> None:
    with pytest.raises(Refusal, match="eps"):
        adam_of(pb.StepOptimizerRequest(learning_rate=0.1, eps=eps))


def test_an_eps_that_is_left_out_is_the_default() -> None:
    assert adam_of(pb.StepOptimizerRequest(learning_rate=0.1)).eps == 1e-12
    assert adam_of(pb.StepOptimizerRequest(learning_rate=0.1, eps=1e-8)).eps == pytest.approx(1e-8)


def test_of_tinkers_steps_too() -> None:
    with pytest.raises(Refusal, match="eps"):
        read(OptimStep, b'{"model_id": "a", "seq_id": 1, "adam_params": {"eps": 0}}')


def test_bytes_that_are_no_numbers_are_named() -> None:
    request = Tinker.ForwardBackwardRequest(loss_fn="cross_entropy")
    text = request.data.add()
    text.model_input.add().encoded_text.tokens = ODD
    row = request.data.add()
    row.model_input.add().encoded_text.tokens = np.array([1, 2], dtype=np.int32).tobytes()
    row.loss_fn_inputs["target_tokens"].CopyFrom(Tinker.Tensor(dtype=2, dense=ODD))
    with pytest.raises(Refusal) as refused:
        lesson_of(request, num_tokens=9, max_tokens=9)
    assert "datum 0: encoded_text has 7 bytes, and its numbers have 4 each" in str(refused.value)
    assert "datum 1: target_tokens has 7 bytes, and its numbers have 8 each" in str(refused.value)


def test_an_id_of_many_digits_is_nobodys() -> None:
    """Python's int() refuses those of more than 4300 by a ValueError."""
    digits = "1" * 5000
    assert not is_number(digits) and not is_number("-1") and is_number("9" * 19)
    sessions = Sessions(cast(Place, _Limited()))
    caller = cast(Caller, "me")
    session = sessions.open(caller)
    for find, mark in ((sessions.training, "train"), (sessions.sampler, "sample")):
        with pytest.raises(Refusal, match="in "):
            find(caller, f"{session.id}:{mark}:{digits}")
    sessions.close()


class _Limited:
    limits = Limits(max_sessions=1)
