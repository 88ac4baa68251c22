"""Values of a request about programs: of its query and of its body, with all that is wrong said at once."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request

from graft.server.runtime.violations import Violations, shown

_MAX_FIELD_CHARACTERS = 40


class Fields:
    """The known fields of a query or of a JSON object; null is absence."""

    def __init__(
        self, given: Mapping[str, Any], known: Sequence[str], violations: Violations, *, where: str = ""
    ) -> None:
        self._given = {key: value for key, value in given.items() if value is not None}
        self._violations = violations
        self._where = where
        for key in violations.until_full(key for key in self._given if key not in known):
            violations.add(f"{where}{key[:_MAX_FIELD_CHARACTERS]}", f"is not known here; there are {', '.join(known)}")

    def get(self, name: str) -> Any:
        """As it was given, or None."""
        return self._given.get(name)

    def text(self, name: str, *, required: bool = False) -> str:
        """A text, by default the empty one."""
        value = self._given.get(name)
        if isinstance(value, str) and (value or not required):
            return value
        if required and not value:
            self.add(name, "is missing")
        elif value is not None:
            self.add(name, f"is {shown(value)}; it must be a text")
        return ""

    def texts(self, name: str) -> list[str]:
        """A list of texts, by default the empty one."""
        value = self._given.get(name, [])
        if isinstance(value, list) and all(isinstance(one, str) for one in value):
            return value
        self.add(name, "must be a list of texts")
        return []

    def number(self, name: str, *, default: int, low: int = 1, high: int = 100) -> int:
        """An integer that a query writes in digits."""
        text = self._given.get(name)
        if text is None:
            return default
        if str(text).isascii() and str(text).isdigit() and len(str(text)) < 10 and low <= int(text) <= high:
            return int(text)
        self.add(name, f"is {shown(text)}; allowed are {low} to {high}")
        return default

    def flag(self, name: str) -> bool:
        """`true` or `false` of a query."""
        value = self._given.get(name, "false")
        if value not in ("true", "false"):
            self.add(name, f"is {shown(value)}; it is true or false")
        return bool(value == "true")

    def whole(self, name: str) -> int | None:
        """A whole number of a JSON object."""
        value = self._given.get(name)
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        self.add(name, f"is {shown(value)}; it must be a whole number")
        return None

    def real(self, name: str) -> float | None:
        """A number of a JSON object, whose whole numbers may be greater than any that is counted with here."""
        value = self._given.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            try:
                return float(value)
            except OverflowError:
                self.add(name, f"is {shown(value)}; a number has a magnitude of at most {sys.float_info.max:.1e}")
        elif value is not None:
            self.add(name, f"is {shown(value)}; it must be a number")
        return None

    def truth(self, name: str) -> bool:
        """true or false of a JSON object, by default false."""
        value = self._given.get(name)
        if value is not None and not isinstance(value, bool):
            self.add(name, f"is {shown(value)}; it is true or false")
        return value is True

    def object(self, name: str) -> dict[str, Any] | None:
        """An object within a JSON object."""
        value = self._given.get(name)
        if value is None or isinstance(value, dict):
            return value
        self.add(name, f"is {shown(value)}; it must be an object")
        return None

    def add(self, name: str, problem: str) -> None:
        """Something is wrong with a field."""
        self._violations.add(f"{self._where}{name}", problem)


def query_of(request: Request, known: Sequence[str], violations: Violations) -> Fields:
    """The query's fields; one that is given twice is refused."""
    given: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in given:
            violations.add(name[:_MAX_FIELD_CHARACTERS], "is given twice")
        given[name] = value
    return Fields(given, known, violations)
