"""The synchronous client's calls of rollouts."""

from __future__ import annotations

from typing import Unpack

from graft.client.fine_tuning.calls import FineTuningCalls
from graft.client.releases import release_operation
from graft.v1 import job_pb2, release_pb2


class ReleaseCalls(FineTuningCalls):
    """Canaries begun, promoted and taken back; outcomes reported."""

    def decide_rollout(
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
        return self._call(release_operation.decide_rollout(adapter, version, gate, report, job), timeout)

    def begin_canary(
        self,
        adapter: str,
        version: str | int,
        *,
        timeout: float | None = None,
        **options: Unpack[release_operation.CanaryOptions],
    ) -> release_pb2.Rollout:
        """Give a version a share of its adapter's traffic, until it is `stable` or taken back by what it answers."""
        return self._call(release_operation.begin_canary(adapter, version, options), timeout)

    def get_rollout(self, rollout: str) -> release_pb2.Rollout:
        """A rollout as it is now."""
        return self._call(release_operation.get_rollout(rollout))

    def rollouts(self, adapter: str = "", *, limit: int | None = None) -> list[release_pb2.Rollout]:
        """All rollouts of an adapter, or of all, or the `limit` newest, newest first."""
        return self._pages(lambda token: release_operation.list_rollouts(adapter, token, limit), limit)

    def promote(self, adapter: str, *, timeout: float | None = None) -> release_pb2.Rollout:
        """Make the adapter's canary `stable` now."""
        return self._call(release_operation.promote(adapter), timeout)

    def roll_back(self, adapter: str) -> release_pb2.Rollout:
        """Take the adapter's canary back; without one, `stable` is again what it was before the last rollout."""
        return self._call(release_operation.roll_back(adapter))

    def report_outcome(self, response: str, outcome: float) -> bool:
        """Say how good an answer was, from 0 to 1, by its reply's id; whether a canary's comparison counts it."""
        return self._call(release_operation.report_outcome(response, outcome))
