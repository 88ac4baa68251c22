"""A job's grader comes to the server as the user has said it: a Struct makes its whole numbers floating ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from graft.adapters.form import ServingForm
from graft.server.grading.graders import Multi, ScoreModel
from graft.server.grading.reading import Allowed, read_grader
from graft.server.runtime.violations import Violations
from graft.training.gate.marks import marks_by_grader
from graft.training.gate.rows import Row
from graft.training.worker.folder import JobFolder
from graft.v1 import grading_pb2, job_pb2

JUDGE = {
    "type": "score_model",
    "name": "judge",
    "model": "rootstock-5m",
    "input": [{"role": "user", "content": "{{sample.output_text}}"}],
    "range": [0, 1],
    "sampling_params": {"max_completions_tokens": 64, "seed": 7, "temperature": 0.5},
}
GRADER: dict[str, Any] = {"type": "multi", "name": "all", "graders": {"judge": JUDGE}, "calculate_output": "judge"}


def understood(grader: Mapping[str, Any]) -> None:
    violations = Violations()
    found = read_grader(grader, Allowed(no_python=None), violations)
    assert isinstance(found, Multi), violations
    (judge,) = found.graders.values()
    assert isinstance(judge, ScoreModel)
    assert (judge.sampling.max_tokens, judge.sampling.seed, judge.sampling.temperature) == (64, 7, 0.5)


def test_of_a_reinforcement() -> None:
    job = job_pb2.Job(id="ftjob-1")
    job.spec.grader.update(GRADER)
    folder = JobFolder(
        path=Path("job"), job=job, adapter="ft-1", base=Path("base"), form=ServingForm.BF16, target="", fence=1
    )
    understood(folder.grader)


def test_of_a_gate() -> None:
    spec = job_pb2.GateSpec()
    spec.grader.update(GRADER)
    asked: list[Mapping[str, Any]] = []

    class Served:
        def generate(self, prompt: object, **settings: object) -> Any:
            return SimpleNamespace(text="yes")

        def grade(self, grader: Mapping[str, Any], observed: Sequence[object], **settings: object) -> Sequence[Any]:
            asked.append(grader)
            return [grading_pb2.Grade(reward=1.0) for _ in observed]

    row = Row(line=1, prompt="say yes", answer="yes", item={})
    assert marks_by_grader(Served(), [row], spec)("dates") == [pytest.approx(1.0)]  # type: ignore[arg-type]
    understood(asked[0])
