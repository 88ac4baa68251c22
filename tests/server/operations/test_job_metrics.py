"""Series of trainings: what is counted once, and what a scrape sees between two looks."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from graft.server.operations.job_metrics import JobMetrics


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def test_answers_that_are_given_again_and_steps_that_are_trained_again_count_once(registry: CollectorRegistry) -> None:
    metrics = JobMetrics(registry)
    for _ in range(2):
        metrics.claimed("a", 1, None)
    for tokens in (100, 100, 250):
        metrics.trained("a", 1, tokens)
    metrics.claimed("a", 2, 250)  # from the checkpoint at 200 on
    for tokens in (200, 300, None):
        metrics.trained("a", 2, tokens)
    for _ in range(2):
        metrics.ended("a", "failed")
    found = {name: registry.get_sample_value(f"graft_{name}") for name in ("job_claims_total", "trained_tokens_total")}
    assert found == {"job_claims_total": 2, "trained_tokens_total": 300}
    assert registry.get_sample_value("graft_jobs_ended_total", {"outcome": "failed"}) == 1


def test_after_a_restart_what_was_trained_before_is_not_counted(registry: CollectorRegistry) -> None:
    metrics = JobMetrics(registry)
    for tokens in (1_000_000, 1_000_100):
        metrics.trained("a", 7, tokens)
    assert registry.get_sample_value("graft_trained_tokens_total") == 100


def test_ages_grow_between_two_looks_and_ended_jobs_have_no_series(registry: CollectorRegistry) -> None:
    now = [100.0]
    metrics = JobMetrics(registry, now=lambda: now[0])
    metrics.saw_queue({"queued": 3}, oldest_waiting_seconds=5.0, heard_at={"a": 90.0, "b": 99.0})
    now[0] = 102.0
    assert registry.get_sample_value("graft_jobs", {"state": "queued"}) == 3
    assert registry.get_sample_value("graft_job_oldest_waiting_seconds") == 7
    assert registry.get_sample_value("graft_job_heartbeat_age_seconds", {"training": "a"}) == 12
    metrics.saw_queue({"queued": 0}, oldest_waiting_seconds=None, heard_at={"b": 101.0})
    assert registry.get_sample_value("graft_job_oldest_waiting_seconds") == 0
    assert registry.get_sample_value("graft_job_heartbeat_age_seconds", {"training": "a"}) is None
    assert registry.get_sample_value("graft_job_heartbeat_age_seconds", {"training": "b"}) == 1


def test_the_number_of_series_is_bounded_and_the_most_silent_are_told(registry: CollectorRegistry) -> None:
    metrics = JobMetrics(registry, now=lambda: 1_000.0)
    heard_at = {f"job-{number}": float(number) for number in range(500)}
    metrics.saw_queue({}, oldest_waiting_seconds=None, heard_at=heard_at)
    (silence,) = (one for one in registry.collect() if one.name == "graft_job_heartbeat_age_seconds")
    assert [one.labels["training"] for one in silence.samples] == [f"job-{number}" for number in range(100)]
