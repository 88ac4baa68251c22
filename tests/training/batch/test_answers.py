"""Answers that lie side by side, and the sums of each."""

from __future__ import annotations

from random import Random

import pytest
import torch

from graft.training.batch.answers import Answer, AnswerBatch
from graft.training.batch.packing import IGNORED


def drawn(num: int) -> list[Answer]:
    rng = Random(0)
    return [
        Answer.of([rng.randrange(50) for _ in range(rng.randint(0, 30))], [rng.randrange(50) for _ in range(length)])
        for length in (rng.randint(2, 40) for _ in range(num))
    ]


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("asks_prompts", [True, False])
def test_each_answer_has_the_sum_of_its_own_tokens(packing: bool, asks_prompts: bool) -> None:
    answers = drawn(9)
    asked = [one.whole() if asks_prompts and number % 2 else one for number, one in enumerate(answers)]
    batch = AnswerBatch.of(asked, packing=packing, pad_id=0)
    labels = batch.packed.labels_BL
    value_N = labels[labels != IGNORED].float()  # each token's own id stands for its log-probability
    own_S, all_S = batch.sums(value_N)
    for number, one in enumerate(answers):
        of_answer = sum(one.input_ids[max(1, one.num_prompt) :])
        of_prompt = sum(one.input_ids[1 : one.num_prompt]) if asks_prompts and number % 2 else 0
        assert (own_S[number], all_S[number]) == (of_answer, of_answer + of_prompt)
        assert batch.length_S[number] == len(one.input_ids) - max(1, one.num_prompt)
        assert batch.packed.input_ids_BL.flatten()[batch.end_S[number]] == one.input_ids[-1]


def test_answers_are_packed_without_a_line_for_each() -> None:
    batch = AnswerBatch.of(drawn(9), packing=True, pad_id=0)
    assert len(batch.packed.input_ids_BL) < 9 and batch.num == 9
    assert batch.num_tokens == sum(len(one.input_ids) for one in drawn(9))


def test_silence_has_no_answers() -> None:
    batch = AnswerBatch.of(drawn(3), packing=True, pad_id=0).silent()
    assert batch.num == 0 and batch.packed.num_labels == 0
    assert all(one.shape == (0,) for one in batch.sums(torch.zeros(0)))


def test_an_answer_goes_behind_another_prompt() -> None:
    one, other = Answer.of([1, 2], [3, 4]), Answer.of([7, 8, 9], [5])
    assert one.behind(other) == Answer.of([7, 8, 9], [3, 4])
