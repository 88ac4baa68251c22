"""The order of demonstrations whose predicted labels are the least one-sided (Lu et al. 2022, arXiv:2104.08786)."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from graft.server.errors import BadInput, Violation
from graft.server.prompting.asking import Asker, Written
from graft.server.prompting.choices.scoring import best, probabilities
from graft.server.prompting.program.checks import MAX_ORDERED_LABELS
from graft.server.runtime.bounded import Bounded

MAX_ORDERS, MAX_PROBES = 12, 8
"""At most so many orders are tried, each on so many questions."""

_MAX_KEPT = 1024

Write = Callable[[Sequence[int], int], Written]
"""A prompt with these demonstrations, in this order, that asks what another demonstration asks."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """An order with its entropies in nats: of the labels predicted over all questions, and the mean of each question's
    own.
    """

    order: tuple[int, ...]
    global_entropy: float
    local_entropy: float


class EntropyOrders:
    """Orders that were found, each sought once for its key: all that the tried prompts and their answers depend on."""

    def __init__(self) -> None:
        self._found: Bounded[tuple[int, ...]] = Bounded(_MAX_KEPT)
        self._locks: dict[Hashable, asyncio.Lock] = {}

    def known(self, key: Hashable) -> tuple[int, ...] | None:
        """The order, where it was found already."""
        return self._found.peek(key)

    async def get(
        self,
        key: Hashable,
        asker: Asker,
        indices: Sequence[int],
        others: Sequence[int],
        labels: Sequence[str],
        write: Write,
        *,
        seed: int = 0,
    ) -> tuple[int, ...]:
        """As `by_entropy`, which is asked once for a key."""
        lock = self._locks.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                if (known := self._found.peek(key)) is not None:
                    return known
                tried = await by_entropy(asker, indices, others, labels, write, seed=seed)
                return self._found.get(key, lambda: tried[0].order if tried else tuple(indices))
        finally:
            if not lock.locked():
                self._locks.pop(key, None)


async def by_entropy(
    asker: Asker,
    indices: Sequence[int],
    others: Sequence[int],
    labels: Sequence[str],
    write: Write,
    *,
    seed: int = 0,
) -> list[Tried]:
    """Orders of `indices`, the most even predictions first (GlobalE), then the least sure (LocalE), then as they came.

    The paper has the model invent questions; here they are those of `others`, demonstrations that are not shown, and
    where there are none each shown one is asked about after the rest. Their answers are not looked at. Raises
    `BadInput` where there are too many labels, or one alone.
    """
    _check(labels)
    if len(indices) < 2:
        return []
    probes = _some(others, seed) or _some(indices, seed)
    tried = []
    for order in _orders(indices, seed):
        rows = [await _predicted(asker, order, probe, labels, write) for probe in probes]
        tried.append(_tried(order, rows))
    # To twelve digits: what differs less differs by the order of sums.
    return sorted(tried, key=lambda each: (-round(each.global_entropy, 12), -round(each.local_entropy, 12)))


def _check(labels: Sequence[str]) -> None:
    if not 2 <= len(labels) <= MAX_ORDERED_LABELS:
        problem = (
            f"entropy needs between 2 and {MAX_ORDERED_LABELS} labels, and there are {len(labels)}: name output.choices"
        )
        raise BadInput(Violation(field="choosing.order", problem=problem))


async def _predicted(
    asker: Asker, order: Sequence[int], probe: int, labels: Sequence[str], write: Write
) -> list[float]:
    prompt = write([index for index in order if index != probe], probe)
    return probabilities([score.logprob for score in await asker.score(prompt, labels)])


def _tried(order: tuple[int, ...], rows: Sequence[Sequence[float]]) -> Tried:
    predicted = Counter(best(row)[0] for row in rows)
    return Tried(
        order=order,
        global_entropy=entropy([count / len(rows) for count in predicted.values()]),
        local_entropy=math.fsum(map(entropy, rows)) / len(rows),
    )


def entropy(distribution: Sequence[float]) -> float:
    """In nats."""
    return -math.fsum(each * math.log(each) for each in distribution if each > 0)


def _some(indices: Sequence[int], seed: int) -> list[int]:
    return random.Random(f"probes/{seed}").sample(list(indices), min(len(indices), MAX_PROBES))


def _orders(indices: Sequence[int], seed: int) -> list[tuple[int, ...]]:
    """The order given, and others: all where these are few, else some by chance."""
    if math.factorial(min(len(indices), 8)) <= MAX_ORDERS:
        return list(itertools.permutations(indices))
    chance, found = random.Random(f"orders/{seed}"), {tuple(indices): None}
    while len(found) < MAX_ORDERS:
        found[tuple(chance.sample(list(indices), len(indices)))] = None
    return list(found)
