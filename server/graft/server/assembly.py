"""Builds every part of a server from its settings and connects them. Nothing else builds any."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from graft.adapters.base.base import Base
from graft.adapters.catalog.catalog import Catalog
from graft.adapters.catalog.database import Database
from graft.adapters.compatibility import Limits
from graft.adapters.errors import GraftError, InvalidAdapter, InvalidBase
from graft.adapters.folder.head import read_head
from graft.adapters.folder.soft_prompt import virtual_tokens_in
from graft.adapters.form import ServingForm
from graft.adapters.store.staging import Staging
from graft.adapters.store.store import BlobStore
from graft.machine.processors import num_processors
from graft.server.admission.policy import Admission
from graft.server.admission.waiting import AdmissionQueue
from graft.server.api.doors import Doors, Ports
from graft.server.api.faults import is_servers
from graft.server.api.grpc import adapters, bases, inference, info
from graft.server.api.grpc.fine_tuning import files, jobs
from graft.server.api.grpc.fine_tuning.acting import Acting, Workers
from graft.server.api.grpc.grading.servicer import GradingServicer
from graft.server.api.grpc.prompts.runs import PromptRuns
from graft.server.api.grpc.prompts.servicer import PromptServicer
from graft.server.api.grpc.releases.servicer import ReleaseServicer
from graft.server.api.grpc.server import Servicers
from graft.server.api.http.operations import Models
from graft.server.api.tenants import check_worker_tenant, identify_by, read_tenants
from graft.server.engine.engine import EngineInfo
from graft.server.engine.factory import EngineFactory
from graft.server.engine.succession import Succession
from graft.server.engine.supervisor import Supervisor
from graft.server.engine.text import Text
from graft.server.files.catalog import FileCatalog
from graft.server.files.file import InvalidFile
from graft.server.files.files import Files
from graft.server.files.tables import MIGRATIONS as FILE_MIGRATIONS
from graft.server.grading.for_jobs import row_problems
from graft.server.grading.grading import Grading
from graft.server.grading.sandbox.limits import Limits as ScriptLimits
from graft.server.grading.sandbox.probe import NOT_ALLOWED, Unavailable, probed
from graft.server.grading.sandbox.sandbox import Sandbox
from graft.server.grading.served_judge import ServedJudge
from graft.server.jobs.catalog import JobCatalog
from graft.server.jobs.job import JobSpec, Start
from graft.server.jobs.jobs import Jobs
from graft.server.jobs.judging import Judging
from graft.server.jobs.names import JobNames
from graft.server.jobs.policy.lease import Term
from graft.server.jobs.start import find_start
from graft.server.jobs.store.needs import needed_by_jobs
from graft.server.jobs.tables import MIGRATIONS as JOB_MIGRATIONS
from graft.server.jobs.upkeep import Upkeep
from graft.server.management import Management
from graft.server.operations.metrics import Metrics
from graft.server.operations.readiness import Readiness
from graft.server.parity.effort import effort_of
from graft.server.parity.expectations import Expectations
from graft.server.parity.oracle_process import PeftProcess, peft_form
from graft.server.parity.parity import Parity
from graft.server.parity.receipt import VersionRecords
from graft.server.prompting.catalog.catalog import PromptCatalog
from graft.server.prompting.catalog.prompts import Prompts
from graft.server.prompting.catalog.quota import Quota
from graft.server.prompting.catalog.tables import MIGRATIONS as PROMPT_MIGRATIONS
from graft.server.prompting.rendering.chats import Chats
from graft.server.prompting.rendering.languages import Templates
from graft.server.prompting.rendering.lint import lint
from graft.server.prompting.rendering.process import TemplateProcess
from graft.server.prompting.running.programs import Programs
from graft.server.registry.accepting import AdapterUploads
from graft.server.registry.base_choice import choose_base, choose_form
from graft.server.registry.bases import BaseUploads
from graft.server.registry.chat_templates import ChatTemplates
from graft.server.registry.collection import Collection
from graft.server.registry.intents import Intents
from graft.server.registry.snapshots import Snapshots
from graft.server.registry.sums import Sums
from graft.server.registry.thread import CatalogThread
from graft.server.releases.catalog import RolloutCatalog
from graft.server.releases.releases import Releases
from graft.server.releases.tables import MIGRATIONS as RELEASE_MIGRATIONS
from graft.server.releases.traffic import Traffic, draw
from graft.server.residency.slots import Located, Slots
from graft.server.runtime.background import watched
from graft.server.runtime.phase import phase
from graft.server.serving import Serving
from graft.server.settings.settings import Settings

_log = logging.getLogger(__name__)
_MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running server: what it serves, its data and control planes, and where it listens."""

    base: Base
    form: ServingForm
    catalog: CatalogThread
    serving: Serving
    management: Management
    ports: Ports


