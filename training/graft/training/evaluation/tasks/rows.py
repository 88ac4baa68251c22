"""Tasks from files of rows alone, by the rows' fields: GPT-3's ``context`` and ``completion``, ``prompt`` and
``completion``, ``question`` and ``answer`` with ``choices`` or without (also below ``examples``, as in zero-shot-cot).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from graft.adapters.text.file import read_text
from graft.adapters.text.problems import BadLine
from graft.adapters.text.rows import kind_of, read_rows
from graft.training.errors import DataError, of_data
from graft.training.evaluation.tasks.task import Example, Kind, Metric, Question, Reading, Step, Task

Row = dict[str, Any]
STEPS_BEFORE = "####"
"""In GSM8K's answers, between the steps and the number."""
YES_OR_NO = ("yes", "no")


def read(path: Path) -> Task:
    """A task named after the file. Raises ``DataError`` for rows of no known shape."""
    rows = read_objects(path)
    name = path.name.split(".")[0]
    for fields, make in _SHAPES.items():
        if all(field in row for row in rows for field in fields):
            return make(name, path, rows)
    known = "; ".join(" and ".join(fields) for fields in _SHAPES)
    raise DataError(
        f"{path}: rows have {', '.join(sorted(rows[0])) or 'no fields'}. A file of rows alone needs {known} in each. "
        "For any other, write a task file (YAML) that names it as its data."
    )


def read_objects(path: Path, field: str | None = None) -> list[Row]:
    """The file's objects; of a ``.json`` file with one object, the list below ``field`` (or ``examples``).

    Raises ``DataError`` for a file that cannot be read or holds none.
    """
    rows = _below(path, field) if kind_of(path) == ".json" else None
    if rows is None:
        rows = [row for _, row in of_data(read_rows, path, _object)]
    if not rows:
        raise DataError(f"{path} holds no rows.")
    return rows


def _below(path: Path, field: str | None) -> list[Row] | None:
    text = of_data(read_text, path)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None  # read_rows says where it is wrong
    name = field or "examples"
    if not isinstance(value, dict) or not isinstance(value.get(name), list):
        return None
    rows = value[name]
    if not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{path}: each element of `{name}` must be an object.")
    return list(rows)


def _object(value: Any) -> Row:
    if not isinstance(value, dict):
        raise BadLine("must be an object.")
    return value


def _completions(field: str) -> Callable[[str, Path, Sequence[Row]], Task]:
    def make(name: str, path: Path, rows: Sequence[Row]) -> Task:
        pairs = [(_text(path, row, field), _text(path, row, "completion")) for row in rows]
        return Task(
            name=name,
            kind=Kind.GENERATE,
            questions=tuple(
                Question(prompt=prompt, targets=(answer.strip(),), variables=row)
                for row, (prompt, answer) in zip(rows, pairs, strict=True)
            ),
            metrics=(Metric(name="exact_match"),),
            examples=tuple(Example(prompt=prompt, answer=answer) for prompt, answer in pairs),
            examples_are_questions=True,
            separator="" if all(prompt[:1].isspace() for prompt, _ in pairs) else "\n",
            target_delimiter="",
            max_tokens=_room(answer for _, answer in pairs),
            stop=("\n",),
            readings=(Reading(steps=(Step(function="strip"),)),),
            answer_fields=("completion",),
        )

    return make


def _answers(name: str, path: Path, rows: Sequence[Row]) -> Task:
    asked = [f"Q: {_text(path, row, 'question')}\nA:" for row in rows]
    given = [str(row["answer"]) for row in rows]
    has_steps = all(f"\n{STEPS_BEFORE}" in answer for answer in given)
    right = [answer.rsplit(STEPS_BEFORE, 1)[-1].strip() for answer in given] if has_steps else given
    task = Task(
        name=name,
        kind=Kind.GENERATE,
        questions=tuple(
            Question(prompt=prompt, targets=(answer,), variables=row)
            for prompt, answer, row in zip(asked, right, rows, strict=True)
        ),
        metrics=(Metric(name="exact_match", ignore_case=True),),
        examples=tuple(Example(prompt=prompt, answer=answer) for prompt, answer in zip(asked, right, strict=True)),
        examples_are_questions=True,
        max_tokens=_room(right),
        stop=("\n",),
        readings=(_reading(right),),
        answer_instruction=_instruction(right),
        answer_fields=("answer",),
    )
    return task if not has_steps else _with_steps(task, given)


