"""Lessons laid into micro-batches: each value stands at its token, whatever the lines."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graft.training.batch.packing import IGNORED
from graft.training.objective.reinforce.batch import RolloutBatch
from graft.training.reinforce.advantages import centred, leave_one_out
from graft.training.reinforce.batches import Laying
from graft.training.reinforce.lesson import Lesson, of_groups, penalised
from graft.training.reinforce.rollout import Rollout
from tests.training.reinforce.made import group, recalled, rollout


def drawn(seed: int, num: int) -> list[Lesson]:
    """Of which a token's id tells every value that belongs to it."""
    rng = Random(seed)
    made = []
    for first in range(num):
        ids = [100 * (first + 1) + number for number in range(rng.randint(1, 40))]
        one = Rollout(
            prompt_ids=[1] * rng.randint(1, 30),
            answer_ids=ids,
            logprobs=[-0.001 * each for each in ids],
            step=first % 2,
            version="",
            is_whole=True,
        )
        made.append(Lesson(rollout=one, advantages=[2.0 * each for each in ids], recalled=recalled(one)))
    return made


def asked(batch: RolloutBatch) -> torch.Tensor:
    labels = batch.answers.packed.labels_BL.flatten()
    return labels[labels != IGNORED].float()


@given(st.integers(0, 1000), st.integers(1, 9), st.sampled_from([32, 64, 200]), st.booleans())
def test_every_value_stands_at_its_token(seed: int, num: int, tokens: int, packing: bool) -> None:
    lessons = drawn(seed, num)
    batches = Laying(pad_id=0, tokens=tokens, packing=packing).batches(lessons, step=1)
    seen: list[float] = []
    for batch in batches:
        ids = asked(batch)
        seen += ids.tolist()
        assert batch.old_N is not None and batch.reference_N is not None
        torch.testing.assert_close(batch.sampled_N, -0.001 * ids)
        torch.testing.assert_close(batch.advantage_N, 2 * ids)
        torch.testing.assert_close(batch.reference_N, batch.old_N - 0.2)
        assert torch.equal(batch.is_fresh_N, (ids // 100 - 1) % 2 == 1)
        assert batch.value_N is None and batch.return_N is None
        lines = batch.answers.packed.input_ids_BL
        assert lines.numel() <= tokens or len(lines) == 1
    assert sorted(seen) == sorted(float(token) for one in lessons for token in one.rollout.answer_ids)


def test_what_is_laid_comes_apart_again() -> None:
    lessons = drawn(3, 6)
    answers = Laying(pad_id=0, tokens=64).answers([one.rollout for one in lessons])
    values = [[float(each) for each in one.rollout.answer_ids] for one in lessons]
    assert answers.apart(answers.laid(values)) == values
    spread = answers.spread(torch.arange(6.0))
    assert answers.apart(spread) == [[float(number)] * len(one) for number, one in enumerate(values)]
    with pytest.raises(ValueError, match="values are given for answers of"):
        answers.laid([*values[:5], [0.0] * 99])


def test_steps_share_the_answers_out() -> None:
    lessons = drawn(5, 7)
    laying = Laying(pad_id=0, tokens=64)
    steps = laying.steps(lessons, num=3, seed="0/1", step=1)
    assert [sum(batch.answers.num for batch in step) for step in steps] == [3, 2, 2]
    assert sorted(float(each) for step in steps for batch in step for each in asked(batch)) == sorted(
        float(each) for one in lessons for each in one.rollout.answer_ids
    )
    again, other = (laying.steps(lessons, num=3, seed=seed, step=1) for seed in ("0/1", "0/2"))
    assert torch.equal(asked(again[0][0]), asked(steps[0][0]))
    assert not torch.equal(asked(other[0][0]), asked(steps[0][0]))
    assert len(laying.steps(lessons[:2], num=3, seed="0", step=1)) == 2


def test_a_batch_of_which_only_some_was_recalled_is_refused() -> None:
    lessons = drawn(1, 3)
    with pytest.raises(ValueError, match="2 of 3 answers were recalled"):
        Laying(pad_id=0, tokens=500).batches([replace(lessons[0], recalled=None), *lessons[1:]], step=0)


def test_every_token_has_its_answers_advantage() -> None:
    made = of_groups([group([0.0, 1.0, 0.5])], centred)
    assert [one.advantages for one in made] == [[-0.5], [0.5, 0.5], [0.0, 0.0, 0.0]]


def test_what_was_cut_off_counts_in_the_baseline_alone() -> None:
    rewarded = group([0.0, 1.0])
    cut = replace(rewarded, rollouts=[replace(rewarded.rollouts[0], is_whole=False), rewarded.rollouts[1]])
    (made,) = of_groups([cut], leave_one_out, drops_cut=True)
    assert made.advantages == [1.0, 1.0]


def test_a_reward_less_its_answers_divergence() -> None:
    """By the lines of TRL's RLOO: k1 summed over an answer's tokens."""
    rewarded = group([0.0, 1.0])
    known = replace(rewarded, recalled=[recalled(one) for one in rewarded.rollouts])
    (found,) = penalised([known], beta=0.5)
    assert found.scores == pytest.approx([0.0 - 0.5 * 0.2 * 1, 1.0 - 0.5 * 0.2 * 2])
    with pytest.raises(ValueError, match="nothing was recalled"):
        penalised([rewarded], beta=0.5)


def test_silent_batches_ask_nothing() -> None:
    (batch,) = Laying(pad_id=0, tokens=500).batches(drawn(2, 3), step=0)
    silent = batch.silent()
    assert silent.num_learned == silent.num_fresh == silent.answers.num == 0
    assert silent.num_tokens == batch.num_tokens and rollout().age(4) == 4
