"""Formulas of multi graders."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.server.grading.formula import BadFormula, NoValue, read_formula

REWARDS = {"name": 0.25, "email": 0.5, "b_1": 2.0}
VALUES = {
    "0.5 * name + 0.5 * email": 0.375,
    "name - email - b_1": -2.25,
    "b_1 ^ 3 ^ 2": 512.0,
    "-b_1 ^ 2": -4.0,
    "b_1 ^ -1": 0.5,
    "12 / 4 / 3": 1.0,
    "2 * (name + email)": 1.5,
    "min(name, email, b_1) + max(name)": 0.5,
    "abs(-1.5) + floor(1.9) + ceil(1.1)": 4.5,
    "exp(1) + sqrt(16) + log(exp(2))": math.e + 6,
    "1e-1 + .5 + 2.": 2.6,
    "- - 1": 1.0,
    "max(0, 1 - abs(name - email))": 0.75,
}


@pytest.mark.parametrize("text", VALUES)
def test_values(text: str) -> None:
    assert read_formula(text).value(REWARDS) == pytest.approx(VALUES[text])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("name +", "ends where"),
        ("(name", "not closed"),
        ("name)", "not expected"),
        ("name email", "not expected"),
        ("pow(name, 2)", "no function"),
        ("sqrt(1, 2)", "takes one value"),
        ("min()", "stands where"),
        ("name ** 2", "stands where"),
        ("name // 2", "stands where"),
        ("name % 2", "not read"),
        ("name == 1", "not read"),
        ("__import__('os')", "not read"),
        ("name.real", "not read"),
        ("name[0]", "not read"),
        ("lambda: 1", "not read"),
        ("(" * 40 + "1" + ")" * 40, "nested"),
        ("1" + "+1" * 4000, "characters"),
    ],
)
def test_what_is_no_formula(text: str, says: str) -> None:
    with pytest.raises(BadFormula, match=says):
        read_formula(text)


@pytest.mark.parametrize(
    "text", ["1 / (name - name)", "sqrt(-1)", "log(0)", "exp(1000)", "(-1) ^ 0.5", "1e999", "9^9^9^9"]
)
def test_no_value(text: str) -> None:
    with pytest.raises(NoValue):
        read_formula(text).value(REWARDS)


def test_names() -> None:
    assert read_formula("0.5 * name + max(email, b_1)").names == {"name", "email", "b_1"}


def test_long_chains_are_no_recursion() -> None:
    assert read_formula("+".join(["b_1"] * 1000)).value(REWARDS) == 2000


@given(
    st.recursive(
        st.integers(0, 9).map(str),
        lambda part: st.tuples(part, st.sampled_from("+-*"), part).map("({0[0]}{0[1]}{0[2]})".format),
    )
)
def test_as_python_computes(text: str) -> None:
    """Python's own arithmetic on what hypothesis wrote."""
    if text.count("(") < 30:
        assert read_formula(text).value({}) == eval(text)
