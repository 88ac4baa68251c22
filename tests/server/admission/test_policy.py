"""Admission as a state machine: whatever happens, its bounds, its order and its deadlines hold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

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

from graft.server.admission.policy import Admission, Refuse, Wait


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
        num_waiting = len(self.waiting)
        decision = self.admission.offer(request_id, tenant=tenant, deadline=deadline)
        if isinstance(decision, Refuse):
            assert 0 < decision.retry_after_seconds <= 60
            assert len(self.running) + num_waiting >= sum(self.limits)
            return multiple()
        if decision.displaced is not None:
            self.displace(decision.displaced, tenant)
        self.tenant_of[request_id] = tenant
        self.waiting[request_id] = deadline
        self.advance()
        return request_id

    def displace(self, request_id: str, tenant: str) -> None:
        del self.waiting[request_id]
        theirs = [int(one) for one in self.waiting if self.tenant_of[one] == self.tenant_of[request_id]]
        ours = [one for one in self.waiting if self.tenant_of[one] == tenant]
        assert max(theirs) < int(request_id), "the newest gives way"
        assert len(theirs) > len(ours), "and only to those who have fewer waiting"

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
    admission.offer("running", tenant="flood", deadline=None)
    admission.advance(now=0)
    for index in range(num_other):
        admission.offer(f"flood-{index}", tenant="flood", deadline=None)
    admission.offer("quiet", tenant="quiet", deadline=None)
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
        admission.offer(f"{index}", tenant="a", deadline=None)
        admission.advance(now=10.0 * index)
        admission.leave(f"{index}", now=10.0 * index + 4.0)
    admission.offer("running", tenant="a", deadline=None)
    admission.advance(now=1000)
    admission.offer("waiting", tenant="a", deadline=None)
    refusal = admission.offer("refused", tenant="a", deadline=None)
    assert isinstance(refusal, Refuse)
    assert refusal.retry_after_seconds == pytest.approx(2 * 4.0, rel=0.05)


@pytest.mark.parametrize(("max_running", "max_queued"), [(0, 1), (1, -1)])
def test_limits_without_sense_are_refused(max_running: int, max_queued: int) -> None:
    with pytest.raises(ValueError, match="max_running"):
        Admission(max_running=max_running, max_queued=max_queued)


class SomeUsable:
    """Slots that hold what the test says."""

    def __init__(self, *held: str) -> None:
        self.held = set(held)
        self.taken: list[str] = []
        self.wanted: tuple[str, ...] = ()
        self.yields: Callable[[str, str], bool] = lambda held, wanted: False

    def want(self, digests: Sequence[str], yields: Callable[[str, str], bool]) -> None:
        self.wanted, self.yields = tuple(digests), yields

    def usable(self, digest: str) -> bool:
        return digest in self.held

    def take(self, digest: str) -> None:
        self.taken.append(digest)


def offer(admission: Admission, name: str, *, deadline: float | None = None) -> None:
    """A request `a1` is for the adapter and version `a`."""
    admission.offer(name, tenant="t", adapter=name[0], digest=name[0], deadline=deadline)


def test_who_waits_for_a_slot_holds_no_running_place_and_others_run_meanwhile() -> None:
    admission, slots = Admission(max_running=2, max_queued=9), SomeUsable("b")
    for name in ("a1", "a2", "b1", "b2", "b3"):
        offer(admission, name)
    assert admission.advance(now=0, slots=slots).started == ("b1", "b2")
    assert (admission.num_running, admission.num_queued) == (2, 3)
    assert slots.wanted == ("a", "b") and slots.taken == ["b", "b"]
    slots.held.add("a")
    admission.leave("b1", now=1)
    assert admission.advance(now=1, slots=slots).started == ("a1",), "the least served is next, once it can"


def test_a_client_keeps_its_order_even_where_its_versions_differ() -> None:
    admission, slots = Admission(max_running=2, max_queued=9), SomeUsable("v1")
    admission.offer("new", tenant="t", adapter="a", digest="v2", deadline=None)
    admission.offer("old", tenant="t", adapter="a", digest="v1", deadline=None)
    assert admission.advance(now=0, slots=slots).started == ()
    slots.held.add("v2")
    assert admission.advance(now=0, slots=slots).started == ("new", "old")


def test_who_waits_for_a_slot_expires_in_time_and_never_starts() -> None:
    admission, slots = Admission(max_running=2, max_queued=9), SomeUsable()
    offer(admission, "a1", deadline=5.0)
    assert admission.advance(now=4.9, slots=slots).expired == ()
    slots.held.add("a")
    late = admission.advance(now=5.0, slots=slots)
    assert (late.expired, late.started, slots.wanted) == (("a1",), (), ())


def test_a_version_in_use_must_yield_once_it_was_served_a_quantum_more() -> None:
    admission, slots = Admission(max_running=9, max_queued=9, quantum=100), SomeUsable("b")
    for name in ("b1", "b2", "a1"):
        offer(admission, name)
    admission.advance(now=0, slots=slots)
    admission.charge("b1", prompt_tokens=49, generated_tokens=25)
    admission.advance(now=1, slots=slots)
    assert not slots.yields("b", "a")
    admission.charge("b2", generated_tokens=1)
    admission.advance(now=1, slots=slots)
    assert slots.yields("b", "a")


def test_who_waits_for_a_version_that_cannot_be_had_is_dropped_alone() -> None:
    admission, slots = Admission(max_running=1, max_queued=9), SomeUsable("b")
    for name in ("a1", "b1", "a2", "b2"):
        offer(admission, name)
    admission.advance(now=0, slots=slots)
    assert admission.drop("a") == ("a1", "a2")
    assert (admission.num_running, admission.num_queued) == (1, 1)


def test_a_full_queue_takes_from_the_flood_and_not_from_who_needs_little() -> None:
    admission = Admission(max_running=1, max_queued=4)
    for number in range(5):
        offer(admission, f"a{number}")
    quiet = admission.offer("b1", tenant="t", adapter="b", deadline=None)
    assert isinstance(quiet, Wait) and quiet.displaced == "a4"
    other = admission.offer("c1", tenant="u", adapter="c", deadline=None)
    assert isinstance(other, Wait) and other.displaced == "a3"
    assert isinstance(admission.offer("a9", tenant="t", adapter="a", deadline=None), Refuse)
