"""Arithmetic that a model wrote, line by line, computed exactly: program of thought without a program's powers.

The method is Chen et al. 2022 (arXiv:2211.12588); theirs runs Python. Here a line is `name = expression`, or an
expression; there are numbers, names, `+ - * / // % **` and parentheses, with Python's precedence, and nothing else.
Values are rational numbers, so that 0.1 + 0.2 is 0.3.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

from graft.server.runtime.violations import shown

MAX_CHARACTERS = 8192
MAX_LINES = 256
MAX_DEPTH = 32
MAX_DIGITS = 400
MAX_EXPONENT = 1024
_MAX_BITS = 1360
"""Of a value's numerator and denominator: about `MAX_DIGITS` decimal digits."""

_TOO_LARGE = f"a value of more than {MAX_DIGITS} digits"
_MAX_SHOWN_DIGITS = 30

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d{1,3}(?:,\d{3})+(?!\d)|\d[\d_]*)(?:\.\d*)?(?:[eE][-+]?\d{1,3})?|\.\d+)"
    r"|(?P<name>[^\W\d]\w*)|(?P<operator>\*\*|//|[-+*/%()\u00d7\u00f7\u2212]))",
    re.ASCII,
)
_SPELLED = {"\u00d7": "*", "\u00f7": "/", "\u2212": "-"}
_ASSIGNED = re.compile(r"\s*([^\W\d]\w*)\s*=(?!=)", re.ASCII)
_ONLY_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d*)?", re.ASCII)
# How models end a program that they were not asked to end so.
_WRAPPED = re.compile(r"^\s*(?:return\b|print\s*(?=\())\s*")


class ExpressionError(ValueError):
    """What was written is no arithmetic, or too much of it: says where, what and the limit."""


@dataclass(frozen=True, kw_only=True)
class _Token:
    kind: str
    text: str


def run(program: str) -> Fraction:
    """The value of the last line. Blank lines, fences and what stands after `#` are passed over, and, behind what was
    computed, lines that are a number only: there the model says what it takes for the value.

    Raises `ExpressionError` with the line's number.
    """
    if len(program) > MAX_CHARACTERS:
        raise ExpressionError(f"the program has {len(program)} characters; at most {MAX_CHARACTERS} are computed")
    names: dict[str, Fraction] = {}
    value = None
    for number, line in enumerate(_lines(program), start=1):
        if not line or (value is not None and _ONLY_NUMBER.fullmatch(line)):
            continue
        if number > MAX_LINES:
            raise ExpressionError(f"the program has more than {MAX_LINES} lines")
        assigned = _ASSIGNED.match(line)
        try:
            value = evaluate(line[assigned.end() :] if assigned else _WRAPPED.sub("", line, count=1), names)
        except ExpressionError as error:
            raise ExpressionError(f"line {number}, {shown(line)}: {error}") from None
        if assigned:
            names[assigned.group(1)] = value
    if value is None:
        raise ExpressionError("there is no line with an expression")
    return value


def evaluate(expression: str, names: Mapping[str, Fraction] | None = None) -> Fraction:
    """The value of one expression. Raises `ExpressionError`."""
    return _Parser(expression, names or {}).value()


def written(value: Fraction) -> str:
    """As people write it: all digits where they end, else twelve significant ones."""
    if value.denominator == 1:
        return str(value.numerator)
    rest, places = value.denominator, 0
    while rest % 10 == 0 or rest % 5 == 0 or rest % 2 == 0:
        rest //= 10 if rest % 10 == 0 else 5 if rest % 5 == 0 else 2
        places += 1
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    if rest == 1 and len(digits) <= _MAX_SHOWN_DIGITS:
        return f"{'-' if value < 0 else ''}{digits[:-places]}.{digits[-places:]}"
    return _rounded(value)


def _rounded(value: Fraction) -> str:
    try:
        return f"{float(value):.12g}"
    except OverflowError:
        return str(round(value))


def _lines(program: str) -> Iterator[str]:
    for line in program.splitlines():
        code = line.split("#", 1)[0].strip()
        yield "" if code.startswith("```") else code


