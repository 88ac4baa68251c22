"""The engines that are measured: each started when first asked for, two alive at most."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from graft.adapters.base.base import Base
from graft.adapters.form import ServingForm
from graft.bench.serving.adapters import RANK
from graft.bench.serving.peers.contenders import EngineContender
from graft.server.engine.engine import EngineAdapter
from graft.server.engine.native import numa

if TYPE_CHECKING:
    from graft.server.engine.vllm.environment import EngineSettings

NUM_SLOTS = 8
BARE, ADAPTED, MERGED = "bare", "adapted", "merged"
_MAX_ALIVE = 2
_MAX_CONTEXT = 4096


class Engines:
    """`BARE` has LoRA off, `ADAPTED` eight slots with adapters 0 to 7 in them, `MERGED` adapter 0 in its weights."""

    def __init__(self, base: Base, form: ServingForm, adapters: Sequence[Path], *, context: int) -> None:
        self._base, self._form, self._adapters = base, form, adapters
        self._context = min(context, _MAX_CONTEXT)
        self._merged: Path | None = None
        self._alive: dict[str, EngineContender] = {}

    @property
    def context(self) -> int:
        """Tokens that fit an engine's context."""
        return self._context

    def merge_from(self, folder: Path) -> None:
        """Where the merged base lies."""
        self._merged = folder

    async def get(self, kind: str) -> EngineContender:
        """The engine, started where it is not alive; the one that was asked for longest ago may be closed for it."""
        if kind not in self._alive:
            while len(self._alive) >= _MAX_ALIVE:
                await self.close(next(iter(self._alive)))
            await self._start(kind)
        self._alive[kind] = self._alive.pop(kind)
        return self._alive[kind]

    async def both(self, first: str, second: str) -> tuple[EngineContender, EngineContender]:
        """Two engines."""
        return await self.get(first), await self.get(second)

    async def fresh(self, kind: str) -> EngineContender:
        """The engine in a new process."""
        await self.close(kind)
        return await self.get(kind)

    async def close(self, kind: str) -> None:
        """End the engine where it is alive."""
        if kind in self._alive:
            await self._alive.pop(kind).engine.close()

    async def close_all(self) -> None:
        """End all."""
        for kind in list(self._alive):
            await self.close(kind)

    async def _start(self, kind: str) -> None:
        numa.stand_in()  # before vLLM is imported
        from graft.server.engine.vllm.launch import launch, start_engine

        print(f"  starting an engine: {kind}", flush=True)
        settings = self._settings(kind)
        if kind != ADAPTED:
            self._alive[kind] = EngineContender(await launch(settings))
            return
        contender = EngineContender(await start_engine(settings), self._engine_adapters())
        self._alive[kind] = contender
        for adapter in contender.adapters:
            await contender.engine.load(adapter)

    def _settings(self, kind: str) -> EngineSettings:
        from graft.server.engine.vllm.environment import EngineSettings

        path = self._base.path
        if kind == MERGED:
            assert self._merged is not None
            path = self._merged
        return EngineSettings(
            base_path=path,
            base_name=self._base.name,
            form=self._form,
            num_slots=NUM_SLOTS if kind == ADAPTED else 0,
            max_rank=RANK,
            max_model_tokens=self._context,
        )

    def _engine_adapters(self) -> list[EngineAdapter]:
        return [
            EngineAdapter(digest=f"bench-{number}", engine_id=number + 1, path=path)
            for number, path in enumerate(self._adapters[:NUM_SLOTS])
        ]
