"""Adapters that learn on one base."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from graft.adapters.base.base import Base
from graft.adapters.form import ServingForm
from graft.training.objective.tokens.batch import Datum
from graft.training.objective.tokens.losses import TOKEN_LOSSES
from graft.training.service.learning import state
from graft.training.service.learning.held_base import HeldBase
from graft.training.service.learning.shape import Shape
from graft.training.service.learning.trainee import Adam, Lesson, Trainee
from graft.training.service.refusal import Refusal

ADAM = Adam(learning_rate=0.01, beta1=0.8, beta2=0.9, eps=1e-6, weight_decay=0.1, max_gradient_norm=1.0)


@pytest.fixture(scope="module")
def held(tiny_base: Path) -> HeldBase:
    return HeldBase.load(Base.from_folder(tiny_base), ServingForm.NF4, max_rank=16)


def lesson(seed: int, num: int = 6) -> Lesson:
    random = np.random.default_rng(seed)
    data = []
    for length in random.integers(2, 30, num):
        ids = random.integers(0, 256, length + 1).tolist()
        data.append(Datum(input_ids=ids[:-1], target_ids=ids[1:], given={"weights": [1.0] * int(length)}))
    return Lesson(data=data, loss=TOKEN_LOSSES["cross_entropy"])


def masters(trainee: Trainee) -> dict[str, Tensor]:
    return {name: one.detach().clone() for name, one in trainee.step.state.masters.items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def taught(trainee: Trainee, *seeds: int) -> Trainee:
    for seed in seeds:
        trainee.learn(lesson(seed))
        trainee.move(ADAM)
    return trainee


def test_two_that_take_turns_learn_what_each_would_alone(held: HeldBase) -> None:
    shapes = Shape(rank=4, seed=1), Shape(rank=8, seed=2, feedforward=False)
    alone = [masters(taught(Trainee(held, shape), *range(3))) for shape in shapes]
    together = [Trainee(held, shape) for shape in shapes]
    for seed in range(3):
        for one in together:
            taught(one, seed)
    assert all(same(one, masters(other)) for one, other in zip(alone, together, strict=True))


def test_who_goes_on_from_a_state_learns_what_it_would_have(held: HeldBase, tmp_path: Path) -> None:
    first = taught(Trainee(held, Shape(rank=4)), 0, 1)
    state.save(first, tmp_path / "state")
    first.learn(lesson(7))
    taught(first, 2)
    resumed = Trainee(held, state.shape_of(tmp_path / "state", held))
    state.load(resumed, tmp_path / "state", with_optimizer=True)
    resumed.learn(lesson(7))
    assert same(masters(taught(resumed, 2)), masters(first))
    without = Trainee(held, Shape(rank=4, seed=9))
    state.load(without, tmp_path / "state", with_optimizer=False)
    without.learn(lesson(7))
    assert not same(masters(taught(without, 2)), masters(first))


def test_lessons_add_up_until_a_step_is_taken(held: HeldBase) -> None:
    whole, parts = Trainee(held, Shape(rank=4)), Trainee(held, Shape(rank=4))
    all_of_it = lesson(0)
    found = whole.learn(all_of_it)
    pieces = [parts.learn(Lesson(data=all_of_it.data[own], loss=all_of_it.loss)) for own in (slice(0, 2), slice(2, 6))]
    assert sum(one.loss for one in pieces) == pytest.approx(found.loss, rel=1e-5)
    # bfloat16 rounds sums of other shapes in other ways.
    assert parts.move(ADAM).gradient_norm == pytest.approx(whole.move(ADAM).gradient_norm, rel=1e-2)


def test_a_step_is_that_of_adamw(held: HeldBase) -> None:
    trainee = Trainee(held, Shape(rank=4))
    own = {name: one.detach().clone().requires_grad_() for name, one in trainee.step.state.masters.items()}
    oracle = torch.optim.AdamW(own.values(), lr=0.01, betas=(0.8, 0.9), eps=1e-6, weight_decay=0.1)
    for seed in range(3):
        trainee.learn(lesson(seed))
        for name, master in trainee.step.state.masters.items():
            assert master.grad is not None
            own[name].grad = master.grad.clone()
        torch.nn.utils.clip_grad_norm_(own.values(), 1.0)
        oracle.step()
        trainee.move(ADAM)
        for name, master in trainee.step.state.masters.items():
            torch.testing.assert_close(master.detach(), own[name].detach(), atol=1e-6, rtol=1e-5)


def test_who_is_only_asked_learns_nothing(held: HeldBase) -> None:
    trainee = Trainee(held, Shape(rank=4))
    found = trainee.learn(lesson(0), forward_only=True)
    assert found.loss == pytest.approx(-sum(float(one.sum()) for one in found.logprobs), rel=1e-5)
    assert trainee.move(ADAM).gradient_norm == 0.0
    learned = trainee.learn(lesson(0))
    for one, other in zip(found.logprobs, learned.logprobs, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_gradients_that_are_no_numbers_move_nothing(held: HeldBase) -> None:
    trainee = taught(Trainee(held, Shape(rank=4)), 0)
    before = masters(trainee)
    wild = [Datum(input_ids=[1, 2], target_ids=[2, 3], given={"weights": [3e38, 3e38]})]
    trainee.learn(Lesson(data=wild, loss=TOKEN_LOSSES["cross_entropy"]))
    with pytest.raises(Refusal, match="weights stayed"):
        trainee.move(ADAM)
    assert same(before, masters(trainee))


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        (Shape(rank=17), "from 1 to 16"),
        (Shape(rank=0), "from 1 to 16"),
        (Shape(rank=1, attention=False, feedforward=False), "no layer learns"),
    ],
)
def test_what_no_adapter_can_be_is_refused(held: HeldBase, shape: Shape, told: str) -> None:
    with pytest.raises(Refusal, match=told):
        Trainee(held, shape)


def test_a_state_of_another_shape_is_refused(held: HeldBase, tmp_path: Path) -> None:
    state.save(Trainee(held, Shape(rank=4)), tmp_path / "state")
    other = Trainee(held, Shape(rank=8))
    before = masters(other)
    with pytest.raises(Refusal, match="rank 4, and this one has rank 8"):
        state.load(other, tmp_path / "state", with_optimizer=True)
    assert same(before, masters(other))
    with pytest.raises(Refusal, match="no such state"):
        state.shape_of(tmp_path / "none", held)
