"""What the server runs on: an engine, a tokenizer and an OpenAI backend. vLLM's are imported when they are needed."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from graft.adapters.base.base import Base
from graft.server.api.http.openai import Verb
from graft.server.engine.native import numa
from graft.server.engine.supervisor import MortalEngine, Supervisor
from graft.server.engine.text import Tokenizer
from graft.server.operations.logs import phase
from graft.server.registry.base_choice import choose_form
from graft.server.settings.settings import Settings

if TYPE_CHECKING:
    from graft.server.engine.vllm.environment import EngineSettings

_log = logging.getLogger(__name__)
_MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class OpenAIVerbs:
    """The two routes that generate."""

    chat: Verb
    completion: Verb


class Machinery(Protocol):
    """The parts that tests script."""

    async def check(self, settings: Settings, base: Base) -> None:
        """Raises InvalidBase where no engine can serve the base as the settings ask, `EngineError`."""
        ...

    async def start_engine(self, settings: Settings, base: Base) -> MortalEngine:
        """Start an engine on the base. Raises `EngineError`."""
        ...

    async def tokenizer(self, folder: Path) -> Tokenizer:
        """The base's tokenizer."""
        ...

    async def openai(self, supervisor: Supervisor, settings: Settings, base: Base) -> OpenAIVerbs:
        """The OpenAI backend over whatever engine the supervisor holds."""
        ...


class VllmMachinery:
    """vLLM, with the engine in a process of its own."""

    async def check(self, settings: Settings, base: Base) -> None:
        with phase(_log, "reading the tokenizer"):
            await asyncio.to_thread(_tokenizer, base.path)
        with phase(_log, "asking vLLM about the base"):
            await asyncio.to_thread(_check, settings, base)

    async def start_engine(self, settings: Settings, base: Base) -> MortalEngine:
        with phase(_log, "importing vLLM"):
            vllm_engine = await asyncio.to_thread(_vllm_engine)
        return await vllm_engine(settings, base)

    async def tokenizer(self, folder: Path) -> Tokenizer:
        return await asyncio.to_thread(_tokenizer, folder)

    async def openai(self, supervisor: Supervisor, settings: Settings, base: Base) -> OpenAIVerbs:
        from graft.server.engine.vllm.engine import VllmEngine
        from graft.server.engine.vllm.openai import OpenAIBackend

        def current() -> VllmEngine:
            engine = supervisor.current
            assert isinstance(engine, VllmEngine)
            return engine

        backend = OpenAIBackend(current, base.name)
        return OpenAIVerbs(chat=backend.chat, completion=backend.completion)


@functools.lru_cache(maxsize=1)
def _tokenizer(folder: Path) -> Tokenizer:
    from graft.server.engine.tokenizer.tokenizer import Tokenizer as HuggingFaceTokenizer

    return HuggingFaceTokenizer.from_folder(folder)


def _check(settings: Settings, base: Base) -> None:
    numa.stand_in()  # before vLLM is imported
    from graft.server.engine.vllm.fitness import check_fitness

    check_fitness(_engine_settings(settings, base), base.architecture)


def _vllm_engine() -> Callable[[Settings, Base], Awaitable[MortalEngine]]:
    # Importing vLLM takes seconds.
    from graft.server.engine.vllm.launch import start_engine
    from graft.server.engine.warm_up.warm_up import warm_up

    async def start(settings: Settings, base: Base) -> MortalEngine:
        engine_settings = _engine_settings(settings, base)
        with phase(_log, f"starting the engine on {base.name} ({engine_settings.form})"):
            engine = await start_engine(engine_settings)
        try:
            with phase(_log, "trying out every kind of request"):
                await warm_up(engine, base)
        except BaseException:
            await engine.close()
            raise
        return engine

    return start


def _engine_settings(settings: Settings, base: Base) -> EngineSettings:
    from graft.server.engine.vllm.environment import EngineSettings

    return EngineSettings(
        base_path=base.path,
        base_name=base.name,
        form=choose_form(base, settings.quantization),
        num_slots=settings.num_slots,
        max_rank=settings.max_rank,
        max_model_tokens=settings.max_model_tokens,
        kv_cache_bytes=settings.kv_cache_mib * _MIB,
        max_running=settings.max_running,
        lora_kernel=settings.lora_kernel,
        host_folder=settings.data_path / "slot-images",
        host_bytes=settings.host_adapter_mib * _MIB,
    )
