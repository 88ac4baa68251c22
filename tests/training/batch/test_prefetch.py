from __future__ import annotations

import threading

import pytest

from graft.training.batch.prefetch import Prefetch


class Made:
    """Remembers what it made and where; fails at some steps."""

    def __init__(self, *bad: int) -> None:
        self.steps: list[int] = []
        self.threads: set[threading.Thread] = set()
        self.bad = bad
        self.changed = threading.Condition()

    def __call__(self, step: int) -> str:
        with self.changed:
            self.steps.append(step)
            self.threads.add(threading.current_thread())
            self.changed.notify_all()
        if step in self.bad:
            raise ValueError(f"row {step} is broken")
        return f"batches {step}"

    def wait_for(self, step: int) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: step in self.steps, timeout=60)


def test_the_next_step_is_made_while_this_one_is_computed_and_no_other() -> None:
    made = Made()
    with Prefetch(made, end=4) as batches:
        for step in range(1, 4):
            assert batches.take(step) == f"batches {step}"
            assert made.wait_for(min(step + 1, 3))
    assert made.steps == [1, 2, 3]
    assert len(made.threads) == 1 and threading.current_thread() not in made.threads


def test_what_fails_is_raised_in_the_step_that_reads_it() -> None:
    made = Made(2)
    with Prefetch(made, end=9) as batches:
        assert batches.take(1) == "batches 1"
        assert made.wait_for(2)  # and nothing is heard of it yet
        with pytest.raises(ValueError, match="row 2 is broken"):
            batches.take(2)


def test_whoever_goes_to_another_step_gets_that() -> None:
    made = Made()
    with Prefetch(made, end=9) as batches:
        batches.take(5)
        assert batches.take(2) == "batches 2" and batches.take(3) == "batches 3"


def test_the_thread_ends_with_the_block_on_errors_too() -> None:
    made = Made()
    with pytest.raises(KeyError), Prefetch(made, end=9) as batches:
        batches.take(0)
        raise KeyError("elsewhere")
    (thread,) = made.threads
    assert not thread.is_alive()
