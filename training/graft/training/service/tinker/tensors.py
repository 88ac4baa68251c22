"""Between protobuf's bytes and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graft.training.objective.tokens.batch import Datum
from graft.training.service.learning.lessons import checked
from graft.training.service.learning.trainee import Learned, Lesson
from graft.training.service.sessions.sampler import Sampled, Samples, Wish
from graft.v1.tinker_pb2 import Tinker

_FLOAT, _INT64, _INT32 = 1, 2, 3
_TYPES = {_FLOAT: np.float32, _INT64: np.int64, _INT32: np.int32}
_TARGETS = "target_tokens"
_NO_LOGPROB = -99999.0
"""Where there is no alternative of that place."""


def lesson_of(request: Tinker.ForwardBackwardRequest, *, num_tokens: int, max_tokens: int) -> Lesson:
    """``num_tokens``: of the vocabulary; ``max_tokens``: of a text. Raises ``Refusal`` with all that is wrong."""
    reasons = list[str]()
    data = [_Reading(number, reasons).datum(one) for number, one in enumerate(request.data)]
    options = _options(request)
    return checked(request.loss_fn, data, options, reasons, num_tokens=num_tokens, max_tokens=max_tokens)


def output_of(learned: Learned) -> bytes:
    record = Tinker.ArrayRecord(type_tag="ArrayRecord", num_datums=len(learned.logprobs))
    record.fields["logprobs"].CopyFrom(_batched(learned.logprobs))
    output = Tinker.ForwardBackwardOutput(
        loss_fn_output_type="ArrayRecord", loss_fn_outputs=[record], metrics={"loss:sum": learned.loss}
    )
    return output.SerializeToString()


def samples_of(wish: Wish, samples: Samples) -> bytes:
    response = Tinker.SampleResponse(
        sequences=[_sequence(one, wish.alternatives) for one in samples.answers],
        prompt_cache_hit_tokens=samples.num_cached,
    )
    if samples.prompt_logprobs is not None:
        found = np.array([np.nan, *samples.prompt_logprobs], dtype=np.float32)
        if wish.num_scored is not None:
            found[: len(found) - wish.num_scored] = np.nan
        response.prompt_logprobs = found.tobytes()
    return response.SerializeToString()


class _Reading:
    """A datum; what cannot be read of it is added to the reasons."""

    def __init__(self, number: int, reasons: list[str]) -> None:
        self._name, self._reasons = f"datum {number}", reasons

    def datum(self, message: Tinker.Datum) -> Datum:
        ids = list[int]()
        for chunk in message.model_input:
            kind = chunk.WhichOneof("chunk")
            if kind != "encoded_text":
                self._reasons.append(f"{self._name} holds {kind or 'an unknown input'}; texts alone are read here")
                continue
            ids += self._numbers("encoded_text", chunk.encoded_text.tokens, np.int32)
        given = {name: self._values(name, tensor, len(ids)) for name, tensor in message.loss_fn_inputs.items()}
        targets = [int(one) for one in given.pop(_TARGETS, ())]
        return Datum(input_ids=ids, target_ids=targets, given=given)

    def _values(self, name: str, tensor: Tinker.Tensor, num: int) -> list[float]:
        """One for each token."""
        if tensor.WhichOneof("encoding") == "sparse_csr" or len(tensor.shape) > 1:
            self._reasons.append(f"{self._name}: {name} has several values for a token; here a token has one")
            return [0.0] * num
        kind = _TYPES.get(tensor.dtype)
        if kind is None or (name == _TARGETS and tensor.dtype == _FLOAT):
            told = f"{self._name}: {name} has the type {tensor.dtype}, which cannot be read as its numbers"
            self._reasons.append(told)
            return [0.0] * num
        return self._numbers(name, tensor.dense, kind)

    def _numbers(self, name: str, content: bytes, kind: Any) -> list[Any]:
        size = np.dtype(kind).itemsize
        if len(content) % size:
            told = f"{self._name}: {name} has {len(content)} bytes, and its numbers have {size} each"
            self._reasons.append(told)
            return []
        found: list[Any] = np.frombuffer(content, dtype=kind).tolist()
        return found


def _options(request: Tinker.ForwardBackwardRequest) -> dict[str, Any]:
    said: dict[str, Any] = dict(request.loss_fn_config)
    for name, value in request.loss_fn_config_v2.items():
        said[name] = value.number if value.WhichOneof("value") == "number" else value.text
    return said


def _batched(values: Sequence[np.ndarray[Any, Any]]) -> Tinker.BatchedTensor:
    parts = [one.astype(np.float32).tobytes() for one in values]
    offsets = np.cumsum([0, *(len(one) for one in parts)], dtype=np.int64)
    return Tinker.BatchedTensor(data=b"".join(parts), offsets=offsets.tobytes(), dtype=_FLOAT)


def _sequence(one: Sampled, num: int) -> Tinker.SampledSequence:
    found = Tinker.SampledSequence(
        stop_reason=0 if one.is_whole else 1,
        tokens=np.array(one.ids, dtype=np.int32).tobytes(),
        logprobs=np.array(one.logprobs, dtype=np.float32).tobytes(),
    )
    if num:
        ids = np.zeros((len(one.ids), num), dtype=np.int32)
        nats = np.full((len(one.ids), num), _NO_LOGPROB, dtype=np.float32)
        for row, likeliest in enumerate(one.alternatives):
            for column, (id, logprob) in enumerate(likeliest[:num]):
                ids[row, column], nats[row, column] = id, logprob
        found.topk_sampled_logprobs.CopyFrom(
            Tinker.TopkLogprobs(token_ids=ids.tobytes(), logprobs=nats.tobytes(), k=num, length=len(one.ids))
        )
    return found