class _Catalogs(NamedTuple):
    """What lies in the catalog's database, behind its one thread."""

    thread: CatalogThread
    snapshots: Snapshots
    prompts: Prompts
    files: FileCatalog
    jobs: JobCatalog
    job_names: JobNames
    rollouts: RolloutCatalog


class _Engine(NamedTuple):
    """The engine, its slots, and the check of what is loaded into them."""

    supervisor: Supervisor
    slots: Slots
    parity: Parity


@dataclass(frozen=True)
class Assembly:
    """Opens all parts in order; `resources` closes them in the opposite one. A step is given what earlier ones made."""

    settings: Settings
    engines: EngineFactory
    metrics: Metrics
    resources: AsyncExitStack
    readiness: Readiness = field(default_factory=Readiness)

    async def server(self, *, end: Callable[[float], None], failed: Callable[[str], None]) -> Server:
        """A caller of `Drain` asks for the server's `end`; a door that ceases to listen by itself has `failed`.

        Raises `InvalidSetting` for the tenants' file and who works, and what catalog, store, base, engine and ports do.
        """
        tenants = read_tenants(self.settings.tenants_file) if self.settings.tenants_file else {}
        check_worker_tenant(self.settings.worker_tenant, tenants)
        jinja = await self._start_templates()
        templates = Templates(jinja)
        with phase(_log, "reading the catalog and the base"):
            opened = await self._open_catalog(set(tenants.values()), templates)
        catalog, snapshots, registered = opened.thread, opened.snapshots, opened.prompts
        base, form = snapshots.base, snapshots.form
        settings, data = self.settings, self.settings.data_path
        store = await asyncio.to_thread(BlobStore, settings.store_url or str(data / "blobs"), local_dir=data / "local")
        engine = self._engine(catalog, snapshots, store)
        chats = Chats(jinja)
        chat_templates = ChatTemplates(store.read, chats)
        self.resources.callback(chat_templates.close)
        base_uploads = await self._open_base_uploads(catalog, base)
        await self._start(engine)
        tokenizer, facts = await self.engines.tokenizer(base), await engine.supervisor.info()
        limits = self._limits(facts)
        intents = await asyncio.to_thread(Intents, data / "intents")
        self.resources.callback(intents.close)
        uploads = await self._open_uploads(catalog, snapshots, store, engine, chat_templates, limits, intents)
        text = Text(tokenizer, vocab_size=base.vocab_size, max_model_tokens=facts.max_model_tokens, chats=chats)
        traffic = Traffic(self.metrics, is_servers)
        serving = self._serving(snapshots, engine, chat_templates, traffic)
        management = Management(catalog, snapshots, engine.slots, engine.parity, intents)
        for one in intents.left:
            await management.undo(one)
        releases = self._releases(opened, management, traffic, engine.parity)
        programs = Programs(registered, serving, text, templates)
        runs = PromptRuns(programs)
        sums = Sums(uploads, store, snapshots)
        collection = self._collection(catalog, store, engine.slots, opened.files)
        file_staging = await self._open_staging("file-staging", settings.max_file_mib * _MIB, InvalidFile)
        tenant_files = Files(opened.files, catalog, store, file_staging)
        workers = self._workers(has_tenants=bool(tenants))
        trainings = self._jobs(opened, tenant_files, workers.term)
        grading = await self._grading(serving, text)
        servicers = Servicers(
            inference=inference.InferenceServicer(serving, text),
            adapters=adapters.AdapterServicer(management, uploads, sums, collection, store),
            bases=bases.BaseServicer(base_uploads),
            prompts=PromptServicer(registered, preview=runs.preview, run=runs.run),
            files=files.FileServicer(tenant_files),
            jobs=jobs.JobServicer(trainings, workers, grading, base=base.name),
            grading=GradingServicer(grading),
            releases=ReleaseServicer(releases, trainings),
            server=info.ServerServicer(settings, base, form, serving, engine.supervisor, end=end),
            acting=Acting(trainings, workers),
        )
        doors = Doors(settings, identify_by(tenants), self.readiness, self.metrics)
        opening = doors.open(
            servicers,
            serving,
            text,
            Models(snapshots),
            programs,
            tenant_files,
            trainings,
            grading,
            releases,
            failed=failed,
        )
        return Server(
            base=base,
            form=form,
            catalog=catalog,
            serving=serving,
            management=management,
            ports=await self.resources.enter_async_context(opening),
        )

    async def _open_catalog(self, tenants: Set[str], templates: Templates) -> _Catalogs:
        settings, data = self.settings, self.settings.data_path
        data.mkdir(parents=True, exist_ok=True)
        url = settings.catalog_url or f"sqlite:///{data / 'catalog.db'}"
        database = await asyncio.to_thread(
            lambda: Database.open(
                url, migrations=[PROMPT_MIGRATIONS, FILE_MIGRATIONS, JOB_MIGRATIONS, RELEASE_MIGRATIONS]
            )
        )
        catalog = Catalog(database, needs=needed_by_jobs)
        try:
            registered = await asyncio.to_thread(catalog.bases)
            base = await asyncio.to_thread(choose_base, settings.base, registered, data=data)
            form = choose_form(base, settings.quantization)
            await asyncio.to_thread(catalog.check_base_name, base.name)
            await self.engines.check(settings, base, form)
            for tenant in sorted(tenants):
                await asyncio.to_thread(catalog.register_tenant, tenant)
            snapshots = Snapshots(base, form)
            thread = CatalogThread(catalog, written=snapshots.refresh)
            await thread.write(lambda one: one.register_base(base))
            quota = Quota(max_mib=settings.max_prompts_mib)
            programs = Prompts(PromptCatalog(database), thread, lint=partial(lint, templates=templates), quota=quota)
            await programs.refresh()
        except BaseException:
            catalog.close()
            raise
        self.resources.push_async_callback(thread.close)
        self.resources.callback(watched(programs.poll(), "reading programs that other servers changed").cancel)
        kept = FileCatalog(database, max_bytes=settings.max_files_mib * _MIB)
        trainings = JobCatalog(database, max_open=settings.max_jobs, fits=snapshots.check_servable)
        names = JobNames(database, publish=snapshots.know_fine_tuned)
        await thread.run(names.refresh)
        return _Catalogs(
            thread=thread,
            snapshots=snapshots,
            prompts=programs,
            files=kept,
            jobs=trainings,
            job_names=names,
            rollouts=RolloutCatalog(database),
        )

    async def _open_staging(self, name: str, max_bytes: int, refusal: type[GraftError]) -> Staging:
        folder = self.settings.data_path / name
        staging = await asyncio.to_thread(Staging, folder, max_bytes=max_bytes, refusal=refusal)
        self.resources.callback(staging.close)
        return staging

    async def _start_templates(self) -> TemplateProcess:
        """Ready before requests are: none of them waits for a process to start."""
        # As many of one tenant as may wait elsewhere: admission is where they are told to come later.
        process = TemplateProcess(max_waiting=self.settings.max_running + self.settings.max_queued)
        self.resources.push_async_callback(process.close)
        await process.start()
        return process

    async def _open_uploads(
        self,
        catalog: CatalogThread,
        snapshots: Snapshots,
        store: BlobStore,
        engine: _Engine,
        chat_templates: ChatTemplates,
        limits: Limits,
        intents: Intents,
    ) -> AdapterUploads:
        settings = self.settings

        def prepare(digest: str, folder: Path) -> None:
            if not virtual_tokens_in(folder):
                engine.supervisor.prepare(digest, folder)
            engine.parity.prepare(digest, folder)

        return AdapterUploads(
            catalog=catalog,
            snapshots=snapshots,
            store=store,
            staging=await self._open_staging("staging", limits.max_bytes, InvalidAdapter),
            limits=limits,
            import_roots=settings.import_roots,
            num_slots=settings.num_slots,
            prepare=prepare,
            foreign=engine.parity.foreign,
            chat_templates=chat_templates,
            intents=intents,
        )

    def _limits(self, engine: EngineInfo) -> Limits:
        return Limits(
            max_rank=self.settings.max_rank,
            max_bytes=self.settings.max_adapter_mib * _MIB,
            max_virtual_tokens=engine.max_virtual_tokens,
            max_labels=engine.max_labels,
        )

    async def _open_base_uploads(self, catalog: CatalogThread, served: Base) -> BaseUploads:
        max_bytes = self.settings.max_base_mib * _MIB
        return BaseUploads(
            catalog=catalog,
            staging=await self._open_staging("base-staging", max_bytes, InvalidBase),
            folder=self.settings.data_path / "bases",
            max_bytes=max_bytes,
            served=served,
        )

    def _engine(self, catalog: CatalogThread, snapshots: Snapshots, store: BlobStore) -> _Engine:
        settings, base, form = self.settings, snapshots.base, snapshots.form
        supervisor = Supervisor(
            Succession(self.engines, settings, base, form).next,
            canary_interval_seconds=settings.canary_interval_seconds,
            canary_timeout_seconds=settings.canary_timeout_seconds,
        )
        parity = Parity(
            supervisor,
            VersionRecords(catalog, snapshots),
            name_of=snapshots.name_of,
            form=form,
            mode=settings.parity,
            expectations=self._expectations(supervisor, base, form),
        )
        slots = Slots(
            supervisor,
            self._locator(snapshots, store, parity),
            num_slots=settings.num_slots,
            num_soft_prompts=settings.num_soft_prompts,
            is_soft_prompt=snapshots.is_soft_prompt,
            observer=self.metrics,
            expect=parity.expect,
            verify=lambda adapter: self.metrics.judged(
                parity.verify(adapter), compared=lambda: parity.has_compared(adapter.digest)
            ),
            distrust=supervisor.distrust,
        )
        return _Engine(supervisor, slots, parity)

    def _expectations(self, engine: Supervisor, base: Base, form: ServingForm) -> Expectations:
        settings, limit = self.settings, self.settings.parity_timeout_seconds
        effort = effort_of(base, peft_form(form), num_tokens=settings.parity_tokens, num_processors=num_processors())
        return Expectations(
            engine,
            PeftProcess(base.path, form, timeout_seconds=limit, effort=effort),
            form=form,
            mode=settings.parity,
            num_tokens=settings.parity_tokens,
            limit_seconds=limit,
        )

    def _locator(self, snapshots: Snapshots, store: BlobStore, parity: Parity) -> Callable[[str], Awaitable[Located]]:
        # A store that hangs must not take the threads of all else.
        threads = ThreadPoolExecutor(max(self.settings.num_slots, 1), thread_name_prefix="graft-fetch")
        self.resources.callback(threads.shutdown, wait=False, cancel_futures=True)

        async def locate(digest: str) -> Located:
            version = snapshots.version_of(digest)
            fetching = asyncio.get_running_loop().run_in_executor(threads, store.materialize, version)
            # The engine hears no more of a version that failed its check.
            folder, _ = await asyncio.gather(fetching, parity.recall(digest))
            head = await asyncio.to_thread(read_head, folder, version.num_labels) if version.num_labels else None
            return Located(
                folder=folder,
                size_bytes=version.size_bytes,
                num_virtual_tokens=version.num_virtual_tokens,
                head=head,
            )

        return locate

    async def _start(self, engine: _Engine) -> None:
        """Start the engine, with its listeners; it takes half a minute."""
        supervisor, slots, parity = engine
        self.metrics.resident.set_function(lambda: len(slots.view()))
        self.metrics.watch_disk(self.settings.data_path)
        supervisor.subscribe(self.metrics.engine_changed)
        supervisor.subscribe(self.readiness.engine_changed)
        await supervisor.start(restore=slots.restore)
        for close in (parity.settled, slots.close, parity.close, supervisor.close):
            self.resources.push_async_callback(close)

    def _releases(self, opened: _Catalogs, management: Management, traffic: Traffic, parity: Parity) -> Releases:
        releases = Releases(
            opened.rollouts,
            opened.thread,
            management,
            traffic,
            self.metrics,
            receipt=parity.receipt,
            parity_is_off=self.settings.parity == "off",
        )
        self.resources.push_async_callback(releases.counting.close)
        self.resources.callback(watched(releases.counting.run(), "looking after rollouts").cancel)
        return releases

    def _serving(
        self, snapshots: Snapshots, engine: _Engine, chat_templates: ChatTemplates, traffic: Traffic
    ) -> Serving:
        settings = self.settings
        admission = Admission(max_running=settings.max_running, max_queued=settings.max_queued)
        queue = AdmissionQueue(admission, slots=engine.slots, observed=self.metrics.admitted)
        return Serving(
            engine=engine.supervisor,
            openai=self.engines.openai(engine.supervisor, settings, snapshots.base),
            slots=engine.slots,
            snapshots=snapshots,
            queue=queue,
            readiness=self.readiness,
            metrics=self.metrics,
            receipt=engine.parity.receipt,
            chat_templates=chat_templates,
            draw=draw,
            watched=traffic.watched,
            default_deadline_seconds=settings.default_deadline_seconds,
        )

    def _workers(self, *, has_tenants: bool) -> Workers:
        term = Term(worker_seconds=self.settings.worker_silence_seconds)
        # Where there are tenants and none is the workers', the empty name is nobody's.
        return Workers(tenant=(self.settings.worker_tenant or "") if has_tenants else None, term=term)

    def _jobs(self, opened: _Catalogs, kept: Files, term: Term) -> Jobs:
        def start(spec: JobSpec, tenant: str) -> Start | None:
            return find_start(spec, opened.snapshots.current, tenant=tenant)

        trainings = Jobs(opened.jobs, opened.thread, opened.job_names, start=start, metrics=self.metrics.jobs)
        upkeep = Upkeep(
            trainings,
            opened.jobs,
            opened.thread,
            Judging(kept, row_problems=row_problems),
            opened.job_names,
            term=term,
            metrics=self.metrics.jobs,
        )
        self.resources.callback(watched(upkeep.read_names(), "reading what other servers' jobs made").cancel)
        self.resources.callback(watched(upkeep.read_files(), "reading the files of new jobs").cancel)
        self.resources.callback(watched(upkeep.look_after(), "looking after workers").cancel)
        return trainings

    async def _grading(self, serving: Serving, text: Text) -> Grading:
        settings = self.settings
        sandbox: Sandbox | Unavailable = NOT_ALLOWED
        if settings.python_graders:
            limits = ScriptLimits(
                seconds=settings.python_grader_seconds,
                memory_bytes=settings.python_grader_mib * _MIB,
                num_processes=settings.python_grader_processes,
            )
            python = settings.python_grader_executable or Path(sys.executable).resolve()
            sandbox = await asyncio.to_thread(probed, python=python, limits=limits)
            if isinstance(sandbox, Unavailable):
                _log.warning("python graders are refused: %s", sandbox.reason)
        grading = Grading(
            judge=ServedJudge(serving, text),
            sandbox=sandbox,
            num_sandboxes=settings.python_graders_at_once,
            max_waiting=settings.max_queued,
        )
        self.resources.callback(grading.close)
        return grading

    def _collection(self, catalog: CatalogThread, store: BlobStore, slots: Slots, kept: FileCatalog) -> Collection:
        def live_files() -> Set[str]:
            kept.forget_expired()
            return kept.live_digests()

        collection = Collection(
            catalog, store, in_use=lambda: frozenset(one.digest for one in slots.view()), kept=live_files
        )
        task = watched(collection.run(), "the collection of files of deleted versions")
        self.resources.callback(task.cancel)
        return collection
