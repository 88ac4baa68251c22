"""What counting words gives on reviews: the baseline of what reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, embedding_bag

L2 = 1.0
"""scikit-learn's default, 1 / C."""


@dataclass(frozen=True, kw_only=True)
class Review:
    words: frozenset[str]
    label: int


def reviews(path: Path) -> list[Review]:
    """Of lines ``text<TAB>label``."""
    lines = [line.rpartition("\t") for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [Review(words=frozenset(text.split()), label=int(label)) for text, _, label in lines]


def by_words(learned: Sequence[Review], asked: Sequence[Review]) -> float:
    """The accuracy of a logistic regression on which words there are, with an L2 penalty."""
    known = {word: number for number, word in enumerate(sorted({word for one in learned for word in one.words}))}
    weights_W1, bias = torch.zeros(len(known), 1, requires_grad=True), torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights_W1, bias], max_iter=100, line_search_fn="strong_wolfe")
    labels_N = torch.tensor([float(one.label) for one in learned])

    def scores(words_T: Tensor, starts_N: Tensor) -> Tensor:
        return embedding_bag(words_T, weights_W1, starts_N, mode="sum")[:, 0] + bias

    learned_words = _numbers(learned, known)

    def loss() -> Tensor:
        optimizer.zero_grad()
        wrong = binary_cross_entropy_with_logits(scores(*learned_words), labels_N, reduction="sum")
        total: Tensor = wrong + L2 / 2 * weights_W1.square().sum()
        total.backward()
        return total

    optimizer.step(loss)  # type: ignore[arg-type]
    is_right = (scores(*_numbers(asked, known)) > 0) == torch.tensor([bool(one.label) for one in asked])
    return float(is_right.float().mean())


def _numbers(found: Sequence[Review], known: dict[str, int]) -> tuple[Tensor, Tensor]:
    """Of all words behind one another, and where each review begins."""
    rows = [[known[word] for word in one.words if word in known] for one in found]
    starts = torch.tensor([0, *map(len, rows)]).cumsum(0)[:-1]
    return torch.tensor([number for row in rows for number in row]), starts
