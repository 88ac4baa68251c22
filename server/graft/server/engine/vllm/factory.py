"""vLLM's engine in a process of its own. vLLM is imported when it is needed, since that takes seconds."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from graft.adapters.base.base import Base
from graft.adapters.form import ServingForm
from graft.server.engine.engine import EngineInfo
from graft.server.engine.native import numa
from graft.server.engine.openai import OpenAIBackend
from graft.server.engine.supervisor import MortalEngine, Supervisor
from graft.server.engine.text import Tokenizer
from graft.server.engine.tools.families import Parsers
from graft.server.runtime.phase import phase
from graft.server.settings.settings import Settings

if TYPE_CHECKING:
    from graft.server.engine.tokenizer.tokenizer import Tokenizer as HuggingFaceTokenizer
    from graft.server.engine.vllm.environment import EngineSettings

_log = logging.getLogger(__name__)
_MIB = 2**20
# Architectures, by how their names begin, that compute from token ids beside embeddings: embeddings for each layer,
# experts or n-grams by id. vLLM's GPU runners would give them embeddings alone, for every request.
_READ_IDS = ("DeepseekV4", "Gemma3n", "Gemma4", "LongcatFlashNgram", "Qwen4")


class VllmEngineFactory:
    """The `EngineFactory` of `graft serve`."""

    async def check(self, settings: Settings, base: Base, form: ServingForm) -> None:
        with phase(_log, "reading the tokenizer"):
            await self.tokenizer(base)
        with phase(_log, "asking vLLM about the base"):
            await asyncio.to_thread(_check, _engine_settings(settings, base, form), base)
            await asyncio.to_thread(_parsers, settings, base)

    async def start(self, settings: Settings, base: Base, form: ServingForm, like: EngineInfo | None) -> MortalEngine:
        with phase(_log, "importing vLLM"):
            start = await asyncio.to_thread(_imported)
        asked = _engine_settings(settings, base, form)
        if like is not None:
            asked = replace(asked, max_model_tokens=like.max_model_tokens, num_cache_blocks=like.num_cache_blocks)
        return await start(asked, base)

    async def tokenizer(self, base: Base) -> Tokenizer:
        return await asyncio.to_thread(_tokenizer, base.path)

    def openai(self, supervisor: Supervisor, settings: Settings, base: Base) -> OpenAIBackend:
        from graft.server.engine.vllm.engine import VllmEngine
        from graft.server.engine.vllm.openai import VllmOpenAIBackend

        def current() -> VllmEngine:
            engine = supervisor.current
            assert isinstance(engine, VllmEngine)
            return engine

        return VllmOpenAIBackend(current, base.name, _parsers(settings, base))


def _parsers(settings: Settings, base: Base) -> Parsers:
    from graft.server.engine.vllm.parsers import usable_parsers

    tokenizer = _tokenizer(base.path)
    return usable_parsers(
        tokenizer.template(with_tools=True) or "",
        tokenizer.hugging_face,
        tool=settings.tool_call_parser,
        reasoning=settings.reasoning_parser,
    )


@functools.lru_cache(maxsize=1)
def _tokenizer(folder: Path) -> HuggingFaceTokenizer:
    from graft.server.engine.tokenizer.tokenizer import Tokenizer as HuggingFaceTokenizer

    return HuggingFaceTokenizer.from_folder(folder)


def _check(settings: EngineSettings, base: Base) -> None:
    numa.stand_in()  # before vLLM is imported
    from graft.server.engine.vllm.fitness import check_fitness

    check_fitness(settings, base.architecture)


def _imported() -> Callable[[EngineSettings, Base], Awaitable[MortalEngine]]:
    from graft.server.engine.vllm.launch import start_engine
    from graft.server.engine.vllm.warm_up.warm_up import warm_up

    async def start(settings: EngineSettings, base: Base) -> MortalEngine:
        with phase(_log, f"starting the engine on {base.name} ({settings.form})"):
            engine = await start_engine(settings)
        try:
            with phase(_log, "trying out every kind of request"):
                await warm_up(engine, base)
        except BaseException:
            await engine.close()
            raise
        return engine

    return start


def _engine_settings(settings: Settings, base: Base, form: ServingForm) -> EngineSettings:
    from graft.server.engine.vllm.environment import EngineSettings

    return EngineSettings(
        base_path=base.path,
        base_name=base.name,
        form=form,
        num_slots=settings.num_slots,
        max_rank=settings.max_rank,
        soft_prompts=settings.num_soft_prompts > 0 and not base.architecture.startswith(_READ_IDS),
        max_model_tokens=settings.max_model_tokens,
        kv_cache_bytes=None if settings.kv_cache_mib is None else settings.kv_cache_mib * _MIB,
        gpu_memory_fraction=settings.gpu_memory_fraction,
        tensor_parallel_size=settings.tensor_parallel_size,
        pipeline_parallel_size=settings.pipeline_parallel_size,
        max_running=settings.max_running,
        max_step_tokens=settings.max_step_tokens,
        lora_kernel=settings.lora_kernel,
        host_folder=settings.data_path / "slot-images",
        host_bytes=settings.host_adapter_mib * _MIB,
    )
