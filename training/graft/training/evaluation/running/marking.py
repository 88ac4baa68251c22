"""From what was said to an answer, and from an answer to marks."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Sequence

from graft.training.evaluation.asking.model import Scored
from graft.training.evaluation.checks.patterns import compiled
from graft.training.evaluation.tasks.task import Metric, Question, Reading, Step, Task

INVALID = "[invalid]"
_NUMBER = r"-?\d[\d,]*\.?\d*"
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
_WITHOUT_NUMBERS = str.maketrans("", "", string.digits)


def answer_of(said: str, reading: Reading) -> str:
    """What the reading makes of a text."""
    for step in reading.steps:
        said = _stepped(said, step)
    return said


def voted(answers: Sequence[str]) -> str:
    """The answer that most paths gave, of equals the earliest; paths without one do not vote (Wang et al. 2022)."""
    counts = Counter(answer for answer in answers if answer not in ("", INVALID))
    return counts.most_common(1)[0][0] if counts else answers[0]


def generated_marks(task: Task, question: Question, answer: str, reading: Reading) -> dict[str, float]:
    """Marks of one reading's answer."""
    return {
        f"{metric.name},{reading.name}": float(any(_matches(answer, right, metric) for right in question.targets))
        for metric in task.metrics
    }


def choice_marks(task: Task, question: Question, scores: Sequence[Scored]) -> tuple[int, dict[str, float]]:
    """The choice by plain log-probability, and marks of each metric; of equals the first is chosen."""
    chosen: dict[str, int] = {}
    for metric in task.metrics:
        values = [
            _normalised(metric.name, score.logprob, choice)
            for choice, score in zip(question.choices, scores, strict=True)
        ]
        chosen[metric.name] = max(range(len(values)), key=values.__getitem__)
    plain = max(range(len(scores)), key=lambda index: scores[index].logprob)
    reading = task.readings[0].name
    return plain, {f"{name},{reading}": float(choice in question.gold) for name, choice in chosen.items()}


def likelihood_marks(task: Task, score: Scored) -> dict[str, float]:
    """``perplexity`` keeps the log-probability; ``acc`` is whether greedy decoding says the target."""
    reading = task.readings[0].name
    values = {"perplexity": score.logprob, "acc": float(score.is_greedy)}
    return {f"{metric.name},{reading}": values[metric.name] for metric in task.metrics}


def _normalised(metric: str, logprob: float, choice: str) -> float:
    match metric:
        case "acc_norm":  # per character, as in the harness
            return logprob / max(1, len(choice))
        case "acc_bytes":
            return logprob / max(1, len(choice.encode()))
        case _:
            return logprob


def _matches(answer: str, right: str, metric: Metric) -> bool:
    return _compared(answer, metric) == _compared(right, metric)


def _compared(text: str, metric: Metric) -> str:
    for pattern in metric.regexes_to_ignore:
        text = str(compiled(pattern).sub("", text))
    if metric.ignore_case:
        text = text.lower()
    if metric.ignore_punctuation:
        text = text.translate(_WITHOUT_PUNCTUATION)
    return text.translate(_WITHOUT_NUMBERS) if metric.ignore_numbers else text


def _stepped(said: str, step: Step) -> str:
    match step.function:
        case "regex":
            return _found(said, step)
        case "last_number":
            numbers = compiled(_NUMBER).findall(said)
            return str(numbers[-1]).replace(",", "").rstrip(".") if numbers else step.fallback
        case "remove":
            return str(compiled(step.pattern).sub("", said))
        case "strip":
            return said.strip()
        case "remove_whitespace":
            return said.lstrip()
        case "first_line":
            return said.strip().split("\n", 1)[0].strip()
        case "after_last":
            return said.rsplit(step.pattern, 1)[-1].strip()
        case "lowercase":
            return said.lower()
        case "uppercase":
            return said.upper()
    raise ValueError(f"there is no function {step.function!r} to read answers by")


def _found(said: str, step: Step) -> str:
    """One match of a regular expression, of several groups the first that holds something."""
    matches = compiled(step.pattern).findall(said)
    if not -len(matches) <= step.group < len(matches):
        return step.fallback
    match = matches[step.group]
    if isinstance(match, tuple):
        match = next((part for part in match if part), step.fallback)
    return str(match).strip()
