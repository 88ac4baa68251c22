"""What a model says to a question: at once, or after reasoning."""

from __future__ import annotations

from dataclasses import replace

from graft.training.evaluation.asking.model import Asked, Decoding, Model, Prompt, Turn
from graft.training.evaluation.running.outcome import WORKED
from graft.training.evaluation.tasks import shots as examples
from graft.training.evaluation.tasks.task import Task

INSTRUCTION = "Let's think step by step."
"""Kojima et al. 2022, arXiv:2205.11916."""
MAX_REASONING_TOKENS = 256


def said_paths(
    model: Model,
    task: Task,
    index: int,
    *,
    shots: int,
    reasoning: str,
    decoding: Decoding,
    seed: int,
    as_chat: bool,
) -> tuple[tuple[str, ...], Task]:
    """The paths, and the task whose readings make answers of them."""
    asked_task = task.worked or task if reasoning == WORKED else task
    prompt = examples.written(asked_task, index, shots=shots, seed=seed, as_chat=as_chat)
    asked = Asked(prompt=prompt, variables=task.questions[index].variables)
    if reasoning != WORKED or task.worked is not None:
        if asked_task is not task:
            decoding = replace(decoding, max_tokens=asked_task.max_tokens, stop=asked_task.stop)
        return model.say(asked, decoding), asked_task
    return _two_stages(model, task, asked, decoding), task


def _two_stages(model: Model, task: Task, asked: Asked, decoding: Decoding) -> tuple[str, ...]:
    """Reasoning, then the answer after it: one path of each for every vote."""
    begun = _going_on(asked.prompt, f" {INSTRUCTION}")
    stops = tuple(stop for stop in task.stop if stop.strip()) or ("\nQ:", "\n\n")
    thinking = replace(decoding, max_tokens=max(decoding.max_tokens, MAX_REASONING_TOKENS), stop=stops)
    answering = replace(decoding, temperature=0.0, num_paths=1)
    answers: list[str] = []
    for rationale in model.say(replace(asked, prompt=begun), thinking):
        ending = f"{rationale.rstrip()}\n{task.answer_instruction}"
        answers += model.say(replace(asked, prompt=_going_on(begun, ending)), answering)
    return tuple(answers)


def _going_on(prompt: Prompt, said: str) -> Prompt:
    """The prompt with what was said so far; of a chat it stands in the last turn, which the model answers."""
    if isinstance(prompt, str):
        return prompt + said
    last = prompt[-1]
    return (*prompt[:-1], Turn(role=last.role, content=last.content + said))
