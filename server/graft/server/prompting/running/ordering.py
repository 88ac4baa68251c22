"""The prompt with its demonstrations in the order that the program asks for, where a model has to say which."""

from __future__ import annotations

import random
from collections.abc import Sequence

from graft.server.prompting.asking import Asker, Written
from graft.server.prompting.choosing.choosing import label_of
from graft.server.prompting.choosing.order import MAX_PROBES, EntropyOrders
from graft.server.prompting.program.canonical import canonical_json, digest_of
from graft.server.prompting.program.program import PromptProgram, PromptType
from graft.server.prompting.running.preparing import Prepared, Preparing


class Ordering:
    """Keeps the orders that were found, by program, set and who answered."""

    def __init__(self, preparing: Preparing) -> None:
        self._preparing = preparing
        self._orders = EntropyOrders()

    async def prompt(self, asker: Asker, prepared: Prepared, who: str) -> Written:
        """The prompt as it is asked. `who` is the digest of the version that answers, or of the base."""
        program, shown = prepared.request.program, prepared.fitted.shown
        if program.choosing.order != "entropy" or len(shown) < 2:
            return prepared.fitted.written
        others = _others(program, prepared.chosen.indices)
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
        # Seeking takes a hundred questions: an order is kept for programs that are sent along, too.
        digest = prepared.request.digest or digest_of(canonical_json(program))
        key = (digest, who, shown)
        order = await self._orders.get(key, asker, shown, others, labels, write, seed=program.choosing.seed)
        return prepared.draft.written(order)


def _others(program: PromptProgram, taken: Sequence[int]) -> list[int]:
    """Some demonstrations that the prompt does not show: what is asked to see how one-sided an order is."""
    rest = sorted(set(range(len(program.demonstrations))) - set(taken))
    return random.Random(f"others/{program.choosing.seed}").sample(rest, min(len(rest), MAX_PROBES))


def _labels(program: PromptProgram) -> list[str]:
    """What can be predicted: the choices, or the classes of all demonstrations."""
    return list(program.output.choices or dict.fromkeys(map(label_of, program.demonstrations)))
