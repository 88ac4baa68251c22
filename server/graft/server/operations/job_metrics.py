"""Prometheus series of trainings. Those of the queue are the same on every server of one database; counters are of what
this server answered or did."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from time import monotonic

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

# So many jobs at most have a series of their own: those whose workers are silent for longest.
_MAX_SERIES = 100
_MAX_REMEMBERED = 1_000


class JobMetrics(Collector):
    """What was seen of the queue last, and what was counted since the start."""

    def __init__(self, registry: CollectorRegistry, *, now: Callable[[], float] = monotonic) -> None:
        """`now` is monotonic, in seconds."""
        self._now = now
        self._seen_at = now()
        self._by_state: Mapping[str, int] = {}
        self._oldest_waiting_seconds: float | None = None
        self._heard_at: Mapping[str, float] = {}
        # Of each job that a worker has: its fence, and of how many trained tokens was heard.
        self._trained: dict[str, tuple[int, int]] = {}
        self.claims = Counter("graft_job_claims_total", "Jobs given to workers.", registry=registry)
        self.losses = Counter(
            "graft_job_leases_lost_total", "Jobs taken from workers that were silent.", registry=registry
        )
        self.tokens = Counter("graft_trained_tokens_total", "Tokens that workers trained on.", registry=registry)
        self._ended = Counter("graft_jobs_ended_total", "Jobs that workers ended.", ["outcome"], registry=registry)
        for outcome in ("succeeded", "failed"):
            self._ended.labels(outcome=outcome)
        self._last_ended: deque[str] = deque(maxlen=_MAX_REMEMBERED)
        registry.register(self)

    def saw_queue(
        self, by_state: Mapping[str, int], *, oldest_waiting_seconds: float | None, heard_at: Mapping[str, float]
    ) -> None:
        """The queue as it is now. `heard_at` is when each job's worker was last heard, by the clock `now`."""
        self._by_state, self._oldest_waiting_seconds, self._seen_at = by_state, oldest_waiting_seconds, self._now()
        self._heard_at = heard_at
        self._trained = {job: known for job, known in self._trained.items() if job in heard_at}

    def claimed(self, job: str, fence: int, trained_tokens: int | None) -> None:
        """A worker has the job; a claim that is answered again counts once."""
        if self._trained.get(job, (0, 0))[0] != fence:
            self.claims.inc()
            self._trained[job] = (fence, trained_tokens or 0)

    def trained(self, job: str, fence: int, num_tokens: int | None) -> None:
        """So many in all since the job began: those that are trained again, from a checkpoint on, count once."""
        if num_tokens is None:
            return
        before = self._trained.get(job, (fence, num_tokens))[1]
        self.tokens.inc(max(0, num_tokens - before))
        self._trained[job] = (fence, max(before, num_tokens))

    def ended(self, job: str, outcome: str) -> None:
        """A worker has ended a job; an end that is answered again counts once."""
        if job not in self._last_ended:
            self._last_ended.append(job)
            self._ended.labels(outcome=outcome).inc()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """With every scrape."""
        by_state = GaugeMetricFamily("graft_jobs", "Jobs of all tenants by state.", labels=["state"])
        for state, num in self._by_state.items():
            by_state.add_metric([state], num)
        yield by_state
        waiting = self._oldest_waiting_seconds
        seconds = 0.0 if waiting is None else waiting + self._now() - self._seen_at
        yield GaugeMetricFamily(
            "graft_job_oldest_waiting_seconds", "For how long a job has waited for a worker; 0: none waits.", seconds
        )
        silence = GaugeMetricFamily(
            "graft_job_heartbeat_age_seconds", "Since a running job's worker was last heard.", labels=["training"]
        )
        for job, heard_at in sorted(self._heard_at.items(), key=lambda item: item[1])[:_MAX_SERIES]:
            silence.add_metric([job], max(0.0, self._now() - heard_at))
        yield silence
