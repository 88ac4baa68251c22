"""Between messages and what trainings are asked for."""

from __future__ import annotations

import hashlib
import math
from typing import Any

from google.protobuf.message import Message

from graft.training.objective.tokens.batch import Datum
from graft.training.service.learning.lessons import checked
from graft.training.service.learning.shape import Shape
from graft.training.service.learning.trainee import MIN_EPS, Adam, Learned, Lesson
from graft.training.service.learning.turns import Asked
from graft.training.service.refusal import Kind, Refusal
from graft.training.service.sessions.sampler import Samples, Wish, wrong_prompt
from graft.v1 import train_pb2 as pb

_NAMES = ("learning_rate", "weight_decay", "max_gradient_norm")


def asked(turn: pb.TrainingTurn, request: Message) -> Asked:
    """Raises ``Refusal``."""
    if turn.sequence_number < 1:
        raise Refusal(Kind.INVALID, "turn.sequence_number is missing: requests are numbered from 1.")
    return asked_as(turn.sequence_number, request)


def asked_as(number: int, request: Message) -> Asked:
    """What is asked for, whatever it is called in logs."""
    plain: Any = type(request)()
    plain.CopyFrom(request)
    (plain.turn if "turn" in plain.DESCRIPTOR.fields_by_name else plain).request_id = ""
    told = plain.SerializeToString(deterministic=True)
    return Asked(number=number, digest=hashlib.sha256(told).digest(), num_bytes=len(told))


def lesson_of(request: pb.ForwardBackwardRequest, *, num_tokens: int, max_tokens: int) -> Lesson:
    """Raises ``Refusal`` with all that is wrong."""
    data = [
        Datum(
            input_ids=list(one.token_ids),
            target_ids=list(one.target_ids),
            given={name: list(own.values) for name, own in one.given.items()},
        )
        for one in request.data
    ]
    return checked(request.loss, data, dict(request.options), [], num_tokens=num_tokens, max_tokens=max_tokens)


def learned_of(learned: Learned) -> pb.ForwardBackwardResponse:
    logprobs = [pb.TokenValues(values=one.tolist()) for one in learned.logprobs]
    return pb.ForwardBackwardResponse(logprobs=logprobs, loss=learned.loss)


def adam_of(request: pb.StepOptimizerRequest) -> Adam:
    """Raises ``Refusal`` with all that is wrong."""
    reasons = [
        f"{name} is {value}; it must be a number from 0 on"
        for name in _NAMES
        if not 0 <= (value := getattr(request, name)) < math.inf
    ]
    reasons += [
        f"{name} is {value}; it must be from 0 to below 1"
        for name in ("beta1", "beta2")
        if not 0 <= (value := getattr(request, name)) < 1
    ]
    if request.HasField("eps") and not MIN_EPS <= request.eps < math.inf:
        reasons.append(
            f"eps is {request.eps}; it must be a number from {MIN_EPS:g} on: a gradient of 0 is divided by it"
        )
    if reasons:
        raise Refusal(Kind.INVALID, f"{'; '.join(reasons)}.")
    said = {name: getattr(request, name) for name in ("beta1", "beta2", "eps") if request.HasField(name)}
    most = request.max_gradient_norm if request.HasField("max_gradient_norm") else None
    return Adam(learning_rate=request.learning_rate, weight_decay=request.weight_decay, max_gradient_norm=most, **said)


def shape_of(message: pb.AdapterShape) -> Shape:
    attention, feedforward = not message.freeze_attention, not message.freeze_feedforward
    return Shape(rank=message.rank, seed=message.seed, attention=attention, feedforward=feedforward)


def shape_message(shape: Shape) -> pb.AdapterShape:
    return pb.AdapterShape(
        rank=shape.rank,
        seed=shape.seed,
        freeze_attention=not shape.attention,
        freeze_feedforward=not shape.feedforward,
    )


def wish_of(request: pb.SampleTrainingRequest, *, num_tokens: int, max_tokens: int) -> Wish:
    """Raises ``Refusal``."""
    ids = list(request.token_ids)
    if reasons := wrong_prompt(ids, num_tokens=num_tokens, max_tokens=max_tokens):
        raise Refusal(Kind.INVALID, f"{'; '.join(reasons)}.")
    room = max_tokens - len(ids)
    return Wish(
        ids=ids,
        num=request.num_answers if request.HasField("num_answers") else 1,
        max_tokens=min(request.max_tokens, room) if request.HasField("max_tokens") else room,
        temperature=request.temperature if request.HasField("temperature") else 1.0,
        top_p=request.top_p if request.HasField("top_p") else 1.0,
        seed=request.seed if request.HasField("seed") else None,
        stop=list(request.stop),
    )


def samples_of(samples: Samples) -> pb.SampleTrainingResponse:
    return pb.SampleTrainingResponse(
        answers=[
            pb.SampledAnswer(token_ids=one.ids, logprobs=one.logprobs, is_whole=one.is_whole) for one in samples.answers
        ]
    )
