"""The calls of ``TrainService``."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import grpc
from google.protobuf.duration_pb2 import Duration
from grpc.aio import ServicerContext

from graft.training.errors import TrainingError
from graft.training.service.learning.trainee import Lesson
from graft.training.service.learning.turns import Asked
from graft.training.service.refusal import Kind, Refusal
from graft.training.service.rpc import messages
from graft.training.service.sessions.kept import Version
from graft.training.service.sessions.sampler import Samples, sampled
from graft.training.service.sessions.served import Caller
from graft.training.service.sessions.session import TRAIN
from graft.training.service.sessions.sessions import Sessions
from graft.training.service.sessions.training import Training
from graft.v1 import train_pb2 as pb
from graft.v1.train_pb2_grpc import TrainServiceServicer

_CODES = {
    Kind.INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    Kind.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Kind.GONE: grpc.StatusCode.FAILED_PRECONDITION,
    Kind.FULL: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Kind.NO_ROOM: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Kind.UNKNOWN_CALLER: grpc.StatusCode.UNAUTHENTICATED,
    Kind.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
}
_BEARER = "bearer "
Request = TypeVar("Request")
Reply = TypeVar("Reply")
_Call = Callable[["Servicer", Request, Caller], Awaitable[Reply]]
_Served = Callable[["Servicer", Request, "ServicerContext[Any, Any]"], Awaitable[Reply]]


def _answering(call: _Call[Request, Reply]) -> _Served[Request, Reply]:
    """A call whose caller is known; a refusal is its status."""

    @functools.wraps(call)
    async def served(self: Servicer, request: Request, context: ServicerContext[Any, Any]) -> Reply:
        try:
            return await call(self, request, await self.caller(context))
        except Refusal as refusal:
            await context.abort(_CODES[refusal.kind], str(refusal))
        except TrainingError as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        raise AssertionError("an abort raises")

    return served


class Servicer(TrainServiceServicer):
    """On an event loop: as many calls may wait for their turns as trainings take."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def caller(self, context: ServicerContext[Any, Any]) -> Caller:
        """By the bearer token. Raises ``Refusal``."""
        said = next((str(value) for key, value in context.invocation_metadata() or () if key == "authorization"), "")
        token = said[len(_BEARER) :] if said.lower().startswith(_BEARER) else None
        return await asyncio.to_thread(self._sessions.place.served.caller, token)

    @_answering
    async def OpenTrainingSession(
        self, request: pb.OpenTrainingSessionRequest, caller: Caller
    ) -> pb.OpenTrainingSessionResponse:
        idle = Duration()
        idle.FromMilliseconds(round(1000 * self._sessions.place.limits.idle_seconds))
        return pb.OpenTrainingSessionResponse(session_id=self._sessions.open(caller).id, idle_timeout=idle)

    @_answering
    async def KeepTrainingSession(
        self, request: pb.KeepTrainingSessionRequest, caller: Caller
    ) -> pb.KeepTrainingSessionResponse:
        self._sessions.get(caller, request.session_id)
        return pb.KeepTrainingSessionResponse()

    @_answering
    async def FinishTrainingSession(
        self, request: pb.FinishTrainingSessionRequest, caller: Caller
    ) -> pb.FinishTrainingSessionResponse:
        self._sessions.finish(caller, request.session_id)
        return pb.FinishTrainingSessionResponse()

    @_answering
    async def CreateTraining(self, request: pb.CreateTrainingRequest, caller: Caller) -> pb.CreateTrainingResponse:
        asked = messages.asked_as(0, request)
        answer = pb.CreateTrainingResponse(training_id=f"{request.session_id}{TRAIN}{request.number}")
        where = caller, request.session_id, request.number, asked
        if request.WhichOneof("origin") == "saved":
            origin = request.saved.state.training_id, request.saved.state.name
            optimizer = request.saved.with_optimizer
            begun = self._sessions.go_on(*where, origin, with_optimizer=optimizer, answer=answer)
        else:
            begun = self._sessions.begin(*where, messages.shape_of(request.shape), answer=answer)
        found: pb.CreateTrainingResponse = await _done(begun)
        return found

    @_answering
    async def GetTraining(self, request: pb.GetTrainingRequest, caller: Caller) -> pb.GetTrainingResponse:
        training = self._sessions.training(caller, request.training_id)
        shape = None if training.shape is None else messages.shape_message(training.shape)
        return pb.GetTrainingResponse(training_id=training.id, adapter=training.adapter, shape=shape)

    @_answering
    async def ForwardBackward(self, request: pb.ForwardBackwardRequest, caller: Caller) -> pb.ForwardBackwardResponse:
        training, place = self._training(caller, request.turn), self._sessions.place

        def read() -> tuple[Lesson, Asked]:
            room = {"num_tokens": place.held.num_tokens, "max_tokens": place.limits.max_text_tokens}
            return messages.lesson_of(request, **room), messages.asked(request.turn, request)

        # Millions of numbers: meanwhile others are answered.
        lesson, asked = await asyncio.to_thread(read)
        return messages.learned_of(
            await _turn(training, asked, training.learn(asked, lesson, forward_only=request.forward_only))
        )

    @_answering
    async def StepOptimizer(self, request: pb.StepOptimizerRequest, caller: Caller) -> pb.StepOptimizerResponse:
        training, adam = self._training(caller, request.turn), messages.adam_of(request)
        asked = messages.asked(request.turn, request)
        moved = await _turn(training, asked, training.move(asked, adam))
        return pb.StepOptimizerResponse(gradient_norm=moved.gradient_norm)

    @_answering
    async def SaveTrainingState(
        self, request: pb.SaveTrainingStateRequest, caller: Caller
    ) -> pb.SaveTrainingStateResponse:
        training = self._training(caller, request.turn)
        self._sessions.place.kept.check_name(request.name)
        state = pb.TrainingState(training_id=training.id, name=request.name)
        answer = pb.SaveTrainingStateResponse(state=state)
        asked = messages.asked(request.turn, request)
        found: pb.SaveTrainingStateResponse = await _turn(
            training, asked, training.save(asked, request.name, overwrite=request.overwrite, answer=answer)
        )
        return found

    @_answering
    async def LoadTrainingState(
        self, request: pb.LoadTrainingStateRequest, caller: Caller
    ) -> pb.LoadTrainingStateResponse:
        training, state = self._training(caller, request.turn), request.saved.state
        folder = self._sessions.place.kept.state(caller, state.training_id, state.name)
        asked, answer = messages.asked(request.turn, request), pb.LoadTrainingStateResponse()
        turn = training.load(asked, folder, with_optimizer=request.saved.with_optimizer, answer=answer)
        found: pb.LoadTrainingStateResponse = await _turn(training, asked, turn)
        return found

    @_answering
    async def PublishTraining(self, request: pb.PublishTrainingRequest, caller: Caller) -> pb.PublishTrainingResponse:
        training, name = self._training(caller, request.turn), request.name if request.HasField("name") else None
        if name is not None:
            self._sessions.place.kept.check_name(name)

        def answer(version: Version) -> pb.PublishTrainingResponse:
            return pb.PublishTrainingResponse(model=version.model)

        asked = messages.asked(request.turn, request)
        found: pb.PublishTrainingResponse = await _turn(training, asked, training.publish(asked, name, answer))
        return found

    @_answering
    async def SampleTraining(self, request: pb.SampleTrainingRequest, caller: Caller) -> pb.SampleTrainingResponse:
        self._sessions.get(caller, request.session_id)
        place = self._sessions.place

        def act() -> Samples:
            room = {"num_tokens": place.held.num_tokens, "max_tokens": place.limits.max_text_tokens}
            return sampled(place.served, caller, request.model, messages.wish_of(request, **room))

        return messages.samples_of(await _done(self._sessions.sampling(caller, act)))

    def _training(self, caller: Caller, turn: pb.TrainingTurn) -> Training:
        return self._sessions.training(caller, turn.training_id)


async def _turn(training: Training, asked: Asked, turn: Future[Any]) -> Any:
    """What came of it, which its caller hears now."""
    try:
        return await _done(turn)
    finally:
        training.hand_over(asked.number)


async def _done(turn: Future[Any]) -> Any:
    """What came of it, whoever else waits for it."""
    return await asyncio.shield(asyncio.wrap_future(turn))
