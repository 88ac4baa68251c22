"""What single values of a request may be, the same over gRPC and HTTP: one table, one wording."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from graft.server.api.limits import MAX_CHOICES, MAX_LOGPROBS, MAX_STOP_CHARACTERS, MAX_STOPS
from graft.server.runtime.violations import shown

_MAX_INT32 = 2**31 - 1
# What the contract's field holds; the context bounds it further.
_MAX_TOKENS = 2**32 - 1


@dataclass(frozen=True, kw_only=True)
class Range:
    """Numbers from `low` to `high`, both included unless `above` says that `low` itself is not."""

    low: float
    high: float
    above: bool = False
    integer: bool = True

    def problem(self, value: object) -> str | None:
        """What is wrong with a value, or None."""
        kind = "an integer" if self.integer else "a number"
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"is {shown(value)}; it must be {kind}"
        if self._takes(value):
            return None
        # As many digits as tell the value from one that is allowed.
        text = next((text for text in _written(value) if not self._takes(float(text))), shown(value))
        return f"is {text}; " + (f"it must be {kind}" if self.integer and not _integral(value) else self._allowed())

    def _takes(self, value: float) -> bool:
        # Not a number is nowhere.
        beyond = not (self.low < value if self.above else self.low <= value) or not value <= self.high
        return not beyond and (_integral(value) or not self.integer)

    def _allowed(self) -> str:
        if self.integer:
            return f"allowed are {int(self.low)} to {int(self.high)}"
        return f"it must lie in {'(' if self.above else '['}{self.low:g}, {self.high:g}]"


# OpenAI's ranges where the field is OpenAI's, the engine's otherwise.
RANGES: Mapping[str, Range] = {
    "temperature": Range(low=0.0, high=2.0, integer=False),
    "top_p": Range(low=0.0, high=1.0, integer=False),
    "min_p": Range(low=0.0, high=1.0, integer=False),
    "presence_penalty": Range(low=-2.0, high=2.0, integer=False),
    "frequency_penalty": Range(low=-2.0, high=2.0, integer=False),
    "repetition_penalty": Range(low=0.0, high=100.0, above=True, integer=False),
    "top_k": Range(low=-1, high=_MAX_INT32),
    "seed": Range(low=-(2**63), high=2**63 - 1),
    "max_tokens": Range(low=1, high=_MAX_TOKENS),
    "max_completion_tokens": Range(low=1, high=_MAX_TOKENS),
    "min_tokens": Range(low=0, high=_MAX_TOKENS),
    "n": Range(low=1, high=MAX_CHOICES),
    "logprobs": Range(low=0, high=MAX_LOGPROBS),
    "top_logprobs": Range(low=0, high=MAX_LOGPROBS),
}


def stops_problem(stops: object) -> Iterator[tuple[str, str]]:
    """What is wrong with a list of stop strings: where in it (`[3]`, or nothing for the whole), and what."""
    if not isinstance(stops, Sequence) or isinstance(stops, str | bytes):
        yield "", f"is {shown(stops)}; it must be text, or a list of texts"
        return
    if len(stops) > MAX_STOPS:
        yield "", f"has {len(stops)} strings; the limit is {MAX_STOPS}"
        return
    for index, stop in enumerate(stops):
        if not isinstance(stop, str):
            yield f"[{index}]", f"is {shown(stop)}; it must be text"
        elif not 1 <= len(stop) <= MAX_STOP_CHARACTERS:
            yield f"[{index}]", f"has {len(stop)} characters; allowed are 1 to {MAX_STOP_CHARACTERS}"


def _written(value: float) -> Iterator[str]:
    if isinstance(value, float):
        yield from (f"{value:.{digits}g}" for digits in (6, 9, 17))


def _integral(value: float) -> bool:
    return isinstance(value, int) or value.is_integer()
