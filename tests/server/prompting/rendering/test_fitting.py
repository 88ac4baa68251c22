"""Which demonstrations are dropped where not all fit, against trying every number of them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.server.errors import BadInput
from graft.server.prompting.asking import Written, WrittenTurn
from graft.server.prompting.rendering.fitting import DemonstrationTokens, Fitted, fit
from graft.server.prompting.rendering.writing import Draft

CONTEXT = 100


class Counter:
    """A token is a character; `per_turn` stands around each turn of a chat. Says how much it counted."""

    def __init__(self, per_turn: int = 0) -> None:
        self.per_turn = per_turn
        self.num_characters = self.num_calls = 0

    async def prompt(self, written: Written) -> int:
        self.num_calls += 1
        if written.text is not None:
            return len(written.text)
        return sum(len(turn.content) + self.per_turn for turn in written.turns)

    async def each(self, texts: Sequence[str]) -> list[int]:
        self.num_characters += sum(map(len, texts))
        return [len(text) for text in texts]


def drafted(sizes: Sequence[int], *, around: int = 10, is_text: bool = True) -> Draft:
    return Draft(
        before=(WrittenTurn(role="system", content="i" * (around // 2)),),
        demonstrations={index: (WrittenTurn(role="user", content="d" * size),) for index, size in enumerate(sizes)},
        after=(WrittenTurn(role="user", content="q" * (around - around // 2)),),
        is_text=is_text,
    )


async def fitted(
    draft: Draft, nearest: Sequence[int], most: int, counter: Counter, tokens: DemonstrationTokens | None = None
) -> Fitted:
    tokens = tokens or DemonstrationTokens(counter.each)
    return await fit(
        draft,
        sorted(nearest),
        nearest,
        max_prompt_tokens=most,
        max_model_tokens=CONTEXT,
        num_tokens=counter.prompt,
        sizes=lambda indices: tokens.of("sha256:x", draft, indices),
    )


@given(
    sizes=st.lists(st.integers(1, 40), max_size=12),
    seed=st.randoms(use_true_random=False),
    most=st.integers(10, 150),
    per_turn=st.integers(0, 9),
    is_text=st.booleans(),
)
async def test_the_farthest_go_first_and_as_few_as_must(
    sizes: list[int], seed: object, most: int, per_turn: int, is_text: bool
) -> None:
    nearest = list(range(len(sizes)))
    seed.shuffle(nearest)  # type: ignore[attr-defined]
    draft, counter = drafted(sizes, is_text=is_text), Counter(0 if is_text else per_turn)
    bare = await counter.prompt(draft.written(()))
    if bare > most:
        with pytest.raises(BadInput):
            await fitted(draft, nearest, most, counter)
        return
    found = await fitted(draft, nearest, most, counter)
    usable = [index for index in nearest if sizes[index] <= most - bare]
    for count in range(len(usable), -1, -1):  # the slow way
        expected = tuple(sorted(usable[:count]))
        if await counter.prompt(draft.written(expected)) <= most:
            break
    assert found.shown == expected
    assert found.dropped == tuple(sorted(set(nearest) - set(expected)))
    assert found.num_tokens == await counter.prompt(found.written) <= most
    assert found.written.turns[:1] == draft.before or str(found.written.text).startswith("iiiii")


async def test_the_order_in_the_prompt_is_kept() -> None:
    found = await fitted(drafted([20, 20, 20, 20]), [3, 0, 2, 1], 72, Counter())
    assert (found.shown, found.dropped) == ((0, 2, 3), (1,))


async def test_one_that_no_prompt_holds_does_not_take_its_farther_neighbours_along() -> None:
    found = await fitted(drafted([20, 1000, 20]), [1, 0, 2], 60, Counter())
    assert (found.shown, found.dropped) == ((0, 2), (1,))


async def test_where_nothing_helps_the_figures_are_told() -> None:
    with pytest.raises(BadInput) as caught:
        await fitted(drafted([20], around=90), [0], 80, Counter())
    (violation,) = caught.value.violations
    for words in ("90 tokens without any demonstration", "holds 100, 20 of them", "at most 80", "by 10"):
        assert words in violation.problem


async def test_ten_thousand_demonstrations_are_not_all_counted_and_none_twice() -> None:
    counter = Counter()
    tokens = DemonstrationTokens(counter.each)
    draft = drafted([10] * 10_000)
    nearest = list(range(9_999, -1, -1))
    found = await fitted(draft, nearest, 95, counter, tokens)
    assert found.shown == tuple(range(9_992, 10_000)) and len(found.dropped) == 9_992
    assert counter.num_characters <= 10 * 64 and counter.num_calls <= 6
    before = counter.num_characters
    await fitted(draft, nearest, 95, counter, tokens)
    assert counter.num_characters == before


async def test_what_fits_is_counted_once() -> None:
    counter = Counter()
    found = await fitted(drafted([5, 5]), [0, 1], 90, counter)
    assert (found.shown, found.dropped, counter.num_calls) == ((0, 1), (), 1)
