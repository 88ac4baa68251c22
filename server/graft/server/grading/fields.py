"""A JSON object's fields, read one by one: what is wrong is noted with its place, and reading goes on."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from graft.server.grading.templates import Template, read_template
from graft.server.runtime.violations import Violations, shown

MAX_TEXT_CHARACTERS = 100_000
MAX_NAME_CHARACTERS = 256


def as_object(value: object, field: str, violations: Violations) -> Mapping[str, Any] | None:
    """None, and a violation, where it is none."""
    if isinstance(value, Mapping):
        return value
    if value is not None:
        violations.add(field, f"is {shown(value)}; it must be an object")
    return None


def is_number(value: object) -> TypeGuard[int | float]:
    """Finite; integers may be larger than any float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, int) or math.isfinite(value)


class Fields:
    """The fields of one object. What is read is known; `no_others` refuses the rest. Null is absence."""

    def __init__(self, value: Mapping[str, Any], field: str, violations: Violations) -> None:
        self._value = value
        self._field = field
        self._violations = violations
        self._known: list[str] = []
        self.kind = ""

    def at(self, name: str) -> str:
        """The place of a field."""
        return f"{self._field}.{name}"

    def refuse(self, name: str, problem: str) -> None:
        self._violations.add(self.at(name), problem)

    @property
    def violations(self) -> Violations:
        return self._violations

    def no_others(self) -> None:
        """Refuse what was not read."""
        for name in self._violations.until_full(sorted(self._value.keys() - set(self._known))):
            near = difflib.get_close_matches(name[:64], self._known, n=1, cutoff=0.6)
            remedy = f"did you mean {near[0]}?" if near else f"there are {', '.join(self._known)}"
            self.refuse(name[:64], f"is not known; {remedy}")

    def optional(self, name: str) -> Any:
        self._known.append(name)
        return self._value.get(name)

    def required(self, name: str) -> Any:
        value = self.optional(name)
        if value is None:
            self.refuse(name, "is missing")
        return value

    def text(self, name: str, *, max_characters: int = MAX_TEXT_CHARACTERS) -> str:
        """Empty where it is refused."""
        value = self.required(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            self.refuse(name, f"is {shown(value)}; it must be a text")
        elif not value:
            self.refuse(name, "is empty")
        elif len(value) > max_characters:
            self.refuse(name, f"has {len(value)} characters; the limit is {max_characters}")
        else:
            return value
        return ""

    def name(self) -> str:
        return self.text("name", max_characters=MAX_NAME_CHARACTERS)

    def template(self, name: str) -> Template:
        """An empty text is one, too: an answer may have to be empty."""
        value = self.required(name)
        return self.template_of(value, name) if value is not None else Template(parts=())

    def template_of(self, value: object, name: str) -> Template:
        if not isinstance(value, str):
            self.refuse(name, f"is {shown(value)}; it must be a text")
        elif len(value) > MAX_TEXT_CHARACTERS:
            self.refuse(name, f"has {len(value)} characters; the limit is {MAX_TEXT_CHARACTERS}")
        else:
            return read_template(value, lambda problem: self.refuse(name, problem))
        return Template(parts=())

    def choice(self, name: str, choices: Sequence[str]) -> str:
        """Empty where it is refused."""
        value = self.required(name)
        if value is None or value in choices:
            return value or ""
        self.refuse(name, f"is {shown(value)}; it must be one of {', '.join(choices)}")
        return ""

    def optional_choice(self, name: str, choices: Sequence[str]) -> str | None:
        if self._value.get(name) is None:
            self._known.append(name)
            return None
        return self.choice(name, choices) or None

    def number(self, name: str, low: float, high: float) -> float | None:
        value = self.optional(name)
        if value is None:
            return None
        if is_number(value):
            if low <= value <= high:
                return float(value)
            self.refuse(name, f"is {shown(value)}; it must be between {low:g} and {high:g}")
        else:
            self.refuse(name, f"is {shown(value)}; it must be a number")
        return None

    def integer(self, name: str, low: int, high: int) -> int | None:
        value = self.optional(name)
        if value is None:
            return None
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        self.refuse(name, f"is {shown(value)}; it must be a whole number between {low} and {high}")
        return None

    def texts(self, name: str, most: int, *, max_characters: int) -> list[str]:
        """A list of one text or more; empty where it is refused."""
        value = self.required(name)
        if value is None:
            return []
        if not isinstance(value, list) or not 1 <= len(value) <= most:
            self.refuse(name, f"is {shown(value)}; it must be a list of 1 to {most} texts")
            return []
        for index, one in self._violations.until_full(enumerate(value)):
            if not isinstance(one, str) or not one:
                self.refuse(f"{name}[{index}]", f"is {shown(one)}; it must be a text that is not empty")
            elif len(one) > max_characters:
                self.refuse(f"{name}[{index}]", f"has {len(one)} characters; the limit is {max_characters}")
        return [one for one in value if isinstance(one, str) and one]
