"""One call as it is written, read character by character: `{"name": …, "arguments": …}` and the end tag."""

from __future__ import annotations

import json
from enum import Enum, auto
from typing import Any

from graft.server.engine.tools.form import END

_BLANKS = " \t\r\n"
# Llama's word for the same.
_ARGUMENTS = frozenset({"arguments", "parameters"})


class NoCall(Exception):
    """What was read is no call after all."""


class _At(Enum):
    OBJECT = auto()
    KEY = auto()
    COLON = auto()
    VALUE = auto()
    COMMA = auto()
    END = auto()
    OVER = auto()


class _Value:
    """A JSON value under way. Its inside is not judged beyond strings and brackets."""

    def __init__(self, first: str) -> None:
        self.first = first
        self.is_bare = first not in '{["'
        self._letters = [first]
        self._depth = int(first in "{[")
        self._in_string = first == '"'
        self._escaped = False

    @property
    def text(self) -> str:
        return "".join(self._letters)

    def take(self, letter: str) -> bool:
        """Adds a character; whether the value ends with it. A bare one (a number, a word) ends before the next."""
        self._letters.append(letter)
        if self._escaped:
            self._escaped = False
        elif self._in_string:
            self._escaped = letter == "\\"
            self._in_string = letter != '"'
        elif letter == '"':
            self._in_string = True
        elif letter in "{[":
            self._depth += 1
        elif letter in "}]":
            self._depth -= 1
        return not self.is_bare and not self._in_string and self._depth == 0


class CallText:
    """Raises `NoCall` as long as `name` is None; what is wrong later stands in the arguments as it was written."""

    def __init__(self) -> None:
        self.name: str | None = None
        self._at = _At.OBJECT
        self._key: object = None
        self._value: _Value | None = None
        self._arguments = ""
        self._has_arguments = False
        self._end = ""

    @property
    def is_over(self) -> bool:
        return self._at is _At.OVER

    def take(self, letter: str) -> tuple[str, str]:
        """What a character adds to the arguments (nothing before the name is known), and text behind the call."""
        if self._at is _At.END:
            return "", self._behind(letter)
        if self._value is not None:
            self._in_value(self._value, letter)
        elif letter not in _BLANKS:
            self._between(letter)
        if self.name is None:
            return "", ""
        piece, self._arguments = self._arguments, ""
        return piece, ""

    def _between(self, letter: str) -> None:
        if self._at is _At.OBJECT and letter == "{":
            self._at = _At.KEY
        elif self._at is _At.KEY and letter == '"':
            self._value = _Value(letter)
        elif self._at is _At.COLON and letter == ":":
            self._at = _At.VALUE
        elif self._at is _At.VALUE and letter not in ",}]:":
            self._value = _Value(letter)
            self._hand_out(self._value, letter)
        elif self._at is _At.COMMA and letter == ",":
            self._at = _At.KEY
        elif self._at in (_At.KEY, _At.COMMA) and letter == "}":
            self._object_ends()
        elif self.name is None:
            raise NoCall

    def _in_value(self, value: _Value, letter: str) -> None:
        if value.is_bare and letter in _BLANKS + ",}]":
            self._value_ends(value)
            if letter not in _BLANKS:
                self._between(letter)
            return
        ended = value.take(letter)
        self._hand_out(value, letter)
        if ended:
            self._value_ends(value)

    def _hand_out(self, value: _Value, letter: str) -> None:
        """Objects and lists go out as they come."""
        if self._at is _At.VALUE and self._key in _ARGUMENTS and value.first in "{[":
            self._arguments += letter
            self._has_arguments = True

    def _value_ends(self, value: _Value) -> None:
        self._value = None
        if self._at is _At.KEY:
            self._key, self._at = self._read(value.text), _At.COLON
            return
        self._at = _At.COMMA
        if self._key == "name" and self.name is None:
            name = self._read(value.text)
            if not isinstance(name, str) or not name:
                raise NoCall
            self.name = name
        elif self._key in _ARGUMENTS and not self._has_arguments:
            told = self._read(value.text)
            # Arguments are sometimes written as the text of their JSON.
            self._arguments += told if isinstance(told, str) else "{}" if told is None else value.text
            self._has_arguments = bool(self._arguments)

    def _object_ends(self) -> None:
        if self.name is None:
            raise NoCall
        if not self._has_arguments:
            self._arguments += "{}"
        self._at = _At.END

    def _behind(self, letter: str) -> str:
        self._end += letter
        tag = self._end.lstrip(_BLANKS)
        if tag == END:
            self._at = _At.OVER
        elif not END.startswith(tag):
            self._at = _At.OVER
            return self._end
        return ""

    def _read(self, text: str) -> Any:
        try:
            return json.loads(text)
        except ValueError:
            if self.name is None:
                raise NoCall from None
            return text
