"""Arithmetic is Python's, exact, and bounded."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.server.prompting.reasoning.expression import ExpressionError, evaluate, run, written

numbers = st.integers(0, 999).map(str)
expressions = st.recursive(
    numbers,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "//", "%", " + ", "  -  "]), inner).map("".join),
        inner.map(lambda text: f"({text})"),
        inner.map(lambda text: f"-{text}"),
        st.tuples(inner.map(lambda text: f"({text})"), st.sampled_from(["**2", "**3", "** 0"])).map("".join),
    ),
    max_leaves=8,
)


@given(expressions)
def test_integers_are_computed_as_python_does(text: str) -> None:
    try:
        right = eval(text)
    except (ZeroDivisionError, OverflowError, ValueError):
        with pytest.raises(ExpressionError):
            evaluate(text)
    else:
        if abs(right) < 10**400 and "**" not in text:
            assert evaluate(text) == right
        else:
            try:
                assert evaluate(text) == right
            except ExpressionError as error:
                assert "400 digits" in str(error) or "exponent" in str(error)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1 + 0.2", "0.3"),
        ("1/3", "0.333333333333"),
        ("8/2", "4"),
        ("-2**2", "-4"),
        ("2**3**2", "512"),
        ("2**-2", "0.25"),
        ("2 ** 0.5", "1.41421356237"),
        ("7 // 2", "3"),
        ("-7 // 2", "-4"),
        ("-7 % 3", "2"),
        ("1,234 + 1_000", "2234"),
        ("3. + .5", "3.5"),
        ("1.5e3", "1500"),
        ("3 × 4 ÷ 2 − 1", "5"),
        ("10**420 - 10**420", None),
    ],
)
def test_values(text: str, value: str | None) -> None:
    if value is None:
        with pytest.raises(ExpressionError, match="400 digits"):
            evaluate(text)
    else:
        assert written(evaluate(text)) == value


def test_a_program_of_the_paper() -> None:
    """Chen et al. 2022 (arXiv:2211.12588), the Janet's-ducks prompt for GSM8K, without its loop-free Python prose."""
    program = """
total_eggs = 16
eaten_eggs = 3
baked_eggs = 4
sold_eggs = total_eggs - eaten_eggs - baked_eggs
dollars_per_egg = 2
ans = sold_eggs * dollars_per_egg
"""
    assert written(run(program)) == "18"


def test_how_models_dress_programs() -> None:
    assert written(run("```python\n# the price\nx = 3 # each\n\nprint(x * 2)\n```")) == "6"
    assert written(run("return (1 + 2) * 2")) == "6"


def test_what_the_model_takes_for_the_value_is_not_the_value() -> None:
    """A demonstration's default answer is the program, a line's end and its value."""
    assert written(run("x = 17 * 3\ny = x + 1\n51")) == "52"
    assert written(run("51")) == "51"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no expression"),
        ("1 +", "ends where a number"),
        ("(1", "not closed"),
        ("1)", "not expected"),
        ("1 2", "not expected"),
        ("1,2", "no arithmetic"),
        ("1/0", "division by zero"),
        ("0**-1", "division by zero"),
        ("1 % 0", "division by zero"),
        ("x", "no value yet"),
        ("1 < 2", "no arithmetic"),
        ("'a' * 3", "no arithmetic"),
        ("abs(1)", "no value yet"),
        ("__import__('os')", "no arithmetic"),
        ("(1).real", "no arithmetic"),
        ("9**9**9", "exponent"),
        ("9**999", "digits"),
        ("(-1)**0.5", "root"),
        ("1" * 500, "digits"),
        ("(" * 1000 + "1", "deep"),
        ("2**" * 1000 + "2", "deep"),
        ("2" + "*9" * 2000, "digits"),
        ("1e999", "digits"),
    ],
)
def test_what_is_no_arithmetic_is_said(text: str, reason: str) -> None:
    with pytest.raises(ExpressionError, match=reason):
        evaluate(text)


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("", "no line"),
        ("x = 1\ny = x +", "line 2, .*ends where"),
        ("x = y", "line 1.*no value yet"),
        ("x == 1", "line 1"),
        ("for i in range(9): x", "line 1"),
        ("import os", "line 1"),
        ("x = 1\n" * 300, "more than 256 lines"),
        ("1\n" * 5000, "at most 8192"),
    ],
)
def test_what_is_no_program_is_said_with_its_line(program: str, reason: str) -> None:
    with pytest.raises(ExpressionError, match=reason):
        run(program)


@given(st.text(max_size=60) | st.text("0123456789+-*/%() xe.,=\n", max_size=60))
def test_any_text_has_a_value_or_a_reason(text: str) -> None:
    try:
        value = run(text)
    except ExpressionError as error:
        assert str(error)
    else:
        assert written(value)


@given(st.fractions())
def test_what_is_written_is_the_value(value: Fraction) -> None:
    assert Fraction(written(value)) == pytest.approx(value, rel=1e-11)
