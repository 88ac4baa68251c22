"""JSON values in a text, with the lines that they begin on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NoReturn

from graft.adapters.text.problems import BadLine

MAX_ROW_BYTES = 8 << 20
_BLANK = re.compile(r"[ \t\r\n]*")
"""JSON's whitespace (RFC 8259, §2)."""


def check_size(num_bytes: int) -> None:
    """Raises ``BadLine`` for a row that no training could hold."""
    if num_bytes > MAX_ROW_BYTES:
        raise BadLine(f"{num_bytes:,} bytes in one row; {MAX_ROW_BYTES:,} are the limit: split it into several.")


def parse_value(text: str) -> Any:
    """One JSON value, and nothing after it. Raises ``BadLine``."""
    scanner = _Scanner(text)
    value = scanner.value()
    if scanner.rest:
        raise BadLine(f"broken JSON at column {scanner.at + 1}: more than one value; write one JSON object per line.")
    return value


def values_in(text: str) -> Iterator[tuple[int, Any]]:
    """The elements of the list that a text is, or its values, each from a line of its own, with the line's number.

    In place of what is broken comes the ``BadLine`` that says so, and nothing after it.
    """
    scanner = _Scanner(text)
    is_list = scanner.take("[")
    try:
        while scanner.rest and not (is_list and scanner.sees("]")):
            line, begin = scanner.line, scanner.at
            value = scanner.value()
            check_size(len(text[begin : scanner.at].encode("utf-8", "surrogatepass")))
            if is_list:
                scanner.end_of_element()
            elif scanner.rest and not scanner.is_on_new_line:
                raise BadLine("broken JSON: two values in one line; write one JSON object per line.")
            yield line, value
        if is_list and not (scanner.take("]") and not scanner.rest):
            raise BadLine("broken JSON: the list is not closed, or something follows it; is the file cut off?")
    except BadLine as problem:
        yield scanner.line, problem


class _Scanner:
    """A place in a text, always before a value or a mark."""

    def __init__(self, text: str) -> None:
        self._text, self.at, self.line = text, 0, 1
        self._go_to(0)

    @property
    def rest(self) -> bool:
        """Whether anything is left."""
        return self.at < len(self._text)

    def sees(self, mark: str) -> bool:
        return self._text.startswith(mark, self.at)

    def take(self, mark: str) -> bool:
        """Goes over the mark, if it stands here."""
        is_here = self.sees(mark)
        if is_here:
            self._go_to(self.at + len(mark))
        return is_here

    def value(self) -> Any:
        """The value that begins here."""
        try:
            value, end = _DECODER.raw_decode(self._text, self.at)
        except json.JSONDecodeError as error:
            self.line += self._text.count("\n", self.at, error.pos)
            told = error.msg[:1].lower() + error.msg[1:]
            raise BadLine(f"broken JSON at column {error.colno}: {told}; write one JSON object per line.") from None
        except RecursionError:
            raise BadLine("JSON nested too deeply; write one flat JSON object per line.") from None
        except ValueError:  # Python's own limit to the digits of an integer
            raise BadLine("a number of more digits than can be read; write it as a string.") from None
        self._go_to(end)
        return value

    def end_of_element(self) -> None:
        if self.take(",") == self.sees("]") or not self.rest:
            raise BadLine("broken JSON: between the rows of a list stands one comma, behind the last one `]`.")

    @property
    def is_on_new_line(self) -> bool:
        """Whether nothing but blanks stands before this place in its line."""
        begin = self._text.rfind("\n", 0, self.at) + 1
        return not self._text[begin : self.at].strip(" \t\r")

    def _go_to(self, at: int) -> None:
        match = _BLANK.match(self._text, at)
        assert match is not None
        self.line += self._text.count("\n", self.at, match.end())
        self.at = match.end()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadLine(f"the key {twice[:80]!r} stands twice in one object; keep one.")
    return values


def _no_number(text: str) -> NoReturn:
    raise BadLine(f"{text} is no JSON number; leave it out, or write null.")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_number)
