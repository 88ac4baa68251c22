"""One call as it is written, read character by character: `{"name": …, "arguments": …}` and the end tag."""

from __future__ import annotations

import json
from enum import Enum, auto
from typing import Any

from graft.adapters.chat.form import END

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
        self.in_string = first == '"'
        self._escaped = False

    @property
    def text(self) -> str:
        return "".join(self._letters)

    def take(self, letter: str) -> bool:
        """Adds a character; whether the value ends with it. A bare one (a number, a word) ends before the next."""
        self._letters.append(letter)
        if self._escaped:
            self._escaped = False
        elif self.in_string:
            self._escaped = letter == "\\"
            self.in_string = letter != '"'
        elif letter == '"':
            self.in_string = True
        elif letter in "{[":
            self._depth += 1
        elif letter in "}]":
            self._depth -= 1
        return not self.is_bare and not self.in_string and self._depth == 0


class CallText:
    """Raises `NoCall` as long as `name` is None.

    Later a call that breaks off ends with the arguments as far as they came; what is wrong within them stands in them
    as it was written.
    """

    def __init__(self) -> None:
        self.name: str | None = None
        self._at = _At.OBJECT
        self._key: object = None
        self._value: _Value | None = None
        self._arguments = ""
        self._has_arguments = False
        self._hands_out = False
        """Whether the value under way is the arguments, and goes out as it comes."""
        self._blanks: list[str] = []
        self._tag = ""

    @property
    def is_over(self) -> bool:
        return self._at is _At.OVER

    def take(self, letter: str) -> tuple[str, str]:
        """What a character adds to the arguments (nothing before the name is known), and text behind the call."""
        if self._at is _At.END:
            return "", self._behind(letter)
        behind = ""
        if self._value is not None:
            behind = self._in_value(self._value, letter)
        elif letter not in _BLANKS:
            behind = self._between(letter)
        if self.name is None:
            return "", ""
        piece, self._arguments = self._arguments, ""
        return piece, behind

    def _between(self, letter: str) -> str:
        """Returns what stands behind the call, where it ends without its last brace."""
        if self._at is _At.OBJECT and letter == "{":
            self._at = _At.KEY
        elif self._at is _At.KEY and letter == '"':
            self._value = _Value(letter)
        elif self._at is _At.COLON and letter == ":":
            self._at = _At.VALUE
        elif self._at is _At.VALUE and letter not in ",}]:<":
            self._value = _Value(letter)
            self._hands_out = letter in "{[" and self._key in _ARGUMENTS and not self._has_arguments
            self._hand_out(letter)
        elif self._at is _At.COMMA and letter == ",":
            self._at = _At.KEY
        elif self._at is not _At.OBJECT and letter == "}":
            self._object_ends()
        else:
            return self._breaks_off(letter)
        return ""

    def _in_value(self, value: _Value, letter: str) -> str:
        if value.is_bare and letter in _BLANKS + ",}]<":
            self._value_ends(value)
            return "" if letter in _BLANKS else self._between(letter)
        if letter == "<" and not value.in_string:
            return self._breaks_off(letter)
        ended = value.take(letter)
        self._hand_out(letter)
        if ended:
            self._value_ends(value)
        return ""

    def _breaks_off(self, letter: str) -> str:
        """The call ends here, as far as it came, and an end tag or another text begins."""
        self._value = None
        self._object_ends()
        return self._behind(letter)

    def _hand_out(self, letter: str) -> None:
        if self._hands_out:
            self._arguments += letter
            self._has_arguments = True

    def _value_ends(self, value: _Value) -> None:
        self._value, self._hands_out = None, False
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
        if not self._tag and letter in _BLANKS:
            self._blanks.append(letter)
            return ""
        self._tag += letter
        if self._tag == END:
            self._at = _At.OVER
        elif not END.startswith(self._tag):
            self._at = _At.OVER
            return "".join(self._blanks) + self._tag
        return ""

    def _read(self, text: str) -> Any:
        try:
            return json.loads(text)
        except ValueError:
            if self.name is None:
                raise NoCall from None
            return text
