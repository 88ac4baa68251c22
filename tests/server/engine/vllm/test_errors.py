"""What becomes of vLLM's errors."""

from __future__ import annotations

import pytest
from vllm.exceptions import VLLMValidationError
from vllm.v1.engine.exceptions import EngineGenerateError

from graft.server.engine.engine import EngineError, InvalidRequest
from graft.server.engine.vllm.conversion import engine_errors


def test_what_an_exception_says_is_no_message() -> None:
    with pytest.raises(EngineError) as caught, engine_errors():
        raise EngineGenerateError from KeyError("327")
    assert "327" not in str(caught.value) and "the server's log" in str(caught.value)


def test_a_refusal_does_not_repeat_the_value() -> None:
    with pytest.raises(InvalidRequest) as caught, engine_errors():
        raise VLLMValidationError("is too long.", parameter="bad_words", value=["x"] * 1000)
    assert (str(caught.value), caught.value.field) == ("is too long.", "bad_words")


def test_an_error_of_our_own_is_no_refusal() -> None:
    with pytest.raises(ValueError) as caught, engine_errors():
        raise ValueError("zip() argument 2 is shorter than argument 1")
    assert not isinstance(caught.value, EngineError)
