"""Ranges as expressions over digits, against comparing numbers."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.server.engine.schema.grammar import numbers
from graft.server.engine.schema.reading.shapes import Number

whole = st.integers(min_value=-2000, max_value=2000)
decimals = st.integers(min_value=-20_000, max_value=20_000).map(lambda units: Fraction(units, 100))


def inside(value: Fraction, number: Number) -> bool:
    assert number.low is not None and number.high is not None
    low = value > number.low or (value == number.low and not number.low_open)
    high = value < number.high or (value == number.high and not number.high_open)
    fits = number.whole is None or (value.denominator == 1) == number.whole
    return low and high and fits


@settings(max_examples=150, deadline=None)
@given(whole, whole, st.booleans(), st.booleans(), st.lists(whole, min_size=1, max_size=20))
def test_integers(a: int, b: int, low_open: bool, high_open: bool, values: list[int]) -> None:
    low, high = sorted((a, b))
    number = Number(low=Fraction(low), high=Fraction(high), low_open=low_open, high_open=high_open, whole=True)
    found = numbers.regex(number)
    for value in {*values, low, high, low + 1, high - 1}:
        written = found is not None and re.fullmatch(found, str(value)) is not None
        assert written == inside(Fraction(value), number), (found, value)


@settings(max_examples=150, deadline=None)
@given(decimals, decimals, st.booleans(), st.booleans(), st.lists(decimals, min_size=1, max_size=20))
def test_decimals(a: Fraction, b: Fraction, low_open: bool, high_open: bool, values: list[Fraction]) -> None:
    low, high = sorted((a, b))
    number = Number(low=low, high=high, low_open=low_open, high_open=high_open)
    found = numbers.regex(number)
    for value in {*values, low, high, low + Fraction(1, 100), high - Fraction(1, 100)}:
        if -1 < value < 0:
            text = f"-{float(-value):.2f}"
        else:
            text = f"{float(value):.2f}"
        if value == 0:
            continue  # `-0.00` has many spellings
        written = found is not None and re.fullmatch(found, text) is not None
        assert written == inside(value, number), (found, text)


@pytest.mark.parametrize("multiple", ["0.01", "0.1", "0.5", "3", "7", "0.3"])
def test_multiples_are_so_for_a_validator_that_divides_floats(multiple: str) -> None:
    number = Number(multiples=(Fraction(multiple),), low=Fraction(-50), high=Fraction(50))
    texts = numbers.listed(number)
    assert len(texts) > 10
    for text in texts:
        quotient = float(text) / float(multiple)
        assert int(quotient) == quotient and (Fraction(text) / Fraction(multiple)).denominator == 1, text


@settings(max_examples=100, deadline=None)
@given(st.integers(min_value=1, max_value=10**12), st.sampled_from(["0.01", "0.25", "0.5", "2", "0.125", "0.001"]))
def test_whole_steps_divide_well(count: int, multiple: str) -> None:
    step = numbers.whole_step(Number(multiples=(Fraction(multiple),)))
    if step is not None:
        quotient = (count * step) / float(multiple)
        assert int(quotient) == quotient
