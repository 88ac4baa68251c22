"""From a written prompt to its answer, by the way that its program asks for."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing

from graft.server.errors import BadInput, NoAnswer
from graft.server.prompting.asking import Asker, Path
from graft.server.prompting.reasoning.chain_of_thought import FewShot, ZeroShot
from graft.server.prompting.reasoning.contract import chosen
from graft.server.prompting.reasoning.direct import Direct
from graft.server.prompting.reasoning.least_to_most import LeastToMost
from graft.server.prompting.reasoning.method import Method
from graft.server.prompting.reasoning.polling import poll
from graft.server.prompting.reasoning.program_of_thought import ProgramOfThought
from graft.server.prompting.reasoning.talk import Talk, continued, paths_temperature
from graft.server.prompting.reasoning.task import Cost, Ended, Growth, Reasoned, Task
from graft.server.prompting.reasoning.verifying import anew, trust
from graft.server.prompting.reasoning.votes import Vote


async def reason(asker: Asker, task: Task) -> AsyncGenerator[Growth | Reasoned, None]:
    """What answer and rationale grow by, and in the end the result, whose texts are what they grew to.

    A path that is alone and not verified is told as it grows; else the answer comes whole. Closing it ends every path
    under way. Raises `NoAnswer` and `BadInput`, and what the asker raises.
    """
    talk = Talk(asker, task)
    told = _told(talk)
    async with aclosing(told):
        try:
            async for event in told:
                yield event
        except NoAnswer as error:
            if task.reasoning.withhold and error.said:
                raise NoAnswer(error.problem) from None
            raise


async def _told(talk: Talk) -> AsyncGenerator[Growth | Reasoned, None]:
    answer, rationale = _Stripped(), _Stripped()
    withholds, accept = talk.task.reasoning.withhold, talk.task.accept
    events = _events(talk)
    async with aclosing(events):
        async for event in events:
            if isinstance(event, Growth):
                grown = Growth(
                    answer="" if accept else answer.more(event.answer),
                    rationale="" if withholds else rationale.more(event.rationale),
                )
                if grown.answer or grown.rationale:
                    yield grown
            else:
                ended, votes = event
                if accept is not None:
                    accept(ended.answer)
                    yield Growth(answer=ended.answer)
                yield Reasoned(
                    answer=ended.answer,
                    rationale="" if withholds else ended.rationale,
                    votes=votes,
                    cost=Cost(answer_tokens=ended.answer_tokens, total_tokens=talk.spent_tokens),
                    finished=ended.finished,
                    notices=tuple(talk.notices),
                )


_End = tuple[Ended, tuple[Vote, ...]]


async def _events(talk: Talk) -> AsyncGenerator[Growth | _End, None]:
    reasoning = talk.task.reasoning
    if reasoning.method == "direct" and talk.task.output.type == "choices":
        end: _End = await _chosen(talk), ()
    elif (num_paths := _num_paths(talk)) == 1 and not reasoning.verify:
        stage = _streamed(talk, _method(talk))
        async with aclosing(stage):
            async for event in stage:
                yield (event, ()) if isinstance(event, Ended) else event
        return
    elif reasoning.verify:
        end = await _verified(talk, num_paths)
    else:
        end = await _made(talk, num_paths)
    yield Growth(answer=end[0].answer, rationale=end[0].rationale)
    yield end


async def _chosen(talk: Talk) -> Ended:
    """Choices are scored, which is the vote of as many paths as one likes."""
    if talk.task.reasoning.paths > 1:
        talk.note("choices are scored, so that paths have nothing to vote on")
    answer = await chosen(talk, talk.task.prompt)
    return Ended(said=continued(talk.task.prompt, answer).begun, answer=answer)


def _num_paths(talk: Talk) -> int:
    """Also sees to it that paths which vote are sampled."""
    num_paths, temperature = talk.task.reasoning.paths, talk.decoding.temperature
    if num_paths > 1 and temperature == 0:
        talk.note(f"at temperature 0 all of {num_paths} paths are the same: one was asked for")
        return 1
    talk.decoding = talk.decoding.model_copy(update={"temperature": paths_temperature(talk.decoding, num_paths)})
    return num_paths


def _method(talk: Talk) -> Method:
    name = talk.task.reasoning.method
    if name == "chain_of_thought":
        return FewShot(talk) if talk.task.shows_rationales else ZeroShot(talk)
    return _METHODS[name](talk)


_METHODS: Mapping[str, Callable[[Talk], Method]] = {
    "direct": Direct,
    "least_to_most": LeastToMost,
    "program_of_thought": ProgramOfThought,
}


async def _streamed(talk: Talk, method: Method) -> AsyncGenerator[Growth | Ended, None]:
    """One path."""
    left = talk.share(1)
    opening = await method.opening(left)
    text, told = "", 0
    path: Path | None = None
    pieces = talk.ask(opening.prompt, limit=opening.limit, output=opening.output)
    async with aclosing(pieces):
        async for piece in pieces:
            path = piece.path or path
            text += piece.text
            if opening.tells == "answer":
                yield Growth(answer=piece.text)
            elif opening.tells is not None:
                end = len(text) if opening.tells == "rationale" else text.rstrip().rfind("\n") + 1
                yield Growth(rationale=text[told:end])
                told = end
    if path is None:
        raise NoAnswer("the model ended without saying anything")
    rest = method.finish(opening, path, None if left is None else left - path.num_tokens)
    async with aclosing(rest):
        async for event in rest:
            yield event


async def _made(talk: Talk, num_paths: int) -> _End:
    """The answer of one path, or of a vote."""
    if num_paths > 1:
        return await poll(talk, _method(talk), num_paths)
    ended: Ended | None = None
    stage = _streamed(talk, _method(talk))
    async with aclosing(stage):
        async for event in stage:
            ended = event if isinstance(event, Ended) else ended
    if ended is None:
        raise NoAnswer("the model ended without an answer")
    return ended, ()


async def _verified(talk: Talk, num_paths: int) -> _End:
    """An answer that is rejected is made anew once; of two that are, the less doubtful one is given."""
    first = await _made(talk, num_paths)
    doubt = 1 - await trust(talk, first[0])
    if doubt <= 0.5:
        return first
    anew(talk)
    try:
        second = await _made(talk, num_paths)
    except (NoAnswer, BadInput) as error:
        talk.note(f"verification rejects the answer, and there is no other: {getattr(error, 'problem', error)}")
        return first
    second_doubt = 1 - await trust(talk, second[0])
    if second_doubt <= 0.5:
        talk.note("verification rejected a first answer")
        return second
    talk.note("verification rejects both answers that were made")
    return first if doubt <= second_doubt else second


class _Stripped:
    """A text as it grows, without the space at its ends."""

    def __init__(self) -> None:
        self._held = ""
        self._has_begun = False

    def more(self, text: str) -> str:
        """What may be told of it by now."""
        grown = self._held + text if self._has_begun else (self._held + text).lstrip()
        told = grown.rstrip()
        self._held = grown[len(told) :]
        self._has_begun = self._has_begun or bool(told)
        return told
