"""Timed requests: what a caller sees of latency. Shared by the demo and `graft bench`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from graft.client import AsyncClient, GraftClientError, PromptLike, SamplingOptions
from graft.v1 import common_pb2


@dataclass(frozen=True, kw_only=True)
class Gap:
    """The wait of one stream between two of its tokens; both ends in seconds of the monotonic clock."""

    begin: float
    end: float

    @property
    def seconds(self) -> float:
        """How long nothing came."""
        return self.end - self.begin


@dataclass(frozen=True, kw_only=True)
class TimedAnswer:
    """One request as its caller saw it. `arrivals` are the times at which tokens came."""

    text: str
    begin: float
    end: float
    arrivals: tuple[float, ...]
    num_tokens: int
    answerer: common_pb2.Answerer | None
    error: GraftClientError | None = None

    @property
    def first_token_seconds(self) -> float | None:
        """Time to the first token; None where none came."""
        return self.arrivals[0] - self.begin if self.arrivals else None

    @property
    def gaps(self) -> list[Gap]:
        """The waits between consecutive tokens."""
        return [Gap(begin=begin, end=end) for begin, end in pairwise(self.arrivals)]


async def ask(client: AsyncClient, prompt: PromptLike, model: str, options: SamplingOptions) -> TimedAnswer:
    """One streamed request, timed; a typed error becomes part of the answer."""
    begin = time.monotonic()
    text, arrivals, num_tokens = "", [], 0
    answerer: common_pb2.Answerer | None = None
    error: GraftClientError | None = None
    try:
        async for chunk in client.stream(prompt, model=model, **options):
            answerer = chunk.answerer
            text += chunk.text
            if chunk.token_ids:
                arrivals.append(time.monotonic())
                num_tokens += len(chunk.token_ids)
    except GraftClientError as failure:
        error = failure
    return TimedAnswer(
        text=text,
        begin=begin,
        end=time.monotonic(),
        arrivals=tuple(arrivals),
        num_tokens=num_tokens,
        answerer=answerer,
        error=error,
    )


def largest_gap(answers: Iterable[TimedAnswer], *, begin: float, end: float) -> float | None:
    """The longest wait, in seconds, among those that overlap the window; None where there is none."""
    gaps = [gap.seconds for answer in answers for gap in answer.gaps if gap.end > begin and gap.begin < end]
    return max(gaps, default=None)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * percent // 100))
    return ordered[int(rank) - 1]


def milliseconds(seconds: float | None) -> str:
    """For reading."""
    return "–" if seconds is None else f"{seconds * 1000:.0f} ms"
