"""A gate on the real engine: what is worse than the base moves no alias, and nothing of it is told as a success."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from graft.client import Client, GraftClientError
from graft.training.errors import ConfigurationError
from graft.training.gate.gate import Candidate, release
from graft.training.gate.told import news_of
from graft.v1 import release_pb2 as pb
from graft.v1.job_pb2 import CanarySpec, GateSpec, ValidationLoss
from tests.server.engine.making import write_adapter


def loss_gate(canary: CanarySpec | None = None) -> GateSpec:
    return GateSpec(validation_loss=ValidationLoss(), canary=canary)


def rows(path: Path, seed: int, num: int) -> Path:
    """Sums, each once."""
    rng = random.Random(seed)
    pairs = {(rng.randrange(100), rng.randrange(100)) for _ in range(2 * num)}
    said = [
        [{"role": "user", "content": f"{a} + {b} ="}, {"role": "assistant", "content": str(a + b)}]
        for a, b in sorted(pairs)[seed % 2 :: 2][:num]
    ]
    path.write_text("".join(json.dumps({"messages": one}) + "\n" for one in said))
    return path


@pytest.fixture(scope="module")
def candidate(
    client: Client, layers: dict[str, tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> Candidate:
    """Random weights: worse than the base in everything."""
    folder = write_adapter(tmp_path_factory.mktemp("gated") / "1", layers, rank=8, seed=5)
    pushed = client.push_adapter(folder, name="gated")
    return Candidate(adapter="gated", digest=pushed.version.digest)


def aliases(client: Client) -> dict[str, int]:
    return {one.alias: one.version_number for one in client.get_adapter("gated").aliases}


def test_a_version_that_is_worse_moves_no_alias_and_the_news_say_why(
    client: Client, candidate: Candidate, tmp_path: Path
) -> None:
    rollout = release(
        client,
        candidate,
        loss_gate(CanarySpec(share_percent=10)),
        training=rows(tmp_path / "t.jsonl", 1, 20),
        held_out=rows(tmp_path / "h.jsonl", 2, 12),
    )
    assert rollout.stage == pb.ROLLOUT_STAGE_REFUSED and aliases(client) == {}
    assert rollout.report.num_questions == 12 and rollout.report.base.gain.high < 0
    news = news_of(rollout)
    assert "The gate is not passed, and gated:stable does not move: " in news.message and news.level == "warn"
    assert "the gain over the base is -" in news.message and "nothing was compared" in news.message
    assert client.rollouts("gated")[0] == client.get_rollout(rollout.id) == rollout


def test_contaminated_data_are_refused_before_anything_is_asked(
    client: Client, candidate: Candidate, tmp_path: Path
) -> None:
    training = rows(tmp_path / "t.jsonl", 1, 20)
    held_out = tmp_path / "h.jsonl"
    held_out.write_text("".join(training.read_text().splitlines(keepends=True)[4:6]))
    rollout = release(client, candidate, loss_gate(), training=training, held_out=held_out)
    assert rollout.stage == pb.ROLLOUT_STAGE_REFUSED and not rollout.report.num_questions
    (reason,) = rollout.reasons
    assert "line 1 of the gate's held-out rows asks what line 5 of the training file asks" in reason


def test_a_grader_and_a_task_may_be_the_metric(client: Client, candidate: Candidate, tmp_path: Path) -> None:
    training, held_out = rows(tmp_path / "t.jsonl", 1, 8), rows(tmp_path / "h.jsonl", 2, 6)
    spec = GateSpec()
    spec.grader.update(
        {
            "type": "string_check",
            "name": "exact",
            "operation": "eq",
            "input": "{{sample.output_text}}",
            "reference": "{{item.reference_answer}}",
        }
    )
    graded = release(client, candidate, spec, training=training, held_out=held_out)
    assert graded.report.metric == "grader" and graded.report.num_questions == 6
    asked = release(client, candidate, GateSpec(task="sums", max_rows=6), training=training, held_out=None)
    assert asked.report.metric.startswith("sums: ") and asked.stage == pb.ROLLOUT_STAGE_REFUSED
    with pytest.raises(ConfigurationError, match="may name"):
        release(client, candidate, GateSpec(task="/etc/passwd"), training=training, held_out=None)


def test_a_report_that_compares_with_another_stable_is_not_decided_by(client: Client, candidate: Candidate) -> None:
    report = pb.GateReport(metric="m", num_questions=10)
    report.stable.version_digest = "sha256:" + "0" * 64
    with pytest.raises(GraftClientError, match="compare with what it is now"):
        client.decide_rollout("gated", candidate.digest, gate=loss_gate(), report=report)
