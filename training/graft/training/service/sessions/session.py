"""One caller's session: the adapters that it trains, and what it samples from."""

from __future__ import annotations

from dataclasses import dataclass, field

from graft.training.service.refusal import Kind, Refusal
from graft.training.service.sessions.kept import Version
from graft.training.service.sessions.sampler import Sampler
from graft.training.service.sessions.sampling import Sampling
from graft.training.service.sessions.served import Caller, Served
from graft.training.service.sessions.training import Training

TRAIN, SAMPLE = ":train:", ":sample:"
_MAX_DIGITS = 19


@dataclass(kw_only=True)
class Session:
    """Whoever calls holds the lock of ``Sessions``."""

    id: str
    caller: Caller
    last_seen: float
    trainings: dict[int, Training] = field(default_factory=dict)
    samplers: dict[int, Sampler] = field(default_factory=dict)

    def sampler(self, number: int, served: Served, sampling: Sampling, version: Version | None) -> Sampler:
        """Makes it; one that was made before is the same. Raises ``Refusal`` where that was another version's."""
        known = self.samplers.get(number)
        if known is None:
            id = f"{self.id}{SAMPLE}{number}"
            known = self.samplers[number] = Sampler(id, self.caller, served, sampling, version)
        elif known.version != version:
            raise Refusal(Kind.INVALID, f"{known.id} samples from another version: count on.")
        return known

    def end(self, reason: Refusal) -> None:
        for one in self.trainings.values():
            one.end(reason)


def is_number(text: str) -> bool:
    """Whether it may be a number of ours, of 64 bits at most."""
    return text.isdecimal() and len(text) <= _MAX_DIGITS
