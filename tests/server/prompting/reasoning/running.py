"""A task, and what comes of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from graft.server.prompting.asking import Asker, Written
from graft.server.prompting.choices.asking import ChoiceAsking, ChoiceQuestion
from graft.server.prompting.program.program import Reasoning, Scoring
from graft.server.prompting.reasoning.reasoning import reason
from graft.server.prompting.reasoning.task import Choose, Growth, Reasoned, Task
from tests.server.prompting.scripted import ScriptedAsker


def task(prompt: str, reasoning: dict[str, Any] | None = None, **fields: Any) -> Task:
    return Task(prompt=Written(text=prompt), reasoning=Reasoning.model_validate(reasoning or {}), **fields)


async def run(asker: ScriptedAsker, asked: Task) -> tuple[Reasoned, list[Growth]]:
    """The result, and what was told on the way, which always adds up to it."""
    asker.num_generated = 0
    if asked.output.type == "choices" and asked.choose is None:
        asked = replace(asked, choose=by_score(asker, asked))
    *growths, end = [event async for event in reason(asker, asked)]
    told = [growth for growth in growths if isinstance(growth, Growth)]
    assert isinstance(end, Reasoned) and len(told) == len(growths)
    assert "".join(growth.answer for growth in told) == end.answer
    assert "".join(growth.rationale for growth in told) == end.rationale
    assert end.cost.total_tokens == asker.num_generated
    assert 0 <= end.cost.answer_tokens <= end.cost.total_tokens
    return end, told


def by_score(asker: Asker, asked: Task) -> Choose:
    """As programs do by default."""

    async def choose(prompt: Written) -> str:
        question = ChoiceQuestion(prompt=prompt, choices=asked.output.choices or (), before=" ")
        return (await ChoiceAsking().ask(asker, question, Scoring())).answer

    return choose


async def result(asker: Asker, asked: Task) -> Reasoned:
    """What comes in the end."""
    *_, end = [event async for event in reason(asker, asked)]
    assert isinstance(end, Reasoned)
    return end
