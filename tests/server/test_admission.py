"""Admission as a state machine: whatever happens, its bounds, its order and its deadlines hold."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from graft.server.admission import Admission, Refuse, Start, Wait


class Machine(RuleBasedStateMachine):
    """Offers, ends and time in any order, beside a plain model of what must hold."""

    requests: Bundle[str] = Bundle("requests")

    @initialize(max_running=st.integers(1, 3), max_queued=st.integers(0, 4))
    def begin(self, max_running: int, max_queued: int) -> None:
        self.limits = (max_running, max_queued)
        self.admission = Admission(max_running=max_running, max_queued=max_queued)
        self.now = 0.0
        self.running: set[str] = set()
        self.waiting: dict[str, float | None] = {}
        self.tenant_of: dict[str, str] = {}
        self.num = 0
        self.advance()

    @rule(target=requests, tenant=st.sampled_from("abc"), patience=st.none() | st.floats(0.1, 5))
    def offer(self, tenant: str, patience: float | None) -> str | MultipleResults[str]:
        self.advance()
        self.num += 1
        request_id = f"{self.num}"
        deadline = None if patience is None else self.now + patience
        decision = self.admission.offer(request_id, tenant=tenant, deadline=deadline, now=self.now)
        self.tenant_of[request_id] = tenant
        max_running, max_queued = self.limits
        if len(self.running) < max_running:
            assert decision == Start()
            self.running.add(request_id)
        elif len(self.waiting) < max_queued:
            assert decision == Wait(num_ahead=len(self.waiting))
            self.waiting[request_id] = deadline
        else:
            assert isinstance(decision, Refuse) and 0 < decision.retry_after_seconds <= 60
            return multiple()
        return request_id

    @rule(request_id=consumes(requests))
    def leave(self, request_id: str) -> None:
        self.admission.leave(request_id, now=self.now)
        self.running.discard(request_id)
        self.waiting.pop(request_id, None)
        self.advance()

    @rule(seconds=st.floats(0, 3))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.advance()

    def advance(self) -> None:
        advance = self.admission.advance(now=self.now)
        for request_id in advance.expired:
            deadline = self.waiting.pop(request_id)
            assert deadline is not None and deadline <= self.now
        started: dict[str, list[int]] = defaultdict(list)
        for request_id in advance.started:
            deadline = self.waiting.pop(request_id)
            assert deadline is None or deadline > self.now, "expired work never starts"
            self.running.add(request_id)
            started[self.tenant_of[request_id]].append(int(request_id))
        for tenant, numbers in started.items():
            rest = [int(one) for one in self.waiting if self.tenant_of[one] == tenant]
            assert numbers == sorted(numbers) and all(one > numbers[-1] for one in rest), "a tenant's order is kept"

    @invariant()
    def holds(self) -> None:
        if not hasattr(self, "admission"):
            return
        assert self.admission.num_running == len(self.running) <= self.limits[0]
        assert self.admission.num_queued == len(self.waiting) <= self.limits[1]
        assert not self.waiting or len(self.running) == self.limits[0], "no place stays free while someone waits"


TestAdmission = Machine.TestCase
TestAdmission.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(num_other=st.integers(1, 50))
@settings(max_examples=20, deadline=None)
def test_a_flood_of_one_tenant_does_not_hold_back_another(num_other: int) -> None:
    admission = Admission(max_running=1, max_queued=100)
    admission.offer("running", tenant="flood", deadline=None, now=0)
    for index in range(num_other):
        admission.offer(f"flood-{index}", tenant="flood", deadline=None, now=0)
    admission.offer("quiet", tenant="quiet", deadline=None, now=0)
    order: list[str] = []
    current = "running"
    while admission.num_running:
        admission.leave(current, now=0)
        started = admission.advance(now=0).started
        order += started
        current = started[0] if started else ""
    assert order.index("quiet") <= 1


def test_the_retry_hint_grows_with_the_queue_and_follows_the_requests_length() -> None:
    admission = Admission(max_running=1, max_queued=1)
    for index in range(60):
        admission.offer(f"{index}", tenant="a", deadline=None, now=10.0 * index)
        admission.leave(f"{index}", now=10.0 * index + 4.0)
    admission.offer("running", tenant="a", deadline=None, now=1000)
    admission.offer("waiting", tenant="a", deadline=None, now=1000)
    refusal = admission.offer("refused", tenant="a", deadline=None, now=1000)
    assert isinstance(refusal, Refuse)
    assert refusal.retry_after_seconds == pytest.approx(2 * 4.0, rel=0.05)


@pytest.mark.parametrize(("max_running", "max_queued"), [(0, 1), (1, -1)])
def test_limits_without_sense_are_refused(max_running: int, max_queued: int) -> None:
    with pytest.raises(ValueError, match="max_running"):
        Admission(max_running=max_running, max_queued=max_queued)
