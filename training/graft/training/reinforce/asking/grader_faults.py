"""Answers on which a grader failed: counted by kind, told, and how many of them end a training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from graft.training.errors import TrainingError

DEFAULT_MAX_SHARE = 0.5
"""Where the setting is ``auto``: a grader that fails on most answers teaches what the others happen to be."""
MAX_SHARE_SETTING = "max_grader_error_share"
_MAX_DETAILS = 300


class GradersFailed(TrainingError, RuntimeError):
    """Graders failed on a larger share of a round's answers than the training's settings allow."""

    exit_code = 1


@dataclass(frozen=True, kw_only=True)
class GraderFault:
    """Why an answer has no reward. ``kind`` in OpenAI's words: ``python_grader_runtime``, ``sample_parse``, …."""

    kind: str
    details: str


@dataclass(frozen=True, kw_only=True)
class GraderFaults:
    """Of answers that were graded together: their number, and the faults of those that have no reward."""

    num_answers: int
    faults: Sequence[GraderFault] = ()
    """One for each answer without a reward."""

    @property
    def share(self) -> float:
        """Of the answers, from 0 to 1."""
        return len(self.faults) / max(1, self.num_answers)

    @property
    def by_kind(self) -> dict[str, int]:
        """Answers by kind, the most frequent first."""
        return dict(Counter(one.kind for one in self.faults).most_common())

    @property
    def metrics(self) -> dict[str, float]:
        """Answers by kind, as figures of a round."""
        return {f"grader_errors/{kind}": float(num) for kind, num in self.by_kind.items()}

    def __str__(self) -> str:
        """In one line, with the first fault's words."""
        kinds = ", ".join(f"{kind} {num}" for kind, num in self.by_kind.items())
        said = f"graders failed on {len(self.faults)} of {self.num_answers} answers ({self.share:.0%}): {kinds}"
        first = " ".join(self.faults[0].details.split()) if self.faults else ""
        return f"{said}; the first: {_shortened(first)}" if first else said


@dataclass(frozen=True, kw_only=True)
class FaultTally:
    """What a training has seen of its graders' faults so far. A round with faults is told when it is the first, and
    whenever there are twice as many as when it was last told: a training of a thousand rounds is told of ten times.
    """

    num_answers: int = 0
    by_kind: Mapping[str, int] = field(default_factory=dict)
    num_told: int = 0

    @property
    def num_faults(self) -> int:
        return sum(self.by_kind.values())

    def after(self, found: GraderFaults) -> tuple[FaultTally, str | None]:
        """The tally with a round more, and what is to be told of it."""
        by_kind = dict(Counter(self.by_kind) + Counter(found.by_kind))
        now = FaultTally(num_answers=self.num_answers + found.num_answers, by_kind=by_kind, num_told=self.num_told)
        if not found.faults or now.num_faults < 2 * self.num_told:
            return now, None
        so_far = f"; so far {now.num_faults} of {now.num_answers}" if now.num_faults > len(found.faults) else ""
        told = f"{found}{so_far}; such answers are not learned from"
        return FaultTally(num_answers=now.num_answers, by_kind=by_kind, num_told=now.num_faults), told


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """``max_share`` of a round's answers may be without a reward: 0 ends a training at the first, 1 never ends it."""

    max_share: float = DEFAULT_MAX_SHARE

    def __post_init__(self) -> None:
        if not 0 <= self.max_share <= 1:
            raise ValueError(f"a share of answers is from 0 to 1, not {self.max_share:g}")

    @classmethod
    def of(cls, setting: float | str) -> Tolerance:
        """Of the hyperparameter ``max_grader_error_share``: a number or ``auto``."""
        return cls() if isinstance(setting, str) else cls(max_share=float(setting))

    def check(self, found: GraderFaults) -> None:
        """Raises ``GradersFailed``."""
        if found.share > self.max_share:
            raise GradersFailed(
                f"{found}. The limit is {self.max_share:.0%} ({MAX_SHARE_SETTING}): mend the grader, or raise the "
                "limit to learn from the answers that are left"
            )


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_DETAILS else f"{text[:_MAX_DETAILS]}…"
