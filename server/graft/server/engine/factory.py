"""Where the server gets its engine, tokenizer and OpenAI backend from: vLLM (`vllm.factory`), or a test's script."""

from __future__ import annotations

from typing import Protocol

from graft.adapters.base.base import Base
from graft.adapters.form import ServingForm
from graft.server.engine.engine import EngineInfo
from graft.server.engine.openai import OpenAIBackend
from graft.server.engine.supervisor import MortalEngine, Supervisor
from graft.server.engine.text import Tokenizer
from graft.server.settings.settings import Settings


class EngineFactory(Protocol):
    """Makes what serves a base in one form."""

    async def check(self, settings: Settings, base: Base, form: ServingForm) -> None:
        """Raises InvalidBase where no engine can serve the base as is asked, `InvalidSetting`, `EngineError`."""
        ...

    async def start(self, settings: Settings, base: Base, form: ServingForm, like: EngineInfo | None) -> MortalEngine:
        """Start an engine on the base, with the context and the KV cache of the one that `like` is about. Raises
        `EngineError`."""
        ...

    async def tokenizer(self, base: Base) -> Tokenizer: ...

    def openai(self, supervisor: Supervisor, settings: Settings, base: Base) -> OpenAIBackend:
        """The OpenAI backend over whatever engine the supervisor holds."""
        ...
