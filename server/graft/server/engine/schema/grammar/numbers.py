"""Ranges of numbers as regular expressions over their decimal digits, of bounded length and without exponents."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

from graft.server.engine.schema.reading.shapes import Number
from graft.server.engine.schema.refusal import SchemaRefused

MAX_DIGITS = 15  # before the point, where the schema sets no bound
_FRACTION_DIGITS = 6
_EXACT_DIGITS = 15  # two decimals of so many digits are never the same float
_MAX_LISTED = 1_000


def regex(number: Number) -> str | None:
    """The texts of a range without `multiples`; None where it holds none of bounded length."""
    if number == Number(whole=number.whole) and number.whole is not False:
        fraction = "" if number.whole else f"(?:\\.[0-9]{{1,{_FRACTION_DIGITS}}})?"
        return f"(?:0|-?[1-9][0-9]{{0,{MAX_DIGITS - 1}}}){fraction}" + ("" if number.whole else "|-0\\.[0-9]{0,5}[1-9]")
    low, high = _bounds(number)
    parts = [] if number.whole is False else _signed(number, low, high, 0)
    if number.whole is not True:
        for digits in range(1, _fraction_digits(number) + 1):
            parts += _signed(number, low, high, digits)
    return "|".join(parts) if parts else None


def listed(number: Number) -> list[str]:
    """Texts of the numbers nearest to zero that are multiples as asked for, also by a validator that divides floats."""
    step = _step(number)
    low, high = _bounds(number)
    first, last = math.ceil(low / step), math.floor(high / step)
    begin = min(max(first, -_MAX_LISTED // 2), max(first, last - _MAX_LISTED))
    candidates = (step * count for count in range(begin, min(last, begin + _MAX_LISTED) + 1))
    return [_text(value) for value in candidates if _admitted(number, value)]


def whole_step(number: Number) -> int | None:
    """The integer whose multiples are all meant and none too many, where there is one."""
    if not number.multiples or number.not_multiples or number.whole is False:
        return None
    for multiple in number.multiples:
        if multiple.denominator != 1 and not _divides_well(multiple):
            return None
    numerators = [multiple.numerator for multiple in number.multiples]
    return math.lcm(*numerators)


def whole_bounds(number: Number) -> tuple[int, int]:
    """The least and the largest integer of the range."""
    low, high = _bounds(number)
    least, largest = math.ceil(low), math.floor(high)
    return least + (number.low_open and least == low), largest - (number.high_open and largest == high)


def _divides_well(multiple: Fraction) -> bool:
    """Whether an integer divided by the nearest float is whole wherever it is by the decimal."""
    error = abs(Fraction(float(multiple)) - multiple) / multiple
    return error < Fraction(1, 2**54)


def _step(number: Number) -> Fraction:
    multiples = number.multiples or (Fraction(1) if number.whole else Fraction(1, 10),)
    if number.whole:
        multiples = (*multiples, Fraction(1))
    common = math.lcm(*(multiple.denominator for multiple in multiples))
    return Fraction(math.lcm(*(int(multiple * common) for multiple in multiples)), common)


def _admitted(number: Number, value: Fraction) -> bool:
    low, high = _bounds(number)
    if (number.low_open and value == low) or (number.high_open and value == high):
        return False
    if number.whole is not None and (value.denominator == 1) != number.whole:
        return False
    if not all(_is_multiple(value, multiple) for multiple in number.multiples):
        return False
    return all((value / multiple).denominator != 1 for multiple in number.not_multiples)


def _is_multiple(value: Fraction, multiple: Fraction) -> bool:
    if (value / multiple).denominator != 1:
        return False
    if multiple.denominator == 1:
        return True
    try:
        return float(_text(value)) / float(multiple) == float(value / multiple)
    except OverflowError as error:
        raise SchemaRefused(
            f"`multipleOf` {float(multiple):g} is not enforced so far from 0; lower the bounds, or leave it out"
        ) from error


def _text(value: Fraction) -> str:
    if value.denominator == 1:
        return str(value.numerator)
    digits = next(count for count in range(1, 400) if (value * 10**count).denominator == 1)
    whole = abs(value.numerator * 10**digits // value.denominator)
    padded = str(whole).rjust(digits + 1, "0")
    return f"{'-' if value < 0 else ''}{padded[:-digits]}.{padded[-digits:]}"


def _bounds(number: Number) -> tuple[Fraction, Fraction]:
    """The range, with the bounds that it lacks so far off that every usual number lies between."""
    far = max(10**MAX_DIGITS, *(abs(bound) * 10 for bound in (number.low, number.high) if bound is not None), 0)
    low = number.low if number.low is not None else -Fraction(far) + 1
    high = number.high if number.high is not None else Fraction(far) - 1
    return low, high


def _fraction_digits(number: Number) -> int:
    given = [bound.denominator for bound in (number.low, number.high) if bound is not None]
    needed = max((len(str(denominator)) for denominator in given if denominator > 1), default=0)
    return min(max(_FRACTION_DIGITS, needed + 1), _EXACT_DIGITS - 1)


def _signed(number: Number, low: Fraction, high: Fraction, digits: int) -> list[str]:
    """Expressions for the numbers of the range that have so many digits after the point."""
    scale = 10**digits
    first, last = math.ceil(low * scale), math.floor(high * scale)
    first += bool(number.low_open and first == low * scale)
    last -= bool(number.high_open and last == high * scale)
    if digits:
        first, last = max(first, 1 - 10**_EXACT_DIGITS), min(last, 10**_EXACT_DIGITS - 1)
    fraction_only = number.whole is False
    parts = [_unsigned(max(first, 0), last, digits, fraction_only)] if last >= 0 else []
    if first < 0:
        parts.append("-(?:" + found + ")" if (found := _unsigned(max(-last, 1), -first, digits, fraction_only)) else "")
    return [part for part in parts if part]


def _unsigned(low: int, high: int, digits: int, fraction_only: bool) -> str:
    if fraction_only:  # the last digit is not 0
        low, high, digits = -(-low // 10), (high - 9) // 10, digits - 1
    if low > high:
        return ""
    found = "|".join(_lengths(low, high, digits))
    return f"(?:{found}){'' if digits else chr(92) + '.'}[1-9]" if fraction_only else found


def _lengths(low: int, high: int, digits: int) -> Iterator[str]:
    for length in range(max(len(str(low)), digits + 1), max(len(str(high)), digits + 1) + 1):
        least = 0 if length == digits + 1 else 10 ** (length - 1)
        first, last = max(low, least), min(high, 10**length - 1)
        if first <= last:
            yield _between(str(first).rjust(length, "0"), str(last).rjust(length, "0"), digits)


def _between(low: str, high: str, digits: int) -> str:
    """Digit strings of one length from `low` to `high`, with a point before the last `digits`."""
    left = len(low)
    if left == 0:
        return ""
    point = "\\." if digits and left == digits else ""
    if set(low) == {"0"} and set(high) == {"9"}:
        return _any(left, digits)
    first, last = int(low[0]), int(high[0])
    if first == last:
        return point + low[0] + _between(low[1:], high[1:], digits)
    parts = []
    if set(low[1:]) - {"0"}:
        parts.append(point + low[0] + _between(low[1:], "9" * (left - 1), digits))
        first += 1
    if set(high[1:]) - {"9"}:
        parts.append(point + high[0] + _between("0" * (left - 1), high[1:], digits))
        last -= 1
    if first <= last:
        parts.append(f"{point}[{first}-{last}]{_any(left - 1, digits)}")
    return f"(?:{'|'.join(parts)})"


def _any(left: int, digits: int) -> str:
    before = max(left - digits, 0)
    after = min(left, digits)
    point = "\\." if digits and left >= digits else ""
    return (f"[0-9]{{{before}}}" if before else "") + point + (f"[0-9]{{{after}}}" if after else "")
