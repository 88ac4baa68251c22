"""A canary on the real engine that gets sums wrong is taken back by itself, and no request fails."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from graft.client import Client
from graft.v1 import release_pb2 as pb
from tests.server.engine.making import write_adapter

NUM_CALLERS, NUM_ANSWERS = 4, 60


@pytest.fixture
def sums(client: Client, layers: dict[str, tuple[int, int]], tmp_path: Path) -> str:
    """An adapter whose version 1, `stable`, says nearly what the base says, and whose version 2 babbles."""
    for number, strength in ((1, 0.001), (2, 1.0)):
        folder = write_adapter(tmp_path / str(number), layers, rank=8, seed=400 + number)
        config: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text())
        (folder / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 8 * strength}))
        client.push_adapter(folder, name="sums", alias="stable" if number == 1 else None)
    return "sums"


def test_a_canary_that_gets_sums_wrong_is_taken_back_within_its_answers(client: Client, sums: str) -> None:
    rollout = client.begin_canary(sums, 2, share_percent=50, num_answers=NUM_ANSWERS, needs_outcomes=True)

    def call(number: int) -> tuple[int, int]:
        """How many answers of each version there were until the comparison had ended."""
        rng, counted = random.Random(number), {1: 0, 2: 0}
        while True:
            a, b = rng.randint(10, 99), rng.randint(10, 99)
            answer = client.generate(f"{a}+{b}?", model=sums, max_tokens=48, stop="\n")
            counted[answer.answerer.version_number] += 1
            is_right = answer.text.split(";")[-1].strip() == str(a + b)
            if not client.report_outcome(answer.id, float(is_right)):
                return counted[1], counted[2]

    with ThreadPoolExecutor(NUM_CALLERS) as pool:
        answers = list(pool.map(call, range(NUM_CALLERS)))
    now = client.get_rollout(rollout.id)
    assert now.stage == pb.ROLLOUT_STAGE_ROLLED_BACK and "outcomes" in now.reasons[-1], now
    assert now.stable_tally.mean_outcome > 0.5 > now.canary_tally.mean_outcome, now
    assert now.canary_tally.num_answers < NUM_ANSWERS and sum(canary for _, canary in answers) < NUM_ANSWERS
    assert {client.generate("1+2?", model=sums, max_tokens=1).answerer.version_number for _ in range(8)} == {1}
