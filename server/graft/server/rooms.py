"""The parts of a server that talk to no network: catalog, store, engine and what stands between them."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from graft.adapters.base.base import Base
from graft.adapters.catalog.catalog import Catalog
from graft.adapters.compatibility import Limits
from graft.adapters.errors import GraftError, InvalidAdapter, InvalidBase
from graft.adapters.form import ServingForm
from graft.adapters.store.staging import Staging
from graft.adapters.store.store import BlobStore
from graft.server.admission.policy import Admission
from graft.server.admission.waiting import AdmissionQueue
from graft.server.engine.facts import EngineFacts
from graft.server.engine.supervisor import Supervisor
from graft.server.engine.text import Text
from graft.server.machinery import Machinery, OpenAIVerbs
from graft.server.management import Management
from graft.server.operations.logs import phase
from graft.server.operations.metrics import Metrics
from graft.server.operations.readiness import Readiness
from graft.server.parity.oracle_process import PeftProcess
from graft.server.parity.parity import Parity
from graft.server.registry.accepting import AdapterUploads
from graft.server.registry.base_choice import choose_base, choose_form
from graft.server.registry.bases import BaseUploads
from graft.server.registry.collection import Collection
from graft.server.registry.registry import Registry
from graft.server.residency.slots import Located, Slots
from graft.server.runtime.background import watched
from graft.server.serving import Serving
from graft.server.settings.settings import Settings

_log = logging.getLogger(__name__)
_MIB = 2**20
_SETTLE_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Rooms:
    """Everything that the fronts need."""

    settings: Settings
    base: Base
    form: ServingForm
    serving: Serving
    management: Management
    uploads: AdapterUploads
    base_uploads: BaseUploads
    collection: Collection
    registry: Registry
    readiness: Readiness
    metrics: Metrics
    supervisor: Supervisor
    facts: EngineFacts
    text: Text
    openai: OpenAIVerbs


async def open_rooms(settings: Settings, machinery: Machinery, metrics: Metrics, resources: AsyncExitStack) -> Rooms:
    """Open all in order; `resources` closes them in the opposite one.

    Raises what the catalog, the store, the base and the engine do.
    """
    readiness = Readiness()
    with phase(_log, "reading the catalog and the base"):
        base, form, registry = await _open_registry(settings, machinery, resources)
    store, staging = await _open_store(settings, resources)
    base_staging = await _open_staging(
        settings.data_path / "base-staging", settings.max_base_mib * _MIB, resources, refusal=InvalidBase
    )
    supervisor, slots, parity = await _start_engine(
        settings, machinery, base, form, registry, store, readiness, metrics, resources
    )
    facts = EngineFacts(supervisor, await supervisor.info())
    admission = Admission(max_running=settings.max_running, max_queued=settings.max_queued)
    queue = AdmissionQueue(admission, observed=metrics.admitted)
    queue.watch(slots)
    serving = Serving(
        engine=supervisor,
        slots=slots,
        registry=registry,
        queue=queue,
        readiness=readiness,
        metrics=metrics,
        base=base,
        form=form,
        receipt=parity.receipt,
        default_deadline_seconds=settings.default_deadline_seconds,
    )

    def prepare(digest: str, folder: Path) -> None:
        supervisor.prepare(digest, folder)
        parity.prepare(digest, folder)

    max_adapter_bytes = settings.max_adapter_mib * _MIB
    uploads = AdapterUploads(
        registry=registry,
        store=store,
        staging=staging,
        base=base,
        form=form,
        limits=Limits(max_rank=settings.max_rank, max_bytes=max_adapter_bytes),
        max_adapter_bytes=max_adapter_bytes,
        import_roots=settings.import_roots,
        num_slots=settings.num_slots,
        prepare=prepare,
        foreign=parity.foreign,
    )
    collection = await _open_collection(registry, store, slots, resources)
    base_uploads = BaseUploads(
        registry=registry,
        staging=base_staging,
        folder=settings.data_path / "bases",
        max_bytes=settings.max_base_mib * _MIB,
        served=base,
    )
    text = Text(
        await machinery.tokenizer(base.path),
        vocab_size=base.vocab_size,
        max_model_tokens=facts.last.max_model_tokens,
    )
    return Rooms(
        settings=settings,
        base=base,
        form=form,
        serving=serving,
        management=Management(registry, slots, parity),
        uploads=uploads,
        base_uploads=base_uploads,
        collection=collection,
        registry=registry,
        readiness=readiness,
        metrics=metrics,
        supervisor=supervisor,
        facts=facts,
        text=text,
        openai=await machinery.openai(supervisor, settings, base),
    )


async def _open_registry(
    settings: Settings, machinery: Machinery, resources: AsyncExitStack
) -> tuple[Base, ServingForm, Registry]:
    data = settings.data_path
    data.mkdir(parents=True, exist_ok=True)
    url = settings.catalog_url or f"sqlite:///{data / 'catalog.db'}"
    catalog = await asyncio.to_thread(Catalog.open, url)
    try:
        registered = await asyncio.to_thread(catalog.bases)
        base = await asyncio.to_thread(choose_base, settings.base, registered, cache_dir=data / "hashes")
        form = choose_form(base, settings.quantization)
        await asyncio.to_thread(catalog.check_base_name, base.name)
        await machinery.check(settings, base)
        registry = await Registry.open(catalog, base=base, form=form)
    except BaseException:
        catalog.close()
        raise
    resources.push_async_callback(registry.close)
    return base, form, registry


async def _open_store(settings: Settings, resources: AsyncExitStack) -> tuple[BlobStore, Staging]:
    data = settings.data_path
    url = settings.store_url or str(data / "blobs")
    store = await asyncio.to_thread(lambda: BlobStore(url, local_dir=data / "local"))
    return store, await _open_staging(data / "staging", settings.max_adapter_mib * _MIB, resources)


async def _open_collection(registry: Registry, store: BlobStore, slots: Slots, resources: AsyncExitStack) -> Collection:
    collection = Collection(registry, store, in_use=lambda: frozenset(one.digest for one in slots.view()))
    task = watched(collection.run(), "the collection of files of deleted versions")
    resources.callback(task.cancel)
    return collection


async def _open_staging(
    folder: Path, max_bytes: int, resources: AsyncExitStack, *, refusal: type[GraftError] = InvalidAdapter
) -> Staging:
    staging = await asyncio.to_thread(
        lambda: Staging(folder, max_file_bytes=max_bytes, max_bytes=max_bytes, refusal=refusal)
    )
    resources.callback(staging.close)
    return staging


async def _start_engine(
    settings: Settings,
    machinery: Machinery,
    base: Base,
    form: ServingForm,
    registry: Registry,
    store: BlobStore,
    readiness: Readiness,
    metrics: Metrics,
    resources: AsyncExitStack,
) -> tuple[Supervisor, Slots, Parity]:
    # A store that hangs must not take the threads of all else.
    fetching = ThreadPoolExecutor(max_workers=max(settings.num_slots, 1), thread_name_prefix="graft-fetch")
    resources.callback(fetching.shutdown, wait=False, cancel_futures=True)

    async def locate(digest: str) -> Located:
        version = registry.version_of(digest)
        # The engine hears no more of a version that failed its check.
        folder, _ = await asyncio.gather(
            asyncio.get_running_loop().run_in_executor(fetching, store.materialize, version), parity.recall(digest)
        )
        return Located(folder=folder, size_bytes=version.size_bytes)

    supervisor = Supervisor(
        lambda: machinery.start_engine(settings, base),
        restored=lambda engine: slots.restore(engine),
        canary_interval_seconds=settings.canary_interval_seconds,
        canary_timeout_seconds=settings.canary_timeout_seconds,
    )
    parity = Parity(
        supervisor,
        registry,
        form=form,
        mode=settings.parity,
        num_tokens=settings.parity_tokens,
        oracle=PeftProcess(base.path, form, timeout_seconds=settings.parity_timeout_seconds),
    )
    slots = Slots(
        supervisor,
        locate,
        num_slots=settings.num_slots,
        observer=metrics,
        expect=parity.expect,
        verify=parity.verify,
        distrust=supervisor.distrust,
    )
    metrics.resident.set_function(lambda: len(slots.view()))
    supervisor.subscribe(
        lambda now: metrics.engine_changed(now.ready, now.num_restarts, num_failures=now.num_failures, cause=now.cause)
    )
    supervisor.subscribe(lambda now: readiness.engine_changed(now.ready, now.why))
    await supervisor.start()
    resources.push_async_callback(parity.settled)
    resources.push_async_callback(_settle, slots)
    resources.push_async_callback(parity.close)
    resources.push_async_callback(supervisor.close)
    return supervisor, slots, parity


async def _settle(slots: Slots) -> None:
    try:
        async with asyncio.timeout(_SETTLE_SECONDS):
            await slots.close()
    except TimeoutError:
        _log.warning("loads were still under way %.0f s after the engine was closed", _SETTLE_SECONDS)
