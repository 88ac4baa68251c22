"""The prompt asked about nothing, for contextual calibration (Zhao et al. 2021, arXiv:2102.09690)."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from graft.server.errors import BadInput
from graft.server.prompting.running.content_free import content_free_drafts
from tests.server.prompting.running.programs import PlainText, prepared, preparing, program

OUTPUT: dict[str, Any] = {"type": "choices", "choices": ["yes", "no"]}
SCORING: dict[str, Any] = {"calibration": "contextual", "content_free": ["N/A", ""]}


async def asked(prompt: str, variables: dict[str, Any], **fields: Any) -> list[str | None]:
    one = program(prompt=prompt, output=OUTPUT, **{"scoring": SCORING, **fields})
    by = preparing()
    return [each.written(()).text for each in await content_free_drafts(by, await prepared(by, one, variables))]


@pytest.mark.parametrize("value", ["eight", 8, 8.5, True])
async def test_texts_and_numbers_and_truths_are_replaced(value: object) -> None:
    assert await asked("Is {{it}} so?", {"it": value}) == ["Is N/A so?", "Is  so?"]


async def test_nothing_is_asked_where_it_is_not_calibrated_so() -> None:
    assert await asked("Is {{it}} so?", {"it": 8}, scoring={}) == []


async def test_a_prompt_that_asks_nothing_else_is_refused() -> None:
    """Its scores less its own would be the first choice, always."""
    with pytest.raises(BadInput, match=r"scoring\.calibration: .* change nothing"):
        await asked("Is it so?", {})


async def test_a_request_that_asks_about_nothing_is_answered() -> None:
    """All choices are as likely then, which a notice of their tie tells."""
    one = {**SCORING, "content_free": ["N/A"]}
    assert await asked("Is {{it}} so?", {"it": "N/A"}, scoring=one) == ["Is N/A so?"]


async def test_only_what_is_shown_is_written_and_many_are_written_in_a_thread() -> None:
    threads: dict[int, list[str]] = {}

    def seen(text: str) -> None:
        threads.setdefault(threading.get_ident(), []).append(text)

    demonstrations = [{"inputs": {"it": f"{index}"}, "output": "yes"} for index in range(200)]
    one = program(
        prompt="{{demonstrations}}Is {{it}} so?", output=OUTPUT, scoring=SCORING, demonstrations=demonstrations
    )
    by = preparing(PlainText(seen))
    few = await prepared(by, one, {"it": "x"}, shown=(7, 3))
    threads.clear()
    first, _ = await content_free_drafts(by, few)
    assert first.written((3, 7)).text == "Is 3 so? yes\nIs 7 so? yes\nIs N/A so?"
    assert list(threads) == [threading.get_ident()] and len(threads[threading.get_ident()]) == 2 * (1 + 2 * 2)
    threads.clear()
    await by.draft(one, {"it": "x"}, range(200))
    assert threading.get_ident() not in threads and len(threads) == 1
