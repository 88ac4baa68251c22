"""Builds every part of a server from its settings and connects them. Nothing else builds any."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from graft.adapters.base.base import Base
from graft.adapters.catalog.catalog import Catalog
from graft.adapters.compatibility import Limits
from graft.adapters.errors import GraftError, InvalidAdapter, InvalidBase
from graft.adapters.form import ServingForm
from graft.adapters.store.staging import Staging
from graft.adapters.store.store import BlobStore
from graft.server.admission.policy import Admission
from graft.server.admission.waiting import AdmissionQueue
from graft.server.api.doors import Ports, grpc_door, http_door, open_doors
from graft.server.api.grpc.adapters import AdapterServicer
from graft.server.api.grpc.bases import BaseServicer
from graft.server.api.grpc.inference import InferenceServicer
from graft.server.api.grpc.info import ServerServicer
from graft.server.api.grpc.server import GrpcServer, Servicers
from graft.server.api.http.operations import Models
from graft.server.api.http.server import HttpServer
from graft.server.api.tenants import identify_by, read_tenants
from graft.server.engine.factory import EngineFactory
from graft.server.engine.facts import EngineFacts
from graft.server.engine.supervisor import Supervisor
from graft.server.engine.text import Text
from graft.server.management import Management
from graft.server.operations.metrics import Metrics
from graft.server.operations.readiness import Readiness
from graft.server.parity.oracle_process import PeftProcess
from graft.server.parity.parity import Parity
from graft.server.registry.accepting import AdapterUploads
from graft.server.registry.base_choice import choose_base, choose_form
from graft.server.registry.bases import BaseUploads
from graft.server.registry.collection import Collection
from graft.server.registry.records import VersionRecords
from graft.server.registry.snapshots import Snapshots
from graft.server.registry.thread import CatalogThread
from graft.server.residency.slots import Located, Slots
from graft.server.runtime.background import watched
from graft.server.runtime.phase import phase
from graft.server.serving import Serving
from graft.server.settings.settings import Settings

_log = logging.getLogger(__name__)
_MIB = 2**20
_SETTLE_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running server: what it serves, its data and control planes, and where it listens."""

    base: Base
    form: ServingForm
    catalog: CatalogThread
    readiness: Readiness
    text: Text
    serving: Serving
    management: Management
    ports: Ports


async def assemble(
    settings: Settings,
    engines: EngineFactory,
    metrics: Metrics,
    resources: AsyncExitStack,
    *,
    end: Callable[[float], None] = lambda drain_seconds: None,
    failed: Callable[[str], None] = lambda reason: None,
) -> Server:
    """Open all parts in order; `resources` closes them in the opposite one.

    A caller of `Drain` asks for the server's `end`; a door that ceases to listen by itself has `failed`.
    Raises `InvalidSetting` for the tenants' file, and what the catalog, the store, the base, the engine and the ports
    do.
    """
    return await _Assembly(settings, engines, metrics, resources).server(end, failed)


class _Served(NamedTuple):
    """The base, how it is held, and the catalog of its adapters."""

    base: Base
    form: ServingForm
    catalog: CatalogThread
    snapshots: Snapshots


class _Engine(NamedTuple):
    """The engine, its slots, and the check of what is loaded into them."""

    supervisor: Supervisor
    slots: Slots
    parity: Parity


