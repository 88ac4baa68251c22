"""Orders by entropy, over models that lean to what stands last."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pytest

from graft.server.engine.engine import ContinuationScore, TokenLogprob
from graft.server.errors import BadInput
from graft.server.prompting.asking import Written
from graft.server.prompting.choosing import order
from graft.server.prompting.choosing.order import EntropyOrders, by_entropy
from tests.server.prompting.choices.test_asking import Model

LABELS = ("a", "b")


class Leaning(Model):
    """Says the label of the last demonstration, unless those before it are of both labels: then it looks at the
    question."""

    def __init__(self) -> None:
        super().__init__({})

    async def score(self, prompt: Written, continuations: Sequence[str]) -> list[ContinuationScore]:
        assert prompt.text is not None
        self.asked_after.append(prompt.text)
        shown, question = prompt.text.split("?")
        answer = question if set(shown[:2]) == {"a", "b"} else shown[-1]
        return [
            ContinuationScore(
                tokens=(TokenLogprob(token_id=0, token=label, logprob=-0.1 if label == answer else -3.0),),
                is_greedy=False,
            )
            for label in continuations
        ]


SHOWN, OTHERS = "aabb", "abababab"


def write(indices: Sequence[int], probe: int) -> Written:
    all_ = SHOWN + OTHERS
    return Written(text="".join(all_[index] for index in indices) + "?" + all_[probe])


async def test_the_order_that_is_found_predicts_both_labels() -> None:
    tried = await by_entropy(Leaning(), range(4), range(4, 12), LABELS, write)
    best, worst = tried[0], tried[-1]
    assert {SHOWN[index] for index in best.order[:2]} == {"a", "b"}
    assert best.global_entropy == pytest.approx(math.log(2))
    assert worst.global_entropy == 0.0
    slow = -sum(p * math.log(p) for p in (1 / (1 + math.exp(-2.9)), 1 / (1 + math.exp(2.9))))
    assert best.local_entropy == pytest.approx(slow)
    assert all(a.global_entropy >= b.global_entropy for a, b in itertools.pairwise(tried))


async def test_few_are_tried_and_the_order_given_is_among_them() -> None:
    model = Leaning()
    tried = await by_entropy(model, range(4), range(4, 12), LABELS, write)
    assert len({each.order for each in tried}) == len(tried) == order.MAX_ORDERS
    assert (0, 1, 2, 3) in {each.order for each in tried}
    assert len(model.asked_after) <= order.MAX_ORDERS * order.MAX_PROBES
    assert len(await by_entropy(model, range(3), range(4, 12), LABELS, write)) == 6


async def test_without_others_each_shown_one_is_asked_about_after_the_rest() -> None:
    model = Leaning()
    await by_entropy(model, range(4), (), LABELS, write)
    assert all(len(asked.split("?")[0]) == 3 for asked in model.asked_after)


async def test_an_order_is_sought_once_for_its_key() -> None:
    model, orders = Leaning(), EntropyOrders()
    first = await orders.get(("p", 1), model, range(4), range(4, 12), LABELS, write)
    num_asked = len(model.asked_after)
    assert await orders.get(("p", 1), model, range(4), range(4, 12), LABELS, write) == first
    assert len(model.asked_after) == num_asked
    await orders.get(("p", 2), model, range(4), range(4, 12), LABELS, write)
    assert len(model.asked_after) > num_asked


async def test_one_demonstration_has_one_order() -> None:
    assert await EntropyOrders().get("p", Leaning(), [2], [4], LABELS, write) == (2,)


@pytest.mark.parametrize("num_labels", [1, 33])
async def test_labels_must_be_few_and_more_than_one(num_labels: int) -> None:
    with pytest.raises(BadInput, match=f"there are {num_labels}"):
        await by_entropy(Leaning(), range(4), (), [str(number) for number in range(num_labels)], write)
