"""What a model reads: a description, worked examples and the question, as lm-evaluation-harness joins them."""

from __future__ import annotations

from random import Random

from graft.training.errors import ConfigurationError
from graft.training.evaluation.asking.model import Prompt, Turn
from graft.training.evaluation.tasks.task import Example, Task


def written(task: Task, index: int, *, shots: int, seed: int, as_chat: bool = False) -> Prompt:
    """The prompt of question ``index``. Which examples it shows depends on the seed and the question alone, and the
    examples of fewer shots are the first of those of more.

    Raises:
        ConfigurationError: the task has too few examples, or its prompts are chats already.
    """
    prompt = task.questions[index].prompt
    if not isinstance(prompt, str):
        if shots:
            raise ConfigurationError(f"{task.name} asks in chats: examples cannot be put before them (--shots 0).")
        return prompt
    shown = _chosen(task, index, shots, seed)
    text = "".join(f"{example.prompt}{task.target_delimiter}{example.answer}{task.separator}" for example in shown)
    whole = task.description + text + prompt
    return (Turn(role="user", content=whole),) if as_chat else whole


def check(task: Task, shots: int) -> None:
    """Raises ``ConfigurationError`` where the task has too few examples for so many shots."""
    enough = len(task.examples) - task.examples_are_questions
    if shots and shots > enough:
        raise ConfigurationError(f"{task.name} has {max(0, enough)} examples to show; --shots {shots} asks for more.")


def _chosen(task: Task, index: int, shots: int, seed: int) -> list[Example]:
    if not shots:
        return []
    check(task, shots)
    own = index if task.examples_are_questions else None
    if task.sampler == "first_n":
        places = [place for place in range(min(len(task.examples), shots + 1)) if place != own]
        return [task.examples[place] for place in places[:shots]]
    rng, drawn = Random(f"{seed}/{index}"), dict[int, None]()
    while len(drawn) < shots:
        place = rng.randrange(len(task.examples))
        if place != own:
            drawn[place] = None
    return [task.examples[place] for place in drawn]
