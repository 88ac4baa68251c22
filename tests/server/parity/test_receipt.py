"""The comparison behind a receipt, and which of the recorded tokens are compared: pure."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.adapters.folder.reference import Reference, ReferenceRow
from graft.adapters.form import ServingForm
from graft.server.parity.probes import choose_probes
from graft.server.parity.receipt import Circumstances, Deltas, Receipt, Source, compare

LOGPROB = st.floats(-50, 0)
ROWS = st.lists(st.lists(st.tuples(LOGPROB, LOGPROB, LOGPROB), min_size=1, max_size=8), min_size=1, max_size=4)
ROW = st.integers(2, 60).flatmap(lambda length: st.tuples(st.just(length), st.integers(1, length - 1)))


def column(rows: list[list[tuple[float, float, float]]], index: int) -> list[list[float]]:
    return [[token[index] for token in row] for row in rows]


@given(ROWS)
def test_the_deltas_are_those_that_numpy_finds(rows: list[list[tuple[float, float, float]]]) -> None:
    deltas = compare(reference=column(rows, 0), served=column(rows, 1), base=column(rows, 2))
    reference, served, base = (np.concatenate([np.array(row) for row in column(rows, index)]) for index in range(3))
    assert deltas.num_tokens == served.size
    assert deltas.mean_abs_delta == pytest.approx(np.abs(served - reference).mean(), abs=1e-12)
    assert deltas.max_abs_delta == np.abs(served - reference).max()
    assert deltas.base_mean_abs_delta == pytest.approx(np.abs(served - base).mean(), abs=1e-12)
    assert deltas.mean_abs_delta <= deltas.max_abs_delta + 1e-12
    first = compare(reference=column(rows, 0), served=column(rows, 1), base=column(rows, 2)[:1])
    assert first.mean_abs_delta == deltas.mean_abs_delta
    assert first.base_mean_abs_delta == pytest.approx(np.abs(served - base)[: len(rows[0])].mean(), abs=1e-12)


@given(ROWS)
def test_equal_numbers_differ_by_nothing(rows: list[list[tuple[float, float, float]]]) -> None:
    same = column(rows, 0)
    deltas = compare(reference=same, served=same, base=same)
    assert (deltas.mean_abs_delta, deltas.max_abs_delta, deltas.base_mean_abs_delta) == (0, 0, 0)


@pytest.mark.parametrize("broken", [math.nan, -math.inf, math.inf])
def test_what_is_no_number_counts_as_far_away_and_still_fits_into_json(broken: float) -> None:
    deltas = compare(reference=[[-1.0, -1.0]], served=[[-1.0, broken]], base=[[-1.0, -2.0]])
    receipt = receipt_of(deltas)
    assert receipt.has_drifted and not receipt.is_noop
    assert Receipt.from_body(json.loads(json.dumps(receipt.body(), allow_nan=False))) == receipt


def test_other_shapes_and_no_tokens_are_a_mistake() -> None:
    with pytest.raises(ValueError):
        compare(reference=[[-1.0]], served=[[-1.0, -1.0]], base=[[-1.0, -1.0]])
    with pytest.raises(ValueError):
        compare(reference=[[-1.0]], served=[[-1.0], [-1.0]], base=[[-1.0], [-1.0]])
    with pytest.raises(ValueError):
        compare(reference=[[-1.0]], served=[[-1.0]], base=[[-1.0], [-1.0]])
    with pytest.raises(ValueError, match="no token"):
        compare(reference=[[-1.0]], served=[[-1.0]], base=[])
    with pytest.raises(ValueError, match="no token"):
        compare(reference=[], served=[], base=[])


def receipt_of(deltas: Deltas | None, *, reference_form: ServingForm | None = ServingForm.NF4) -> Receipt:
    return Receipt(
        source=Source.TRAINER if deltas else Source.NONE,
        circumstances=Circumstances(form=ServingForm.NF4, engine="vllm 1", kernel="k"),
        reference_form=reference_form,
        deltas=deltas,
        checked_at=datetime.now(UTC),
    )


def shift(to_reference: float, to_base: float) -> Deltas:
    return compare(reference=[[-1.0]], served=[[-1.0 - to_reference]], base=[[-1.0 - to_reference - to_base]])


def test_drift_counts_in_the_same_form_only_and_a_no_op_in_every_form() -> None:
    assert not receipt_of(shift(0.0499, 1)).has_drifted
    assert receipt_of(shift(0.0501, 1)).has_drifted
    assert not receipt_of(shift(9.0, 1), reference_form=ServingForm.BF16).has_drifted
    assert receipt_of(shift(0, 0)).is_noop
    assert receipt_of(shift(0, 0), reference_form=ServingForm.BF16).is_noop
    assert not receipt_of(shift(0, 1e-4)).is_noop
    nothing = receipt_of(None, reference_form=None)
    assert not nothing.has_drifted and not nothing.is_noop
    assert Receipt.from_body(json.loads(json.dumps(nothing.body()))) == nothing


@pytest.mark.parametrize("body", [{}, {"source": "trainer"}, {**receipt_of(shift(0, 1)).body(), "form": "nf5"}])
def test_what_is_no_receipt_is_none(body: dict[str, object]) -> None:
    assert Receipt.from_body(body) is None


def reference_of(rows: list[tuple[int, int]]) -> Reference:
    return Reference(
        form=ServingForm.NF4,
        rows=tuple(
            ReferenceRow(
                token_ids=tuple(range(length)),
                num_prompt_tokens=start,
                logprobs=tuple(-float(index) for index in range(start, length)),
            )
            for length, start in rows
        ),
    )


@given(st.lists(ROW, min_size=1, max_size=10), st.integers(4, 80), st.integers(16, 100))
def test_probes_are_few_and_true_to_the_record(rows: list[tuple[int, int]], max_tokens: int, room: int) -> None:
    probes = choose_probes(reference_of(rows), max_tokens=max_tokens, max_model_tokens=room)
    shortest = min(start for _, start in rows)
    assert bool(probes) == (shortest < room - 1)
    for probe in probes:
        assert 2 <= len(probe.token_ids) < room
        start = probe.num_prompt_tokens
        assert probe.logprobs == tuple(-float(index) for index in range(start, len(probe.token_ids)))
        assert probe.logprobs
    num_tokens = sum(len(probe.token_ids) for probe in probes)
    if probes:
        assert num_tokens <= max(max_tokens, probes[0].num_prompt_tokens + 8)
    # A verdict does not hang on a token or two where the record has more.
    most = max(min(8, length - start, room - 1 - start) for length, start in rows)
    assert sum(len(probe.logprobs) for probe in probes) >= max(0, most)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([(50, 40), (30, 1), (16, 1)], [30]),  # one step of the engine
        ([(50, 20), (90, 18)], [32]),  # the shorter prompt leaves more to score
        ([(8, 1), (9, 1), (7, 2), (9, 4)], [9, 8, 7]),  # short ones together
        ([(50, 40), (90, 36)], [44]),  # a prompt beyond the budget
    ],
)
def test_one_row_is_probed_where_one_has_enough(rows: list[tuple[int, int]], expected: list[int]) -> None:
    probes = choose_probes(reference_of(rows), max_tokens=32, max_model_tokens=100)
    assert [len(probe.token_ids) for probe in probes] == expected
