"""What a prepared program asks of decoding."""

from __future__ import annotations

import json
from typing import Any

import pytest

from graft.server.prompting.asking import Written
from graft.server.prompting.program.program import Decoding
from graft.server.prompting.program.reading import read_program
from graft.server.prompting.rendering.fitting import Fitted
from graft.server.prompting.running.preparing import Prepared
from graft.server.prompting.running.request import RunRequest
from tests.server.prompting.running.programs import prepared_of


def prepared(program: dict[str, Any], shown: tuple[int, ...] = (0,), decoding: Decoding | None = None) -> Prepared:
    whole = {"prompt": "{{demonstrations}}{{x}}:", "demonstrations": [{"inputs": {"x": "a"}, "output": "b"}], **program}
    request = RunRequest(program=read_program(json.dumps(whole)), decoding=decoding or Decoding())
    fitted = Fitted(written=Written(text=""), num_tokens=0, shown=shown, dropped=())
    return prepared_of(request, fitted)


@pytest.mark.parametrize(
    ("program", "stop"),
    [
        ({}, ("\n",)),
        ({"demonstrating": {"separator": "\n\n"}}, ("\n\n",)),
        ({"demonstrating": {"separator": ""}}, None),
        ({"decoding": {"stop": ["."]}}, (".",)),
        ({"demonstrations": [{"inputs": {"x": "a"}, "output": "two\nlines"}]}, None),
        # By default a rationale stands in a line of its own.
        (
            {
                "demonstrations": [{"inputs": {"x": "a"}, "output": "b", "rationale": "r"}],
                "reasoning": {"method": "chain_of_thought"},
            },
            None,
        ),
    ],
)
def test_an_answer_ends_where_the_next_demonstration_would_begin(
    program: dict[str, Any], stop: tuple[str, ...] | None
) -> None:
    assert prepared(program).decoding.stop == stop


def test_only_where_demonstrations_are_shown() -> None:
    assert prepared({}, shown=()).decoding.stop is None


def test_what_the_caller_says_goes_before_the_program() -> None:
    said = prepared({"decoding": {"temperature": 1.0, "top_p": 0.5}}, decoding=Decoding(temperature=0.0, stop=("!",)))
    assert (said.decoding.temperature, said.decoding.top_p, said.decoding.stop) == (0.0, 0.5, ("!",))


@pytest.mark.parametrize(
    ("program", "sampled"),
    [
        ({}, (0.0, 1.0)),
        ({"decoding": {"temperature": 1.5, "top_p": 0.0}}, (1.5, 0.0)),
        ({"reasoning": {"method": "chain_of_thought", "paths": 5}}, (0.7, 1.0)),
        ({"reasoning": {"method": "chain_of_thought", "paths": 5}, "decoding": {"temperature": 0.3}}, (0.3, 1.0)),
        ({"output": {"type": "choices", "choices": ["a", "b"]}}, (0.0, 1.0)),
    ],
)
def test_what_is_told_of_sampling_is_what_is_sampled(program: dict[str, Any], sampled: tuple[float, float]) -> None:
    one = prepared(program)
    assert (one.temperature, one.top_p) == sampled
