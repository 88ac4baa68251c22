"""Where versions of either kind sit: LoRAs in the engine's slots, soft prompts in memory. Pure, as `policy` is."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from graft.server.residency.policy import Action, Residency, Resident


class Places:
    """A `Residency` for each kind, with no version that changes its kind and no id that both give."""

    def __init__(self, *, num_slots: int, num_soft_prompts: int, is_soft_prompt: Callable[[str], bool]) -> None:
        """`is_soft_prompt` is asked about digests, of which it says the same for ever."""
        ids = itertools.count(1)
        self._slots = Residency(num_slots=num_slots, ids=ids)
        self._memory = Residency(num_slots=num_soft_prompts, ids=ids)
        self._is_soft_prompt = is_soft_prompt

    def of(self, digest: str) -> Residency:
        """Where a version sits, or would."""
        return self._memory if self._is_soft_prompt(digest) else self._slots

    def want(self, digests: Sequence[str], yields: Callable[[str, str], bool]) -> tuple[Action, ...]:
        """See `Residency.want`: each kind has its own order."""
        soft = [digest for digest in digests if self._is_soft_prompt(digest)]
        others = [digest for digest in digests if not self._is_soft_prompt(digest)]
        return (*self._slots.want(others, yields), *self._memory.want(soft, yields))

    def view(self) -> tuple[Resident, ...]:
        """What sits in the slots, and then in memory; of each the least recently used first."""
        return (*self._slots.view(), *self._memory.view())
