"""Unmodified code of a user of OpenAI's, on the real engine and with a real worker: jobs of all three methods."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from transformers import AutoTokenizer

from graft.adapters.base.base import Base
from graft.client import Client
from tests.clients.versions_of_openai import each_version, told_by
from tests.running import BASE, Server, end_started

pytestmark = pytest.mark.slow
BETA, NUM_ROWS = 0.1, 4
METHODS: Mapping[str, Mapping[str, Any]] = {
    "supervised": {"batch_size": 1, "n_epochs": 15},
    "dpo": {"batch_size": 1, "n_epochs": 15, "beta": BETA},
    "reinforcement": {"batch_size": 2, "n_epochs": 6, "reasoning_effort": "low"},
}


@pytest.fixture
def worker_log(server: Server, tmp_path: Path) -> Iterator[Path]:
    """Of `graft worker`, while it works."""
    log, settings = tmp_path / "worker.log", tmp_path / "settings.json"
    settings.write_text(json.dumps({"reinforcement": {"max_completion_length": 8}}))
    command = ["worker", "--server", server.grpc, "--folder", str(tmp_path / "worker"), "--settings", str(settings)]
    with log.open("wb") as output:
        worker = subprocess.Popen([sys.executable, "-m", "graft.cli.main", *command], stdout=output, stderr=output)
    yield log
    still_works = worker.poll() is None
    end_started([worker])
    assert still_works and worker.returncode == 0, log.read_text()


@each_version
@pytest.mark.usefixtures("worker_log")
async def test_jobs_of_all_methods_end_in_models(
    server: Server, client: Client, base: Base, tmp_path: Path, python: str
) -> None:
    told = await told_by(python, server.http, tmp_path, model=BASE, methods=METHODS)
    taught, methods = told["taught"], told["methods"]
    for name, one in methods.items():
        assert one["model"].startswith(f"ft:{BASE}:default:mine:") and one["tokens"] > 0, name
        num_epochs = METHODS[name]["n_epochs"]
        num_steps = num_epochs * NUM_ROWS // METHODS[name]["batch_size"]
        assert len(one["figures"]) == num_steps and one["figures"][-1]["total_steps"] == num_steps
        assert one["before"] != taught and one["answers"] != one["before"]
    assert methods["supervised"]["answers"] == taught
    dpo = methods["dpo"]
    assert fmean(_served_loss(client, base, dpo["model"], word, told) for word in taught) == pytest.approx(
        fmean(one["train_loss"] for one in dpo["figures"][-NUM_ROWS:]), rel=0.2
    )
    assert dpo["figures"][-1]["rewards/accuracies"] == 1.0
    # It goes on after a pause, and says so once all the same.
    assert sum("reasoning_effort" in one for one in methods["reinforcement"]["warnings"]) == 1
    rewards = [one["train_mean_reward"] for one in methods["reinforcement"]["figures"]]
    assert fmean(rewards[-4:]) > fmean(rewards[:4]), rewards
    # The bound of a parity receipt: the rows are words of which the base knows little, and entropy is high at first.
    mismatches = [one["logprob_mismatch"] for one in methods["reinforcement"]["figures"] if "logprob_mismatch" in one]
    assert mismatches and max(mismatches) < 0.05, mismatches


def _served_loss(client: Client, base: Base, model: str, word: str, told: Mapping[str, Any]) -> float:
    """DPO's loss of a row (Rafailov et al. 2023, arXiv:2305.18290, eq. 7), of what the server gives both answers."""
    tokenizer = AutoTokenizer.from_pretrained(base.path)
    asked = [{"role": "user", "content": f"Colour of {word}?"}]
    prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    answers = [
        tokenizer(f"{one}<|im_end|>", add_special_tokens=False)["input_ids"]
        for one in (told["taught"][word], told["other"])
    ]
    margins = []
    for each in (model, BASE):
        chosen, rejected = client.score(prompt, answers, model=each).scores
        margins.append(chosen.logprob - rejected.logprob)
    return math.log1p(math.exp(-BETA * (margins[0] - margins[1])))
