"""What a program shows for an input."""

from __future__ import annotations

import json
from typing import Any

import pytest

from graft.server.errors import BadInput
from graft.server.prompting.choosing.choosing import Chooser, Chosen, num_wanted
from graft.server.prompting.program.program import PromptProgram

WORDS = ["sun moon", "cat dog", "sun star", "bread milk", "cat bird", "sun"]


def program(**fields: Any) -> PromptProgram:
    rows = [{"inputs": {"q": text}, "output": "ab"[number % 2]} for number, text in enumerate(WORDS)]
    return PromptProgram.model_validate_json(json.dumps({"prompt": "{{q}}", "demonstrations": rows, **fields}))


def choose(asked: PromptProgram, query: str = "sun", **variables: Any) -> Chosen:
    return Chooser().choose(asked, "sha256:1", {"q": query, **variables})


def test_fixed_ones_stand_as_given_and_the_farthest_may_go_first() -> None:
    found = choose(program())
    assert found.indices == (0, 1, 2, 3, 4, 5)
    assert found.farthest_first[:3] == (4, 3, 1), "these share no word with the question; the last of them goes first"
    assert found.farthest_first[-1] == 5


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        ({}, 6),
        ({"mode": "zero_shot"}, 0),
        ({"mode": "one_shot"}, 1),
        ({"choosing": {"count": 2}}, 2),
        ({"choosing": {"count": 0}}, 0),
        ({"choosing": {"method": "bm25"}}, 4),
        ({"choosing": {"method": "random", "count": 200}}, 6),
    ],
)
def test_how_many(fields: dict[str, Any], count: int) -> None:
    asked = program(**fields)
    assert num_wanted(asked) == count == len(choose(asked).indices)


def test_nearest_depend_on_the_input_and_others_do_not() -> None:
    near = program(choosing={"method": "bm25", "count": 2})
    assert choose(near, "sun").indices == (0, 5)
    assert choose(near, "a cat").indices == (1, 4)
    for method in ("fixed", "random", "balanced"):
        asked = program(choosing={"method": method, "count": 3})
        assert choose(asked, "sun").indices == choose(asked, "cat").indices, "so that their prefix stays in the cache"


def test_similar_last_puts_the_nearest_beside_the_question() -> None:
    found = choose(program(choosing={"method": "bm25", "count": 3, "order": "similar_last"}))
    assert found.indices == found.farthest_first
    assert found.indices[-1] == 5


def test_balanced_takes_both_classes() -> None:
    found = choose(program(choosing={"method": "balanced", "count": 4, "seed": 3}))
    assert sum(index % 2 for index in found.indices) == 2


def test_variables_that_no_demonstration_has_do_not_count() -> None:
    near = program(choosing={"method": "bm25", "count": 1})
    assert choose(near, "bread", other="sun moon star").indices == (3,)


def test_values_may_be_anything() -> None:
    asked = program(choosing={"method": "bm25", "count": 1})
    for value in (None, 7, ["cat", "bird"], {"a": "sun"}, "\ud800"):
        assert len(Chooser().choose(asked, "d", {"q": value}).indices) == 1
    assert Chooser().choose(asked, "d", {}).indices == (0,)


def test_sets_are_kept_by_digest() -> None:
    chooser, asked = Chooser(), program(choosing={"method": "bm25", "count": 2})
    first = chooser.choose(asked, "sha256:1", {"q": "sun"})
    assert chooser.choose(asked, "sha256:1", {"q": "sun"}) is first
    assert chooser.choose(asked, "sha256:1", {"q": "cat"}) is not first


def test_embeddings_are_refused_with_a_remedy() -> None:
    with pytest.raises(BadInput, match=r"embedding engine.* choose by bm25 or mmr") as caught:
        choose(program(choosing={"method": "embedding"}))
    assert [violation.field for violation in caught.value.violations] == ["choosing.method"]


def test_ten_thousand_demonstrations_have_a_nearest() -> None:
    rows = [{"inputs": {"q": f"number {number} of many"}, "output": str(number)} for number in range(10_000)]
    asked = program(demonstrations=rows, choosing={"method": "bm25", "count": 3})
    assert 4321 in choose(asked, "which is number 4321").indices
