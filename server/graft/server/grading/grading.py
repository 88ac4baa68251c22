"""Grading: a grader and an answer, to a reward."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from graft.adapters.errors import GraftError
from graft.server.engine.engine import EngineError
from graft.server.errors import Overloaded, ServingError
from graft.server.grading.formula import NoValue
from graft.server.grading.grade import Fault, Grade, Kind
from graft.server.grading.graders import (
    Grader,
    LabelModel,
    Multi,
    PythonSource,
    ScoreModel,
    Single,
    StringCheck,
    TextSimilarity,
    models_of,
    parts_of,
    runs_python,
)
from graft.server.grading.judging import Judge, NoVerdict, question_of, reward_of
from graft.server.grading.observation import Observation
from graft.server.grading.reading import Allowed
from graft.server.grading.sandbox.probe import Unavailable
from graft.server.grading.sandbox.processes import NotEnding
from graft.server.grading.sandbox.sandbox import Sandbox, SandboxFailed, Script, ScriptFault
from graft.server.grading.similarity.metrics import MAX_CHARACTERS, METRICS
from graft.server.grading.templates import MissingValue, TooLong
from graft.server.runtime.deadlines import all_or_none
from graft.server.runtime.violations import Violations

_log = logging.getLogger(__name__)
# Longer texts are compared beside the loop.
_INLINE_CHARACTERS = 2_000
_NUM_AT_ONCE = 16


class _Failed(Exception):
    def __init__(self, kind: Kind, details: str) -> None:
        self.kind, self.details = kind, details


class Grading:
    """Graders of all kinds. A grader that fails says so in its grade: one bad answer ends no training."""

    def __init__(
        self, *, judge: Judge, sandbox: Sandbox | Unavailable, num_sandboxes: int, max_waiting: int = 256
    ) -> None:
        """`num_sandboxes` scripts run at once, `max_waiting` others wait."""
        self._judge = judge
        self._sandbox = sandbox
        # A sandbox ends with the thread that began it: these live as long as this does.
        self._num_sandboxes, self._max_waiting = num_sandboxes, max_waiting
        self._num_scripts = 0
        self._threads = ThreadPoolExecutor(num_sandboxes, thread_name_prefix="grader")

    def close(self) -> None:
        """Wait for the scripts that run, which their limits end."""
        self._threads.shutdown(cancel_futures=True)

    @property
    def allowed(self) -> Allowed:
        return Allowed(no_python=self._sandbox.reason if isinstance(self._sandbox, Unavailable) else None)

    async def check(self, grader: Grader, violations: Violations, *, field: str = "grader") -> None:
        """Add what only running shows: models that are not there, scripts that cannot be read."""
        for model in sorted(models_of(grader)):
            try:
                self._judge.check(model)
            except (ServingError, EngineError, GraftError) as error:
                violations.add(f"{field}.model", str(error))
        if runs_python(grader):
            for part in parts_of(grader):
                if isinstance(part, PythonSource):
                    found = await self._ran(Script(source=part.source, calls=False))
                    if isinstance(found, ScriptFault):
                        violations.add(f"{field}.source", f"{part.name}: {found.details.strip()}")

    async def grade(self, grader: Grader, observation: Observation) -> Grade:
        """Never raises for what a grader, a script or a model did; `Overloaded` where too many scripts wait."""
        if not isinstance(grader, Multi):
            return await self._single(grader, observation)
        parts = await all_or_none([self._single(part, observation) for part in grader.graders.values()])
        grades = dict(zip(grader.graders, parts, strict=True))
        rewards = {name: grade.reward for name, grade in grades.items()}
        faults = tuple(fault for grade in parts for fault in grade.faults)
        reward = 0.0
        if not faults:
            try:
                reward = grader.formula.value(rewards)
            except NoValue as error:
                faults = (Fault(grader=grader.name, kind="other", details=str(error)),)
        tokens: dict[str, int] = {}
        for grade in parts:
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

    async def _single(self, grader: Single, observation: Observation) -> Grade:
        tokens: dict[str, int] = {}
        try:
            reward = await self._reward(grader, observation, tokens)
        except _Failed as failed:
            fault = Fault(grader=grader.name, kind=failed.kind, details=failed.details)
        except MissingValue as error:
            unread = "output_json" in str(error) and not observation.is_json
            kind: Kind = "sample_parse" if unread else "invalid_variable"
            fault = Fault(grader=grader.name, kind=kind, details=str(error))
        except TooLong as error:
            fault = Fault(grader=grader.name, kind="truncated_observation", details=str(error))
        else:
            return Grade(reward=reward, tokens_by_model=tokens)
        return Grade(reward=0.0, faults=(fault,), tokens_by_model=tokens)

    async def _reward(self, grader: Single, observation: Observation, tokens: dict[str, int]) -> float:
        match grader:
            case StringCheck():
                text, reference = (one.write(observation.values) for one in (grader.input, grader.reference))
                return float(_CHECKS[grader.operation](text, reference))
            case TextSimilarity():
                return await _similarity(grader, observation)
            case ScoreModel() | LabelModel():
                return await self._judged(grader, observation, tokens)
            case PythonSource():
                return await self._scripted(grader, observation)

    async def _judged(self, grader: ScoreModel | LabelModel, observation: Observation, tokens: dict[str, int]) -> float:
        question = question_of(grader, observation)
        try:
            verdict = await self._judge.ask(question)
        except (ServingError, EngineError, GraftError) as error:
            raise _Failed("model_grader_server", str(error)) from error
        tokens[grader.model] = verdict.num_tokens
        try:
            return reward_of(grader, verdict)
        except NoVerdict as error:
            raise _Failed("model_grader_parse", str(error)) from None

    async def _scripted(self, grader: PythonSource, observation: Observation) -> float:
        try:
            found = await self._ran(Script(source=grader.source, sample=observation.sample, item=observation.item))
        except (SandboxFailed, NotEnding) as error:
            _log.exception("a grader's sandbox failed")
            raise _Failed("python_grader_server", str(error)) from error
        if isinstance(found, ScriptFault):
            raise _Failed("python_grader_runtime", found.details)
        return found

    async def _ran(self, script: Script) -> float | ScriptFault:
        if isinstance(self._sandbox, Unavailable):
            raise SandboxFailed(self._sandbox.reason)
        if self._num_scripts >= self._num_sandboxes + self._max_waiting:
            seconds = self._sandbox.limits.seconds
            raise Overloaded(f"{self._num_scripts} graders' scripts run or wait", retry_after_seconds=seconds)
        self._num_scripts += 1
        running = asyncio.get_running_loop().run_in_executor(self._threads, self._sandbox.run, script)
        # Whoever leaves ends no script that runs: it counts until its own end.
        running.add_done_callback(self._ended)
        return await asyncio.shield(running)

    def _ended(self, script: asyncio.Future[float | ScriptFault]) -> None:
        self._num_scripts -= 1
        if not script.cancelled():
            script.exception()


async def _similarity(grader: TextSimilarity, observation: Observation) -> float:
    text, reference = (one.write(observation.values) for one in (grader.input, grader.reference))
    longest = max(len(text), len(reference))
    if longest > MAX_CHARACTERS:
        said = f"a text of {longest} characters; {grader.metric} compares up to {MAX_CHARACTERS}"
        raise _Failed("truncated_observation", said)
    compare = METRICS[grader.metric]
    if longest <= _INLINE_CHARACTERS:
        return compare(text, reference)
    return await asyncio.to_thread(compare, text, reference)


_CHECKS: dict[str, Callable[[str, str], bool]] = {
    "eq": lambda text, reference: text == reference,
    "ne": lambda text, reference: text != reference,
    "like": lambda text, reference: reference in text,
    "ilike": lambda text, reference: reference.casefold() in text.casefold(),
}
