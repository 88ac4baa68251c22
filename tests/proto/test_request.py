"""What may be given for a prompt and for continuations, and the line that says what may not."""

from __future__ import annotations

from typing import Any

import pytest

from graft.client import request
from graft.v1 import inference_pb2 as pb


def chat(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


def test_contents_may_be_parts() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert request.prompt(chat(parts)) == request.prompt(chat("a\nb"))


@pytest.mark.parametrize(
    "content", [[], None, 3, {"type": "text", "text": "a"}, ["a"], [{"type": "image_url"}], [{"type": "text"}]], ids=str
)
def test_other_contents_are_refused_in_one_line(content: Any) -> None:
    with pytest.raises(ValueError, match=r'is text or a list of \{"type": "text"'):
        request.prompt(chat(content))


def test_continuations_are_texts_or_ids() -> None:
    assert list(request.score("a", ["b", "c"], "").continuations) == ["b", "c"]
    ids = request.score("a", [[1, 2], (3,), []], "m").continuation_ids
    assert ids == [pb.TokenIds(ids=[1, 2]), pb.TokenIds(ids=[3]), pb.TokenIds()]


@pytest.mark.parametrize("continuations", ["bc", [3], [["b"]], [None], [{}], [[-1]], [[2**32]]], ids=str)
def test_other_continuations_are_refused_in_one_line(continuations: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="token id"):
        request.score("a", continuations, "")


@pytest.mark.parametrize("ids", [[-1], [2**32], [True]], ids=str)
def test_ids_are_those_that_the_wire_can_carry(ids: list[int]) -> None:
    with pytest.raises(ValueError, match="token id"):
        request.prompt(ids)
