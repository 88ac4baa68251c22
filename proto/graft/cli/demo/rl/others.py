"""The second client: users who ask, read and ask again; and the gaps between tokens with and without a training."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from graft.cli.load import TimedAnswer, ask, percentile
from graft.client import AsyncClient, SamplingOptions

NUM_STREAMS = 2
_READING_SECONDS = 0.5
_OPTIONS: SamplingOptions = {"max_tokens": 64, "temperature": 0.0, "stop": "\n"}


@dataclass(frozen=True, kw_only=True)
class Window:
    """Seconds of the monotonic clock in which nothing changes."""

    begin: float
    end: float
    is_training: bool


@dataclass(kw_only=True)
class Others:
    """They ask the base for worked sums, in a thread of this process."""

    target: str
    answers: list[TimedAnswer] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._ask()), name="second client", daemon=True)

    def __enter__(self) -> Others:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def watch(self, seconds: float, *, is_training: bool) -> None:
        """A window from now on."""
        begin = time.monotonic()
        time.sleep(seconds)
        self.seen(begin, is_training=is_training)

    def seen(self, begin: float, *, is_training: bool) -> None:
        """A window that ends now."""
        self.windows.append(Window(begin=begin, end=time.monotonic(), is_training=is_training))

    @property
    def failed(self) -> list[TimedAnswer]:
        return [one for one in self.answers if one.error is not None]

    def gap_seconds(self, *, is_training: bool, percent: float = 99.0) -> float | None:
        """That many of a hundred gaps are no longer; None where there are none."""
        windows = [one for one in self.windows if one.is_training == is_training]
        found = _gaps(self.answers, windows)
        return percentile(found, percent) if found else None

    def by_window(self) -> list[dict[str, float | bool]]:
        """Of each its length, how many gaps lie in it, and their p50 and p99."""
        found: list[dict[str, float | bool]] = []
        for one in self.windows:
            if gaps := _gaps(self.answers, [one]):
                told = {"seconds": one.end - one.begin, "num": len(gaps)}
                told |= {f"p{percent}_seconds": percentile(gaps, percent) for percent in (50, 99)}
                found.append({"is_training": one.is_training, **told})
        return found

    async def _ask(self) -> None:
        async with AsyncClient(self.target) as client:
            await asyncio.gather(*(self._stream(client, number) for number in range(NUM_STREAMS)))

    async def _stream(self, client: AsyncClient, number: int) -> None:
        rng = Random(number)
        while not self._ended.is_set():
            a, b = rng.randint(100, 999), rng.randint(100, 999)
            self.answers.append(await ask(client, f"{a}+{b}?", "", _OPTIONS))
            await asyncio.sleep(_READING_SECONDS * rng.uniform(0.5, 1.5))


def _gaps(answers: Sequence[TimedAnswer], windows: Sequence[Window]) -> list[float]:
    """Those that lie in one of the windows."""
    return [
        gap.seconds
        for answer in answers
        for window in windows
        if answer.end > window.begin and answer.begin < window.end
        for gap in answer.gaps
        if gap.begin >= window.begin and gap.end <= window.end
    ]
