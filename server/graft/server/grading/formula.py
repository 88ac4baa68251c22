"""`calculate_output` of a multi grader: arithmetic over rewards, with what OpenAI documents and nothing else.

Numbers, names, parentheses, `+ - * / ^`, and `min max abs floor ceil exp sqrt log` (natural). `^` is a power, binds
tighter than a sign before it and groups to the right, as in mathematics.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from graft.server.runtime.violations import shown

MAX_CHARACTERS = 4096
MAX_DEPTH = 32
NAME = re.compile(r"[^\W\d]\w{0,63}")

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)|(?P<name>[^\W\d]\w*)|(?P<mark>[-+*/^(),]))"
)
_ONE: dict[str, Callable[[float], float]] = {
    "abs": abs,
    "floor": math.floor,
    "ceil": math.ceil,
    "exp": math.exp,
    "sqrt": math.sqrt,
    "log": math.log,
}
_SEVERAL: dict[str, Callable[[list[float]], float]] = {"min": min, "max": max}
FUNCTIONS = frozenset(_ONE) | frozenset(_SEVERAL)
_OPERATORS: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}

Values = Mapping[str, float]
_Node = Callable[[Values], float]


class BadFormula(ValueError):
    """A text that is no formula: says what, and where."""


class NoValue(ArithmeticError):
    """A formula has no finite value for these rewards."""


@dataclass(frozen=True)
class Formula:
    """A formula that was read."""

    text: str
    names: frozenset[str]
    _node: _Node

    def value(self, rewards: Values) -> float:
        """Raises `NoValue`, such as where something is divided by zero."""
        try:
            value = float(self._node(rewards))
        except (ArithmeticError, ValueError) as error:
            raise NoValue(f"{shown(self.text)} has no value here: {error}") from None
        if not math.isfinite(value):
            raise NoValue(f"{shown(self.text)} has no finite value here")
        return value


def read_formula(text: str) -> Formula:
    """Raises `BadFormula`."""
    if len(text) > MAX_CHARACTERS:
        raise BadFormula(f"has {len(text)} characters; at most {MAX_CHARACTERS} are read")
    parser = _Parser(text)
    return Formula(text, frozenset(parser.names), parser.whole)


class _Parser:
    """Recursive descent: sum, product, sign, power, atom. Each gives a function of the rewards."""

    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._at = 0
        self._depth = 0
        self.names: set[str] = set()
        self.whole = self._sum()
        if self._at < len(self._tokens):
            raise BadFormula(f"{shown(self._tokens[self._at])} is not expected there")

    def _taken(self, *marks: str) -> str | None:
        if self._at < len(self._tokens) and self._tokens[self._at] in marks:
            self._at += 1
            return self._tokens[self._at - 1]
        return None

    def _sum(self) -> _Node:
        return self._chain(self._product, "+", "-")

    def _product(self) -> _Node:
        return self._chain(self._signed, "*", "/")

    def _chain(self, part: Callable[[], _Node], *marks: str) -> _Node:
        """From left to right, in a loop: a chain of thousands is no recursion."""
        first, rest = part(), list[tuple[Callable[[float, float], float], _Node]]()
        while mark := self._taken(*marks):
            rest.append((_OPERATORS[mark], part()))

        def value(values: Values) -> float:
            found = first(values)
            for function, node in rest:
                found = function(found, node(values))
            return found

        return value if rest else first

    def _signed(self) -> _Node:
        negative = False
        while mark := self._taken("+", "-"):
            negative ^= mark == "-"
        node = self._power()
        return (lambda values: -node(values)) if negative else node

    def _power(self) -> _Node:
        base = self._atom()
        if self._taken("^"):
            exponent = self._deeper(self._signed)
            return lambda values: math.pow(base(values), exponent(values))
        return base

    def _deeper(self, read: Callable[[], _Node]) -> _Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise BadFormula(f"is nested more than {MAX_DEPTH} deep")
        node = read()
        self._depth -= 1
        return node

    def _atom(self) -> _Node:
        if self._taken("("):
            node = self._deeper(self._sum)
            self._closed()
            return node
        if self._at == len(self._tokens):
            raise BadFormula("ends where a number or a grader's name is expected")
        token = self._tokens[self._at]
        self._at += 1
        if token[0].isdigit() or token[0] == ".":
            number = float(token)
            return lambda values: number
        if not NAME.fullmatch(token):
            raise BadFormula(f"{shown(token)} stands where a number or a grader's name is expected")
        if self._taken("("):
            return self._call(token)
        self.names.add(token)
        return lambda values: values[token]

    def _call(self, name: str) -> _Node:
        arguments = [self._deeper(self._sum)]
        while self._taken(","):
            arguments.append(self._deeper(self._sum))
        self._closed()
        if name in _SEVERAL:
            several = _SEVERAL[name]
            return lambda values: several([argument(values) for argument in arguments])
        if name not in _ONE:
            raise BadFormula(f"{shown(name)} is no function here: there are {', '.join(sorted(FUNCTIONS))}")
        if len(arguments) != 1:
            raise BadFormula(f"{name} takes one value; here are {len(arguments)}")
        one, (argument,) = _ONE[name], arguments
        return lambda values: one(argument(values))

    def _closed(self) -> None:
        if not self._taken(")"):
            raise BadFormula("a parenthesis is not closed")


def _tokens(text: str) -> Iterator[str]:
    at, text = 0, text.rstrip()
    if not text:
        raise BadFormula("is empty")
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise BadFormula(f"{shown(text[at:].lstrip())} is not read: numbers, graders' names, + - * / ^ and ()")
        yield match[match.lastgroup or 0]
        at = match.end()
