"""Ids sort as they were made, whatever the clock does."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from graft.server.runtime.ids import Ids


@given(st.lists(st.tuples(st.integers(0, 2**47), st.integers(0, 2**80 - 1)), min_size=2, max_size=20))
def test_a_later_id_is_greater_whatever_the_clock_says(draws: list[tuple[int, int]]) -> None:
    clock, random = iter([time for time, _ in draws]), iter([number for _, number in draws])
    ids = Ids("file-", now_milliseconds=lambda: next(clock), entropy=lambda bits: next(random))
    made = [ids() for _ in draws]
    assert made == sorted(set(made)) and all(map(ids.made, made))


def test_an_id_is_the_specifications() -> None:
    """github.com/ulid/spec: ten digits of milliseconds, sixteen of chance, in Crockford's base 32."""
    ids = Ids("x-", now_milliseconds=lambda: 1469918176385, entropy=lambda bits: 2**bits - 1)
    assert ids() == f"x-{_encoded(1469918176385)}{'z' * 16}"


def _encoded(milliseconds: int) -> str:
    """Slow and obvious: five bits at a time from the left."""
    bits = f"{milliseconds:050b}"
    return "".join("0123456789abcdefghjkmnpqrstvwxyz"[int(bits[at : at + 5], 2)] for at in range(0, 50, 5))


def test_threads_never_share_one() -> None:
    ids, made = Ids(""), []
    threads = [threading.Thread(target=lambda: made.extend(ids() for _ in range(200))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 800


def test_what_is_no_id_is_known() -> None:
    ids = Ids("file-")
    for text in ("", "file-", "file-x", ids().upper(), ids()[:-1], ids() + "0", "job-" + ids()[5:], ids() + "\n"):
        assert not ids.made(text)
