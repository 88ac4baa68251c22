"""Is what is served what was trained? Checked after a version's first load, before anybody is answered by it."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from graft.adapters.errors import GraftError
from graft.adapters.form import ServingForm
from graft.adapters.reference import Reference, ReferenceRow
from graft.server.engine.engine import Engine, EngineAdapter
from graft.server.engine.peft_process import PEFT_FORMS
from graft.server.errors import ParityFailed, ParityUnavailable
from graft.server.parity.probes import choose_probes
from graft.server.parity.receipt import KIND, MAX_MEAN_ABS_DELTA, Circumstances, Deltas, Receipt, Source, compare
from graft.server.patience import all_or_none
from graft.server.registry import NOOP_RECORD, Registry
from graft.server.settings import ParityMode

_log = logging.getLogger(__name__)

_NUM_ROWS = 2
_CATALOG_SECONDS = 2.0
# So the receipt's commit stands behind that of the alias that is about to move, not before it.
_WRITE_AFTER_SECONDS = 0.05
_WRITE_TRIES = 3
_RETRY_SECONDS = 1.0


class Oracle(Protocol):
    """Says what an adapter without a recorded reference should say."""

    async def reference(self, folder: Path, *, num_rows: int, num_tokens: int) -> Reference:
        """Raises `ParityFailed`, `ParityUnavailable`."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class _Expected:
    """What a version is compared with: tokens, their reference, and what the base alone says of the first probe."""

    source: Source
    reference: Reference | None
    probes: Sequence[ReferenceRow] = ()
    base: Sequence[float] = ()


