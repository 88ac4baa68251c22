"""The asyncio client's calls of rollouts."""

from __future__ import annotations

from typing import Unpack

from graft.client.fine_tuning.async_calls import AsyncFineTuningCalls
from graft.client.releases import release_operation
from graft.v1 import job_pb2, release_pb2


class AsyncReleaseCalls(AsyncFineTuningCalls):
    """Canaries begun, promoted and taken back; outcomes reported."""

    async def decide_rollout(
        self,
        adapter: str,
        version: str | int,
        *,
        gate: job_pb2.GateSpec,
        report: release_pb2.GateReport,
        job: str = "",
        timeout: float | None = None,
    ) -> release_pb2.Rollout:
        """Have the server decide by a report of held-out data whether a version takes its adapter's traffic.

        Raises `Conflict` where `stable` is not what the report compares with.
        """
        return await self._call(release_operation.decide_rollout(adapter, version, gate, report, job), timeout)

    async def begin_canary(
        self,
        adapter: str,
        version: str | int,
        *,
        timeout: float | None = None,
        **options: Unpack[release_operation.CanaryOptions],
    ) -> release_pb2.Rollout:
        """Give a version a share of its adapter's traffic, until it is `stable` or taken back by what it answers."""
        return await self._call(release_operation.begin_canary(adapter, version, options), timeout)

    async def get_rollout(self, rollout: str) -> release_pb2.Rollout:
        """A rollout as it is now."""
        return await self._call(release_operation.get_rollout(rollout))

    async def rollouts(self, adapter: str = "", *, limit: int | None = None) -> list[release_pb2.Rollout]:
        """All rollouts of an adapter, or of all, or the `limit` newest, newest first."""
        return await self._pages(lambda token: release_operation.list_rollouts(adapter, token, limit), limit)

    async def promote(self, adapter: str, *, timeout: float | None = None) -> release_pb2.Rollout:
        """Make the adapter's canary `stable` now."""
        return await self._call(release_operation.promote(adapter), timeout)

    async def roll_back(self, adapter: str) -> release_pb2.Rollout:
        """Take the adapter's canary back; without one, `stable` is again what it was before the last rollout."""
        return await self._call(release_operation.roll_back(adapter))

    async def report_outcome(self, response: str, outcome: float) -> bool:
        """Say how good an answer was, from 0 to 1, by its reply's id; whether a canary's comparison counts it."""
        return await self._call(release_operation.report_outcome(response, outcome))
