"""What changes when a prompt shows its demonstrations, or lists its choices, in another order."""

from __future__ import annotations

from collections.abc import Callable

from graft.server.prompting.asking import Asker
from graft.server.prompting.choices.asking import ChoiceAsking, ChoiceQuestion
from graft.server.prompting.choices.scoring import OrderEffect, order_effect, rotations
from graft.server.prompting.program.program import Calibration, Scoring
from graft.server.runtime.violations import shown

Asked = Callable[[tuple[int, ...]], ChoiceQuestion]
"""From an order of what is rotated to the question. Its choices stand in one order always, each by its text or by the
letter of its place.
"""


async def order_effects(
    asking: ChoiceAsking, asker: Asker, num_places: int, asked: Asked, scoring: Scoring, *, max_orders: int
) -> OrderEffect:
    """Score the choices under rotations, as `scoring` says. Raises what `ChoiceAsking.ask` does.

    Batch calibration is left out: these are no inputs of which the mean could learn.
    """
    if scoring.calibration is Calibration.BATCH:
        scoring = scoring.model_copy(update={"calibration": Calibration.NONE})
    by_order = []
    for order in rotations(num_places, at_most=max_orders):
        answer = await asking.ask(asker, asked(order), scoring)
        by_order.append([choice.probability for choice in answer.choices])
    return order_effect(by_order)


def told(effect: OrderEffect, choices: tuple[str, ...]) -> str:
    """In a sentence."""
    widest = max(range(len(choices)), key=lambda index: effect.ranges[index])
    return (
        f"over {effect.num_orders} orders of the demonstrations {shown(choices[effect.answer])} is the likeliest on "
        f"average, {effect.agreement:.0%} of the orders have the same answer, and the probability of "
        f"{shown(choices[widest])} moves by {effect.ranges[widest]:.2f}"
    )