def _with_steps(task: Task, given: Sequence[str]) -> Task:
    told = [answer.rsplit(STEPS_BEFORE, 1) for answer in given]
    examples = tuple(
        Example(prompt=example.prompt, answer=f"{steps.strip()} {task.answer_instruction} {answer.strip()}.")
        for example, (steps, answer) in zip(task.examples, told, strict=True)
    )
    worked = {**vars(task), "examples": examples, "max_tokens": 256, "stop": ("\nQ:",)}
    return Task(**{**vars(task), "worked": Task(**worked)})


def _choices(name: str, path: Path, rows: Sequence[Row]) -> Task:
    questions = []
    for number, row in enumerate(rows, start=1):
        choices = [str(choice) for choice in row["choices"]] if isinstance(row["choices"], list) else []
        gold = row["answer"] if isinstance(row["answer"], int) else _index(choices, row["answer"])
        if not 0 <= gold < len(choices):
            raise DataError(f"{path}, row {number}: `answer` is neither a choice nor the index of one.")
        prompt = f"Q: {_text(path, row, 'question')}\nA:"
        questions.append(
            Question(prompt=prompt, targets=(choices[gold],), choices=tuple(choices), gold=(gold,), variables=row)
        )
    return Task(
        name=name,
        kind=Kind.CHOICE,
        questions=tuple(questions),
        metrics=(Metric(name="acc"), Metric(name="acc_norm")),
        examples=tuple(Example(prompt=str(one.prompt), answer=one.targets[0]) for one in questions),
        examples_are_questions=True,
        max_tokens=_room(choice for one in questions for choice in one.choices),
        answer_fields=("answer",),
    )


def _index(choices: Sequence[str], answer: Any) -> int:
    return choices.index(str(answer)) if str(answer) in choices else -1


def _reading(right: Sequence[str]) -> Reading:
    """How Kojima et al. (2022, appendix A.6) read answers: the first yes or no, the last number, or letters alone."""
    if all(answer.lower() in YES_OR_NO for answer in right):
        return Reading(steps=(Step(function="regex", pattern=r"(?i)\b(yes|no)\b"),))
    if all(answer.replace(",", "").lstrip("-").replace(".", "", 1).isdigit() for answer in right):
        return Reading(steps=(Step(function="last_number"),))
    return Reading(steps=(Step(function="remove", pattern="[\"'\\s.]"),))


def _instruction(right: Sequence[str]) -> str:
    """The paper's words before the answer."""
    is_yes_or_no = all(answer.lower() in YES_OR_NO for answer in right)
    return "Therefore, the answer (Yes or No) is" if is_yes_or_no else "Therefore, the answer is"


def _room(answers: Any) -> int:
    """Tokens for the longest answer, were each byte one, and some for what stands around it."""
    return min(256, max(len(answer.encode()) for answer in answers) + 16)


def _text(path: Path, row: Row, field: str) -> str:
    if not isinstance(row[field], str):
        raise DataError(f"{path}: `{field}` is {str(row[field])[:60]!r}; it must be a text.")
    text: str = row[field]
    return text


_SHAPES: dict[tuple[str, ...], Callable[[str, Path, Sequence[Row]], Task]] = {
    ("context", "completion"): _completions("context"),
    ("prompt", "completion"): _completions("prompt"),
    ("question", "choices", "answer"): _choices,
    ("question", "answer"): _answers,
}
