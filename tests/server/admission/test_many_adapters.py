"""A thousand adapters over sixteen slots, simulated: what callers get, and what bounds it. Figures stand in LOG.md."""

from __future__ import annotations

from collections import defaultdict
from statistics import mean, median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server.admission.simulation import (
    Machine,
    Request,
    Simulation,
    arrivals,
    asking_again,
    callers,
    closed_loop,
    onto,
)

SECONDS = 150.0
NUM_CALLERS = 32


def tokens_per_second(requests: list[Request]) -> float:
    Simulation(machine=Machine()).run(requests, until=SECONDS)
    return sum(each.num_done for each in requests) / SECONDS


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[int(share * len(values))]


def thousand(num_requests: int, *, per_second: float, seed: int) -> list[Request]:
    return arrivals(num_requests, per_second=per_second, num_adapters=1000, zipf=1.1, seed=seed)


@pytest.fixture(scope="module")
def saturation_per_second() -> float:
    """Requests per second of 32 callers who ask again as soon as they have their answer."""
    simulation = Simulation(machine=Machine())
    requests = thousand(1500, per_second=1, seed=5)
    closed_loop(simulation, requests, num_callers=NUM_CALLERS)
    return len(requests) / simulation.now


def test_a_thousand_adapters_do_at_least_70_percent_of_sixteen() -> None:
    many = thousand(2300, per_second=14, seed=1)
    ratio = tokens_per_second(many) / tokens_per_second(onto(many, 16))
    print(f"throughput of 1,000 adapters ÷ of the same arrivals on 16: {ratio:.2f}")
    assert ratio >= 0.7


@pytest.mark.parametrize(("load", "num_slots", "limit"), [(0.6, 16, 3.0), (0.7, 24, 3.0), (0.7, 16, 6.0)])
def test_first_tokens_come_alike(saturation_per_second: float, load: float, num_slots: int, limit: float) -> None:
    """At 70 % with sixteen slots 3 is out of reach: one time in fifty all slots are leased, whoever is next."""
    ratios = []
    for seed in (1, 2, 3):
        requests = thousand(2000, per_second=load * saturation_per_second, seed=seed)
        Simulation(machine=Machine(num_slots=num_slots)).run(requests)
        waits = [each.first_token_at - each.arrived_at for each in requests if each.first_token_at is not None]
        assert len(waits) == len(requests), "below saturation nobody is refused"
        ratios.append(quantile(waits, 0.99) / quantile(waits, 0.5))
    print(f"time to first token at {load:.0%}, {num_slots} slots: p99 ÷ median {', '.join(f'{r:.1f}' for r in ratios)}")
    assert median(ratios) <= limit


@pytest.mark.parametrize(("num_adapters", "num_callers"), [(17, 4), (24, 8), (64, 4), (200, 1)])
def test_with_equal_demand_all_wait_alike(num_adapters: int, num_callers: int) -> None:
    """Callers of each adapter ask again as soon as they have their answer; there are more of them than places."""
    simulation = Simulation(machine=Machine())
    asked = asking_again(simulation, callers(range(num_adapters), each=num_callers), seconds=SECONDS)
    waits = defaultdict(list)
    for request in asked:
        waits[request.adapter].append((request.started_at or simulation.now) - request.arrived_at)
    means = [mean(each) for each in waits.values()]
    print(f"{num_adapters} adapters, {num_callers} callers each: mean waits {min(means):.1f} to {max(means):.1f} s")
    assert len(means) == num_adapters and max(means) <= 2 * min(means)


def test_hits_starve_nobody_and_the_engine_stays_full() -> None:
    """Three callers each of sixteen adapters, and one of a seventeenth. Running places are plenty, slots are not: with
    leases first come, first served, the seventeenth got no answer at all, as no other's leases ever ended.
    """
    simulation = Simulation(machine=Machine(max_running=64))
    first = [*callers(range(16), each=3), *callers([99], each=1)]
    asked = asking_again(simulation, first, seconds=SECONDS)
    waits = [each.started_at - each.arrived_at for each in asked if each.adapter == "a99" and each.started_at]
    print(f"beside a flood: {len(waits)} answers, waits up to {max(waits):.1f} s, {simulation.num_loads} loads")
    assert len(waits) >= 10 and max(waits) <= 20
    assert mean(simulation.num_in_steps) >= 0.9 * len(first)


@given(
    draws=st.lists(st.tuples(st.integers(0, 7), st.floats(0, 3), st.integers(1, 30)), min_size=1, max_size=40),
    num_slots=st.integers(1, 3),
    max_running=st.integers(1, 6),
    quantum=st.sampled_from([0.0, 100.0, 1e9]),
)
@settings(max_examples=60, deadline=None)
def test_every_request_is_served_whatever_comes(
    draws: list[tuple[int, float, int]], num_slots: int, max_running: int, quantum: float
) -> None:
    requests = [
        Request(arrived_at=at, adapter=f"a{name}", num_prompt=tokens, num_generated=tokens)
        for name, at, tokens in draws
    ]
    machine = Machine(num_slots=num_slots, max_running=max_running)
    simulation = Simulation(machine=machine, quantum=quantum)
    simulation.run(requests)
    assert all(each.ended_at is not None for each in requests)
    assert max(simulation.num_in_steps) <= max_running


@given(lengths=st.tuples(st.integers(1, 60), st.integers(1, 60)), quantum=st.sampled_from([50.0, 200.0, 512.0]))
@settings(max_examples=25, deadline=None)
def test_two_adapters_on_one_slot_are_served_alike(lengths: tuple[int, int], quantum: float) -> None:
    """What the slot adds to the bound of arXiv:2401.00588: a quantum, and the requests that run out their leases."""
    simulation = Simulation(machine=Machine(num_slots=1, max_running=4), quantum=quantum)
    difference, differences = 0.0, [0.0]

    def again(ended: Request) -> None:
        nonlocal difference
        served = ended.num_prompt + 2 * ended.num_generated
        difference += served if ended.adapter == "a0" else -served
        differences.append(difference)
        simulation.arrive(make(ended.adapter))

    def make(adapter: str) -> Request:
        length = lengths[int(adapter[1:])]
        return Request(arrived_at=simulation.now, adapter=adapter, num_prompt=10, num_generated=length)

    simulation.on_end = again
    simulation.run([make(f"a{number % 2}") for number in range(24)], until=40)
    # More callers than running places: both have somebody waiting all the time, which the bound asks for.
    at_once = simulation.machine.max_running * (10 + 2 * max(lengths))
    assert len(differences) > 10
    assert max(differences) - min(differences) <= 2 * (quantum + 2 * at_once)
