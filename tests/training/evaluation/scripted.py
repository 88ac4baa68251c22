"""A model that says what a function says, and scores continuations by another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from graft.training.evaluation.asking.model import Asked, Decoding, Scored

Say = Callable[[str, int], str]
"""Of a prompt's text and the path's number."""


@dataclass
class ScriptedModel:
    """Keeps what it was asked."""

    say_: Say = lambda prompt, path: ""
    score_: Callable[[str, str], float] = lambda prompt, continuation: -float(len(continuation))
    name: str = "scripted"
    asked: list[str] = field(default_factory=list)

    def say(self, asked: Asked, decoding: Decoding) -> tuple[str, ...]:
        self.asked.append(text_of(asked))
        said = [self.say_(text_of(asked), path) for path in range(decoding.num_paths)]
        return tuple(_until(one, decoding.stop) for one in said)

    def score(self, asked: Asked, continuations: Sequence[str]) -> tuple[Scored, ...]:
        self.asked.append(text_of(asked))
        scores = [self.score_(text_of(asked), one) for one in continuations]
        return tuple(Scored(logprob=score, is_greedy=score == max(scores)) for score in scores)


def text_of(asked: Asked) -> str:
    if isinstance(asked.prompt, str):
        return asked.prompt
    return "\n".join(f"{turn.role}: {turn.content}" for turn in asked.prompt)


def _until(said: str, stops: Sequence[str]) -> str:
    for stop in stops:
        said = said.split(stop)[0]
    return said
