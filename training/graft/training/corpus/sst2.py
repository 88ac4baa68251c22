"""The Stanford Sentiment Treebank (Socher et al. 2013) as it is commonly published: ``text<TAB>label``, 0 or 1."""

from dataclasses import dataclass
from pathlib import Path

from graft.adapters.text.file import read_lines
from graft.adapters.text.problems import BadLine, parsed
from graft.training.errors import of_data

LABELS = {"0": "negative", "1": "positive"}


@dataclass(frozen=True, kw_only=True)
class Example:
    """A sentence of a review and its label word."""

    text: str
    label: str


def read(path: Path) -> list[Example]:
    """Reads all examples.

    Raises:
        DataError: a line is not ``text<TAB>0`` or ``text<TAB>1``; names all such lines.
    """
    return of_data(lambda: [example for _, example in parsed(path, read_lines(path), _example)])


def question(text: str) -> list[dict[str, str]]:
    """What is asked about a sentence."""
    return [{"role": "user", "content": f"Is this review positive or negative? {text}"}]


def row(example: Example) -> dict[str, list[dict[str, str]]]:
    """The example as a training row."""
    return {"messages": [*question(example.text), {"role": "assistant", "content": example.label}]}


def _example(line: str) -> Example:
    text, tab, label = line.rpartition("\t")
    if not tab or not text.strip() or label.strip() not in LABELS:
        raise BadLine(f"{line[:60]!r} is not text<TAB>label with label 0 or 1.")
    return Example(text=text.strip(), label=LABELS[label.strip()])
