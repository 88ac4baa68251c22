"""Demonstrations in the order that the program asks for, where a model has to say which."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Hashable, Sequence

from graft.server.prompting.asking import Asker, Written
from graft.server.prompting.choosing.choosing import label_of
from graft.server.prompting.choosing.order import MAX_PROBES, EntropyOrders
from graft.server.prompting.program.canonical import canonical_json, digest_of
from graft.server.prompting.program.program import PromptProgram, PromptType
from graft.server.prompting.running.preparing import Prepared, Preparing


class Ordering:
    """Keeps the orders that were found, by program, set, tenant, who answered and what else the tried prompts hold."""

    def __init__(self, preparing: Preparing) -> None:
        self._preparing = preparing
        self._orders = EntropyOrders()

    async def order(self, asker: Asker, prepared: Prepared, who: Hashable) -> tuple[int, ...]:
        """Demonstrations as the prompt shows them. `who` is whose request it is, and who answers."""
        program, shown = prepared.request.program, prepared.fitted.shown
        if program.choosing.order != "entropy" or len(shown) < 2:
            return shown
        others = _others(program, prepared.chosen.indices)
        key = _key(prepared, others or shown, who)
        if (known := self._orders.known(key)) is not None:
            return known
        drafts = {
            probe: await self._preparing.draft(
                program,
                {**prepared.request.variables, **program.demonstrations[probe].inputs},
                shown,
                prepared.sources,
            )
            for probe in others or shown
        }

        def write(order: Sequence[int], probe: int) -> Written:
            return drafts[probe].written(order)

        before = program.demonstrating.before_answer if program.type is PromptType.TEXT else ""
        labels = [before + label for label in _labels(program)]
        return await self._orders.get(key, asker, shown, others, labels, write, seed=program.choosing.seed)


def _key(prepared: Prepared, probes: Sequence[int], who: Hashable) -> Hashable:
    """What an order depends on. The prompts that are tried hold sources, and the request's values of what no
    demonstration gives: an order found with another request's would be found by what another caller said.
    """
    request, program = prepared.request, prepared.request.program
    given = frozenset.intersection(*(frozenset(program.demonstrations[probe].inputs) for probe in probes))
    others = {name: value for name, value in request.variables.items() if name not in given}
    text = None if prepared.sources is None else prepared.sources.text
    digest = hashlib.sha256(json.dumps([others, text], sort_keys=True).encode()).hexdigest()
    # Seeking takes a hundred questions: an order is kept for programs that are sent along, too.
    return request.digest or digest_of(canonical_json(program)), who, prepared.fitted.shown, digest


def _others(program: PromptProgram, taken: Sequence[int]) -> list[int]:
    """Some demonstrations that the prompt does not show: what is asked to see how one-sided an order is."""
    rest = sorted(set(range(len(program.demonstrations))) - set(taken))
    return random.Random(f"others/{program.choosing.seed}").sample(rest, min(len(rest), MAX_PROBES))


def _labels(program: PromptProgram) -> list[str]:
    """What can be predicted: the choices, or the classes of all demonstrations."""
    return list(program.output.choices or dict.fromkeys(map(label_of, program.demonstrations)))
