"""A replacement's context and KV cache, by vLLM's own reckoning of what is found to be free."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from vllm.config import VllmConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.v1.core.kv_cache_utils import get_kv_cache_configs
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheSpec

from graft.server.engine.engine import EngineInfo
from graft.server.engine.vllm import factory
from graft.server.engine.vllm.devices.arguments import engine_arguments
from graft.server.engine.vllm.devices.cpu import Cpu
from graft.server.engine.vllm.environment import EngineSettings, prepare_environment
from graft.server.settings.settings import Settings
from tests.server.engine.vllm.devices.simulated import BASE, SETTINGS

LAYER = FullAttentionSpec(block_size=16, num_kv_heads=2, head_size=32, dtype=torch.bfloat16)
LAYERS: dict[str, KVCacheSpec] = {"first": LAYER, "second": LAYER}
BLOCK_BYTES = len(LAYERS) * LAYER.page_size_bytes
FOUND = 20 * BLOCK_BYTES + 100


def sized(settings: EngineSettings, free_bytes: int) -> tuple[int, int]:
    """Context and blocks of an engine that finds so much free. Raises ValueError where it does not start."""
    prepare_environment(settings)
    config: VllmConfig = AsyncEngineArgs(**engine_arguments(settings, Cpu())).create_engine_config()
    config.cache_config.kv_cache_layout = "LBHNC"
    (cache,) = get_kv_cache_configs(config, [LAYERS], [free_bytes])
    return config.model_config.max_model_len, cache.num_blocks


def test_a_replacement_that_finds_a_block_less_has_what_the_first_had() -> None:
    """One block of vLLM's is nobody's."""
    context, num_blocks = sized(SETTINGS, FOUND)
    assert (context, num_blocks) == (19 * 16, 20)
    like = replace(SETTINGS, max_model_tokens=context, num_cache_blocks=num_blocks)
    for found in (FOUND, FOUND - BLOCK_BYTES, FOUND + BLOCK_BYTES):
        assert sized(like, found) == (context, num_blocks)
    with pytest.raises(ValueError, match="larger than the available KV cache"):
        sized(replace(like, num_cache_blocks=None), FOUND - BLOCK_BYTES)


async def test_what_the_first_said_of_itself_is_asked_of_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int | None, int | None]] = []

    async def start(settings: EngineSettings, base: Any) -> None:
        asked.append((settings.max_model_tokens, settings.num_cache_blocks))

    monkeypatch.setattr(factory, "_imported", lambda: start)
    first = EngineInfo(
        pid=1, engine_version="", lora_kernel="", max_model_tokens=304, num_slots=8, max_rank=64, num_cache_blocks=20
    )
    for like in (None, first):
        await factory.VllmEngineFactory().start(Settings(max_model_tokens=None), BASE, SETTINGS.form, like)
    assert asked == [(None, None), (304, 20)]
