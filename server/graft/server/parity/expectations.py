"""What a version should say: as its trainer recorded it, else as peft computes it, where that is wanted and can be."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from graft.adapters.folder.reference import Reference, ReferenceRow
from graft.adapters.form import ServingForm
from graft.server.engine.engine import Engine, EngineAdapter, Sampling
from graft.server.errors import ParityFailed, ParityUnavailable
from graft.server.parity.headed import told
from graft.server.parity.oracle_process import PEFT_FORMS, Unmeasurable
from graft.server.parity.probes import choose_probes
from graft.server.parity.receipt import Source
from graft.server.settings.settings import ParityMode

_log = logging.getLogger(__name__)

# What was computed is kept until it has been compared: an engine may end in between.
_MAX_KEPT = 64
_TRIES = 2
_FIRST_TOKEN = 1  # every vocabulary has it


class Oracle(Protocol):
    """Says what an adapter without a recorded reference should say."""

    @property
    def in_layers(self) -> bool:
        """Whether `scored` is to be asked, else `reference`."""
        ...

    @property
    def expected_seconds(self) -> float:
        """How long one answer takes."""
        ...

    async def reference(self, folder: Path, *, num_rows: int, num_tokens: int) -> Reference:
        """Raises `ParityFailed`, `ParityUnavailable`."""
        ...

    async def scored(self, folder: Path, rows: Sequence[Sequence[int]]) -> Reference:
        """Raises `ParityFailed`, `ParityUnavailable`, of it `Unmeasurable`."""
        ...

    def warm(self) -> None:
        """One may be asked for soon."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What a version is compared with: a reference's probes, and what the base alone says of the first. Or nothing,
    with the reason where there is one.
    """

    source: Source = Source.NONE
    form: ServingForm | None = None
    probes: Sequence[ReferenceRow] = ()
    base: Sequence[float] = ()
    why: str = ""


class Expectations:
    """Where probes come from."""

    def __init__(
        self,
        engine: Engine,
        oracle: Oracle,
        *,
        form: ServingForm,
        mode: ParityMode,
        num_tokens: int,
        limit_seconds: float,
    ) -> None:
        """With mode `auto`, peft is not asked where it is expected to take longer than `limit_seconds`."""
        self._engine = engine
        self._oracle = oracle
        self._form = form
        self._mode = mode
        self._num_tokens = num_tokens
        self._limit_seconds = limit_seconds
        self._references: OrderedDict[str, Reference] = OrderedDict()
        self._failures: Counter[str] = Counter()
        if mode == "auto" and not self.asks_peft:
            _log.info("adapters that bring no reference are served without a measurement: %s", self._too_long())

    @property
    def asks_peft(self) -> bool:
        """Whether an adapter that brought no reference is measured."""
        in_time = self._oracle.expected_seconds <= self._limit_seconds
        return self._mode == "full" or (self._mode == "auto" and in_time)

    def warm(self) -> None:
        """Peft may be asked soon."""
        if self.asks_peft:
            self._oracle.warm()

    async def close(self) -> None:
        await self._oracle.close()

    async def recorded(self, adapter: EngineAdapter) -> Expected | None:
        """From the adapter's own reference.json; None where it has none that could be used, or brings a head, too."""
        if adapter.head is not None:
            return None
        reference = await asyncio.to_thread(Reference.read, adapter.path)
        return None if reference is None else await self.of_trainer(reference, adapter.num_virtual_tokens)

    async def of_trainer(self, reference: Reference, num_virtual_tokens: int) -> Expected | None:
        """None where no row fits the context behind the adapter's virtual tokens: that is no record."""
        room = await self._room() - num_virtual_tokens
        return await self._probed(
            Source.TRAINER, reference, choose_probes(reference, max_tokens=self._num_tokens, max_model_tokens=room)
        )

    async def asked(self, adapter: EngineAdapter) -> Expected:
        """From peft, where that is to be asked. Raises `ParityFailed`, `ParityUnavailable`."""
        if not self.asks_peft:
            return Expected(why=self._too_long() if self._mode == "auto" else "")
        try:
            reference = await self._reference(adapter)
        except (ParityFailed, ParityUnavailable) as error:
            return self._without(adapter.digest, error)
        room = await self._room() - adapter.num_virtual_tokens
        if adapter.head is not None:
            probes = tuple(row for row in reference.rows if len(row.token_ids) < room)
            return Expected(
                source=Source.PEFT, form=reference.form, probes=probes, base=[0.0] * adapter.head.num_labels
            )
        probes = choose_probes(reference, max_tokens=self._num_tokens, max_model_tokens=room)
        return await self._probed(Source.PEFT, reference, probes) or Expected()

    async def scored(self, probe: ReferenceRow, adapter: EngineAdapter | None) -> list[float]:
        """What the engine says: natural logarithms for the tokens behind the probe's prompt, or what the adapter's head
        says of it (`headed.told`).
        """
        if adapter is not None and adapter.head is not None:
            found = await self._engine.classify(probe.token_ids, request_id=_request_id(), adapter=adapter)
            return told(found.logits)
        start = probe.num_prompt_tokens
        score = await self._engine.score(
            probe.token_ids[:start], probe.token_ids[start:], request_id=_request_id(), adapter=adapter
        )
        return [token.logprob for token in score.tokens]

    def _without(self, digest: str, error: ParityFailed | ParityUnavailable) -> Expected:
        """Nothing, where that is right; raises the error where it is not."""
        if self._form not in PEFT_FORMS:
            # In another form it would only be measured; not every packed folder can be loaded by transformers.
            _log.warning("no reference in a form like %s: %s", self._form, error)
            return Expected()
        self._failures[digest] += 1
        lost = isinstance(error, Unmeasurable) or self._failures[digest] >= _TRIES
        if self._mode == "auto" and lost and not isinstance(error, ParityFailed):
            _log.warning("%s is served without a measurement: %s", digest, error)
            return Expected(why=str(error))
        if isinstance(error, Unmeasurable):
            raise ParityFailed(str(error)) from error
        raise error

    def _too_long(self) -> str:
        seconds, limit = self._oracle.expected_seconds, self._limit_seconds
        return (
            f"peft would take about {seconds:.0f} s for each on this base, and {limit:g} s are the limit: start the "
            "server with a longer --parity-timeout-seconds, or with --parity full"
        )

    async def _reference(self, adapter: EngineAdapter) -> Reference:
        found = self._references.get(adapter.digest)
        if found is None and self._oracle.in_layers:
            found = await self._oracle.scored(adapter.path, [await self._drawn(adapter)])
        elif found is None:
            found = await self._oracle.reference(adapter.path, num_rows=1, num_tokens=self._num_tokens)
        self._references[adapter.digest] = found
        while len(self._references) > _MAX_KEPT:
            self._references.popitem(last=False)
        return found

    async def _drawn(self, adapter: EngineAdapter) -> list[int]:
        """Tokens that the served adapter goes on to say at temperature 1, or the base for one with a head.

        One that is served wrongly draws what it should find unlikely, and is found out all the same.
        """
        num_tokens = min(self._num_tokens, await self._room() - adapter.num_virtual_tokens - 1) - 1
        says = adapter if adapter.head is None else None  # a head says no text
        sampling = Sampling(max_tokens=num_tokens, temperature=1.0, seed=0, ignore_eos=True)
        row = [_FIRST_TOKEN]
        async for delta in self._engine.generate(row[:1], sampling, request_id=_request_id(), adapter=says):
            row += delta.token_ids
        return row

    async def _room(self) -> int:
        return (await self._engine.info()).max_model_tokens

    async def _probed(self, source: Source, reference: Reference, probes: tuple[ReferenceRow, ...]) -> Expected | None:
        if not probes:
            return None
        # One probe without the adapter tells a no-op as well as all would.
        base = await self.scored(probes[0], None)
        return Expected(source=source, form=reference.form, probes=probes, base=base)


def _request_id() -> str:
    return f"parity-{uuid.uuid4().hex}"
