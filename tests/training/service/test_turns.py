"""Requests in the order of their numbers, each done once."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.training.service.learning.answers import KEPT
from graft.training.service.learning.computing import Computing, Later
from graft.training.service.learning.turns import AHEAD, Asked, Turns
from graft.training.service.refusal import Kind, Refusal


def asked(number: int, told: str = "", num_bytes: int = 1) -> Asked:
    return Asked(number=number, digest=told.encode(), num_bytes=num_bytes)


def turns() -> Turns:
    return Turns(first=1, max_bytes=100)


def do(own: Turns) -> list[object]:
    """All that is ready, by one who computes."""
    done = []
    while (turn := own.take()) is not None:
        turn.answer.set_result(turn.act())
        done.append(turn.answer.result())
    return done


@given(st.permutations(range(1, 9)), st.lists(st.integers(1, 8), max_size=20))
def test_in_whatever_order_and_however_often_they_come(order: list[int], again: list[int]) -> None:
    own, heard, done = turns(), {}, list[object]()
    for number in order:
        heard[number] = own.ask(asked(number), lambda number=number: number)  # type: ignore[misc]
        done += do(own)
    assert done == list(range(1, 9))
    for number in again:
        assert own.ask(asked(number), lambda: pytest.fail("it was done already")) is heard[number]
        own.hand_over(number)
    assert do(own) == []


def test_a_missing_number_holds_up_those_behind_it() -> None:
    own = turns()
    late = own.ask(asked(2), lambda: "two")
    assert do(own) == []
    assert not late.done()
    own.ask(asked(1), lambda: "one")
    assert do(own) == ["one", "two"]


def test_the_same_number_with_another_request_is_refused() -> None:
    own = turns()
    own.ask(asked(1, "this"), lambda: 1)
    with pytest.raises(Refusal, match="request 1 was another one") as refused:
        own.ask(asked(1, "that"), lambda: 1)
    assert refused.value.kind is Kind.INVALID


def test_answers_are_kept_until_they_are_fetched_and_some_behind() -> None:
    own = turns()
    for number in range(1, KEPT + 10):
        own.ask(asked(number), lambda number=number: number)  # type: ignore[misc]
    do(own)
    for number in range(2, KEPT + 10):
        own.hand_over(number)
    assert own.answer(1).result() == 1
    with pytest.raises(Refusal, match="not kept any more") as gone:
        own.answer(2)
    assert gone.value.kind is Kind.GONE
    with pytest.raises(Refusal, match="not kept any more"):
        own.ask(asked(2), lambda: pytest.fail("it was done already"))
    with pytest.raises(Refusal, match="the next turn is that of"):
        own.answer(KEPT + 10)


def test_what_waits_is_bounded_and_the_next_is_always_taken() -> None:
    own = turns()
    own.ask(asked(2, num_bytes=90), lambda: 2)
    with pytest.raises(Refusal, match="101 bytes") as full:
        own.ask(asked(3, num_bytes=11), lambda: 3)
    assert full.value.kind is Kind.FULL
    with pytest.raises(Refusal, match="too far ahead"):
        own.ask(asked(1 + AHEAD), lambda: 3)
    own.ask(asked(1, num_bytes=1000), lambda: 1)
    assert do(own) == [1, 2]


def test_an_end_refuses_what_waits_and_what_is_to_come() -> None:
    own = turns()
    waiting = own.ask(asked(1), lambda: 1)
    own.end(Refusal(Kind.GONE, "over"))
    with pytest.raises(Refusal, match="over"):
        waiting.result(0)
    with pytest.raises(Refusal, match="over"):
        own.ask(asked(2), lambda: 2)
    assert own.take() is None


@pytest.fixture
def computing() -> Computing:
    return Computing()


def test_trainings_take_turns(computing: Computing) -> None:
    begun, order = threading.Event(), list[str]()
    one, other = turns(), turns()
    computing.add(one)
    computing.add(other)

    def noted(name: str) -> Callable[[], None]:
        return lambda: order.append(name)

    first = one.ask(asked(1), lambda: begun.wait(10))
    last = [own.ask(asked(number), noted(name)) for own, name in ((one, "one"), (other, "other")) for number in (2, 3)]
    last.append(other.ask(asked(1), noted("other")))
    computing.start()
    computing.look()
    begun.set()
    for answer in (first, *last):
        answer.result(10)
    computing.stop()
    assert order == ["other", "one", "other", "one", "other"]


def test_what_computes_nothing_holds_nobody_up(computing: Computing) -> None:
    own, may_end = turns(), threading.Event()
    computing.add(own)
    computing.start()
    published = own.ask(asked(1), lambda: Later(act=lambda: may_end.wait(10) and "published"))
    learned = own.ask(asked(2), lambda: "learned")
    computing.look()
    assert learned.result(10) == "learned"
    assert not published.done()
    may_end.set()
    assert published.result(10) == "published"
    computing.stop()


def test_a_failure_is_the_answer_and_the_next_turn_is_taken(computing: Computing) -> None:
    own = turns()
    computing.add(own)
    computing.start()
    failed = own.ask(asked(1), lambda: 1 / 0)
    fine = own.ask(asked(2), lambda: 2)
    computing.look()
    with pytest.raises(ZeroDivisionError):
        failed.result(10)
    assert fine.result(10) == 2
    computing.stop()
