"""What the order of demonstrations changes is told beside the answer, where a program asks for it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from graft.server.prompting.running.running import Answer, Running
from tests.server.prompting.running.programs import prepared, preparing, program
from tests.server.prompting.scripted import ScriptedAsker

TICKET = cast(Any, SimpleNamespace(cache_salt=None, answerer=SimpleNamespace(version_digest="v", base_digest="b")))
LABELS = ("good", "bad", "odd")


def last_shown(prompt: str, continuation: str) -> float:
    """A model that says again what stands last."""
    last = prompt.splitlines()[-2].rpartition(" ")[2] if "\n" in prompt else ""
    return 0.8 if continuation.strip() == last else 0.1


async def answered(scoring: dict[str, Any], shown: tuple[int, ...] = (0, 1, 2)) -> tuple[Answer, ScriptedAsker]:
    one = program(
        prompt="{{demonstrations}}{{text}} is",
        demonstrations=[{"inputs": {"text": f"t{index}"}, "output": label} for index, label in enumerate(LABELS)],
        output={"type": "choices", "choices": list(LABELS)},
        scoring=scoring,
    )
    by, asker = preparing(), ScriptedAsker(lambda prompt, path: "", likes=last_shown)
    ready = await prepared(by, one, {"text": "x"}, shown)
    *_, end = [event async for event in Running(by).run(asker, ready, TICKET)]
    assert isinstance(end, Answer)
    return end, asker


async def test_a_model_that_looks_at_the_order_alone_is_found_out() -> None:
    end, asker = await answered({"orders": 3})
    assert end.reasoned.answer == "odd", "as the prompt's own order has it"
    (notice,) = end.notices
    assert "over 3 orders" in notice and "33% of the orders have the same answer" in notice and "by 0.70" in notice
    assert len(set(asker.scored)) == 3


async def test_calibration_is_by_each_orders_own_prompt_about_nothing() -> None:
    """This model looks at no input: less what it says about nothing, nothing is left for an order to move."""
    end, _ = await answered({"orders": 3, "calibration": "contextual", "content_free": ["N/A"]})
    assert "by 0.00" in end.notices[-1]


@pytest.mark.parametrize(("scoring", "shown"), [({}, (0, 1, 2)), ({"orders": 3}, (1,))])
async def test_only_where_it_is_asked_for_and_there_is_an_order(
    scoring: dict[str, Any], shown: tuple[int, ...]
) -> None:
    end, asker = await answered(scoring, shown)
    assert end.notices == () and len(asker.scored) == 1