class Parity:
    """Receipts by version digest, for this form, engine and kernel. One that was written is not asked for again."""

    def __init__(
        self,
        engine: Engine,
        registry: Registry,
        *,
        form: ServingForm,
        mode: ParityMode,
        num_tokens: int,
        oracle: Oracle,
    ) -> None:
        self._engine = engine
        self._registry = registry
        self._form = form
        self._mode = mode
        self._num_tokens = num_tokens
        self._oracle = oracle
        self._receipts: dict[str, Receipt] = {}
        self._expected: dict[str, asyncio.Task[_Expected]] = {}
        self._writes: set[asyncio.Task[None]] = set()

    def receipt(self, digest: str) -> Receipt | None:
        """The receipt of a version that was loaded; None where none was checked."""
        return self._receipts.get(digest)

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
        await self._judge(digest, self._receipts[digest])

    def expect(self, adapter: EngineAdapter) -> None:
        """Beside a load: begin with what the check needs and the adapter is not needed for."""
        if self._mode == "off" or adapter.digest in self._receipts:
            return
        self._drop(adapter.digest)
        self._expected[adapter.digest] = asyncio.create_task(self._gather(adapter.path))

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

    async def settled(self) -> None:
        """Wait until every receipt stands in the catalog, or was given up."""
        await asyncio.gather(*self._writes, return_exceptions=True)

    async def close(self) -> None:
        """End the oracle; no receipt is left unwritten."""
        for digest in list(self._expected):
            self._drop(digest)
        await self._oracle.close()
        await self.settled()

    async def _check(self, adapter: EngineAdapter) -> Receipt:
        info = await self._engine.info()
        circumstances = Circumstances(form=self._form, engine=info.engine_version, kernel=info.lora_kernel)
        if adapter.digest not in self._expected:
            self.expect(adapter)
        expected = await self._take(adapter.digest)
        deltas = await self._compared(adapter, expected) if expected.probes else None
        return Receipt(
            source=expected.source if deltas else Source.NONE,
            circumstances=circumstances,
            reference_form=expected.reference.form if expected.reference and deltas else None,
            deltas=deltas,
            checked_at=datetime.now(UTC),
        )

    async def _take(self, digest: str) -> _Expected:
        try:
            return await self._expected[digest]
        finally:
            self._drop(digest)

    def _drop(self, digest: str) -> None:
        task = self._expected.pop(digest, None)
        if task is not None and not task.done():
            task.cancel()
        elif task is not None and not task.cancelled():
            task.exception()  # seen: a load that failed meanwhile leaves nobody to ask

    async def _gather(self, folder: Path) -> _Expected:
        source, reference = await self._reference(folder)
        if reference is None:
            return _Expected(source=source, reference=None)
        room = (await self._engine.info()).max_model_tokens
        probes = choose_probes(reference, max_tokens=self._num_tokens, max_model_tokens=room)
        # One probe without the adapter tells a no-op as well as all would.
        base = await self._scored(probes[0], None) if probes else ()
        return _Expected(source=source, reference=reference, probes=probes, base=base)

    async def _reference(self, folder: Path) -> tuple[Source, Reference | None]:
        recorded = await asyncio.to_thread(Reference.read, folder)
        if recorded is not None or self._mode != "full":
            return Source.TRAINER, recorded
        num_tokens = max(2, self._num_tokens // _NUM_ROWS)
        try:
            return Source.PEFT, await self._oracle.reference(folder, num_rows=_NUM_ROWS, num_tokens=num_tokens)
        except (ParityFailed, ParityUnavailable) as error:
            if self._form in PEFT_FORMS:
                raise
            # In another form it would only be measured; not every packed folder can be loaded by transformers.
            _log.warning("no reference in a form like %s: %s", self._form, error)
            return Source.NONE, None

    async def _compared(self, adapter: EngineAdapter, expected: _Expected) -> Deltas:
        return compare(
            reference=[probe.logprobs for probe in expected.probes],
            served=await all_or_none([self._scored(probe, adapter) for probe in expected.probes]),
            base=[expected.base],
        )

    async def _scored(self, probe: ReferenceRow, adapter: EngineAdapter | None) -> list[float]:
        start = probe.num_prompt_tokens
        score = await self._engine.score(
            probe.token_ids[:start],
            probe.token_ids[start:],
            request_id=f"parity-{uuid.uuid4().hex}",
            adapter=adapter,
        )
        return [token.logprob for token in score.tokens]

    async def _judge(self, digest: str, receipt: Receipt) -> None:
        if receipt.deltas is None:
            return
        if receipt.has_drifted:
            raise ParityFailed(
                f"{digest} is not served as it was trained: over {receipt.deltas.num_tokens} probe tokens its "
                f"log-probabilities differ from those of {receipt.source} by {receipt.deltas.mean_abs_delta:.4f} on "
                f"average, and {MAX_MEAN_ABS_DELTA} is the limit in the same form ({self._form}): train or export it "
                "again on this base, or report a fault of the engine if its files are right"
            )
        if receipt.is_noop and not await self._noop_allowed(digest):
            raise ParityFailed(
                f"{digest} changes nothing: over {receipt.deltas.num_tokens} probe tokens its log-probabilities are "
                f"the base's own (mean difference {receipt.deltas.base_mean_abs_delta:.1e}): train it, or register it "
                "with allow_noop for a policy before its first step"
            )

    async def _noop_allowed(self, digest: str) -> bool:
        return any(record.kind == NOOP_RECORD for record in await self._registry.records_of(digest))

    async def _remembered(self, digest: str) -> Receipt | None:
        """The latest receipt in the catalog that holds for this engine. Serving never waits long for the database."""
        info = await self._engine.info()
        circumstances = Circumstances(form=self._form, engine=info.engine_version, kernel=info.lora_kernel)
        try:
            records = await asyncio.wait_for(self._registry.records_of(digest), _CATALOG_SECONDS)
        except (GraftError, TimeoutError) as error:
            _log.warning("receipts of %s could not be read, it is checked again: %s", digest, error)
            return None
        for record in reversed(records):
            receipt = Receipt.from_body(record.body) if record.kind == KIND else None
            if receipt is not None and receipt.circumstances == circumstances and self._suffices(receipt):
                return receipt
        return None

    def _suffices(self, receipt: Receipt) -> bool:
        return receipt.source is not Source.NONE or self._mode != "full"

    def _keep(self, digest: str, receipt: Receipt) -> None:
        task = asyncio.create_task(self._write(digest, receipt))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    async def _write(self, digest: str, receipt: Receipt) -> None:
        await asyncio.sleep(_WRITE_AFTER_SECONDS)
        for attempt in range(1, _WRITE_TRIES + 1):
            try:
                await self._registry.add_record(digest, KIND, receipt.body())
                return
            except Exception as error:
                _log.error("the receipt of %s was not written (try %d of %d): %s", digest, attempt, _WRITE_TRIES, error)
                await asyncio.sleep(_RETRY_SECONDS)
