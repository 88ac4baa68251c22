"""Work in processes that are forked of one with the libraries; here without libraries."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from graft.bench.training.forks import StageFailed, forked, forking, graft


def held(num_bytes: int) -> int:
    print("so it is")
    return len(bytearray(num_bytes).replace(b"\0", b"1"))


def failed() -> None:
    raise ValueError("no such thing")


def ended() -> None:
    print("the last words", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module", autouse=True)
def started() -> Iterator[None]:
    with forking(libraries=()):
        yield


def test_each_has_its_own_peak_and_its_own_log(tmp_path: Path) -> None:
    small, large = (forked(held, num * 2**20, log=tmp_path / f"{num}.log") for num in (1, 100))
    assert (small.value, large.value) == (2**20, 100 * 2**20)
    assert large.own_bytes - small.own_bytes == pytest.approx(2 * 99 * 2**20, rel=0.1)
    assert small.peak_bytes > small.own_bytes
    assert (tmp_path / "1.log").read_text() == "so it is\n"


def test_what_went_wrong_is_said(tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match=r"^no such thing$"):
        forked(failed, log=tmp_path / "a.log")
    assert "Traceback" in (tmp_path / "a.log").read_text()
    with pytest.raises(StageFailed, match=r"ended with -9: the last words"):
        forked(ended, log=tmp_path / "b.log")
    with pytest.raises(StageFailed, match=r"ended with 2: graft compile: --merge makes a base and --svd an adapter"):
        graft(
            ["compile", str(tmp_path), "--output", str(tmp_path / "x"), "--merge", "--svd", "4"], log=tmp_path / "c.log"
        )
