"""What is told of each step of a training."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from graft.training.loop.optim import Schedule
from graft.training.worker.hearing import Hearing
from graft.training.worker.methods.reinforcement import _teller


class Told:
    """Keeps what is told."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def metrics(self, step: int, values: dict[str, float], *, message: str) -> None:
        self.rows.append({"step": step, **values})

    def progress(self, step: int, **said: Any) -> None:
        pass


def heard(told: Told, folder: Path) -> Hearing:
    return Hearing(
        tell=cast(Any, told),
        folder=folder,
        versions=folder / "versions",
        hold=folder / "hold",
        record=cast(Any, None),
        told_checkpoint=0,
        told_step=0,
    )


SCHEDULE = Schedule(num_steps=4, warmup_steps=2, shape="linear", floor=0.0)


@pytest.mark.parametrize("of_rounds", [False, True])
def test_each_step_or_round_is_told_with_the_rate_that_it_was_taken_at(tmp_path: Path, of_rounds: bool) -> None:
    told = Told()
    run: Any = SimpleNamespace(schedule=SCHEDULE, learning_rate=0.2)
    if of_rounds:
        run.save_rounds = 10
        teller = _teller(heard(told, tmp_path), run, 0)
    else:
        run.checkpoint_steps, run.step = None, SimpleNamespace(number=0)
        teller = heard(told, tmp_path)(run)
    for step in range(4):
        teller.report(step, {"loss": 1.0, "tokens": 8})
    rates = [row["learning_rate"] for row in told.rows]
    assert [round(rate, 6) for rate in rates] == [0.1, 0.2, 0.2, 0.1], "two steps up to the peak, then down to 0 at 4"
    assert [row["step"] for row in told.rows] == [1, 2, 3, 4]


def test_figures_of_learning_have_openais_names_or_their_own(tmp_path: Path) -> None:
    told = Told()
    run: Any = SimpleNamespace(
        schedule=SCHEDULE, learning_rate=0.2, checkpoint_steps=None, step=SimpleNamespace(number=0)
    )
    of_pairs = {"rewards/accuracies": 0.5, "rewards/margins": -1.0}
    of_rounds = {"logprob_mismatch": 0.01, "kl": 0.1}
    speed = {"seconds": 0.1, "memory": 1e9, "tokens": 8}
    heard(told, tmp_path)(run).report(0, {"loss": 1.0, "reward": 0.2, **of_pairs, **of_rounds, **speed})
    (row,) = told.rows
    assert row.keys() - {"step", "learning_rate", "total_steps"} == {
        "train_loss",
        "train_mean_reward",
        *of_pairs,
        *of_rounds,
    }
