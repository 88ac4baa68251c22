"""What can be done with releases: decide by a gate's report, begin, promote and take back canaries, take outcomes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from graft.adapters.adapter import STABLE, AdapterVersion
from graft.adapters.errors import Conflict, IncompatibleAdapter
from graft.server.engine.engine import LoadFailed
from graft.server.errors import ParityFailed
from graft.server.management import Management
from graft.server.operations.metrics import Metrics
from graft.server.parity.receipt import Receipt
from graft.server.registry.thread import CatalogThread
from graft.server.releases.catalog import RolloutCatalog
from graft.server.releases.counting import Counting
from graft.server.releases.moving import Moves
from graft.server.releases.policy.canary import CanarySpec
from graft.server.releases.policy.gate import GateReport, GateSpec, Parity, decide
from graft.server.releases.policy.stages import Stage
from graft.server.releases.rollout import Rollout, rollout_ids
from graft.server.releases.store.rows import gate_row, report_row
from graft.server.releases.traffic import Traffic

_BY_HAND = "asked for by hand"
_PREFIXES = ("chatcmpl-", "cmpl-", "resp_")


class Releases:
    """The verbs of one tenant's rollouts. All may raise what the catalog does."""

    def __init__(
        self,
        catalog: RolloutCatalog,
        thread: CatalogThread,
        management: Management,
        traffic: Traffic,
        metrics: Metrics,
        *,
        receipt: Callable[[str], Receipt | None],
        parity_is_off: bool,
    ) -> None:
        """`receipt` gives that of a version in the engine."""
        self._catalog, self._thread, self._management = catalog, thread, management
        self._traffic, self._receipt, self._parity_is_off = traffic, receipt, parity_is_off
        self._moves = Moves(catalog, thread, management, traffic, metrics)
        self.counting = Counting(catalog, thread, traffic, self._moves)

    async def decide(
        self,
        *,
        tenant: str,
        adapter: str,
        version: str,
        spec: GateSpec,
        report: GateReport,
        job: str | None,
        request_id: str | None,
    ) -> Rollout:
        """Keep what a gate's report and the version's parity receipt decide, and move the alias where they are for it.

        Without `stable` there is nothing to compare a canary with: then it becomes stable at once. Of a job's version
        it is decided once.
        Raises Conflict where `stable` is not what the report compared with; NotFound.
        """
        call = ["decide_rollout", adapter, version, gate_row(spec), report_row(report), job]
        if (before := await self._recalled(tenant, request_id, call)) is not None:
            return before
        target = await self._management.find_version(tenant=tenant, adapter=adapter, version=version)
        if job is not None:
            # Another worker of the job has asked, and was lost before it said so.
            known = await self._thread.run(lambda: self._catalog.of_job(tenant, job, target.digest))
            if known is not None:
                return known
        stable = self._stable(tenant, adapter)
        compared = None if report.stable is None else report.stable.digest
        if stable != compared:
            raise Conflict(
                f"{adapter}:stable is {stable or 'not set'}, and the report compares with {compared or 'none'}: "
                "compare with what it is now"
            )
        against = await self._load(target)
        if stable == target.digest:
            against = (*against, "it is stable already")
        decision = decide(spec, report, self._parity(target.digest))
        passed, reasons = decision.passed and not against, (*against, *decision.reasons)
        canary = spec.canary if stable is not None else None
        if passed and spec.canary is not None and stable is None:
            reasons = (*reasons, "there is no stable to compare a canary with")
        stage = Stage.REFUSED if not passed else Stage.STABLE if canary is None else Stage.CANARY
        now = self._catalog.now()
        rollout = Rollout(
            id=rollout_ids(),
            tenant=tenant,
            adapter=adapter,
            version_digest=target.digest,
            stable_digest=stable,
            stage=stage,
            create_time=now,
            end_time=None if stage is Stage.CANARY else now,
            canary=canary,
            report=report,
            reasons=reasons,
            job=job,
        )
        return await self._begin(rollout, request_id, call)

    async def begin_canary(
        self, *, tenant: str, adapter: str, version: str, spec: CanarySpec, request_id: str | None
    ) -> Rollout:
        """Give a version a share of the traffic by hand. Raises Conflict, NotFound, and what loading it does."""
        call = ["begin_canary", adapter, version, vars(spec)]
        if (before := await self._recalled(tenant, request_id, call)) is not None:
            return before
        target = await self._management.find_version(tenant=tenant, adapter=adapter, version=version)
        stable = self._stable(tenant, adapter)
        if stable is None or stable == target.digest:
            what = "is stable already" if stable else "has no stable to be compared with: set the alias stable first"
            raise Conflict(f"{adapter}@{target.number} {what}")
        await self._management.load(target)
        rollout = Rollout(
            id=rollout_ids(),
            tenant=tenant,
            adapter=adapter,
            version_digest=target.digest,
            stable_digest=stable,
            stage=Stage.CANARY,
            create_time=self._catalog.now(),
            canary=spec,
            reasons=(_BY_HAND,),
        )
        return await self._begin(rollout, request_id, call)

    async def get(self, tenant: str, id: str) -> Rollout:
        """One rollout, with all that this server has to tell of it. Raises `NoSuchResource`."""
        await self.counting.count()
        return await self._thread.run(lambda: self._catalog.get(tenant, id))

    async def listed(self, tenant: str, adapter: str | None, *, before: str | None, limit: int) -> tuple[Rollout, ...]:
        """The newest before this id, or of all."""
        await self.counting.count()
        return await self._thread.run(lambda: self._catalog.listed(tenant, adapter, before=before, limit=limit))

    async def promote(self, tenant: str, adapter: str, *, request_id: str | None) -> Rollout:
        """Make the adapter's canary stable. Raises NotFound where it has none, and what loading it does."""
        await self.counting.count()
        found = await self._thread.run(lambda: self._catalog.to_promote(tenant, adapter, request_id=request_id))
        return await self._moves.promote(found, (_BY_HAND,), request_id=request_id)

    async def roll_back(self, tenant: str, adapter: str, *, request_id: str | None) -> Rollout:
        """Take the canary back, or what became stable last. Raises NotFound, Conflict."""
        await self.counting.count()
        done = await self._moves.write(
            lambda: self._catalog.roll_back(tenant, adapter, (_BY_HAND,), request_id=request_id)
        )
        self._moves.tell(done)
        return done

    async def outcome(self, tenant: str, response: str, value: float) -> bool:
        """Count how good an answer was, by its reply's id or its request's; whether it counts. Raises Conflict."""
        names = [response, *(response.removeprefix(one) for one in _PREFIXES if response.startswith(one))]
        for name in names:
            await self._traffic.ended(name)
        await self.counting.count()
        for name in names:
            counted = await self._moves.write(partial(self._catalog.outcome, tenant, name, value))
            if counted is not None:
                self.counting.ended(counted)
                self._traffic.has_news.set()
                return True
        return False

    async def _recalled(self, tenant: str, request_id: str | None, call: object) -> Rollout | None:
        """Asked first: what the request has done may be what would refuse it now."""
        return await self._thread.run(lambda: self._catalog.recalled(tenant, request_id=request_id, call=call))

    async def _begin(self, rollout: Rollout, request_id: str | None, call: object) -> Rollout:
        begun = await self._moves.write(lambda: self._catalog.begin(rollout, request_id=request_id, call=call))
        if begun.id == rollout.id:
            self._moves.tell(begun)
        return begun

    async def _load(self, target: AdapterVersion) -> tuple[str, ...]:
        """Why it cannot be; nothing where it is in the engine and says what it was trained to."""
        try:
            await self._management.load(target)
        except (LoadFailed, ParityFailed, IncompatibleAdapter) as error:
            return (f"the engine does not take it: {error}",)
        return ()

    def _parity(self, digest: str) -> Parity:
        receipt = self._receipt(digest)
        was_compared = receipt is not None and receipt.deltas is not None
        return Parity(was_compared=was_compared, is_off=self._parity_is_off, why=receipt.why if receipt else "")

    def _stable(self, tenant: str, adapter: str) -> str | None:
        pointed = self._management.aliases_of(tenant, adapter)
        return next((version.digest for alias, version in pointed if alias.name == STABLE), None)
