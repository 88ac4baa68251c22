"""Grading: a grader and an answer, to a reward."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from graft.adapters.errors import GraftError
from graft.server.engine.engine import EngineError
from graft.server.errors import NotReady, ServingError
from graft.server.grading.formula import NoValue
from graft.server.grading.grade import Fault, Grade, Kind
from graft.server.grading.graders import (
    Grader,
    LabelModel,
    Multi,
    PythonSource,
    RewardModel,
    ScoreModel,
    Single,
    StringCheck,
    TextSimilarity,
    placed_parts,
)
from graft.server.grading.judging import Judge, NoChat, NoVerdict, Question, question_of, reward_of, turns_of
from graft.server.grading.observation import Observation
from graft.server.grading.places import Places
from graft.server.grading.reading import Allowed
from graft.server.grading.sandbox.probe import Unavailable
from graft.server.grading.sandbox.processes import NotEnding
from graft.server.grading.sandbox.sandbox import Sandbox, SandboxFailed, Script
from graft.server.grading.sandbox.watch import ScriptFault
from graft.server.grading.similarity.metrics import MAX_CHARACTERS, METRICS
from graft.server.grading.templates import MissingValue, Room, TooLong
from graft.server.runtime.deadlines import all_or_none
from graft.server.runtime.violations import Violations

_log = logging.getLogger(__name__)
# Longer ones are compared, and longer answers written, beside the loop.
_INLINE_COMPARED, _INLINE_WRITTEN = 200, 4_000
_NUM_AT_ONCE = 16
_NUM_TEXT_THREADS = 2
_MAX_DETAILS = 2_000
_ASKED = (ScoreModel, LabelModel, RewardModel)
"""Models, which are asked at once."""
T = TypeVar("T")


class _Failed(Exception):
    def __init__(self, kind: Kind, details: str) -> None:
        self.kind, self.details = kind, details


class Grading:
    """Graders of all kinds. A grader that fails says so in its grade: one bad answer ends no training."""

    def __init__(
        self, *, judge: Judge, sandbox: Sandbox | Unavailable, num_sandboxes: int, max_waiting: int = 256
    ) -> None:
        """`num_sandboxes` scripts run at once, `max_waiting` others wait, of each tenant in its turn."""
        self._judge = judge
        self._sandbox = sandbox
        # A sandbox ends with the thread that began it.
        self._scripts = Places("script", num_at_once=num_sandboxes, max_waiting=max_waiting)
        self._texts = Places("text", num_at_once=_NUM_TEXT_THREADS, max_waiting=max_waiting)

    def close(self) -> None:
        """End the scripts that still run."""
        self._scripts.close()
        self._texts.close()

    @property
    def allowed(self) -> Allowed:
        return Allowed(no_python=self._sandbox.reason if isinstance(self._sandbox, Unavailable) else None)

    async def check(self, grader: Grader, violations: Violations, *, field: str = "grader") -> None:
        """Add what only running shows: models that are not there, scripts that cannot be read. Raises `NotReady` where
        no sandbox starts, and `Overloaded`.
        """
        for place, part in placed_parts(grader, field):
            if isinstance(part, _ASKED):
                look = self._judge.check_reward if isinstance(part, RewardModel) else self._judge.check
                try:
                    look(part.model)
                except (ServingError, EngineError, GraftError) as error:
                    violations.add(f"{place}.model", str(error))
        for place, part in placed_parts(grader, field):
            if isinstance(part, PythonSource):
                fault = await self._tried(part)
                if fault is not None:
                    violations.add(f"{place}.source", f"{part.name}: {fault.details.strip()[:_MAX_DETAILS]}")
                    if fault.kind == "time":
                        return  # others may take as long, and hold up whoever waits for a grade

    async def _tried(self, part: PythonSource) -> ScriptFault | None:
        try:
            found = await self._ran(Script(source=part.source, calls=False))
        except (SandboxFailed, NotEnding) as error:
            raise NotReady(f"the grader's script could not be tried: {error}") from error
        return found if isinstance(found, ScriptFault) else None

    async def grade(self, grader: Grader, observation: Observation) -> Grade:
        """Never raises for what a grader, a script or a model did; `Overloaded` where too many wait."""
        room = Room()
        if not isinstance(grader, Multi):
            return await self._single(grader, observation, room)
        grades = await self._parts(grader, observation, room)
        rewards = {name: grade.reward for name, grade in grades.items()}
        faults = tuple(fault for grade in grades.values() for fault in grade.faults)
        reward = 0.0
        if not faults:
            try:
                reward = grader.formula.value(rewards)
            except NoValue as error:
                faults = (Fault(grader=grader.name, kind="other", details=str(error)),)
        tokens: dict[str, int] = {}
        for grade in grades.values():
            for model, count in grade.tokens_by_model.items():
                tokens[model] = tokens.get(model, 0) + count
        return Grade(reward=reward, sub_rewards=rewards, faults=faults, tokens_by_model=tokens)

    async def grade_all(self, grader: Grader, observations: Sequence[Observation]) -> list[Grade]:
        """In their order; so many at once that a call takes its share of the server, not all of it."""
        places = asyncio.Semaphore(_NUM_AT_ONCE)

        async def one(observation: Observation) -> Grade:
            async with places:
                return await self.grade(grader, observation)

        return await all_or_none([one(observation) for observation in observations])

    async def _parts(self, grader: Multi, observation: Observation, room: Room) -> dict[str, Grade]:
        """Models are asked at once. The others are one after another: no call fills the places of scripts with its own,
        and none holds up the loop with all its texts.
        """
        asked = {name: part for name, part in grader.graders.items() if isinstance(part, _ASKED)}

        async def others() -> list[Grade]:
            grades = []
            for name, part in grader.graders.items():
                if name not in asked:
                    grades.append(await self._single(part, observation, room))
                    await asyncio.sleep(0)
            return grades

        async def one(part: Single) -> list[Grade]:
            return [await self._single(part, observation, room)]

        first, *judged = await all_or_none([others(), *map(one, asked.values())])
        named = dict(zip((name for name in grader.graders if name not in asked), first, strict=True))
        named |= {name: grade for name, (grade,) in zip(asked, judged, strict=True)}
        return {name: named[name] for name in grader.graders}

    async def _single(self, grader: Single, observation: Observation, room: Room) -> Grade:
        tokens: dict[str, int] = {}
        try:
            reward = await self._reward(grader, observation, room, tokens)
        except _Failed as failed:
            kind, details = failed.kind, failed.details
        except MissingValue as error:
            unread = error.path[:2] == ("sample", "output_json") and not observation.is_json
            kind, details = "sample_parse" if unread else "invalid_variable", str(error)
        except NoChat as error:
            kind, details = "invalid_variable", str(error)
        except TooLong as error:
            kind, details = "truncated_observation", str(error)
        else:
            return Grade(reward=reward, tokens_by_model=tokens)
        fault = Fault(grader=grader.name, kind=kind, details=details[:_MAX_DETAILS])
        return Grade(reward=0.0, faults=(fault,), tokens_by_model=tokens)

    async def _reward(self, grader: Single, observation: Observation, room: Room, tokens: dict[str, int]) -> float:
        is_long = observation.num_characters > _INLINE_WRITTEN
        match grader:
            case StringCheck():
                return await self._beside(lambda: _checked(grader, observation, room), is_long)
            case TextSimilarity():
                text, reference = await self._beside(lambda: _compared(grader, observation, room), is_long)
                is_long = max(len(text), len(reference)) > _INLINE_COMPARED
                return await self._beside(lambda: METRICS[grader.metric](text, reference), is_long)
            case ScoreModel() | LabelModel():
                question = await self._beside(lambda: question_of(grader, observation, room), is_long)
                return await self._judged(grader, question, tokens)
            case PythonSource():
                return await self._scripted(grader, observation)
            case RewardModel():
                return await self._valued(grader, observation, tokens)

    async def _beside(self, work: Callable[[], T], is_long: bool) -> T:
        return await self._texts.run(lambda is_unwanted: work()) if is_long else work()

    async def _judged(self, grader: ScoreModel | LabelModel, question: Question, tokens: dict[str, int]) -> float:
        try:
            verdict = await self._judge.ask(question)
        except (ServingError, EngineError, GraftError) as error:
            raise _Failed("model_grader_server", str(error)) from error
        tokens[grader.model] = verdict.num_tokens
        try:
            return reward_of(grader, verdict)
        except NoVerdict as error:
            raise _Failed("model_grader_parse", str(error)) from None

    async def _valued(self, grader: RewardModel, observation: Observation, tokens: dict[str, int]) -> float:
        turns = turns_of(observation.item)
        try:
            found = await self._judge.worth(grader.model, turns, observation.output_text)
        except (ServingError, EngineError, GraftError) as error:
            raise _Failed("model_grader_server", str(error)) from error
        tokens[grader.model] = found.num_tokens
        return found.reward

    async def _scripted(self, grader: PythonSource, observation: Observation) -> float:
        try:
            found = await self._ran(Script(source=grader.source, sample=observation.sample, item=observation.item))
        except RecursionError:
            raise _Failed("truncated_observation", "a value is nested too deeply for a script") from None
        except (SandboxFailed, NotEnding) as error:
            _log.exception("a grader's sandbox failed")
            raise _Failed("python_grader_server", str(error)) from error
        if isinstance(found, ScriptFault):
            raise _Failed("python_grader_runtime", found.details)
        return found

    async def _ran(self, script: Script) -> float | ScriptFault:
        sandbox = self._sandbox
        if isinstance(sandbox, Unavailable):
            raise SandboxFailed(sandbox.reason)
        return await self._scripts.run(lambda is_unwanted: sandbox.run(script, is_unwanted))


def _checked(grader: StringCheck, observation: Observation, room: Room) -> float:
    text, reference = (one.write(observation.values, room) for one in (grader.input, grader.reference))
    return float(_CHECKS[grader.operation](text, reference))


def _compared(grader: TextSimilarity, observation: Observation, room: Room) -> tuple[str, str]:
    text, reference = (one.write(observation.values, room) for one in (grader.input, grader.reference))
    longest = max(len(text), len(reference))
    if longest > MAX_CHARACTERS:
        said = f"a text of {longest} characters; {grader.metric} compares up to {MAX_CHARACTERS}"
        raise _Failed("truncated_observation", said)
    return text, reference


_CHECKS: dict[str, Callable[[str, str], bool]] = {
    "eq": lambda text, reference: text == reference,
    "ne": lambda text, reference: text != reference,
    "like": lambda text, reference: reference in text,
    "ilike": lambda text, reference: reference.casefold() in text.casefold(),
}
