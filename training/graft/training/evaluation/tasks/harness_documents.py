"""Rows as questions, by the templates of a task file."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from graft.training.evaluation.tasks.located import Located, Place
from graft.training.evaluation.tasks.task import Example, Kind, Question
from graft.training.evaluation.tasks.template import BadTemplate, Template, parse

Row = dict[str, Any]
MAX_BAD_ROWS = 5


class Documents:
    """``doc_to_text``, ``doc_to_choice`` and ``doc_to_target`` over rows, as the harness reads them."""

    def __init__(self, file: Located, values: Mapping[str, Any], place: Callable[[str], Place], kind: Kind) -> None:
        self._file, self._values, self._place, self._kind = file, values, place, kind
        self._parsed: dict[str, Template] = {}
        for key in ("doc_to_text", "doc_to_target", "doc_to_choice"):
            self._parse(key)
        if kind is Kind.CHOICE and values.get("doc_to_choice") is None:
            file.refuse((), "`doc_to_choice` is missing; multiple_choice needs it.")

    def questions(self, rows: Sequence[Row]) -> tuple[Question, ...]:
        """The questions. Raises ``DataError`` naming rows that the templates do not fit."""
        return tuple(self._each(rows, self._question))

    def examples(self, rows: Sequence[Row]) -> tuple[Example, ...]:
        """The rows as worked examples. Raises as ``questions`` does."""
        return tuple(self._each(rows, self._example))

    def answer_fields(self, rows: Sequence[Row]) -> frozenset[str]:
        """The fields that ``doc_to_target`` reads, less those that question or choices show whole."""
        names = frozenset(name for row in rows for name in row)
        target = self._read("doc_to_target", names, lambda template: template.sources)
        shown = (self._read(key, names, lambda template: template.shown) for key in ("doc_to_text", "doc_to_choice"))
        return target.difference(*shown)

    def _read(self, key: str, names: frozenset[str], read: Callable[[Template], frozenset[str]]) -> frozenset[str]:
        value = self._values.get(key)
        if not isinstance(value, str):
            return frozenset()
        return frozenset({value}) if value in names else read(self._parsed[key])

    def _each(self, rows: Sequence[Row], make: Callable[[Row], Any]) -> list[Any]:
        found, num_bad = [], 0
        for number, row in enumerate(rows, start=1):
            try:
                found.append(make(row))
            except BadTemplate as problem:
                self._file.refuse(self._place("doc_to_text"), f"row {number} of the data: {problem}")
                num_bad += 1
                if num_bad >= MAX_BAD_ROWS:
                    break
        self._file.check()
        return found

    def _parse(self, key: str) -> None:
        value = self._values.get(key)
        if value is None:
            if key != "doc_to_choice":
                self._file.refuse((), f"`{key}` is missing.")
            return
        if isinstance(value, str):
            try:
                self._parsed[key] = parse(value)
            except BadTemplate as problem:
                self._file.refuse(self._place(key), f"`{key}`: {problem}")
        elif key == "doc_to_text" or not isinstance(value, int | list | dict):
            self._file.refuse(self._place(key), f"`{key}` must be a text.")

    def _made(self, key: str, row: Row) -> Any:
        """A field's value where the setting is its name, else the filled template."""
        value = self._values[key]
        if not isinstance(value, str):
            return value
        return row[value] if value in row else self._parsed[key].fill(row)

    def _choices(self, row: Row) -> list[str]:
        value = self._values["doc_to_choice"]
        if isinstance(value, dict):
            return [str(choice) for choice in value.values()]
        made = value
        if isinstance(value, str):
            made = row[value] if value in row else self._parsed["doc_to_choice"].value(row)
            made = _literal(made) if isinstance(made, str) else made
        if not isinstance(made, list) or not made:
            raise BadTemplate(f"`doc_to_choice` gives {str(made)[:60]!r}; it must give a list.")
        return [str(choice) for choice in made]

    def _question(self, row: Row) -> Question:
        prompt, right = self._made("doc_to_text", row), self._right(row)
        if not isinstance(prompt, str):
            raise BadTemplate(f"`doc_to_text` gives {str(prompt)[:60]!r}; it must give a text.")
        if self._values.get("doc_to_choice") is None:
            return Question(prompt=prompt, targets=tuple(map(str, right)), variables=row)
        choices = self._choices(row)
        gold = tuple(_index(choices, one) for one in right)
        return Question(
            prompt=prompt,
            targets=tuple(choices[index] for index in gold),
            choices=tuple(choices) if self._kind is Kind.CHOICE else (),
            gold=gold if self._kind is Kind.CHOICE else (),
            variables=row,
        )

    def _right(self, row: Row) -> list[Any]:
        """All right answers: texts, or indices of choices."""
        right = self._made("doc_to_target", row)
        is_template = isinstance(self._values["doc_to_target"], str) and self._values["doc_to_target"] not in row
        if is_template and right.isdigit() and self._values.get("doc_to_choice") is not None:
            return [int(right)]
        if is_template and right[:1] == "[" and right[-1:] == "]":
            right = _literal(right)
        return right if isinstance(right, list) and right else [right]

    def _example(self, row: Row) -> Example:
        question = self._question(row)
        return Example(prompt=str(question.prompt), answer=question.targets[0])


def _index(choices: Sequence[str], right: Any) -> int:
    if isinstance(right, int) and not isinstance(right, bool) and 0 <= right < len(choices):
        return right
    if str(right) in choices:
        return choices.index(str(right))
    raise BadTemplate(f"`doc_to_target` gives {str(right)[:60]!r}, which is none of {str(list(choices))[:120]}.")


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return text
