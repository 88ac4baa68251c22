"""Residency as a policy: whatever happens, in whatever order, its promises hold."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from graft.server.residency import Action, Load, PinRefused, Residency, State, Unload

DIGESTS = [f"sha256:{name}" for name in "abcdef"]
digests = st.sampled_from(DIGESTS)


class AnyHistory(RuleBasedStateMachine):
    """An engine that answers loads and unloads late and in any order, under requests that come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.residency = Residency(num_slots=3)
        self.leases: Counter[str] = Counter()
        self.loading: dict[str, int] = {}
        self.unloading: dict[str, int] = {}
        self.engine: dict[str, int] = {}
        self.ids: set[int] = set()

    def take(self, actions: tuple[Action, ...]) -> None:
        for action in actions:
            if isinstance(action, Load):
                assert action.engine_id not in self.ids, "an engine id was used twice"
                self.ids.add(action.engine_id)
                assert self.leases[action.digest], "a version was loaded that nobody asked for"
                self.loading[action.digest] = action.engine_id
            else:
                assert not self.leases[action.digest] or action.digest in self.residency._waiting
                assert self.engine[action.digest] == action.engine_id
                self.unloading[action.digest] = action.engine_id

    @rule(digest=digests)
    def lease(self, digest: str) -> None:
        self.leases[digest] += 1
        self.take(self.residency.lease(digest))

    @precondition(lambda self: +self.leases)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        digest = data.draw(st.sampled_from(sorted(+self.leases)))
        self.leases[digest] -= 1
        self.take(self.residency.release(digest))

    @precondition(lambda self: self.loading)
    @rule(data=st.data(), fails=st.booleans())
    def engine_loads(self, data: st.DataObject, fails: bool) -> None:
        digest = data.draw(st.sampled_from(sorted(self.loading)))
        engine_id = self.loading.pop(digest)
        if fails:
            self.leases[digest] = 0
            self.take(self.residency.load_failed(digest))
        else:
            self.engine[digest] = engine_id
            self.take(self.residency.loaded(digest))

    @precondition(lambda self: self.unloading)
    @rule(data=st.data())
    def engine_unloads(self, data: st.DataObject) -> None:
        digest = data.draw(st.sampled_from(sorted(self.unloading)))
        del self.unloading[digest], self.engine[digest]
        self.take(self.residency.unloaded(digest))

    @precondition(lambda self: self.engine)
    @rule(data=st.data())
    def pin(self, data: st.DataObject) -> None:
        ready = [digest for digest in DIGESTS if self.residency.engine_id(digest) is not None]
        if ready:
            try:
                self.residency.pin(data.draw(st.sampled_from(ready)))
            except PinRefused:
                assert sum(each.pinned for each in self.residency.view()) == 2

    @rule(digest=digests)
    def unpin(self, digest: str) -> None:
        self.take(self.residency.unpin(digest))

    @rule(digest=digests)
    def retire(self, digest: str) -> None:
        self.take(self.residency.retire(digest))

    @invariant()
    def engine_never_holds_more_than_its_slots(self) -> None:
        assert len(self.engine) + len(self.loading) <= 3

    @invariant()
    def leased_and_pinned_versions_stay(self) -> None:
        for each in self.residency.view():
            if each.num_leases or each.pinned:
                assert each.digest not in self.unloading

    @invariant()
    def nobody_waits_beside_a_free_slot(self) -> None:
        view = {each.digest: each for each in self.residency.view()}
        waiting = [digest for digest, count in (+self.leases).items() if count and digest not in view]
        idle = [e for e in view.values() if e.state is State.RESIDENT and not e.num_leases and not e.pinned]
        leaving = len(self.unloading)
        assert not (len(waiting) > leaving and (idle or len(view) < 3))


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=80, stateful_step_count=30, deadline=None, derandomize=True)


def test_a_swap_keeps_both_versions_until_the_old_ones_last_lease_ends() -> None:
    residency = Residency(num_slots=2)
    assert residency.lease("v1") == (Load(digest="v1", engine_id=1),)
    residency.loaded("v1")
    residency.lease("v2")
    residency.loaded("v2")
    assert residency.retire("v1") == ()
    assert residency.release("v1") == (Unload(digest="v1", engine_id=1, evicted=False),)


def test_a_version_that_comes_back_gets_a_new_id() -> None:
    residency = Residency(num_slots=1)
    for engine_id in (1, 2, 3):
        assert residency.lease("v1") == (Load(digest="v1", engine_id=engine_id),)
        residency.loaded("v1")
        residency.release("v1")
        residency.retire("v1")
        residency.unloaded("v1")


def test_the_least_recently_used_leaves_first() -> None:
    residency = Residency(num_slots=2)
    for digest in ("a", "b"):
        residency.lease(digest)
        residency.loaded(digest)
        residency.release(digest)
    residency.lease("a")
    residency.release("a")
    assert residency.lease("c") == (Unload(digest="b", engine_id=2, evicted=True),)


def test_one_slot_stays_free_of_pins() -> None:
    residency = Residency(num_slots=1)
    residency.lease("a")
    residency.loaded("a")
    with pytest.raises(PinRefused, match="0 of 1 slots are pinned"):
        residency.pin("a")
