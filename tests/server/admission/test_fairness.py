"""Virtual token counters: the paper's bound (arXiv:2401.00588, theorem 4.4) holds for whatever requests come."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.server.admission.fairness import Client, Counters, Fairness, service_of
from graft.server.admission.policy import Admission

MAX_TOKENS = 12
LARGEST = service_of(prompt_tokens=MAX_TOKENS, generated_tokens=MAX_TOKENS)


class Backlog:
    """Clients that always have requests waiting; each step generates one token of each running request."""

    def __init__(self, admission: Admission, clients: list[Client], data: st.DataObject) -> None:
        self.admission = admission
        self.clients = clients
        self.data = data
        self.served = dict.fromkeys(clients, 0.0)
        self.running: dict[str, int] = {}
        self.client_of: dict[str, Client] = {}
        self.num_waiting = dict.fromkeys(clients, 0)
        self.numbers = count()
        self.num_steps = 0

    def step(self) -> None:
        self.num_steps += 1
        for client in self.clients:
            while self.num_waiting[client] < 3:
                request_id = f"{next(self.numbers)}"
                self.client_of[request_id] = client
                self.num_waiting[client] += 1
                self.admission.offer(request_id, tenant=client.tenant, adapter=client.adapter, deadline=None)
        sizes = st.integers(1, MAX_TOKENS)
        for request_id in self.admission.advance(now=self.num_steps).started:
            self.num_waiting[self.client_of[request_id]] -= 1
            self.running[request_id] = self.data.draw(sizes)
            self._charge(request_id, prompt_tokens=self.data.draw(sizes))
        for request_id in list(self.running):
            self._charge(request_id, generated_tokens=1)
            self.running[request_id] -= 1
            if not self.running[request_id]:
                del self.running[request_id]
                self.admission.leave(request_id, now=self.num_steps)

    def _charge(self, request_id: str, **tokens: int) -> None:
        self.admission.charge(request_id, **tokens)
        self.served[self.client_of[request_id]] += service_of(
            prompt_tokens=tokens.get("prompt_tokens", 0), generated_tokens=tokens.get("generated_tokens", 0)
        )


def spread(differences: list[float]) -> float:
    """The greatest difference in service over any interval of time."""
    return max(differences) - min(differences)


@given(data=st.data(), max_running=st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_two_backlogged_clients_are_served_alike_whatever_their_sizes(data: st.DataObject, max_running: int) -> None:
    one, other = Client(tenant="t", adapter="one"), Client(tenant="t", adapter="other")
    backlog = Backlog(Admission(max_running=max_running, max_queued=100), [one, other], data)
    differences = [0.0]
    for _ in range(60):
        backlog.step()
        assert len(backlog.running) <= max_running
        differences.append(backlog.served[one] - backlog.served[other])
    assert spread(differences) <= 2 * max_running * LARGEST


@given(data=st.data(), num_adapters=st.integers(2, 6))
@settings(max_examples=50, deadline=None)
def test_many_adapters_bring_a_tenant_no_more_than_one(data: st.DataObject, num_adapters: int) -> None:
    many = [Client(tenant="many", adapter=f"{number}") for number in range(num_adapters)]
    one = Client(tenant="one", adapter="only")
    backlog = Backlog(Admission(max_running=3, max_queued=100), [*many, one], data)
    differences, within = [0.0], [0.0]
    for _ in range(60):
        backlog.step()
        differences.append(sum(backlog.served[each] for each in many) - backlog.served[one])
        within.append(backlog.served[many[0]] - backlog.served[many[1]])
    assert spread(differences) <= 2 * 3 * LARGEST
    assert spread(within) <= 2 * 3 * LARGEST


def test_free_places_are_shared_at_once_and_not_given_to_one() -> None:
    """All places become free in one moment: what is expected of a request counts from its start."""
    admission = Admission(max_running=4, max_queued=100)
    admission.offer("first", tenant="t", adapter="x", deadline=None)
    admission.advance(now=0)
    admission.charge("first", prompt_tokens=10, generated_tokens=10)
    admission.leave("first", now=1)
    for number in range(6):
        for adapter in "ab":
            admission.offer(f"{adapter}{number}", tenant="t", adapter=adapter, deadline=None)
    started = admission.advance(now=1).started
    assert sorted(started) == ["a0", "a1", "b0", "b1"]


def test_nobody_saves_up_credit_while_idle() -> None:
    counters = Counters()
    counters.waits("busy")
    counters.charge("busy", 1000)
    counters.waits("late")
    assert counters["late"] == 1000


def test_an_idle_client_keeps_what_it_owes() -> None:
    counters = Counters()
    for name in ("greedy", "steady"):
        counters.waits(name)
    counters.starts("greedy")
    counters.charge("greedy", 500)
    counters.ends("greedy")
    counters.waits("greedy")
    assert counters["greedy"] == 500 > counters["steady"]


def test_what_was_charged_ahead_is_given_back() -> None:
    fairness = Fairness()
    admission = Admission(max_running=1, max_queued=9, fairness=fairness)
    client = Client(tenant="t", adapter="a")
    for number, tokens in enumerate((50, 1)):
        admission.offer(f"{number}", tenant="t", adapter="a", deadline=None)
        admission.advance(now=0)
        admission.charge(f"{number}", generated_tokens=tokens)
        admission.leave(f"{number}", now=1)
    fairness.waits(client)
    assert fairness.order(client) == (102.0, "t", 102.0)


@pytest.mark.parametrize("tenants", [1, 10_000], ids=["one-tenant", "many-tenants"])
def test_names_do_not_stay_for_ever(tenants: int) -> None:
    fairness = Fairness()
    admission = Admission(max_running=2, max_queued=2, fairness=fairness)
    for number in range(200_000):
        client = Client(tenant=f"t{number % tenants}", adapter=f"a{number}")
        fairness.waits(client)
        fairness.starts(client)
        fairness.charge(client, 1)
        fairness.ends(client)
    assert len(fairness) < 100_000 and admission.num_running == 0
    assert len(fairness) <= 2 * 256 + 1 or tenants > 1
