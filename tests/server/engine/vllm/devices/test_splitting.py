"""What cannot be split over GPUs is said before a process starts; the GPUs are simulated, the base is real."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from vllm.config import ModelConfig
from vllm.engine.arg_utils import AsyncEngineArgs

from graft.server.engine.vllm.devices.arguments import engine_arguments
from graft.server.engine.vllm.devices.splitting import split_reasons
from tests.server.engine.vllm.devices.simulated import CUDA, SETTINGS, SimulatedCuda


@pytest.fixture(scope="module")
def config() -> ModelConfig:
    return AsyncEngineArgs(**engine_arguments(SETTINGS, CUDA)).create_model_config()


@pytest.mark.parametrize(
    ("changes", "count", "says"),
    [
        ({}, 1, []),
        ({"tensor_parallel_size": 2}, 2, []),
        ({"tensor_parallel_size": 2}, 0, []),
        ({"tensor_parallel_size": 2, "pipeline_parallel_size": 2}, 4, []),
        ({"tensor_parallel_size": 2, "pipeline_parallel_size": 2}, 2, ["is 4, and there are 2 GPUs"]),
        ({"tensor_parallel_size": 7}, 8, ["attention heads cannot be shared out so"]),
        # Of too few GPUs vLLM says so, whatever it is asked of the base.
        ({"tensor_parallel_size": 7}, 4, ["is 7, and there are 4 GPUs"]),
    ],
)
def test_what_cannot_be_split_is_said(
    config: ModelConfig, changes: dict[str, Any], count: int, says: list[str]
) -> None:
    reasons = list(split_reasons(replace(SETTINGS, **changes), config, SimulatedCuda(count=count)))
    assert len(reasons) == len(says)
    assert all(words in reason.problem and reason.remedy for words, reason in zip(says, reasons, strict=True))
