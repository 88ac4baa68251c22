"""InstructGPT's chain on the shipped base, as jobs of a server of its own: rewards rise, and the divergence stays
bounded.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from graft.cli.main import main

pytestmark = pytest.mark.slow


def test_rewards_of_held_out_prompts_rise_at_a_bounded_divergence(data_path: Any, tmp_path: Path) -> None:
    published, pairs, made = data_path("hh-rlhf/harmless-base-test.jsonl.gz"), tmp_path / "pairs.jsonl", tmp_path / "a"
    assert main(["corpus", "hh-rlhf", "--data", str(published), "--output", str(pairs)]) == 0
    asked = ["align", "--chain", "--data", str(pairs), "--name", "polite", "--output", str(made)]
    assert main(asked) == 0
    told = json.loads((made / "chain.json").read_text())
    rewards = told["rewards"]
    assert rewards["policy"]["low"] > rewards["supervised"]["high"]
    assert told["gain"]["low"] > 0 and told["kl"]["high"] < told["max_kl"]
    assert told["holds"]
    assert main(asked) == 0, "jobs that are done stay"
    assert json.loads((made / "chain.json").read_text())["jobs"] == told["jobs"]
