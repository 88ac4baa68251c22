"""Orders by entropy that are kept: nobody's order is found with what another caller says."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from graft.server.engine.engine import ContinuationScore, TokenLogprob
from graft.server.prompting.asking import Written
from graft.server.prompting.running.ordering import Ordering
from tests.server.prompting.running.programs import prepared, preparing, program
from tests.server.prompting.scripted import ScriptedAsker

SHOWN = (0, 1, 2)
DEMONSTRATIONS = [{"inputs": {"q": str(index)}, "output": "ab"[index % 2]} for index in range(5)]
PROGRAM: dict[str, Any] = {
    "prompt": "{{rule}}\n{{demonstrations}}{{q}}:",
    "demonstrating": {"prompt": "{{q}}:"},
    "demonstrations": DEMONSTRATIONS,
    "choosing": {"order": "entropy", "count": 3},
}


class Fickle(ScriptedAsker):
    """Whatever a prompt holds decides what is likely."""

    def __init__(self) -> None:
        super().__init__(lambda prompt, path: "")

    async def score(self, prompt: Written, continuations: Sequence[str]) -> list[ContinuationScore]:
        assert prompt.text is not None
        self.scored.append(prompt.text)
        digest = hashlib.sha256(prompt.text.encode()).digest()
        return [
            ContinuationScore(
                tokens=(TokenLogprob(token_id=0, token=each, logprob=-digest[index] / 10),), is_greedy=False
            )
            for index, each in enumerate(continuations)
        ]


async def orders(*calls: tuple[str, Hashable, str | None]) -> tuple[list[tuple[int, ...]], list[list[str]]]:
    """For each call, of its rule, who asks, and sources: the order, and what was asked for it."""
    by, asker = preparing(), Fickle()
    ordering, found, asked = Ordering(by), [], []
    for rule, who, text in calls:
        sources = None if text is None else SimpleNamespace(text=text)
        sourced = {} if text is None else {"sourcing": {}, "prompt": "{{sources}}" + PROGRAM["prompt"]}
        one = program(**{**PROGRAM, **sourced})
        asker.scored.clear()
        ready = await prepared(by, one, {"rule": rule, "q": f"asked by {who}"}, SHOWN, sources)
        found.append(await ordering.order(asker, ready, who))
        asked.append(list(asker.scored))
    return found, asked


@pytest.mark.parametrize(
    "before", [("SECRET", "b", None), ("B", "a", None), ("B", "b", "other sources")], ids=["value", "tenant", "sources"]
)
async def test_an_order_is_found_with_what_its_own_request_says(before: tuple[str, str, str | None]) -> None:
    text = None if before[2] is None else "my sources"
    alone, _ = await orders(("B", "b", text))
    found, asked = await orders(before, ("B", "b", text))
    assert found[1] == alone[0]
    assert asked[1] and all("B\n" in prompt and "SECRET" not in prompt for prompt in asked[1])


async def test_an_order_is_sought_once() -> None:
    found, asked = await orders(("B", "b", None), ("B", "b", None))
    assert found[0] == found[1] and asked[0] and not asked[1]


async def test_what_demonstrations_give_makes_no_other_order() -> None:
    by, asker = preparing(), Fickle()
    ordering = Ordering(by)
    for question in ("one", "another"):
        ready = await prepared(by, program(**PROGRAM), {"rule": "B", "q": question}, SHOWN)
        await ordering.order(asker, ready, "b")
    assert len(asker.scored) == 6 * 3, "six orders of three, each asked about each of the three, once"
