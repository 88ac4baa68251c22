"""The rules for words, on messages that were seen before they were mended."""

from __future__ import annotations

import pytest

from tests.cases.harness.words import faults_of

SEEN = [
    "1 validation error for ChatCompletionRequest\nFor further information visit https://errors.pydantic.dev/2.11/v/x",
    "[12:00:00] /project/cpp/json_schema_converter.cpp:1234: features not supported by xgrammar",
    "StructuredOutputsParams(json='{}', regex=None, choice=None)",
    'Traceback (most recent call last):\n  File "a.py", line 1',
    "TypeError: bad argument type for built-in operation",
    "the version is sha256:" + "a" * 64,
]


@pytest.mark.parametrize("message", SEEN)
def test_internals_are_seen(message: str) -> None:
    assert faults_of(message)


def test_plain_words_pass() -> None:
    assert not faults_of("rows.jsonl, line 3: role 'wizard' is none of system, user, assistant: correct the row")
    assert not faults_of("sha256:" + "a" * 64 + " is no version here", names_digest=True)
