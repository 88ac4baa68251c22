"""Accuracy on a tab-separated file ``text<TAB>label``, by which label word the model finds likeliest."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from graft.training.corpus import sst2
from graft.training.errors import DataError
from graft.training.evaluation.answerer import Answerer


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """How many examples of each class were labelled right."""

    model: str
    num_right: int
    num_examples: int
    predicted: dict[str, int]
    """How often each label was chosen."""

    @property
    def percent(self) -> float:
        return 100 * self.num_right / self.num_examples


def read_examples(path: Path, limit: int | None = None) -> list[sst2.Example]:
    """The file's examples, at most ``limit``.

    Raises:
        DataError: there are none, or a line has no valid label.
    """
    found = sst2.read(path)[:limit]
    if not found:
        raise DataError(f"{path} has no examples; each line must be text<TAB>label.")
    return found


def evaluate(answerer: Answerer, examples: Sequence[sst2.Example], *, model: str) -> Accuracy:
    """Asks in the chat form that adapters are trained on; the choice with the larger log-probability is the answer."""
    prompts = [sst2.question(example.text) for example in examples]
    labels = list(sst2.LABELS.values())
    chosen = [labels[max(range(len(labels)), key=scores.__getitem__)] for scores in answerer.score(prompts, labels)]
    right = sum(choice == example.label for choice, example in zip(chosen, examples, strict=True))
    counts = {label: chosen.count(label) for label in labels}
    return Accuracy(model=model, num_right=right, num_examples=len(examples), predicted=counts)
