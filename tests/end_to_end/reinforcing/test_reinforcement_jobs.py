"""OpenAI's method `reinforcement`: the unmodified package makes a job, a worker carries it out, its model answers."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from openai import OpenAI

from tests.running import Server

pytestmark = pytest.mark.slow
GRADER = {
    "type": "string_check",
    "name": "sum",
    "operation": "like",
    "input": "{{sample.output_text}}",
    "reference": "{{item.answer}}",
}
SECONDS = 600


def rows(start: int) -> bytes:
    asked = [(a, b) for a in range(start, 10) for b in range(2, 10)][:16]
    return b"".join(
        json.dumps({"messages": [{"role": "user", "content": f"What is {a}+{b}?"}], "answer": str(a + b)}).encode()
        + b"\n"
        for a, b in asked
    )


def test_a_reinforcement_job_ends_in_a_model_that_answers(server: Server, tmp_path: Path) -> None:
    openai = OpenAI(base_url=f"{server.http}/v1", api_key="none")
    learned, held_out = (
        openai.files.create(file=(f"{start}.jsonl", rows(start)), purpose="fine-tune").id for start in (2, 6)
    )
    job = openai.fine_tuning.jobs.create(
        model="rootstock-5m",
        training_file=learned,
        validation_file=held_out,
        seed=1,
        suffix="sums",
        method={
            "type": "reinforcement",
            "reinforcement": {
                "grader": GRADER,  # type: ignore[typeddict-item]
                "hyperparameters": {
                    "n_epochs": 2,
                    "batch_size": 8,
                    "compute_multiplier": 0.5,
                    "eval_interval": 2,
                    "reasoning_effort": "low",
                },
            },
        },
    )
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({"reinforcement": {"max_completion_length": 8}}))
    command = ["worker", "--server", server.grpc, "--folder", str(tmp_path / "worker"), "--max-jobs", "1"]
    with (tmp_path / "worker.log").open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "graft.cli.main", *command, "--settings", str(settings)], stdout=log, stderr=log
        )
    try:
        assert worker.wait(SECONDS) == 0, (tmp_path / "worker.log").read_text()
    finally:
        worker.kill()
        worker.wait()
    done = openai.fine_tuning.jobs.retrieve(job.id)
    assert done.status == "succeeded", done.error
    assert done.method is not None and done.method.reinforcement is not None
    events = openai.fine_tuning.jobs.list_events(job.id, limit=100).data
    figures = [event.data for event in events if event.type == "metrics"]
    assert {one["step"] for one in figures} == {1, 2, 3, 4}  # type: ignore[index]
    assert all("train_mean_reward" in one for one in figures)  # type: ignore[operator]
    assert [one["step"] for one in figures if "valid_mean_reward" in one] == [4, 2]  # type: ignore[index, operator]
    assert any(event.level == "warn" and "reasoning_effort" in event.message for event in events)
    assert done.fine_tuned_model is not None
    said = openai.chat.completions.create(
        model=done.fine_tuned_model, messages=[{"role": "user", "content": "What is 3+4?"}], max_tokens=8
    )
    assert said.choices[0].message.content
    assert time.time() >= (done.finished_at or 0)
