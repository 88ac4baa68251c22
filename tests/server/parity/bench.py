"""The check of a version over an engine, records and an oracle that do as they are told."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from graft.adapters.catalog.rows import Record
from graft.adapters.folder.reference import Reference, ReferenceRow
from graft.adapters.form import ServingForm
from graft.server.engine.engine import ContinuationScore, EngineAdapter, EngineInfo, TokenLogprob
from graft.server.parity.expectations import Expectations
from graft.server.parity.parity import Parity
from graft.server.parity.receipt import KIND

DIGEST = "sha256:" + "a" * 64


class FakeEngine:
    """The base says every token with `base`, the adapter with `adapted`."""

    def __init__(self) -> None:
        self.base, self.adapted = -1.0, -2.0
        self.kernel = "grouped"
        self.scored: list[tuple[bool, int]] = []
        self.error: Exception | None = None

    async def info(self) -> EngineInfo:
        return EngineInfo(
            pid=1, engine_version="vllm 1", lora_kernel=self.kernel, max_model_tokens=64, num_slots=2, max_rank=8
        )

    async def score(
        self, prompt: Any, continuation: Any, *, request_id: str, adapter: EngineAdapter | None
    ) -> ContinuationScore:
        self.scored.append((adapter is not None, len(prompt) + len(continuation)))
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        value = self.base if adapter is None else self.adapted
        return ContinuationScore(
            tokens=tuple(TokenLogprob(token_id=one, token="", logprob=value) for one in continuation), is_greedy=False
        )


class FakeRecords:
    def __init__(self) -> None:
        self.kept: list[Record] = []
        self.error: Exception | None = None
        self.reading = asyncio.Event()
        self.reading.set()

    async def of(self, digest: str) -> tuple[Record, ...]:
        await self.reading.wait()
        if self.error:
            raise self.error
        return tuple(record for record in self.kept if record.version_digest == digest)

    async def add(self, digest: str, kind: str, body: Mapping[str, object]) -> None:
        if self.error:
            raise self.error
        self.kept.append(Record(version_digest=digest, kind=kind, body=body, create_time=datetime.now(UTC)))


class FakeOracle:
    def __init__(self) -> None:
        self.says = -2.0
        self.form = ServingForm.NF4
        self.error: Exception | None = None
        self.num_asked = 0
        self.in_layers, self.expected_seconds = False, 1.0

    async def reference(self, folder: Path, *, num_rows: int, num_tokens: int) -> Reference:
        self.num_asked += 1
        if self.error:
            raise self.error
        return reference(self.says, form=self.form)

    async def scored(self, folder: Path, rows: Sequence[Sequence[int]]) -> Reference:
        self.num_asked += 1
        if self.error:
            raise self.error
        return Reference(
            form=self.form,
            rows=tuple(
                ReferenceRow(token_ids=tuple(row), num_prompt_tokens=1, logprobs=(self.says,) * (len(row) - 1))
                for row in rows
            ),
        )

    def warm(self) -> None:
        pass

    async def close(self) -> None:
        pass


def reference(logprob: float, *, form: ServingForm = ServingForm.NF4) -> Reference:
    row = ReferenceRow(token_ids=tuple(range(16)), num_prompt_tokens=1, logprobs=(logprob,) * 15)
    return Reference(form=form, rows=(row, row))


class Bench:
    """A parity check and everything around it; `parity()` is what a restarted server has."""

    def __init__(self, folder: Path) -> None:
        self.engine, self.records, self.oracle = FakeEngine(), FakeRecords(), FakeOracle()
        self.adapter = EngineAdapter(digest=DIGEST, engine_id=1, path=folder)
        (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')

    def parity(self, *, form: ServingForm = ServingForm.NF4, mode: Any = "full") -> Parity:
        return Parity(
            self.engine,  # type: ignore[arg-type]
            self.records,  # type: ignore[arg-type]
            name_of=lambda digest: "joe@1",
            form=form,
            mode=mode,
            expectations=Expectations(
                self.engine,  # type: ignore[arg-type]
                self.oracle,
                form=form,
                mode=mode,
                num_tokens=32,
                limit_seconds=90.0,
            ),
        )

    async def load(self, parity: Parity) -> None:
        """What `Slots` does around a load."""
        await parity.recall(DIGEST)
        parity.expect(self.adapter)
        await parity.verify(self.adapter)
        await parity.settled()

    @property
    def bodies(self) -> list[Mapping[str, object]]:
        return [record.body for record in self.records.kept if record.kind == KIND]
