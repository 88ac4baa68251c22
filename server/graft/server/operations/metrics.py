"""Prometheus series of the server. Label values come from closed sets, so their number is bounded."""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import monotonic

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from graft.server.engine.state import PROVEN_SECONDS, EngineState
from graft.server.errors import ParityFailed, ParityUnavailable
from graft.server.operations.job_metrics import JobMetrics
from graft.server.runtime.tenant import acting_job

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
# Gaps shorter than this cannot be the pause that a load causes, and are not kept.
_MIN_GAP_SECONDS = 0.01
_NUM_KEPT_GAPS = 4096


class SwapPause:
    """The largest gap between two deliveries of one stream that overlapped the latest load, in seconds."""

    def __init__(self) -> None:
        self._gaps: deque[tuple[float, float]] = deque(maxlen=_NUM_KEPT_GAPS)
        self._load: tuple[float, float] | None = None
        self.seconds = 0.0

    def gap(self, start: float, end: float) -> None:
        if end - start < _MIN_GAP_SECONDS:
            return
        self._gaps.append((start, end))
        # The gap that a load causes mostly ends after the load does.
        if self._load is not None and start < self._load[1] and end > self._load[0]:
            self.seconds = max(self.seconds, end - start)

    def loaded(self, start: float, end: float) -> None:
        self._load = (start, end)
        self.seconds = max((b - a for a, b in self._gaps if a < end and b > start), default=0.0)


class Metrics:
    """All series, and the observer of the slots. `registry` defaults to the process's, where vLLM keeps its own."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.registry = registry
        self._pause = SwapPause()
        self._engine = EngineState()
        self._load_started_at: dict[str, float] = {}

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"graft_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"graft_{name}", text, registry=registry)

        def histogram(name: str, text: str) -> Histogram:
            return Histogram(f"graft_{name}", text, buckets=_SECONDS, registry=registry)

        self.requests = counter(
            "requests_total", "Requests by front door, outcome and tenant.", "front", "outcome", "tenant"
        )
        self.tokens = counter(
            "tokens_total", "Tokens read (prompt), reused (cached) and made (completion).", "kind", "tenant"
        )
        self.first_token = histogram("time_to_first_token_seconds", "From a user's entry to the first token.")
        self.inter_token = histogram("inter_token_seconds", "Between two deliveries of one choice.")
        self.running = gauge("running_requests", "Requests that hold a running place.")
        self.queued = gauge("queued_requests", "Requests that wait for a running place or their adapter's slot.")
        self.queue_wait = histogram("queue_wait_seconds", "From the request's entry to its running place and slot.")
        self.resident = gauge(
            "resident_versions", "Adapter versions that are ready: in slots, or soft prompts in memory."
        )
        self.loads = counter("adapter_loads_total", "Adapter versions brought into the engine.")
        self.load_seconds = histogram("adapter_load_seconds", "Time the engine took to load a version.")
        self.unloads = counter("adapter_unloads_total", "Adapter versions taken out of the engine.")
        self.evictions = counter("adapter_evictions_total", "Versions that left to make room for others.")
        self.hand_overs = counter(
            "slot_hand_overs_total", "Evicted versions that first ceased to take requests for it."
        )
        self.swap_pause = gauge("swap_pause_seconds", "Largest inter-token gap that overlapped the latest load.")
        self.restarts = counter("engine_restarts_total", "How often the engine was replaced.")
        self.failures = counter(
            "engine_failures_total",
            "Engines that did not start (start), whose process ended (death), that did not answer (silence).",
            "cause",
        )
        self.failures_in_a_row = gauge(
            "engine_failures_in_a_row", f"Since an engine last answered for {PROVEN_SECONDS:g} s."
        )
        self.ready = gauge("engine_ready", "1 while the engine answers.")
        self.parity = counter(
            "parity_checks_total",
            "Loaded versions compared with their reference (passed, failed), served without one (unmeasured), or whose "
            "reference was not to be had (unavailable).",
            "outcome",
        )
        for outcome in ("passed", "failed", "unmeasured", "unavailable"):
            self.parity.labels(outcome=outcome)
        self.rollouts = counter("rollouts_total", "Rollouts that came to a stage by this server.", "stage")
        self.canaries = gauge("canaries", "Rollouts whose version has a share of its adapter's traffic.")
        self.canary_answers = counter(
            "canary_answers_total",
            "Answers that were counted while a canary was compared: by side (canary, stable) and outcome (ok, error).",
            "side",
            "outcome",
        )
        for stage in ("refused", "canary", "stable", "rolled_back", "superseded"):
            self.rollouts.labels(stage=stage)
        self.jobs = JobMetrics(registry)
        self.free = gauge("data_free_bytes", "Free space where the catalog and the adapters' files are kept.")
        self.size = gauge("data_size_bytes", "Size of the file system where these are kept.")

    def admitted(self, num_running: int, num_queued: int) -> None:
        self.running.set(num_running)
        self.queued.set(num_queued)

    def engine_changed(self, now: EngineState) -> None:
        self.ready.set(now.ready)
        self.restarts.inc(now.num_restarts - self._engine.num_restarts)
        if now.num_failures > self._engine.num_failures:
            self.failures.labels(cause=now.cause or "death").inc()
        self.failures_in_a_row.set(now.num_failures)
        self._engine = now

    def watch_disk(self, folder: Path) -> None:
        """The space of the file system of `folder` is asked for with every scrape; NaN while it cannot be told."""

        def space(field: str) -> float:
            try:
                return float(getattr(shutil.disk_usage(folder), field))
            except OSError:
                return float("nan")

        self.free.set_function(lambda: space("free"))
        self.size.set_function(lambda: space("total"))

    async def judged(self, verdict: Awaitable[None], *, compared: Callable[[], bool]) -> None:
        """Count how a version's comparison ends, and whether there was any; what it raises is raised."""
        outcome = None
        try:
            await verdict
            outcome = "passed" if compared() else "unmeasured"
        except ParityFailed:
            outcome = "failed"
            raise
        except ParityUnavailable:
            outcome = "unavailable"
            raise
        finally:
            if outcome is not None:
                self.parity.labels(outcome=outcome).inc()

    def on_load_started(self, digest: str) -> None:
        self._load_started_at[digest] = monotonic()

    def on_load(self, digest: str, seconds: float) -> None:
        now = monotonic()
        self.loads.inc()
        self.load_seconds.observe(seconds)
        # `seconds` also counts fetching the files, which no stream notices.
        self._pause.loaded(self._load_started_at.pop(digest, now - seconds), now)
        self.swap_pause.set(self._pause.seconds)

    def on_load_failed(self, digest: str) -> None:
        self._load_started_at.pop(digest, None)

    def on_unload(self, digest: str, evicted: bool) -> None:
        self.unloads.inc()
        if evicted:
            self.evictions.inc()

    def on_hand_over(self, digest: str) -> None:
        self.hand_overs.inc()

    def count_tokens(self, tenant: str, *, prompt: int = 0, cached: int = 0, completion: int = 0) -> None:
        for kind, num in (("prompt", prompt), ("cached", cached), ("completion", completion)):
            if num > 0:
                self.tokens.labels(kind=kind, tenant=tenant).inc(num)

    def gap(self, start: float, end: float) -> None:
        """One stream delivered at `start` and then at `end`."""
        self.inter_token.observe(end - start)
        self._pause.gap(start, end)
        self.swap_pause.set(self._pause.seconds)


