"""The engines that are measured: each started when first asked for, two alive at most."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from graft.adapters.base.base import Base
from graft.adapters.form import ServingForm
from graft.bench.serving.adapters import RANK
from graft.bench.serving.peers.contenders import EngineContender
from graft.server.engine.native import numa

NUM_SLOTS = 8
BARE, ADAPTED, MERGED = "bare", "adapted", "merged"
_MAX_ALIVE = 2
_MAX_CONTEXT = 4096


class Engines:
    """`BARE` has LoRA off, `ADAPTED` eight slots with adapters 0 to 7 in them, `MERGED` adapter 0 in its weights."""

    def __init__(self, base: Base, form: ServingForm, adapters: Sequence[Path], *, context: int) -> None:
        self._base, self._form, self._adapters = base, form, adapters
        self.context = min(context, _MAX_CONTEXT)
        self.merged: Path | None = None
        """Where the merged base lies."""
        self._alive: dict[str, EngineContender] = {}

    async def get(self, kind: str) -> EngineContender:
        """The engine, started where it is not alive; the one that was asked for longest ago may be closed for it."""
        if kind not in self._alive:
            while len(self._alive) >= _MAX_ALIVE:
                await self.close(next(iter(self._alive)))
            await self._start(kind)
        self._alive[kind] = self._alive.pop(kind)
        return self._alive[kind]

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
        print(f"  starting an engine: {kind}", flush=True)
        path = self.merged if kind == MERGED else self._base.path
        assert path is not None
        adapters = self._adapters[:NUM_SLOTS] if kind == ADAPTED else ()
        contender = await started(path, self._base.name, self._form, adapters, context=self.context)
        self._alive[kind] = contender
        await contender.load()


async def started(
    path: Path, name: str, form: ServingForm, adapters: Sequence[Path], *, context: int
) -> EngineContender:
    """An engine with a slot for each adapter, none of them loaded yet; with LoRA off where there are none."""
    numa.stand_in()  # before vLLM is imported
    from graft.server.engine.vllm.environment import EngineSettings
    from graft.server.engine.vllm.launch import launch, start_engine

    settings = EngineSettings(
        base_path=path,
        base_name=name,
        form=form,
        num_slots=len(adapters),
        max_rank=RANK,
        max_model_tokens=context,
    )
    return EngineContender(await (start_engine if adapters else launch)(settings), adapters)
