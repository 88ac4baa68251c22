"""What may be asked of a job, as far as graders are concerned."""

from __future__ import annotations

import math
from typing import Any

import pytest

from graft.server.errors import BadInput
from graft.server.jobs.draft import read_spec
from graft.server.jobs.job import JobSpec, Method
from graft.server.releases.policy.canary import CanarySpec
from graft.server.releases.policy.gate import GateSpec, ValidationLoss
from graft.server.runtime.violations import Violations


def spec(value: Any) -> JobSpec:
    return read_spec(
        method=Method.REINFORCEMENT,
        model="base",
        training_file="file-1",
        validation_file=None,
        hyperparameters={"max_grader_error_share": value},
        grader={"type": "string_check"},
        seed=0,
        suffix=None,
        metadata={},
        priority=0,
        violations=Violations(),
    )


@pytest.mark.parametrize("value", [0, 0.25, 1, "auto"])
def test_how_many_answers_graders_may_fail_on(value: Any) -> None:
    assert spec(value).hyperparameters["max_grader_error_share"] == value


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, math.inf, True, "half"])
def test_no_share(value: Any) -> None:
    with pytest.raises(BadInput, match="auto or a number from 0 to 1"):
        spec(value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_whole_number(value: float) -> None:
    """As a `Struct` on the wire can hold them."""
    with pytest.raises(BadInput, match="a whole number"):
        read_spec(
            method=Method.SUPERVISED,
            model="base",
            training_file="file-1",
            validation_file=None,
            hyperparameters={"n_epochs": value},
            grader=None,
            seed=0,
            suffix=None,
            metadata={},
            priority=0,
            violations=Violations(),
        )


@pytest.mark.parametrize("method", [Method.DPO, Method.REINFORCEMENT])
def test_only_a_supervised_job_has_a_plan(method: Method) -> None:
    with pytest.raises(BadInput, match=f"dry_run.*supervised.*not of {method}"):
        read_spec(
            method=method,
            model="base",
            training_file="file-1",
            validation_file=None,
            hyperparameters={},
            grader={"type": "string_check"} if method is Method.REINFORCEMENT else None,
            seed=0,
            suffix=None,
            metadata={},
            priority=0,
            dry_run=True,
            violations=Violations(),
        )


@pytest.mark.parametrize("adapter", [None, "dates"])
def test_a_canary_is_of_an_adapter_that_is_asked_for(adapter: str | None) -> None:
    """One of the job's own is named by nobody: its model's name is the version itself, so no request would be drawn."""
    gate = GateSpec(metric=ValidationLoss(), canary=CanarySpec(share_percent=10), file="file-2")

    def read() -> JobSpec:
        return read_spec(
            method=Method.SUPERVISED,
            model="base",
            training_file="file-1",
            validation_file=None,
            hyperparameters={},
            grader=None,
            seed=0,
            suffix=None,
            metadata={},
            priority=0,
            adapter=adapter,
            gate=gate,
            violations=Violations(),
        )

    if adapter is not None:
        assert read().gate == gate
        return
    with pytest.raises(BadInput, match=r"gate\.canary.*name its adapter"):
        read()
