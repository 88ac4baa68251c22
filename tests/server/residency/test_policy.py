"""Residency as a policy: whatever happens, in whatever order, its promises hold."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from graft.server.residency.policy import Action, Load, PinRefused, Residency, State, Unload

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
        self.wanted: tuple[str, ...] = ()
        self.hinted: set[str] = set()

    def take(self, actions: tuple[Action, ...]) -> None:
        for action in actions:
            if isinstance(action, Load):
                assert action.engine_id not in self.ids, "an engine id was used twice"
                self.ids.add(action.engine_id)
                asked = self.leases[action.digest] or action.digest in {*self.wanted, *self.hinted}
                assert asked, "a version was loaded that nobody asked for"
                self.loading[action.digest] = action.engine_id
            else:
                assert not self.leases[action.digest] or action.digest in self.residency._waiting
                assert self.engine[action.digest] == action.engine_id
                self.unloading[action.digest] = action.engine_id

    @rule(digest=digests)
    def lease(self, digest: str) -> None:
        self.leases[digest] += 1
        self.take(self.residency.lease(digest))

    @rule(digests=st.lists(digests, unique=True), yielding=st.sets(digests))
    def want(self, digests: list[str], yielding: set[str]) -> None:
        self.wanted = tuple(digests)
        self.take(self.residency.want(digests, lambda held, wanted: held in yielding))

    @rule(digest=digests)
    def hint(self, digest: str) -> None:
        self.hinted.add(digest)
        before = {each.digest for each in self.residency.view() if each.num_leases or each.pinned}
        actions = self.residency.hint(digest)
        assert not [each for each in actions if isinstance(each, Unload) and each.digest in {*before, *self.wanted}]
        self.take(actions)

    @rule(digest=digests)
    def use(self, digest: str) -> None:
        if self.residency.usable(digest):
            self.residency.take(digest)
            self.leases[digest] += 1
        else:
            with pytest.raises(ValueError, match="not ready"):
                self.residency.take(digest)

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
            self.wanted = tuple(each for each in self.wanted if each != digest)
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
        asked = dict.fromkeys((*(digest for digest in +self.leases), *self.wanted))
        waiting = [digest for digest in asked if digest not in view]
        idle = [
            each
            for each in view.values()
            if each.state is State.RESIDENT and not each.num_leases and not each.pinned
            if each.digest not in self.wanted
        ]
        leaving = len(self.unloading)
        assert not (len(waiting) > leaving and (idle or len(view) < 3))

    @invariant()
    def no_more_versions_are_closed_than_others_wait(self) -> None:
        view = self.residency.view()
        closed = [each for each in view if each.state is State.RESIDENT and not self.residency.usable(each.digest)]
        held = {each.digest for each in view if each.state is not State.DRAINING}
        waiting = {*(+self.leases), *self.wanted} - held
        assert len(closed) <= len(waiting)
        assert not any(each.pinned or not each.num_leases for each in closed)


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


def in_use(num_slots: int, *digests: str) -> Residency:
    """All slots leased once, in this order."""
    residency = Residency(num_slots=num_slots)
    for digest in digests:
        residency.lease(digest)
        residency.loaded(digest)
    return residency


def always(held: str, wanted: str) -> bool:
    return True


def never(held: str, wanted: str) -> bool:
    return False


def test_hits_do_not_keep_a_slot_from_who_waits_once_the_version_must_yield() -> None:
    residency = in_use(1, "hot")
    assert residency.want(["cold"], never) == ()
    residency.take("hot")
    assert residency.want(["cold", "hot"], always) == ()
    assert not residency.usable("hot"), "no new request extends its leases"
    assert residency.release("hot") == ()
    assert residency.release("hot") == (Unload(digest="hot", engine_id=1, evicted=True, handed_over=True),)
    assert residency.unloaded("hot") == (Load(digest="cold", engine_id=2),)


def test_the_version_that_is_free_soonest_is_closed_and_opened_again_when_nobody_needs_it() -> None:
    residency = in_use(2, "busy", "quiet")
    residency.take("busy")
    residency.want(["cold"], always)
    assert (residency.usable("busy"), residency.usable("quiet")) == (True, False)
    residency.want([], never)
    assert residency.usable("quiet")


def test_a_lease_from_an_operator_is_served_although_hits_go_on() -> None:
    residency = in_use(1, "hot")
    assert residency.lease("new") == ()
    assert not residency.usable("hot")
    residency.release("hot")
    assert residency.unloaded("hot") == (Load(digest="new", engine_id=2),)


def test_what_is_queued_for_stays_and_what_waits_is_loaded_ahead() -> None:
    residency = in_use(2, "a", "b")
    residency.release("a")
    residency.release("b")
    assert residency.want(["c", "a"], never) == (Unload(digest="b", engine_id=2, evicted=True),)
    assert residency.unloaded("b") == (Load(digest="c", engine_id=3),)
    residency.loaded("c")
    assert residency.want(["d", "a", "c"], never) == (), "all slots are needed sooner"


def test_a_hint_takes_only_what_nobody_needs() -> None:
    residency = in_use(2, "leased", "idle")
    residency.release("idle")
    assert residency.hint("soon") == (Unload(digest="idle", engine_id=2, evicted=True),)
    assert residency.unloaded("idle") == (Load(digest="soon", engine_id=3),)
    residency.loaded("soon")
    residency.take("soon")
    assert residency.hint("later") == ()
    assert residency.usable("leased") and residency.usable("soon")


def test_what_is_dear_to_load_and_what_is_used_a_lot_stays_longer() -> None:
    residency = Residency(num_slots=3)
    for digest, cost, num_uses in (("dear", 10.0, 1), ("popular", 1.0, 5), ("plain", 1.0, 1)):
        residency.want([digest], never)
        residency.loaded(digest, cost=cost)
        for _ in range(num_uses):
            residency.take(digest)
            residency.release(digest)
    evicted = []
    for newcomer in ("x", "y", "z"):
        (unload,) = residency.want([newcomer], never)
        evicted.append(unload.digest)
        residency.unloaded(unload.digest)
        residency.loaded(newcomer)
        residency.take(newcomer)
    assert evicted == ["plain", "popular", "dear"]


def test_what_was_popular_long_ago_leaves_at_last() -> None:
    residency = in_use(2, "once-hot")
    for _ in range(10_000):
        residency.take("once-hot")
        residency.release("once-hot")
    residency.release("once-hot")
    for number in range(100):
        digest = f"v{number}"
        for action in residency.want([digest], never):
            if isinstance(action, Unload):
                residency.unloaded(action.digest)
        residency.loaded(digest)
        residency.take(digest)
        residency.release(digest)
    assert "once-hot" not in {each.digest for each in residency.view()}