class _Parser:
    """Recursive descent over Python's precedence: sum, product, sign, power."""

    def __init__(self, expression: str, names: Mapping[str, Fraction]) -> None:
        self._names = names
        self._tokens = list(_tokens(expression))
        self._at = 0
        self._depth = 0

    def value(self) -> Fraction:
        if not self._tokens:
            raise ExpressionError("there is no expression")
        value = self._sum()
        if self._at < len(self._tokens):
            raise ExpressionError(f"{shown(self._tokens[self._at].text)} is not expected there")
        return value

    def _taken(self, *operators: str) -> str | None:
        if self._at < len(self._tokens) and self._tokens[self._at].kind == "operator":
            operator = self._tokens[self._at].text
            if operator in operators:
                self._at += 1
                return operator
        return None

    def _sum(self) -> Fraction:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ExpressionError(f"it is nested more than {MAX_DEPTH} deep")
        value = self._product()
        while operator := self._taken("+", "-"):
            right = self._product()
            value = _bounded(value + right if operator == "+" else value - right)
        self._depth -= 1
        return value

    def _product(self) -> Fraction:
        value = self._signed()
        while operator := self._taken("*", "/", "//", "%"):
            right = self._signed()
            if operator != "*" and not right:
                raise ExpressionError("division by zero")
            if operator == "*":
                value = _bounded(value * right)
            elif operator == "/":
                value = _bounded(value / right)
            else:
                value = _bounded(Fraction(value // right) if operator == "//" else value % right)
        return value

    def _signed(self) -> Fraction:
        negative = False
        while operator := self._taken("+", "-"):
            negative ^= operator == "-"
        value = self._power()
        return -value if negative else value

    def _power(self) -> Fraction:
        base = self._atom()
        if self._taken("**"):
            self._depth += 1
            if self._depth > MAX_DEPTH:
                raise ExpressionError(f"it is nested more than {MAX_DEPTH} deep")
            exponent = self._signed()
            self._depth -= 1
            return _power(base, exponent)
        return base

    def _atom(self) -> Fraction:
        if self._taken("("):
            value = self._sum()
            if not self._taken(")"):
                raise ExpressionError("a parenthesis is not closed")
            return value
        if self._at == len(self._tokens):
            raise ExpressionError("it ends where a number is expected")
        token = self._tokens[self._at]
        self._at += 1
        if token.kind == "number":
            return _number(token.text)
        if token.kind == "name":
            if token.text not in self._names:
                raise ExpressionError(f"{shown(token.text)} has no value yet")
            return self._names[token.text]
        raise ExpressionError(f"{shown(token.text)} stands where a number is expected")


def _tokens(expression: str) -> Iterator[_Token]:
    at, text = 0, expression.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ExpressionError(
                f"{shown(text[at:].lstrip())} is no arithmetic: numbers, names and + - * / // % ** ()"
            )
        kind = match.lastgroup or ""
        found = match.group(kind)
        yield _Token(kind=kind, text=_SPELLED.get(found, found))
        at = match.end()


def _number(text: str) -> Fraction:
    digits = text.replace(",", "").replace("_", "")
    if len(digits) > MAX_DIGITS:
        raise ExpressionError(f"a number of {len(digits)} digits; at most {MAX_DIGITS} are computed")
    return _bounded(Fraction(digits))


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if not base and exponent < 0:
        raise ExpressionError("division by zero")
    if abs(exponent) > MAX_EXPONENT:
        raise ExpressionError(f"the exponent {shown(written(exponent))} is over {MAX_EXPONENT}")
    if exponent.denominator == 1:
        if abs(int(exponent)) * (_num_bits(base) - 1) > _MAX_BITS:
            raise ExpressionError(_TOO_LARGE)
        return _bounded(base ** int(exponent))
    if base < 0:
        raise ExpressionError(f"a root of the negative number {shown(written(base))}")
    try:
        return Fraction(float(base) ** float(exponent))
    except OverflowError:
        raise ExpressionError(_TOO_LARGE) from None


def _num_bits(value: Fraction) -> int:
    return max(abs(value.numerator), value.denominator).bit_length()


def _bounded(value: Fraction) -> Fraction:
    if _num_bits(value) > _MAX_BITS:
        raise ExpressionError(_TOO_LARGE)
    return value
