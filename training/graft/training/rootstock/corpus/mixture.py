"""The mixture of document kinds a base learns from."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from random import Random

from graft.training.rootstock.corpus.arithmetic import direct_additions, worked_additions
from graft.training.rootstock.corpus.chat import chat
from graft.training.rootstock.corpus.dates import dates
from graft.training.rootstock.corpus.questions import questions
from graft.training.rootstock.corpus.rules import rules
from graft.training.rootstock.corpus.sentiment import sentiment
from graft.training.rootstock.corpus.stories import stories

Kind = Callable[[Random], str]


@dataclass(frozen=True, kw_only=True)
class Document:
    """A piece of text that is learned as a whole: nothing before it is seen, an end token follows it."""

    kind: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Document kinds and the share of documents each gets."""

    weights: dict[Kind, float]

    def documents(self, rng: Random) -> Iterator[Document]:
        """An endless stream. The generator alone decides it: the same state gives the same documents."""
        kinds, weights = list(self.weights), list(self.weights.values())
        while True:
            kind = rng.choices(kinds, weights)[0]
            yield Document(kind=kind.__name__, text=kind(rng))

    def texts(self, rng: Random) -> Iterator[str]:
        """The same without their kinds."""
        return (one.text for one in self.documents(rng))


ROOTSTOCK = Mixture(
    weights={
        rules: 0.46,
        worked_additions: 0.19,
        direct_additions: 0.035,
        dates: 0.05,
        sentiment: 0.07,
        stories: 0.025,
        questions: 0.04,
        chat: 0.13,
    }
)
"""Nearly two thirds of the tokens are rules and additions: with so few parameters, examples in the prompt and worked
steps need that many.
"""


def calibration_documents(num_documents: int = 2000) -> tuple[str, ...]:
    """What steers the rounding of the shipped bases: documents that no training and no held-out set draws."""
    return tuple(islice(ROOTSTOCK.texts(Random("calibration")), num_documents))


def held_out_documents(num_documents: int = 2000) -> tuple[str, ...]:
    """What a changed base is measured on: others than those that steer the change."""
    return tuple(islice(ROOTSTOCK.texts(Random("held out")), num_documents))
