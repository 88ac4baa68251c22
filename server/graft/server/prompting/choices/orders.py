"""What changes when a prompt lists its choices in another order."""

from __future__ import annotations

from collections.abc import Callable

from graft.server.prompting.asking import Asker, Written
from graft.server.prompting.choices.asking import ChoiceAsking, ChoiceQuestion
from graft.server.prompting.choices.scoring import OrderEffect, order_effect, rotations
from graft.server.prompting.program.program import Scoring

MAX_ORDERS = 8

Listed = Callable[[tuple[int, ...]], tuple[Written, tuple[str, ...]]]
"""From an order of the choices: the prompt that lists them so, and what each choice, in the order first given, is
answered by then (its text, or the letter of its place).
"""


async def order_effects(
    asker: Asker,
    num_choices: int,
    listed: Listed,
    scoring: Scoring,
    *,
    before: str = "",
    max_orders: int = MAX_ORDERS,
) -> OrderEffect:
    """Score the choices under rotations of their list. Raises what `ChoiceAsking.ask` does."""
    asking, by_order = ChoiceAsking(), []
    for order in rotations(num_choices, at_most=max_orders):
        prompt, answers = listed(order)
        question = ChoiceQuestion(prompt=prompt, choices=answers, before=before)
        answer = await asking.ask(asker, question, scoring)
        by_order.append([choice.probability for choice in answer.choices])
    return order_effect(by_order)