class RequestMeter:
    """Counts one request's tokens, times its deliveries and knows which of its choices are not complete.

    `charge(prompt_tokens=…, generated_tokens=…)` hears of all that is served.
    """

    def __init__(self, metrics: Metrics, *, tenant: str, entered_at: float, charge: Callable[..., None]) -> None:
        self._metrics = metrics
        self._tenant = tenant
        self._entered_at = entered_at
        self._charge = charge
        # What a training asks itself tells nothing of how long users wait, for whom the training gives way.
        self._is_for_job = acting_job() is not None
        self._cached: dict[int, int] = {}
        self._delivered_at: dict[tuple[int, int], float] = {}
        self._open: set[tuple[int, int]] = set()
        self.error: Exception | None = None
        """What ended the answer, where it was told to the caller in a stream that had begun."""
        self.num_prompts = 0
        self.num_prompt_tokens = 0
        self.num_completion_tokens = 0

    @property
    def num_cached_tokens(self) -> int:
        return sum(self._cached.values())

    @property
    def num_open(self) -> int:
        """How many choices have not ended."""
        return len(self._open)

    def is_open(self, prompt: int) -> bool:
        """Whether a choice of this prompt has not ended."""
        return any(one == prompt for one, _ in self._open)

    def begins(self, prompt: int, num_tokens: int, *, num_choices: int = 1) -> None:
        """A prompt goes to the engine: who is served counts from now on."""
        self.num_prompts += 1
        self._open |= {(prompt, choice) for choice in range(num_choices)}
        self.num_prompt_tokens += num_tokens
        self._charge(prompt_tokens=num_tokens)

    def read(self, prompt: int, *, num_tokens: int, num_cached: int) -> None:
        """The engine has read a prompt; `num_cached` of its tokens were there before. Called again with each step.

        The first call counts: choices that begin later read from the cache what the first has computed.
        """
        if prompt not in self._cached:
            self._metrics.count_tokens(self._tenant, prompt=num_tokens, cached=num_cached)
            self._cached[prompt] = num_cached

    def made(self, prompt: int, choice: int, num_tokens: int) -> None:
        """A choice grew by so many tokens."""
        now, key = monotonic(), (prompt, choice)
        if not self._delivered_at:
            if not self._is_for_job:
                self._metrics.first_token.observe(now - self._entered_at)
        elif key in self._delivered_at:
            self._metrics.gap(self._delivered_at[key], now)
        self._delivered_at[key] = now
        self.num_completion_tokens += num_tokens
        self._charge(generated_tokens=num_tokens)
        self._metrics.count_tokens(self._tenant, completion=num_tokens)

    def ended(self, prompt: int, choice: int) -> None:
        """A choice is complete."""
        self._open.discard((prompt, choice))

    def left(self, prompt: int) -> None:
        """What is not complete of a prompt is not wanted any more."""
        self._open = {key for key in self._open if key[0] != prompt}
