"""Metrics of events as curves, jobs side by side, and a frame that fits its terminal."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from graft.cli.commands import files, jobs
from graft.cli.fine_tuning.comparing import Compared, differing, labels, overlaid
from graft.cli.fine_tuning.curves import Curves, chosen, topics
from graft.cli.fine_tuning.frame import frame
from graft.cli.fine_tuning.plan import plan_text
from graft.cli.plots.chart import Style
from graft.v1 import job_pb2 as pb


def told(step: int, **values: float) -> pb.JobEvent:
    event = pb.JobEvent(number=step, is_metrics=True, message=f"Step {step}")
    event.data.update({"step": step, "total_steps": 9, **values})
    return event


def job(id: str = "ftjob-0123456789", **spec: Any) -> pb.Job:
    hyperparameters = spec.pop("hyperparameters", {})
    found = pb.Job(id=id, state=pb.JOB_STATE_RUNNING, spec=pb.JobSpec(method=pb.JOB_METHOD_DPO, **spec))
    found.spec.hyperparameters.update(hyperparameters)
    return found


def test_a_step_that_is_told_again_counts_once_and_as_told_last() -> None:
    curves = Curves([told(1, train_loss=3.0), told(2, train_loss=9.0), told(2, train_loss=2.0), pb.JobEvent()])
    assert curves.points("train_loss") == [(1.0, 3.0), (2.0, 2.0)]
    assert (curves.last("train_loss"), curves.last("reward"), curves.num_steps) == (2.0, None, 9.0)


def test_what_is_told_of_part_and_whole_is_drawn_once() -> None:
    curves = Curves([told(1, valid_loss=1.0, full_valid_loss=1.0, full_other=2.0)])
    assert curves.names == ["full_other", "valid_loss"]


def test_what_belongs_together_is_one_picture() -> None:
    names = ["learning_rate", "kl", "reward_mean", "train_loss", "valid_loss", "valid_reward", "odd"]
    assert list(topics(names)) == ["loss", "reward", "learning rate", "divergence", "odd"]
    assert list(chosen(names, [])) == ["loss", "reward", "learning rate"]
    assert chosen(names, ["valid"]) == {"loss": ["valid_loss"], "reward": ["valid_reward"]}
    assert chosen(["odd"], []) == {"odd": ["odd"]}


def test_only_settings_that_differ_are_shown_and_auto_as_what_it_became() -> None:
    one = job("ftjob-a", model="tiny", seed=1, suffix="x", hyperparameters={"n_epochs": "auto", "beta": 0.1})
    one.resolved_hyperparameters.update({"n_epochs": 3})
    two = job("ftjob-b", model="tiny", seed=2, suffix="x", hyperparameters={"n_epochs": 3, "beta": 0.2})
    compared = [Compared(job=job, curves=Curves([told(1, train_loss=1.0)])) for job in (one, two)]
    assert differing(compared) == {"seed": [1, 2], "beta": [0.1, 0.2]}
    assert labels(compared) == ["ftjob-a", "ftjob-b"], "one suffix tells nobody apart"
    assert set(overlaid(compared, [])["train_loss"]) == {"ftjob-a", "ftjob-b"}
    with pytest.raises(ValueError, match="there are train_loss"):
        overlaid(compared, ["reward"])


@pytest.mark.parametrize("size", [(80, 24), (40, 8), (20, 3), (300, 100)])
def test_a_frame_fits_its_terminal(size: tuple[int, int]) -> None:
    curves = Curves([told(step, train_loss=1.0 / step, reward=step, learning_rate=0.1) for step in range(1, 30)])
    messages = [pb.JobEvent(message="a long message \n" * 10) for _ in range(20)]
    style = Style(colours=False, unicode=True)
    lines = frame(job(), curves, messages, wanted=[], notice="no word " * 20, size=size, style=style)
    assert 0 < len(lines) < size[1] and all(len(line) <= size[0] for line in lines)
    if size[1] >= 24:
        assert "train_loss" in "".join(lines) and "reward" in "".join(lines)


def test_what_a_terminal_would_obey_is_shown() -> None:
    messages = [pb.JobEvent(message="\x1b[2Jgone")]
    lines = frame(
        job(), Curves(), messages, wanted=[], notice="", size=(80, 24), style=Style(colours=False, unicode=True)
    )
    assert "\x1b" not in "".join(lines) and "\\x1b[2Jgone" in lines[-1]


def test_a_plan_tells_its_cost_and_which_tokens_are_learned() -> None:
    plan = pb.JobPlan(num_rows=3, num_examples=3, num_tokens=1_000, num_learned_tokens=40, num_steps=2, num_cut=1)
    plan.trained_tokens, plan.notes[:] = 2_000, ["one row is long"]
    plan.duration.FromSeconds(600)
    example = plan.examples.add(row=2)
    example.pieces.extend([pb.PlannedPiece(text="a\x1b\n"), pb.PlannedPiece(text="b", is_learned=True)])
    text = plan_text(plan, Style(colours=False, unicode=True))
    for words in (
        "2 steps, 2,000 tokens, 10 min",
        "of which 40 are learned",
        "cut for their length: 1 examples",
        "note: one row is long",
    ):
        assert words in text
    assert text.endswith("line 2: a\\x1b\\n[b]")
    assert "\x1b[32mb\x1b[0m" in plan_text(plan, Style(colours=True, unicode=True))


@pytest.mark.parametrize(("command", "what"), [(jobs, "fine-tuning jobs"), (files, "files")])
def test_the_help_names_the_verbs(command: Any, what: str) -> None:
    parser = argparse.ArgumentParser()
    command.configure(parser)
    (verbs,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    assert command.HELP.removesuffix(f" {what}").replace(" and ", ", ").split(", ") == list(verbs.choices)
