"""What an epoch reads of weighted files, and how micro-batches are filled up to a number of tokens."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.training.batch.data import Share
from graft.training.batch.mixture import Mixture
from graft.training.batch.packing import Encoded, best_fit
from graft.training.batch.supervised_rows import SupervisedRows


def mixture(sizes: tuple[int, ...], weights: tuple[float | None, ...], seed: int = 0) -> Mixture:
    return Mixture(sizes=sizes, weights=weights, seed=seed)


def by_file(mixed: Mixture, epoch: int) -> list[Counter[int]]:
    order = mixed.order(epoch)
    found, first = [], 0
    for size in mixed.sizes:
        found.append(Counter(row - first for row in order if first <= row < first + size))
        first += size
    return found


@pytest.mark.parametrize(
    ("sizes", "weights", "counts"),
    [
        ((70, 1000), (None, 0.3), (70, 30)),  # most of the second is left out
        ((70, 10), (None, 0.3), (70, 30)),  # each of the second's is read three times
        ((40, 20, 10), (None, None, 0.4), (40, 20, 40)),
        ((100, 100), (0.9, 0.1), (180, 20)),
        ((100, 100), (9.0, 1.0), (180, 20)),  # in proportion
        ((30, 50), (None, None), (30, 50)),
    ],
)
def test_a_weight_is_a_share_of_each_epochs_rows(
    sizes: tuple[int, ...], weights: tuple[float | None, ...], counts: tuple[int, ...]
) -> None:
    mixed = mixture(sizes, weights)
    assert mixed.counts == counts and len(mixed.order(0)) == mixed.num_rows == sum(counts)
    for epoch in range(3):
        found = by_file(mixed, epoch)
        assert tuple(map(Counter.total, found)) == counts
        assert (
            mixed.order(epoch) == mixture(sizes, weights).order(epoch) != mixture(sizes, weights, seed=1).order(epoch)
        )
        for read, size, weight in zip(found, sizes, weights, strict=True):
            if weight is None:
                assert set(read.values()) == {1} and len(read) == size


def test_in_the_long_run_every_row_of_a_file_is_read_as_often() -> None:
    mixed = mixture((70, 100, 7), (None, 0.2, 0.1))
    read = sum((by_file(mixed, epoch)[1] for epoch in range(5)), Counter())
    assert mixed.counts[1] == 20 and read == Counter(range(100))
    often = sum((by_file(mixed, epoch)[2] for epoch in range(3)), Counter())
    assert max(often.values()) - min(often.values()) <= 1


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60))
def test_best_fit_keeps_all_and_needs_few_rows(sizes: list[int]) -> None:
    """Best-fit decreasing needs at most 11/9 of the least and two thirds more (Dósa 2007, of first-fit decreasing)."""
    rows = best_fit(sizes, length=40)
    assert sorted(number for row in rows for number in row) == list(range(len(sizes)))
    assert all(sum(sizes[number] for number in row) <= 40 for row in rows)
    assert len(rows) <= Fraction(11, 9) * max(1, -(-sum(sizes) // 20)) + 1


def data(lengths: list[int], **options: object) -> SupervisedRows:
    rows = [Encoded(input_ids=[number + 1] * size, supervised=[True] * size) for number, size in enumerate(lengths)]
    given = {"rows_per_batch": 4, "batches_per_step": 2, "packing": True, "pad_id": 0, "seed": 0, **options}
    return SupervisedRows(rows=rows, **given)  # type: ignore[arg-type]


LENGTHS = [5 + 7 * number % 60 for number in range(100)]


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("mixed", [None, mixture((50, 50), (None, 0.2))])
def test_a_budget_is_kept_and_every_row_read_once(packing: bool, mixed: Mixture | None) -> None:
    made = data(LENGTHS, packing=packing, max_tokens=256, line_tokens=64, mixture=mixed)
    again = data(LENGTHS, packing=packing, max_tokens=256, line_tokens=64, mixture=mixed)
    begin = 0
    for epoch in range(3):
        end = made.num_steps(epoch + 1)
        read: Counter[int] = Counter()
        for step in range(begin, end):
            whole = again.batches(step)  # a function of the step alone
            halves = [made.batches(step, Share(index=index, num=2)) for index in range(2)]
            for number, batch in enumerate(whole):
                assert batch.input_ids_BL.numel() <= 256
                assert batch.input_ids_BL.equal(halves[number % 2][number // 2].input_ids_BL)
                for ids, documents in zip(batch.input_ids_BL, batch.document_BL, strict=True):
                    found = {(int(id), int(document)) for id, document in zip(ids, documents, strict=True) if document}
                    read.update(id - 1 for id, _ in found)
            assert 1 <= len(whole) <= 2
        begin = end
        expected = Counter(range(100)) if mixed is None else Counter(mixed.order(epoch))
        assert read == expected
    if packing and mixed is None:
        shapes = {batch.input_ids_BL.shape for step in range(made.steps_per_epoch - 1) for batch in made.batches(step)}
        assert shapes == {(4, 64)}
        num_lines = sum(len(batch.input_ids_BL) for step in range(made.steps_per_epoch) for batch in made.batches(step))
        assert sum(LENGTHS) / (num_lines * 64) > 0.95


def test_half_an_epoch_is_half_of_its_steps() -> None:
    made = data(LENGTHS, max_tokens=256, line_tokens=64)
    assert made.num_steps(0.5) == -(-made.steps_per_epoch // 2)
    assert made.num_steps(2.0) == 2 * made.steps_per_epoch