class _Assembly:
    """What every step reads. A step is given what earlier ones made."""

    def __init__(self, settings: Settings, engines: EngineFactory, metrics: Metrics, resources: AsyncExitStack) -> None:
        self._settings = settings
        self._engines = engines
        self._metrics = metrics
        self._resources = resources
        self._readiness = Readiness()
        self._tenants = read_tenants(settings.tenants_file) if settings.tenants_file else {}
        self._identify = identify_by(self._tenants)

    async def server(self, end: Callable[[float], None], failed: Callable[[str], None]) -> Server:
        with phase(_log, "reading the catalog and the base"):
            served = await self._open_catalog()
        store = await asyncio.to_thread(self._open_store)
        engine = self._engine(served, store)
        uploads = await self._open_uploads(served, store, engine)
        base_uploads = await self._open_base_uploads(served)
        await self._start(engine)
        facts = EngineFacts(engine.supervisor, await engine.supervisor.info())
        text = await self._text(served.base, facts)
        serving = self._serving(served, engine)
        management = Management(served.catalog, served.snapshots, engine.slots, engine.parity)
        servicers = Servicers(
            inference=InferenceServicer(serving, text),
            adapters=AdapterServicer(management, uploads, self._collection(served, store, engine)),
            bases=BaseServicer(base_uploads),
            server=self._info(served, serving, engine, facts, end),
        )
        doors = open_doors(self._grpc(servicers), self._http(served, serving, text, failed), self._settings)
        return Server(
            base=served.base,
            form=served.form,
            catalog=served.catalog,
            readiness=self._readiness,
            text=text,
            serving=serving,
            management=management,
            ports=await self._resources.enter_async_context(doors),
        )

    async def _open_catalog(self) -> _Served:
        settings, data = self._settings, self._settings.data_path
        data.mkdir(parents=True, exist_ok=True)
        catalog = await asyncio.to_thread(Catalog.open, settings.catalog_url or f"sqlite:///{data / 'catalog.db'}")
        try:
            registered = await asyncio.to_thread(catalog.bases)
            base = await asyncio.to_thread(choose_base, settings.base, registered, cache_dir=data / "hashes")
            form = choose_form(base, settings.quantization)
            await asyncio.to_thread(catalog.check_base_name, base.name)
            await self._engines.check(settings, base, form)
            for tenant in sorted(set(self._tenants.values())):
                await asyncio.to_thread(catalog.register_tenant, tenant)
            snapshots = Snapshots(base, form)
            thread = CatalogThread(catalog, written=snapshots.refresh)
            await thread.write(lambda one: one.register_base(base))
        except BaseException:
            catalog.close()
            raise
        self._resources.push_async_callback(thread.close)
        return _Served(base, form, thread, snapshots)

    def _open_store(self) -> BlobStore:
        data = self._settings.data_path
        return BlobStore(self._settings.store_url or str(data / "blobs"), local_dir=data / "local")

    async def _open_staging(self, name: str, max_bytes: int, refusal: type[GraftError]) -> Staging:
        folder = self._settings.data_path / name
        staging = await asyncio.to_thread(
            lambda: Staging(folder, max_file_bytes=max_bytes, max_bytes=max_bytes, refusal=refusal)
        )
        self._resources.callback(staging.close)
        return staging

    async def _open_uploads(self, served: _Served, store: BlobStore, engine: _Engine) -> AdapterUploads:
        settings, max_bytes = self._settings, self._settings.max_adapter_mib * _MIB

        def prepare(digest: str, folder: Path) -> None:
            engine.supervisor.prepare(digest, folder)
            engine.parity.prepare(digest, folder)

        return AdapterUploads(
            catalog=served.catalog,
            snapshots=served.snapshots,
            store=store,
            staging=await self._open_staging("staging", max_bytes, InvalidAdapter),
            base=served.base,
            form=served.form,
            limits=Limits(max_rank=settings.max_rank, max_bytes=max_bytes),
            max_adapter_bytes=max_bytes,
            import_roots=settings.import_roots,
            num_slots=settings.num_slots,
            prepare=prepare,
            foreign=engine.parity.foreign,
        )

    async def _open_base_uploads(self, served: _Served) -> BaseUploads:
        max_bytes = self._settings.max_base_mib * _MIB
        return BaseUploads(
            catalog=served.catalog,
            staging=await self._open_staging("base-staging", max_bytes, InvalidBase),
            folder=self._settings.data_path / "bases",
            max_bytes=max_bytes,
            served=served.base,
        )

    def _engine(self, served: _Served, store: BlobStore) -> _Engine:
        settings = self._settings
        base, form, catalog, snapshots = served
        supervisor = Supervisor(
            lambda: self._engines.start(settings, base, form),
            canary_interval_seconds=settings.canary_interval_seconds,
            canary_timeout_seconds=settings.canary_timeout_seconds,
        )
        parity = Parity(
            supervisor,
            VersionRecords(catalog, snapshots),
            name_of=snapshots.name_of,
            form=form,
            mode=settings.parity,
            num_tokens=settings.parity_tokens,
            oracle=PeftProcess(base.path, form, timeout_seconds=settings.parity_timeout_seconds),
        )
        slots = Slots(
            supervisor,
            self._locator(snapshots, store, parity),
            num_slots=settings.num_slots,
            observer=self._metrics,
            expect=parity.expect,
            verify=parity.verify,
            distrust=supervisor.distrust,
        )
        return _Engine(supervisor, slots, parity)

    def _locator(self, snapshots: Snapshots, store: BlobStore, parity: Parity) -> Callable[[str], Awaitable[Located]]:
        # A store that hangs must not take the threads of all else.
        threads = ThreadPoolExecutor(max(self._settings.num_slots, 1), thread_name_prefix="graft-fetch")
        self._resources.callback(threads.shutdown, wait=False, cancel_futures=True)

        async def locate(digest: str) -> Located:
            version = snapshots.version_of(digest)
            fetching = asyncio.get_running_loop().run_in_executor(threads, store.materialize, version)
            # The engine hears no more of a version that failed its check.
            folder, _ = await asyncio.gather(fetching, parity.recall(digest))
            return Located(folder=folder, size_bytes=version.size_bytes)

        return locate

    async def _start(self, engine: _Engine) -> None:
        """Start the engine, with its listeners; it takes half a minute."""
        supervisor, slots, parity = engine
        self._metrics.resident.set_function(lambda: len(slots.view()))
        supervisor.subscribe(
            lambda now: self._metrics.engine_changed(
                now.ready, now.num_restarts, num_failures=now.num_failures, cause=now.cause
            )
        )
        supervisor.subscribe(lambda now: self._readiness.engine_changed(now.ready, now.why))
        await supervisor.start(restore=slots.restore)
        self._resources.push_async_callback(parity.settled)
        self._resources.push_async_callback(_settle, slots)
        self._resources.push_async_callback(parity.close)
        self._resources.push_async_callback(supervisor.close)

    async def _text(self, base: Base, facts: EngineFacts) -> Text:
        tokenizer = await self._engines.tokenizer(base)
        return Text(tokenizer, vocab_size=base.vocab_size, max_model_tokens=facts.last.max_model_tokens)

    def _serving(self, served: _Served, engine: _Engine) -> Serving:
        settings = self._settings
        admission = Admission(max_running=settings.max_running, max_queued=settings.max_queued)
        queue = AdmissionQueue(admission, observed=self._metrics.admitted)
        queue.watch(engine.slots)
        return Serving(
            engine=engine.supervisor,
            openai=self._engines.openai(engine.supervisor, served.base),
            slots=engine.slots,
            snapshots=served.snapshots,
            queue=queue,
            readiness=self._readiness,
            metrics=self._metrics,
            base=served.base,
            form=served.form,
            receipt=engine.parity.receipt,
            default_deadline_seconds=settings.default_deadline_seconds,
        )

    def _collection(self, served: _Served, store: BlobStore, engine: _Engine) -> Collection:
        collection = Collection(
            served.catalog, store, in_use=lambda: frozenset(one.digest for one in engine.slots.view())
        )
        task = watched(collection.run(), "the collection of files of deleted versions")
        self._resources.callback(task.cancel)
        return collection

    def _info(
        self, served: _Served, serving: Serving, engine: _Engine, facts: EngineFacts, end: Callable[[float], None]
    ) -> ServerServicer:
        return ServerServicer(
            self._settings,
            base=served.base,
            form=served.form,
            serving=serving,
            readiness=self._readiness,
            engine_info=facts,
            num_restarts=lambda: engine.supervisor.num_restarts,
            end=end,
        )

    def _grpc(self, servicers: Servicers) -> GrpcServer:
        return grpc_door(
            servicers, self._settings, identify=self._identify, readiness=self._readiness, metrics=self._metrics
        )

    def _http(self, served: _Served, serving: Serving, text: Text, failed: Callable[[str], None]) -> HttpServer:
        return http_door(
            self._settings,
            serving=serving,
            text=text,
            models=Models(served.snapshots, served.base),
            identify=self._identify,
            readiness=self._readiness,
            metrics=self._metrics,
            failed=failed,
        )


async def _settle(slots: Slots) -> None:
    try:
        await asyncio.wait_for(slots.close(), _SETTLE_SECONDS)
    except TimeoutError:
        _log.warning("loads were still under way %.0f s after the engine was closed", _SETTLE_SECONDS)
