"""Who asks, and when: Zipf draws and open-loop arrivals, all from fixed seeds."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """A request that comes `seconds` after the run's begin, whatever became of those before, for adapter `adapter`."""

    seconds: float
    adapter: int


def zipf_weights(num_adapters: int, exponent: float) -> list[float]:
    """Shares of demand, falling as rank to the power of −exponent; they add up to 1."""
    raw = [(rank + 1) ** -exponent for rank in range(num_adapters)]
    total = sum(raw)
    return [weight / total for weight in raw]


def zipf_draws(num_draws: int, num_adapters: int, *, exponent: float, seed: int) -> list[int]:
    """Adapters 0, 1, … by their Zipf shares."""
    bounds = list(accumulate(zipf_weights(num_adapters, exponent)))
    return random.Random(seed).choices(range(num_adapters), cum_weights=bounds, k=num_draws)


def equal_draws(num_rounds: int, num_adapters: int, *, seed: int) -> list[int]:
    """Every adapter once a round, in an order by chance: demand is equal exactly, not on average."""
    chance, draws = random.Random(seed), []
    for _ in range(num_rounds):
        draws += chance.sample(range(num_adapters), num_adapters)
    return draws


def poisson(adapters: list[int], *, per_second: float, seed: int) -> list[Arrival]:
    """Independent arrivals at a mean rate."""
    chance, now, arrivals = random.Random(seed), 0.0, []
    for adapter in adapters:
        now += chance.expovariate(per_second)
        arrivals.append(Arrival(seconds=now, adapter=adapter))
    return arrivals


def mapped(arrivals: list[Arrival], num_adapters: int) -> list[Arrival]:
    """The same arrivals on the first `num_adapters` adapters."""
    return [Arrival(seconds=each.seconds, adapter=each.adapter % num_adapters) for each in arrivals]
