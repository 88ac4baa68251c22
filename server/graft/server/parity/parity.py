"""Is what is served what was trained? Checked after a version's first load, before anybody is answered by it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Set
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from graft.adapters.accepting import NOOP_RECORD
from graft.adapters.errors import GraftError
from graft.adapters.folder.head import num_labels_in
from graft.adapters.folder.reference import Reference
from graft.adapters.folder.soft_prompt import virtual_tokens_in
from graft.adapters.form import ServingForm
from graft.server.engine.engine import Engine, EngineAdapter
from graft.server.errors import ParityFailed
from graft.server.parity.expectations import Expectations, Expected
from graft.server.parity.receipt import (
    KIND,
    MAX_MEAN_ABS_DELTA,
    Circumstances,
    Deltas,
    Receipt,
    Source,
    VersionRecords,
    compare,
)
from graft.server.runtime.background import watched
from graft.server.runtime.deadlines import all_or_none
from graft.server.settings.settings import ParityMode

_log = logging.getLogger(__name__)

# Versions that were announced and may never be loaded.
_MAX_BESIDE = 64
# Below this, in nats, an adapter's effect could also be what bfloat16 rounds differently in another batch.
_CLOSE_TO_BASE = 0.02
_CATALOG_SECONDS = 2.0
# So the receipt's commit stands behind that of the alias that is about to move, not before it.
_WRITE_AFTER_SECONDS = 0.05
_WRITE_TRIES = 3
_RETRY_SECONDS = 1.0


class Parity:
    """Receipts by version digest, for this form, engine and kernel. One that was written is not asked for again."""

    def __init__(
        self,
        engine: Engine,
        records: VersionRecords,
        *,
        name_of: Callable[[str], str],
        form: ServingForm,
        mode: ParityMode,
        expectations: Expectations,
    ) -> None:
        self._engine = engine
        self._records = records
        self._name_of = name_of
        self._form = form
        self._mode = mode
        self._expectations = expectations
        self._loop = asyncio.get_running_loop()
        self._receipts: dict[str, Receipt] = {}
        self._beside: dict[str, asyncio.Task[Expected | None]] = {}
        self._writes: set[asyncio.Task[None]] = set()

    def receipt(self, digest: str) -> Receipt | None:
        """The receipt of a version that was loaded; None where none was checked."""
        return self._receipts.get(digest)

    def has_compared(self, digest: str) -> bool:
        """Whether a version was compared with a reference when it was checked."""
        receipt = self._receipts.get(digest)
        return receipt is not None and receipt.deltas is not None

    def keep_only(self, digests: Set[str]) -> None:
        """Forget the receipts of all other versions; the catalog still has them."""
        self._receipts = {digest: receipt for digest, receipt in self._receipts.items() if digest in digests}

    async def recall(self, digest: str) -> None:
        """Before a load: raises `ParityFailed` where an earlier check, even before a restart, refused the version."""
        if self._mode == "off":
            return
        if digest not in self._receipts:
            found = await self._remembered(digest)
            if found is None:
                return
            self._receipts[digest] = found
            self._drop(digest)
        await self._judge(digest, self._receipts[digest])

    def prepare(self, digest: str, folder: Path) -> None:
        """A version may be loaded soon whose files are in `folder` now: begin as `expect` does. From any thread."""
        reference = Reference.read(folder) if self._mode != "off" and not num_labels_in(folder) else None
        if reference is not None:
            num_virtual = virtual_tokens_in(folder)
            self._loop.call_soon_threadsafe(
                lambda: self._begin(digest, self._expectations.of_trainer(reference, num_virtual))
            )

    def expect(self, adapter: EngineAdapter) -> Callable[[], None]:
        """Beside a load: begin with what the check needs and the adapter is not needed for.

        Returns what must be called where the load fails.
        """
        if self._mode != "off":
            self._begin(adapter.digest, self._expectations.recorded(adapter))
        return lambda: self._drop(adapter.digest)

    async def verify(self, adapter: EngineAdapter) -> None:
        """After a load: check a version that has no receipt yet.

        Raises `ParityFailed`, `ParityUnavailable`, and what scoring raises.
        """
        if self._mode == "off":
            return
        receipt = self._receipts.get(adapter.digest)
        if receipt is None:
            receipt = self._receipts[adapter.digest] = await self._check(adapter)
            self._keep(adapter.digest, receipt)
        await self._judge(adapter.digest, receipt)

    def foreign(self) -> None:
        """An adapter that recorded no reference is coming in: get ready to ask for one. From any thread."""
        self._loop.call_soon_threadsafe(self._expectations.warm)

    async def settled(self) -> None:
        """Wait until every receipt stands in the catalog, or was given up."""
        await asyncio.gather(*self._writes, return_exceptions=True)

    async def close(self) -> None:
        """End the oracle; no receipt is left unwritten."""
        for digest in list(self._beside):
            self._drop(digest)
        await self._expectations.close()
        await self.settled()

    async def _check(self, adapter: EngineAdapter) -> Receipt:
        info = await self._engine.info()
        circumstances = Circumstances(form=self._form, engine=info.engine_version, kernel=info.lora_kernel)
        expected = await self._expected(adapter)
        return Receipt(
            source=expected.source,
            circumstances=circumstances,
            reference_form=expected.form,
            deltas=await self._compared(adapter, expected) if expected.probes else None,
            checked_at=datetime.now(UTC),
            why=expected.why,
        )

    async def _expected(self, adapter: EngineAdapter) -> Expected:
        # Taken before it is awaited: from now on nobody else ends it.
        beside = self._beside.pop(adapter.digest, None) or asyncio.ensure_future(self._expectations.recorded(adapter))
        return await beside or await self._expectations.asked(adapter)

    def _begin(self, digest: str, work: Coroutine[Any, Any, Expected | None]) -> None:
        """Unless it is known or under way. What fails is asked again by whoever needs it."""
        if digest in self._receipts or digest in self._beside:
            work.close()
            return

        def ended(task: asyncio.Task[Expected | None]) -> None:
            if (task.cancelled() or task.exception()) and self._beside.get(digest) is task:
                del self._beside[digest]

        while len(self._beside) >= _MAX_BESIDE:
            self._drop(next(iter(self._beside)))
        task = self._beside[digest] = asyncio.ensure_future(work)
        task.add_done_callback(ended)

    def _drop(self, digest: str) -> None:
        task = self._beside.pop(digest, None)
        if task is not None:
            task.cancel()

    async def _compared(self, adapter: EngineAdapter, expected: Expected) -> Deltas:
        served = await all_or_none([self._expectations.scored(probe, adapter) for probe in expected.probes])
        deltas = compare(reference=[row.logprobs for row in expected.probes], served=served, base=[expected.base])
        if deltas.base_mean_abs_delta > _CLOSE_TO_BASE or adapter.head is not None:
            return deltas
        # Is this no effect, or rounding that differs between batches? Asked together, they most likely share one.
        first = expected.probes[0]
        scored = self._expectations.scored
        same, base = await all_or_none([scored(first, adapter), scored(first, None)])
        apart = compare(reference=[base], served=[same], base=[base])
        return replace(deltas, base_mean_abs_delta=apart.mean_abs_delta)

    async def _judge(self, digest: str, receipt: Receipt) -> None:
        deltas = receipt.deltas
        if deltas is None:
            return
        name, said = self._name_of(digest), "log-probabilities (of a head: outputs)"
        over = f"over {deltas.num_tokens} probe tokens its {said}"
        if receipt.has_drifted:
            raise ParityFailed(
                f"{name} is not served as it was trained: {over} differ from those of {receipt.source} by "
                f"{deltas.mean_abs_delta:.4f} on average, and {MAX_MEAN_ABS_DELTA} is the limit in the same form "
                f"({self._form}): train or export it again on this base, or report a fault of the engine if its files "
                "are right"
            )
        if receipt.is_noop and not await self._noop_allowed(digest):
            raise ParityFailed(
                f"{name} changes nothing: {over} are the base's own (mean difference "
                f"{deltas.base_mean_abs_delta:.1e}): train it, or register it with allow_noop for a policy before its "
                "first step"
            )

    async def _noop_allowed(self, digest: str) -> bool:
        return any(record.kind == NOOP_RECORD for record in await self._records.of(digest))

    async def _remembered(self, digest: str) -> Receipt | None:
        """The latest receipt in the catalog that holds for this engine. Serving never waits long for the database."""
        info = await self._engine.info()
        circumstances = Circumstances(form=self._form, engine=info.engine_version, kernel=info.lora_kernel)
        try:
            async with asyncio.timeout(_CATALOG_SECONDS):
                records = await self._records.of(digest)
        except (GraftError, TimeoutError) as error:
            _log.warning("receipts of %s could not be read, it is checked again: %s", digest, error)
            return None
        for record in reversed(records):
            receipt = Receipt.from_body(record.body) if record.kind == KIND else None
            if receipt is not None and receipt.circumstances == circumstances and self._suffices(receipt):
                return receipt
        return None

    def _suffices(self, receipt: Receipt) -> bool:
        """One that compared nothing is no answer where there would be a comparison now."""
        return receipt.source is not Source.NONE or not self._expectations.asks_peft

    def _keep(self, digest: str, receipt: Receipt) -> None:
        task = watched(self._write(digest, receipt), f"writing the receipt of {digest}")
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    async def _write(self, digest: str, receipt: Receipt) -> None:
        await asyncio.sleep(_WRITE_AFTER_SECONDS)
        for attempt in range(1, _WRITE_TRIES + 1):
            try:
                await self._records.add(digest, KIND, receipt.body())
                return
            except Exception as error:
                _log.error("the receipt of %s was not written (try %d of %d): %s", digest, attempt, _WRITE_TRIES, error)
                await asyncio.sleep(_RETRY_SECONDS)
